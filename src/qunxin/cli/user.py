"""``qunxin user``: accounts."""

from __future__ import annotations

from typing import Annotated

from cyclopts import App, Parameter

from qunxin.cli.common import Common, check_limit, run_on_folder
from qunxin.cli.output import Output, titled
from qunxin.cli.times import local_time
from qunxin.control import Control

app = App(name="user", help="Create, list, show, suspend and erase accounts.")


@app.command
def create(user: str, /, *, name: str | None = None, common: Common | None = None) -> None:
    """Create an account, or give an existing one another name.

    For example:

        qunxin user create alice
        qunxin user create bob --name "鲍勃 🧋"

    Parameters
    ----------
    user
        The account's id: 1 to 64 of A-Z a-z 0-9 _ . @ -
    name
        What people see: any Unicode on one line. By default the id.
    """

    async def work(control: Control, output: Output) -> None:
        saved = await control.call("user.put", user=user, name=name)
        done = "created" if saved["new"] else "was there already and is up to date"
        output.result(saved, f"User {titled(saved, 'user')} {done}.")

    run_on_folder(common, work, may_make=True)


@app.command
def show(user: str, /, *, common: Common | None = None) -> None:
    """Show an account.

    For example:

        qunxin user show alice

    Parameters
    ----------
    user
        The account's id.
    """

    async def work(control: Control, output: Output) -> None:
        found = await control.call("user.get", user=user)
        output.result(
            found,
            f"User     {titled(found, 'user')}",
            f"State    {found['state']}",
            f"Created  {local_time(found['created'])}",
        )

    run_on_folder(common, work)


@app.command(name="list")
def list_(*, limit: int = 1_000, common: Common | None = None) -> None:
    """List the accounts that are not erased, the oldest first.

    For example:

        qunxin user list
        qunxin user list --limit 50000 --json

    Parameters
    ----------
    limit
        How many at most.
    """

    async def work(control: Control, output: Output) -> None:
        check_limit(limit)
        async with output.patience("Reading accounts …"):
            found = await control.pages("user.list", "users", limit)
        output.table(
            {"users": found},
            ("user", "name", "state", "created"),
            ((one["user"], one["name"], one["state"], local_time(one["created"])) for one in found),
        )

    run_on_folder(common, work)


@app.command
def suspend(user: str, /, *, common: Common | None = None) -> None:
    """Suspend an account: its devices are disconnected, nobody can reach it.

    For example:

        qunxin user suspend mallory

    Parameters
    ----------
    user
        The account's id.
    """
    _set_state(user, "suspended", common)


@app.command
def activate(user: str, /, *, common: Common | None = None) -> None:
    """Let a suspended account in again. It catches up with what it missed.

    For example:

        qunxin user activate mallory

    Parameters
    ----------
    user
        The account's id.
    """
    _set_state(user, "active", common)


@app.command
def erase(
    user: str,
    /,
    *,
    yes: Annotated[bool, Parameter(negative="", show_default=False)] = False,
    common: Common | None = None,
) -> None:
    """Erase an account for ever: its name, blocks and cursors go, its id is never used again.

    Its messages stay in the conversations they were sent to.

    For example:

        qunxin user erase mallory --yes

    Parameters
    ----------
    user
        The account's id.
    yes
        Do it without asking.
    """

    async def work(control: Control, output: Output) -> None:
        output.confirm(f"Erase {user} for ever?", sure=yes)
        erased = await control.call("user.erase", user=user)
        output.result(erased, f"User {user} is erased.")

    run_on_folder(common, work)


@app.command
def conversations(user: str, /, *, limit: int = 200, common: Common | None = None) -> None:
    """List what a user is in, the most recent first, with unread counts.

    For example:

        qunxin user conversations alice

    Parameters
    ----------
    user
        The account's id.
    limit
        How many at most.
    """

    async def work(control: Control, output: Output) -> None:
        check_limit(limit)
        found = await control.pages("user.conversations", "conversations", limit, user=user)
        output.table(
            {"conversations": found},
            ("conversation", "name", "role", "head", "read", "unread", "last entry"),
            (
                (
                    row["conversation"],
                    row["name"],
                    row["role"],
                    row["head"],
                    row["read"],
                    row["unread"],
                    local_time(row["time"]),
                )
                for row in found
            ),
        )

    run_on_folder(common, work)


@app.command
def sessions(
    user: str,
    /,
    *,
    end: Annotated[bool, Parameter(negative="", show_default=False)] = False,
    common: Common | None = None,
) -> None:
    """List a user's connected devices, or end their connections.

    For example:

        qunxin user sessions alice
        qunxin user sessions alice --end

    Parameters
    ----------
    user
        The account's id.
    end
        Disconnect them. Whoever has a valid token can come back.
    """

    async def work(control: Control, output: Output) -> None:
        if end:
            ended = await control.call("user.end_sessions", user=user)
            output.result(ended, f"The devices of {user} are being disconnected.")
            return
        found = await control.call("user.sessions", user=user)
        output.table(
            found,
            ("session", "client", "connected", "conversations"),
            (
                (
                    row["session"],
                    row["client"],
                    local_time(row["connected"]),
                    row["conversations"],
                )
                for row in found["sessions"]
            ),
        )

    run_on_folder(common, work)


def _set_state(user: str, state: str, common: Common | None) -> None:
    async def work(control: Control, output: Output) -> None:
        await control.call("user.get", user=user)  # `put` would create it
        saved = await control.call("user.put", user=user, state=state)
        output.result(saved, f"User {titled(saved, 'user')} is {saved['state']}.")

    run_on_folder(common, work)
