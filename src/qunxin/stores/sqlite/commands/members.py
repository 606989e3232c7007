"""Memberships: add many at once, remove, change one, sweep those of erased users."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from qunxin.errors import QunxinError
from qunxin.model import (
    NAMED_LIMIT,
    Entry,
    EventType,
    Group,
    History,
    JsonObject,
    Member,
    Reason,
    Role,
    UserState,
)
from qunxin.store.commands import AddMembers, ChangeMember, RemoveMember, SweepErased
from qunxin.store.results import Done, MemberResult, MembersResult
from qunxin.stores.sqlite.commands.lookups import (
    active_group,
    check_fence,
    existing_member,
)
from qunxin.stores.sqlite.transaction import Transaction


class Candidate(msgspec.Struct, frozen=True):
    """One named user and what becomes of them; `key` is 0 where there is no such account."""

    user: str
    key: int
    result: str

    @property
    def outcome(self) -> MemberResult:
        return MemberResult(self.user, self.result)


_FIND_CANDIDATES = """
    SELECT json_group_array(json_array(j.value, u.key, u.state, EXISTS (
        SELECT 1 FROM stays s
        WHERE s.conversation = ?2 AND s.user = u.key AND s.last IS NULL
    )) ORDER BY j.id)
    FROM json_each(?1) j LEFT JOIN users u ON u.user = j.value
"""


def find_candidates(
    tx: Transaction, group_key: int | None, users: Sequence[str]
) -> list[Candidate]:
    """Each of `users` once, in order, with `added`, `already_member` or `user_not_found`."""
    wanted = msgspec.json.encode(list(dict.fromkeys(users))).decode()
    found = msgspec.json.decode(tx.value(_FIND_CANDIDATES, (wanted, group_key)))
    return [_candidate(*row) for row in found]


def _candidate(user: str, key: int | None, state: str | None, listed: int) -> Candidate:
    if key is None or state == UserState.ERASED:
        return Candidate(user, 0, "user_not_found")
    return Candidate(user, key, "already_member" if listed else "added")


def membership_body(by: str | None, added: Sequence[Candidate]) -> JsonObject:
    """The body of a `created` or `joined` entry: a count, and the first names."""
    named = added[:NAMED_LIMIT]
    return {
        "by": by,
        "users": [candidate.user for candidate in named],
        "keys": [candidate.key for candidate in named],
        "count": len(added),
    }


def enter(
    tx: Transaction, group: Group, added: Sequence[Candidate], role: Role, joined: int
) -> tuple[Entry, ...]:
    """Begin the memberships at position `joined`, and tell each one's inbox."""
    if not added:
        return ()
    first = 1 if group.history is History.FULL else joined
    keys = [candidate.key for candidate in added]
    tx.run(
        "INSERT INTO stays (conversation, user, joined, first, role)"
        " SELECT ?2, j.value, ?3, ?4, ?5 FROM json_each(?1) j",
        (msgspec.json.encode(keys).decode(), group.key, joined, first, int(role)),
    )
    body = {
        "conversation_joined": f"group:{group.group}",
        "joined": joined,
        "first": first,
        "role": role.name.lower(),
    }
    return tx.append_to_inboxes(keys, EventType.MEMBER, body)


def add_members(tx: Transaction, command: AddMembers) -> Done:
    group = active_group(tx, command.group)
    check_fence(tx, group, command.fence)
    candidates = find_candidates(tx, group.key, command.users)
    added = [candidate for candidate in candidates if candidate.result == "added"]
    results = tuple(candidate.outcome for candidate in candidates)
    if not added:
        return Done(MembersResult(group.membership_version, results))
    if group.members + len(added) > command.limit:
        raise QunxinError("group_full", limit=command.limit)
    body = membership_body(command.by, added)
    entry = tx.append(group.key, f"group:{group.group}", EventType.JOINED, body)
    told = enter(tx, group, added, Role.MEMBER, entry.position)
    _count(tx, group.key, len(added), entry.position)
    return Done(MembersResult(entry.position, results), (entry, *told))


def remove_member(tx: Transaction, command: RemoveMember) -> Done:
    group = active_group(tx, command.group)
    check_fence(tx, group, command.fence, command.user)
    member = existing_member(tx, group, command.user)
    if member.role is Role.OWNER and group.members > 1:
        _check_not_last_owner(tx, group, member)
    entries = _leave(tx, group, member, command.by, command.reason)
    result = MembersResult(entries[0].position, (MemberResult(member.user, "removed"),))
    return Done(result, entries)


