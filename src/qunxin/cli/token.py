"""``qunxin token``: tokens, for users' devices."""

from __future__ import annotations

from cyclopts import App

from qunxin.cli.common import Common, run_on_folder
from qunxin.cli.output import Output
from qunxin.cli.times import local_time
from qunxin.control import Control

app = App(name="token", help="Make and revoke tokens with which users' devices connect.")


@app.command
def create(user: str, /, *, ttl_seconds: int | None = None, common: Common | None = None) -> None:
    """Make a token with which a device connects as USER.

    For example:

        qunxin token create alice
        qunxin token create alice --ttl-seconds 86400 --json

    Parameters
    ----------
    user
        The account's id. The account must exist and not be suspended.
    ttl_seconds
        How long the token is valid. By default as the setting token_ttl_seconds says.
    """

    async def work(control: Control, output: Output) -> None:
        made = await control.call("token.create", user=user, ttl_seconds=ttl_seconds)
        output.result(made, made["token"])
        output.note(f"Valid for {user} until {local_time(made['expires'])}.")

    run_on_folder(common, work)


@app.command
def revoke(
    user: str,
    /,
    *,
    id: str | None = None,  # noqa: A002 - the flag's name
    common: Common | None = None,
) -> None:
    """Refuse tokens of USER from now on, and end the sessions that came with them.

    For example:

        qunxin token revoke alice
        qunxin token revoke alice --id 9d8c7b6a5f4e3d2c

    Parameters
    ----------
    user
        The account's id.
    id
        Only the token with this id (its claim jti). By default all that were issued until now.
    """

    async def work(control: Control, output: Output) -> None:
        if id is None:
            revoked = await control.call("token.revoke_all", user=user)
            output.result(revoked, f"All tokens of {user} issued until now are revoked.")
        else:
            revoked = await control.call("token.revoke", user=user, id=id)
            output.result(revoked, f"The token {id} of {user} is revoked.")

    run_on_folder(common, work)
