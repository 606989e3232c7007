"""``qunxin key``: API keys, for the servers of applications."""

from __future__ import annotations

from typing import Annotated

from cyclopts import App, Parameter

from qunxin.cli.common import Common, run_on_folder
from qunxin.cli.output import Output, isolated
from qunxin.cli.times import local_time
from qunxin.control import Control
from qunxin.engine.access import Scope

app = App(name="key", help="Make, list and revoke API keys.")


@app.command
def create(
    name: str,
    /,
    *,
    scope: Annotated[list[Scope] | None, Parameter(negative="")] = None,
    common: Common | None = None,
) -> None:
    """Make an API key. It is shown this once; only a digest of it is kept.

    For example:

        qunxin key create shop
        qunxin key create reader --scope read --scope tokens
        KEY=$(qunxin key create shop)

    Parameters
    ----------
    name
        What the key is for, so that you know it again.
    scope
        What the key may do; repeat it for several. By default all but making other keys and
        webhooks.
    """

    async def work(control: Control, output: Output) -> None:
        made = await control.call("key.create", name=name, scopes=scope)
        output.result(made, made["key"])
        output.note(
            f"Key {made['id']} ({isolated(name)}) may: {', '.join(sorted(made['scopes']))}."
        )
        same = [] if output.as_json else await _others_named(control, name, made["id"])
        if same:
            output.note(f"There is another key of that name: {', '.join(same)}.")
        output.note("It is not shown again. Send it as  Authorization: Bearer KEY")

    run_on_folder(common, work, may_make=True)


async def _others_named(control: Control, name: str, key_id: str) -> list[str]:
    """The ids of other keys of that name that still work: names need not be unique."""
    keys = (await control.call("key.list"))["keys"]
    return [
        key["id"]
        for key in keys
        if key["name"] == name and key["revoked"] is None and key["id"] != key_id
    ]


@app.command(name="list")
def list_(*, common: Common | None = None) -> None:
    """List the API keys: names, scopes, ages; never the keys themselves.

    For example:

        qunxin key list
    """

    async def work(control: Control, output: Output) -> None:
        found = await control.call("key.list")
        output.table(
            found,
            ("id", "name", "scopes", "created", "revoked"),
            (
                (
                    key["id"],
                    key["name"],
                    ", ".join(sorted(key["scopes"])),
                    local_time(key["created"]),
                    local_time(key["revoked"]),
                )
                for key in found["keys"]
            ),
        )

    run_on_folder(common, work)


@app.command
def revoke(key_id: str, /, *, common: Common | None = None) -> None:
    """Revoke an API key, for ever and at once.

    For example:

        qunxin key revoke k3f9…

    Parameters
    ----------
    key_id
        The key's id, as `qunxin key list` shows it.
    """

    async def work(control: Control, output: Output) -> None:
        revoked = await control.call("key.revoke", id=key_id)
        output.result(revoked, f"Key {revoked['id']} ({isolated(revoked['name'])}) is revoked.")

    run_on_folder(common, work)