def _leave(
    tx: Transaction, group: Group, member: Member, by: str | None, reason: str
) -> tuple[Entry, ...]:
    name = f"group:{group.group}"
    body = {"by": by, "users": [member.user], "keys": [member.key], "count": 1, "reason": reason}
    entry = tx.append(group.key, name, EventType.LEFT, body)
    tx.run(
        "UPDATE stays SET last = ? WHERE conversation = ? AND user = ? AND last IS NULL",
        (entry.position, group.key, member.key),
    )
    _count(tx, group.key, -1, entry.position)
    if member.reason is Reason.NOT_FOUND:
        tx.change_unreachable(member.key, UserState.ERASED)
    told = {"conversation_left": name, "last": entry.position, "reason": reason}
    return (entry, *tx.append_to_inboxes([member.key], EventType.CEASED, told))


def _count(tx: Transaction, group_key: int, change: int, version: int) -> None:
    tx.run(
        "UPDATE groups SET members = members + ?, membership_version = ? WHERE key = ?",
        (change, version, group_key),
    )


def _check_not_last_owner(tx: Transaction, group: Group, member: Member) -> None:
    """Erased owners do not count, and one of them never has to be kept."""
    if member.reason is Reason.NOT_FOUND:
        return
    other = tx.value(
        "SELECT EXISTS (SELECT 1 FROM stays s INDEXED BY stays_of_owners"
        " JOIN users u ON u.key = s.user"
        " WHERE s.conversation = ? AND s.last IS NULL AND s.role = 3"
        " AND s.user <> ? AND u.state <> 'erased')",
        (group.key, member.key),
    )
    if not other:
        raise QunxinError("last_owner", group=group.group)


def change_member(tx: Transaction, command: ChangeMember) -> Done:
    group = active_group(tx, command.group)
    check_fence(tx, group, command.fence, command.user)
    found = existing_member(tx, group, command.user)
    role = found.role if command.role is None else command.role
    muted = found.muted if command.muted is None else command.muted
    member = msgspec.structs.replace(found, role=role, muted=muted)
    if member == found:
        return Done(member)
    if found.role is Role.OWNER and role is not Role.OWNER:
        _check_not_last_owner(tx, group, found)
    tx.run(
        "UPDATE stays SET role = ?, muted = ? WHERE conversation = ? AND user = ? AND last IS NULL",
        (int(role), muted, group.key, member.key),
    )
    body = _change_body(command, found, member)
    entry = tx.append(group.key, f"group:{group.group}", EventType.CHANGED, body)
    return Done(member, (entry,))


def _change_body(command: ChangeMember, found: Member, member: Member) -> JsonObject:
    body: JsonObject = {"by": command.by, "user": member.user}
    if member.role is not found.role:
        body["role"] = member.role.name.lower()
    if member.muted is not found.muted:
        body["member_muted"] = member.muted
    return body


def sweep_erased(tx: Transaction, command: SweepErased) -> Done:
    rows = tx.db.execute(
        "SELECT substr(c.name, 7), u.user FROM users u INDEXED BY users_swept"
        " CROSS JOIN stays s INDEXED BY stays_of_user ON s.user = u.key"
        " JOIN conversations c ON c.key = s.conversation"
        " WHERE u.reason = 'not_found' AND u.erased < ? AND s.role > 0 AND s.last IS NULL"
        " LIMIT ?",
        (command.before_ms, command.limit),
    ).fetchall()
    entries: list[Entry] = []
    for name, user in rows:
        group = active_group(tx, str(name))
        member = existing_member(tx, group, str(user))
        entries.extend(_leave(tx, group, member, None, "erased"))
    return Done(len(rows), tuple(entries))


def refresh_listed(tx: Transaction) -> None:
    """Take those erased users out of the unreachable set whom no group lists any more."""
    changed = tx.run(
        "UPDATE users SET reason = NULL WHERE reason = 'not_found' AND NOT EXISTS ("
        "SELECT 1 FROM stays s INDEXED BY stays_of_user"
        " WHERE s.user = users.key AND s.role > 0 AND s.last IS NULL)"
    )
    if changed:
        tx.state.unreachable_version += 1
