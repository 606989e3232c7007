"""Accounts: create, update, erase, block, end sessions."""

from __future__ import annotations

from qunxin.errors import QunxinError
from qunxin.model import Conversation, EventType, User, UserState
from qunxin.store.commands import EndSessions, EraseUser, PutUser, SetBlock
from qunxin.store.results import Done, UserResult
from qunxin.stores.sqlite.commands.lookups import existing_user, find_user
from qunxin.stores.sqlite.commands.revocations import forget_revocations
from qunxin.stores.sqlite.schema import BROADCAST_KEY
from qunxin.stores.sqlite.transaction import Transaction


def put_user(tx: Transaction, command: PutUser) -> Done:
    if command.state is UserState.ERASED:
        raise QunxinError("invalid_request", detail="an account is erased, not put as erased")
    found = find_user(tx, command.user)
    if found is None:
        return Done(UserResult(_create(tx, command), created=True))
    if found.state is UserState.ERASED:
        raise QunxinError("user_erased", user=command.user)
    if command.only_new:
        return Done(UserResult(found, created=False))
    return _update(tx, found, command)


def _create(tx: Transaction, command: PutUser) -> User:
    state = command.state or UserState.ACTIVE
    name = command.user if command.name is None else command.name
    user = User(command.user, tx.next_key(), name, state, tx.time)
    tx.run(
        "INSERT INTO users (key, user, name, state, created, broadcast_first)"
        " VALUES (?, ?, ?, ?, ?, ?)",
        (user.key, user.user, name, state, tx.time, _broadcast_head(tx) + 1),
    )
    tx.run(
        "INSERT INTO conversations (key, kind, name) VALUES (?, 'inbox', ?)",
        (user.key, f"inbox:{user.user}"),
    )
    tx.state.accounts += 1
    tx.change_unreachable(user.key, state)
    return user


def _update(tx: Transaction, found: User, command: PutUser) -> Done:
    name = found.name if command.name is None else command.name
    state = command.state or found.state
    user = User(found.user, found.key, name, state, found.created)
    if user == found:
        return Done(UserResult(user, created=False))
    tx.cache.drop_user(found.user)
    tx.run("UPDATE users SET name = ?, state = ? WHERE key = ?", (name, state, found.key))
    if state is found.state:
        return Done(UserResult(user, created=False))
    tx.change_unreachable(found.key, state)
    entries = tx.append_to_inboxes([found.key], EventType.ACCOUNT, {"state": str(state)})
    return Done(UserResult(user, created=False), entries)


def erase_user(tx: Transaction, command: EraseUser) -> Done:
    found = existing_user(tx, command.user)
    tx.cache.drop_user(found.user)
    tx.run(
        "UPDATE users SET name = '', state = 'erased', erased = ?, broadcast_last = ?"
        " WHERE key = ?",
        (tx.time, _broadcast_head(tx), found.key),
    )
    tx.run("DELETE FROM blocks WHERE user = ?", (found.key,))
    tx.run("DELETE FROM cursors WHERE user = ?", (found.key,))
    forget_revocations(tx, found.key)
    tx.state.accounts -= 1
    tx.change_unreachable(found.key, UserState.ERASED)
    _forget_blocks(tx, found.user)
    user = User(found.user, found.key, "", UserState.ERASED, found.created)
    entries = tx.append_to_inboxes([found.key], EventType.ACCOUNT, {"state": "erased"})
    return Done(user, entries)


def _forget_blocks(tx: Transaction, user: str) -> None:
    """An erased user blocks nobody, so no private conversation may remember that they do."""
    for conversation in tx.cache.conversations.values():
        if user in conversation.parts:
            conversation.blocks.clear()


def set_block(tx: Transaction, command: SetBlock) -> Done:
    user = existing_user(tx, command.user)
    blocked = existing_user(tx, command.blocked) if command.on else find_user(tx, command.blocked)
    if blocked is None:
        raise QunxinError("user_not_found", user=command.blocked)
    sql = (
        "INSERT OR IGNORE INTO blocks (user, blocked) VALUES (?, ?)"
        if command.on
        else "DELETE FROM blocks WHERE user = ? AND blocked = ?"
    )
    tx.run(sql, (user.key, blocked.key))
    tx.cache.drop_conversation(str(Conversation.private(command.user, command.blocked)))
    return Done(None)


def end_sessions(tx: Transaction, command: EndSessions) -> Done:
    user = existing_user(tx, command.user)
    return Done(None, tx.append_to_inboxes([user.key], EventType.SESSIONS_ENDED, {}))


def _broadcast_head(tx: Transaction) -> int:
    head = tx.value("SELECT max(position) FROM entries WHERE conversation = ?", (BROADCAST_KEY,))
    return int(head or 0)
