"""Whom a message reaches, reckoned from the side of those who cannot be reached."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from qunxin.model import NAMED_LIMIT, Reach, Reason, Unreachable
from qunxin.stores.sqlite.cache import CachedConversation, CachedGroup, CachedUser
from qunxin.stores.sqlite.commands.lookups import reason_of
from qunxin.stores.sqlite.transaction import Transaction

_UNREACHABLE_MEMBERS: Final = """
    FROM users u INDEXED BY users_unreachable
    CROSS JOIN stays s INDEXED BY stays_current
        ON s.conversation = ?1 AND s.user = u.key AND s.last IS NULL
    WHERE u.reason IS NOT NULL
"""
_MEMBERS_UNREACHABLE: Final = """
    FROM stays s INDEXED BY stays_current
    CROSS JOIN users u ON u.key = s.user AND u.reason IS NOT NULL
    WHERE s.conversation = ?1 AND s.last IS NULL
"""
_SUSPENDED: Final = """
    FROM users u INDEXED BY users_unreachable
    WHERE u.reason = 'suspended' AND ?1 IS NOT NULL
"""


def group_reach(
    tx: Transaction, conversation: CachedConversation, group: CachedGroup, hint: Reach | None
) -> Reach:
    """Who of the group cannot be reached now. `hint` counts where both its versions do."""
    version, unreachable = group.membership_version, tx.state.unreachable_version
    for known in (conversation.reach, hint):
        if (
            known is not None
            and known.membership_version == version
            and known.unreachable_version == unreachable
        ):
            conversation.reach = known
            return known
    reach = _reckon(tx, conversation, _group_side(tx, group), version, group.members)
    conversation.reach = reach
    return reach


def _group_side(tx: Transaction, group: CachedGroup) -> str:
    """Start from whichever is fewer: the unreachable or the members."""
    few = tx.value(
        "SELECT count(*) FROM (SELECT 1 FROM users INDEXED BY users_unreachable"
        " WHERE reason IS NOT NULL LIMIT ?)",
        (group.members + 1,),
    )
    return _UNREACHABLE_MEMBERS if few <= group.members else _MEMBERS_UNREACHABLE


def broadcast_reach(tx: Transaction, conversation: CachedConversation) -> Reach:
    """Every account that is not erased; of these the suspended cannot be reached."""
    known, state = conversation.reach, tx.state
    if (
        known is None
        or known.unreachable_version != state.unreachable_version
        or known.members != state.accounts
    ):
        known = conversation.reach = _reckon(tx, conversation, _SUSPENDED, 0, state.accounts)
    return known


def private_reach(tx: Transaction, recipient: CachedUser) -> Reach:
    """Two people, of whom the recipient may be out of reach."""
    reason = reason_of(recipient.state)
    version = tx.state.unreachable_version
    if reason is None:
        return Reach(0, version, 2)
    return Reach(0, version, 2, 1, (Unreachable(recipient.user, reason),))


def _reckon(
    tx: Transaction, conversation: CachedConversation, tables: str, version: int, members: int
) -> Reach:
    unreachable = tx.state.unreachable_version
    count = tx.value(f"SELECT count(*) {tables}", (conversation.key,))
    if count == 0:
        return Reach(version, unreachable, members)
    rows = tx.db.execute(
        f"SELECT u.user, u.reason {tables} ORDER BY u.key LIMIT {NAMED_LIMIT}",
        (conversation.key,),
    ).fetchall()
    named = tuple(Unreachable(str(user), Reason(str(reason))) for user, reason in rows)
    return Reach(version, unreachable, members, count, named)


def keep_reach(tx: Transaction, conversation: CachedConversation, reach: Reach) -> None:
    """See that a repeated key can be given `reach` again. Nothing to do where all are reached."""
    if reach.unreachable_count == 0 or conversation.kept_reach is reach:
        return
    named = msgspec.msgpack.encode(reach.named)
    tx.run(
        "INSERT OR IGNORE INTO reaches VALUES (?, ?, ?, ?, ?, ?)",
        (*_reach_key(conversation, reach), reach.unreachable_count, named),
    )
    conversation.kept_reach = reach


def kept_reach(
    tx: Transaction, conversation: CachedConversation, members: int, version: int, unreachable: int
) -> Reach:
    """The reach of an earlier message, as it was then."""
    bare = Reach(version, unreachable, members)
    row = tx.row(
        "SELECT unreachable_count, named FROM reaches WHERE conversation = ?"
        " AND membership_version = ? AND unreachable_version = ? AND members = ?",
        _reach_key(conversation, bare),
    )
    if row is None:
        return bare
    named = msgspec.msgpack.decode(row[1], type=tuple[Unreachable, ...])
    return msgspec.structs.replace(bare, unreachable_count=row[0], named=named)


def _reach_key(conversation: CachedConversation, reach: Reach) -> tuple[Any, ...]:
    return (
        conversation.key,
        reach.membership_version,
        reach.unreachable_version,
        reach.members,
    )
