"""Groups: create, change settings, dissolve."""

from __future__ import annotations

from typing import Any

import msgspec

from qunxin.errors import QunxinError
from qunxin.model import (
    Entry,
    EventType,
    Group,
    GroupState,
    History,
    Require,
    Role,
    UserState,
)
from qunxin.store.commands import DissolveGroup, PutGroup
from qunxin.store.results import Done, GroupResult
from qunxin.stores.sqlite.commands.lookups import active_group, check_fence, find_group, find_user
from qunxin.stores.sqlite.commands.members import (
    Candidate,
    enter,
    find_candidates,
    membership_body,
    refresh_listed,
)
from qunxin.stores.sqlite.transaction import Transaction


def put_group(tx: Transaction, command: PutGroup) -> Done:
    found = find_group(tx, command.group)
    if found is None:
        return _create(tx, command)
    if found.state is GroupState.DISSOLVED:
        raise QunxinError("group_dissolved", group=command.group)
    check_fence(tx, found, command.fence)
    return _update(tx, found, command)


def _create(tx: Transaction, command: PutGroup) -> Done:
    if command.owner is not None:
        owner = find_user(tx, command.owner)
        if owner is None or owner.state is UserState.ERASED:
            raise QunxinError("user_not_found", user=command.owner)
    named = (command.owner, *command.members) if command.owner else command.members
    candidates = find_candidates(tx, None, named)
    added = [candidate for candidate in candidates if candidate.result == "added"]
    if len(added) > command.limit:
        raise QunxinError("group_full", limit=command.limit)
    group = _insert(tx, command, len(added))
    entries = _welcome(tx, group, command, added)
    results = tuple(candidate.outcome for candidate in candidates)
    return Done(GroupResult(group, created=True, results=results), entries)


def _insert(tx: Transaction, command: PutGroup, members: int) -> Group:
    group = Group(
        group=command.group,
        key=tx.next_key(),
        name=command.group if command.name is None else command.name,
        state=GroupState.ACTIVE,
        history=command.history or History.JOINED,
        require=command.require or Require.REACHABLE,
        muted=bool(command.muted),
        members=members,
        membership_version=1,
        created=tx.time,
    )
    name = f"group:{group.group}"
    tx.run("INSERT INTO conversations (key, kind, name) VALUES (?, 'group', ?)", (group.key, name))
    tx.run(
        "INSERT INTO groups VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        msgspec.structs.astuple(group)[1:],
    )
    return group


def _welcome(
    tx: Transaction, group: Group, command: PutGroup, added: list[Candidate]
) -> tuple[Entry, ...]:
    """The `created` entry, the memberships that begin at it, and word to each inbox."""
    body = membership_body(command.by, added)
    created = tx.append(group.key, f"group:{group.group}", EventType.CREATED, body)
    owners = [one for one in added if one.user == command.owner]
    others = [one for one in added if one.user != command.owner]
    told = enter(tx, group, owners, Role.OWNER, created.position)
    return (created, *told, *enter(tx, group, others, Role.MEMBER, created.position))


def _update(tx: Transaction, found: Group, command: PutGroup) -> Done:
    wanted: dict[str, Any] = {
        field: value
        for field in ("name", "history", "require", "muted")
        if (value := getattr(command, field)) is not None and value != getattr(found, field)
    }
    if not wanted:
        return Done(GroupResult(found, created=False))
    group = msgspec.structs.replace(found, **wanted)
    tx.run(
        "UPDATE groups SET name = ?, history = ?, require = ?, muted = ? WHERE key = ?",
        (group.name, group.history, group.require, group.muted, group.key),
    )
    body = {"by": command.by, **msgspec.to_builtins(wanted)}
    entry = tx.append(group.key, f"group:{group.group}", EventType.CHANGED, body)
    return Done(GroupResult(group, created=False), (entry,))


def dissolve_group(tx: Transaction, command: DissolveGroup) -> Done:
    found = active_group(tx, command.group)
    check_fence(tx, found, command.fence)
    name = f"group:{found.group}"
    entry = tx.append(found.key, name, EventType.DISSOLVED, {"by": command.by})
    keys = _current_keys(tx, found.key)
    tx.run(
        "UPDATE stays SET last = ? WHERE conversation = ? AND last IS NULL",
        (entry.position, found.key),
    )
    tx.run(
        "UPDATE groups SET state = 'dissolved', members = 0, membership_version = ? WHERE key = ?",
        (entry.position, found.key),
    )
    refresh_listed(tx)
    body = {"conversation_left": name, "last": entry.position, "reason": "dissolved"}
    told = tx.append_to_inboxes(keys, EventType.CEASED, body)
    group = msgspec.structs.replace(
        found, state=GroupState.DISSOLVED, members=0, membership_version=entry.position
    )
    return Done(group, (entry, *told))


def _current_keys(tx: Transaction, group_key: int) -> list[int]:
    text = tx.value(
        "SELECT json_group_array(user) FROM stays WHERE conversation = ? AND last IS NULL",
        (group_key,),
    )
    keys: list[int] = msgspec.json.decode(text)
    return keys
