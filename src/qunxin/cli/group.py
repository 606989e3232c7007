"""``qunxin group``: groups and their members."""

from __future__ import annotations

import sys
from typing import Annotated, Any, Final, Literal

from cyclopts import App, Parameter

from qunxin.cli.common import Common, check_limit, run_on_folder
from qunxin.cli.exits import REFUSED, errors_shown
from qunxin.cli.input import read_input
from qunxin.cli.output import Output, counted, titled
from qunxin.cli.times import local_time
from qunxin.control import Control
from qunxin.errors import QunxinError
from qunxin.model import History, Require

app = App(name="group", help="Create and dissolve groups, change who is in them.")

_AT_ONCE: Final = 10_000
"""So many users go in one call, and become one entry."""

RoleChoice = Literal["member", "admin", "owner"]
_NO_MEMBER: Final = ("not_a_member",)
"""Adding somebody is no way to be rid of them, nor to silence them."""


def _check_users(_: object, users: tuple[str, ...]) -> None:
    """No id begins with a hyphen: what does is an option that is spelt wrong."""
    for user in users:
        if user.startswith("-") and users != ("-",):
            detail = f"{user} is no option here, and no id; a single - reads standard input"
            raise ValueError(detail)


@app.command
def create(
    group: str,
    members: Annotated[tuple[str, ...], Parameter(negative="")] = (),
    /,
    *,
    owner: str,
    name: str | None = None,
    history: History | None = None,
    require: Require | None = None,
    common: Common | None = None,
) -> None:
    """Create a group with its owner and first members.

    Exit code 1 where a member could not be added; the group is there then, with the others.

    For example:

        qunxin group create tea --owner alice
        qunxin group create tea bob carol --owner alice --name "茶友会 🍵"

    Parameters
    ----------
    group
        The group's id: 1 to 64 of A-Z a-z 0-9 _ . @ -
    members
        Accounts that are members from the start, beside the owner.
    owner
        The account that owns it.
    name
        What people see: any Unicode on one line. By default the id.
    history
        From where new members may read: joined (default) or full.
    require
        What its messages ask for unless they say otherwise: reachable (default) or all.
    """

    failed: list[str] = []

    async def work(control: Control, output: Output) -> None:
        _check_new(await control.find("group.get", "group_not_found", group=group), group)
        saved = await control.call(
            "group.put",
            group=group,
            owner=owner,
            members=members,
            name=name,
            history=history,
            require=require,
        )
        failed.extend(_failed(saved["results"]))
        output.result(
            saved,
            f"Group {titled(saved, 'group')} created: {counted(saved['members'], 'member')}.",
            *failed,
        )

    run_on_folder(common, work)
    if failed:
        sys.exit(REFUSED)


@app.command
def show(group: str, /, *, common: Common | None = None) -> None:
    """Show a group.

    For example:

        qunxin group show tea

    Parameters
    ----------
    group
        The group's id.
    """

    async def work(control: Control, output: Output) -> None:
        found = await control.call("group.get", group=group)
        output.result(
            found,
            f"Group               {titled(found, 'group')}",
            f"State               {found['state']}",
            f"Members             {found['members']}",
            f"Membership version  {found['membership_version']}",
            f"History             {found['history']}",
            f"Require             {found['require']}",
            f"Muted               {'yes' if found['muted'] else 'no'}",
            f"Created             {local_time(found['created'])}",
        )

    run_on_folder(common, work)


@app.command(name="list")
def list_(*, limit: int = 1_000, common: Common | None = None) -> None:
    """List the groups that are not dissolved, the oldest first.

    For example:

        qunxin group list
        qunxin group list --limit 50000 --json

    Parameters
    ----------
    limit
        How many at most.
    """

    async def work(control: Control, output: Output) -> None:
        check_limit(limit)
        async with output.patience("Reading groups …"):
            found = await control.pages("group.list", "groups", limit)
        output.table(
            {"groups": found},
            ("group", "name", "members", "muted", "created"),
            (
                (
                    one["group"],
                    one["name"],
                    one["members"],
                    one["muted"],
                    local_time(one["created"]),
                )
                for one in found
            ),
        )

    run_on_folder(common, work)


@app.command
def rename(group: str, name: str, /, *, common: Common | None = None) -> None:
    """Give a group another name. Its id stays.

    For example:

        qunxin group rename tea "茶友会 🍵"

    Parameters
    ----------
    group
        The group's id.
    name
        What people see: any Unicode on one line.
    """

    async def work(control: Control, output: Output) -> None:
        await control.call("group.get", group=group)  # `put` would create it
        saved = await control.call("group.put", group=group, name=name)
        output.result(saved, f"Group {titled(saved, 'group')} is renamed.")

    run_on_folder(common, work)


