"""Look-ups through the writer's cache."""

from __future__ import annotations

from typing import Final

from qunxin.model import Conversation, GroupState, Require, UserState
from qunxin.stores.sqlite.cache import CachedConversation, CachedGroup, CachedStay, CachedUser
from qunxin.stores.sqlite.transaction import Transaction

_FIND_CONVERSATION: Final = """
    SELECT c.key, COALESCE((SELECT max(position) FROM entries WHERE conversation = c.key), 0),
           g.state, g.require, g.muted, g.members, g.membership_version
    FROM conversations c LEFT JOIN groups g ON g.key = c.key
    WHERE c.name = ? AND c.kind <> 'inbox'
"""


def find_cached_user(tx: Transaction, user: str) -> CachedUser | None:
    """The account, or None. One that is not there is asked for again each time."""
    cached = tx.cache.users.get(user)
    if cached is None:
        row = tx.row("SELECT key, state FROM users WHERE user = ?", (user,))
        if row is None:
            return None
        cached = tx.cache.users[user] = CachedUser(user, row[0], UserState(row[1]))
    return cached


def find_cached_conversation(tx: Transaction, name: str) -> CachedConversation | None:
    """The conversation, or None where it is unknown or an inbox."""
    cached = tx.cache.conversations.get(name)
    if cached is None:
        row = tx.row(_FIND_CONVERSATION, (name,))
        if row is None:
            return None
        key, head, *facts = row
        group = None if facts[0] is None else _group(*facts)
        parsed = Conversation.parse(name)
        parts = () if parsed is None else parsed.parts
        cached = CachedConversation(name, key, head, group, parts)
        tx.cache.conversations[name] = cached
    return cached


def _group(state: str, require: str, muted: int, members: int, version: int) -> CachedGroup:
    return CachedGroup(GroupState(state), Require(require), bool(muted), members, version)


def find_cached_stay(
    tx: Transaction, conversation: CachedConversation, user: CachedUser
) -> CachedStay | None:
    """The current membership, or None."""
    try:
        return conversation.stays[user.key]
    except KeyError:
        pass
    row = tx.row(
        "SELECT role, muted FROM stays WHERE conversation = ? AND user = ? AND last IS NULL",
        (conversation.key, user.key),
    )
    stay = None if row is None else CachedStay(row[0], bool(row[1]))
    conversation.stays[user.key] = stay
    tx.cache.stays += 1
    return stay


def has_blocked(
    tx: Transaction, conversation: CachedConversation | None, user: CachedUser, other: CachedUser
) -> bool:
    """Whether `user` blocks `other`; remembered in their conversation, where there is one."""
    if conversation is not None and user.key in conversation.blocks:
        return conversation.blocks[user.key]
    blocked = bool(
        tx.value(
            "SELECT EXISTS (SELECT 1 FROM blocks WHERE user = ? AND blocked = ?)",
            (user.key, other.key),
        )
    )
    if conversation is not None:
        conversation.blocks[user.key] = blocked
    return blocked
