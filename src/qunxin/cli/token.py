"""``qunxin token``: tokens, for users' devices."""

from __future__ import annotations

from typing import Any

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


@app.command
def keys(*, common: Common | None = None) -> None:
    """List the keys that this node signs tokens with, without their secrets.

    For example:

        qunxin token keys
    """

    async def work(control: Control, output: Output) -> None:
        _show_keys(output, await control.token_keys())

    run_on_folder(common, work)


@app.command
def rotate(*, common: Common | None = None) -> None:
    """Sign tokens with a new key from now on. Tokens of the former keys stay good until those
    are retired.

    For example:

        qunxin token rotate
    """

    async def work(control: Control, output: Output) -> None:
        _show_keys(output, await control.token_keys("POST"))
        output.note("Once the old tokens have run out, retire the old key: qunxin token retire ID")

    run_on_folder(common, work)


@app.command
def retire(key_id: str, /, *, common: Common | None = None) -> None:
    """Drop a signing key: tokens that were signed with it are refused from now on.

    For example:

        qunxin token retire 5f0c1e9a7b3d2468

    Parameters
    ----------
    key_id
        The key's id, as `qunxin token keys` shows it.
    """

    async def work(control: Control, output: Output) -> None:
        _show_keys(output, await control.token_keys("DELETE", key_id))

    run_on_folder(common, work)


def _show_keys(output: Output, found: dict[str, Any]) -> None:
    rows = (
        (key["id"], local_time(key["created"]), "signs" if key["active"] else "verifies")
        for key in found["keys"]
    )
    output.table(found, ("id", "created", "use"), rows)