@app.command
def members(group: str, /, *, limit: int = 1_000, common: Common | None = None) -> None:
    """List a group's members.

    For example:

        qunxin group members tea
        qunxin group members tea --limit 50000 --json

    Parameters
    ----------
    group
        The group's id.
    limit
        How many at most.
    """

    async def work(control: Control, output: Output) -> None:
        check_limit(limit)
        async with output.patience("Reading members …"):
            found = await control.pages("group.members", "members", limit, group=group)
        output.table(
            {"members": found},
            ("user", "role", "muted", "since", "unreachable"),
            (
                (one["user"], one["role"], one["muted"], one["since"], one["reason"])
                for one in found
            ),
        )

    run_on_folder(common, work)


@app.command
def add(
    group: str,
    users: Annotated[
        tuple[str, ...],
        Parameter(negative="", allow_leading_hyphen=True, validator=_check_users),
    ],
    /,
    *,
    common: Common | None = None,
) -> None:
    """Add accounts to a group.

    Exit code 1 where one of them is not a member afterwards; the others are.

    For example:

        qunxin group add tea bob carol
        cat users.txt | qunxin group add tea -

    Parameters
    ----------
    group
        The group's id.
    users
        Accounts to add; `-` reads them from standard input, one on a line.
    """
    common = common or Common()
    with errors_shown(common.output):
        named = read_input().split() if users == ("-",) else list(users)
    failed: list[str] = []

    async def work(control: Control, output: Output) -> None:
        results, version = [], 0
        async with output.patience(f"Adding {counted(len(named), 'user')} …"):
            for start in range(0, len(named), _AT_ONCE):
                part = named[start : start + _AT_ONCE]
                change = await control.call("member.add", group=group, users=part)
                results += change["results"]
                version = change["membership_version"]
        added = sum(one["result"] == "added" for one in results)
        failed.extend(_failed(results))
        output.result(
            {"group": group, "membership_version": version, "results": results},
            f"{added} of {len(named)} added to {group}.",
            *failed,
        )

    run_on_folder(common, work)
    if failed:
        sys.exit(REFUSED)


@app.command
def remove(group: str, user: str, /, *, common: Common | None = None) -> None:
    """Remove an account from a group. It gets nothing that is sent later.

    For example:

        qunxin group remove tea bob

    Parameters
    ----------
    group
        The group's id.
    user
        The account's id.
    """

    async def work(control: Control, output: Output) -> None:
        change = await control.call("member.remove", group=group, user=user)
        output.result(change, f"{user} is no longer in {group}.")

    run_on_folder(common, work, unadvised=_NO_MEMBER)


@app.command
def role(group: str, user: str, role: RoleChoice, /, *, common: Common | None = None) -> None:
    """Make a member an admin, an owner, or a plain member again.

    For example:

        qunxin group role tea bob admin

    Parameters
    ----------
    group
        The group's id.
    user
        The member's id.
    role
        member, admin or owner.
    """

    async def work(control: Control, output: Output) -> None:
        member = await control.call("member.change", group=group, user=user, role=role)
        output.result(member, f"{user} is {member['role']} of {group}.")

    run_on_folder(common, work)


@app.command
def mute(
    group: str,
    user: str | None = None,
    /,
    *,
    off: Annotated[bool, Parameter(negative="", show_default=False)] = False,
    common: Common | None = None,
) -> None:
    """Mute a member, or the whole group (its admins may still speak).

    For example:

        qunxin group mute tea bob
        qunxin group mute tea
        qunxin group mute tea --off

    Parameters
    ----------
    group
        The group's id.
    user
        The member's id. Left out: the whole group.
    off
        Let them speak again.
    """

    async def work(control: Control, output: Output) -> None:
        state = "may speak again" if off else "muted"
        if user is None:
            await control.call("group.get", group=group)  # `put` would create it
            saved = await control.call("group.put", group=group, muted=not off)
            output.result(saved, f"Group {group}: {state}.")
            return
        member = await control.call("member.change", group=group, user=user, muted=not off)
        output.result(member, f"{user} in {group}: {state}.")

    run_on_folder(common, work, unadvised=_NO_MEMBER)


@app.command
def dissolve(
    group: str,
    /,
    *,
    yes: Annotated[bool, Parameter(negative="", show_default=False)] = False,
    common: Common | None = None,
) -> None:
    """Dissolve a group for ever. Its members can still read what was said.

    For example:

        qunxin group dissolve tea --yes

    Parameters
    ----------
    group
        The group's id.
    yes
        Do it without asking.
    """

    async def work(control: Control, output: Output) -> None:
        output.confirm(f"Dissolve {group} for ever?", sure=yes)
        async with output.patience(f"Dissolving {group} …"):
            dissolved = await control.call("group.dissolve", group=group)
        output.result(dissolved, f"Group {group} is dissolved.")

    run_on_folder(common, work)


def _check_new(found: dict[str, Any] | None, group: str) -> None:
    if found is not None and found["state"] == "active":
        raise QunxinError("invalid_request", detail=f"the group {group} exists already")


def _failed(results: list[dict[str, Any]]) -> list[str]:
    wrong = [one for one in results if one["result"] not in ("added", "already_member")]
    return [f"  {one['user']}: {one['result']}" for one in wrong]
