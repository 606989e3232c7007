"""Recall: erase a message's content and its digest, and append the entry that says so."""

from __future__ import annotations

from typing import Final, NamedTuple

from qunxin.errors import QunxinError
from qunxin.model import EventType, Role
from qunxin.store.commands import Recall
from qunxin.store.results import Done, Recalled
from qunxin.stores.sqlite.rows import LAST_MESSAGE_CODE
from qunxin.stores.sqlite.transaction import Transaction


class _Target(NamedTuple):
    conversation_key: int
    dissolved: bool
    id: int
    time: int
    sender: str | None
    recalled: int | None
    recalled_at: int | None


_FIND: Final = f"""
    SELECT c.key, g.state IS 'dissolved', e.id, e.time, u.user, r.position, x.time
    FROM conversations c
    JOIN entries e ON e.conversation = c.key AND e.position = ?2 AND e.type <= {LAST_MESSAGE_CODE}
    LEFT JOIN users u ON u.key = e.sender
    LEFT JOIN groups g ON g.key = c.key
    LEFT JOIN recalls r ON r.conversation = c.key AND r.target = e.position
    LEFT JOIN entries x ON x.conversation = c.key AND x.position = r.position
    WHERE c.name = ?1
"""  # noqa: S608


def recall(tx: Transaction, command: Recall) -> Done:
    row = tx.row(_FIND, (command.conversation, command.position))
    if row is None:
        raise QunxinError("entry_not_found")
    target = _Target(*row)
    timed = command.actor is not None and _check_authority(tx, command, target)
    if target.recalled is not None:
        return Done(Recalled(target.recalled, target.recalled_at or 0, duplicate=True))
    if target.dissolved:
        raise QunxinError("group_dissolved", group=command.conversation.partition(":")[2])
    if timed and command.window_ms is not None and tx.time - target.time > command.window_ms:
        raise QunxinError("recall_window_over", window_seconds=command.window_ms // 1000)
    return _erase(tx, command, target)


def _check_authority(tx: Transaction, command: Recall, target: _Target) -> bool:
    """Refuse who may not recall this; whether the window holds for who may."""
    role = tx.value(
        "SELECT s.role FROM stays s JOIN users u ON u.key = s.user"
        " WHERE u.user = ?2 AND s.conversation = ?1 AND s.last IS NULL",
        (target.conversation_key, command.actor),
    )
    if role is not None and role >= Role.ADMIN:
        return False
    if target.sender == command.actor:
        return True
    if _may_read(tx, command, target):
        raise QunxinError("forbidden", detail="only the author, owners and admins may recall it")
    raise QunxinError("entry_not_found")


def _may_read(tx: Transaction, command: Recall, target: _Target) -> bool:
    """Whether the actor is shown this message at all; others are not even told that it exists."""
    return bool(
        tx.value(
            "SELECT EXISTS (SELECT 1 FROM stays s JOIN users u ON u.key = s.user"
            " WHERE u.user = ?2 AND s.conversation = ?1 AND s.first <= ?3"
            " AND (s.last IS NULL OR s.last >= ?3))"
            " OR (?4 AND EXISTS (SELECT 1 FROM users WHERE user = ?2 AND broadcast_first <= ?3))",
            (
                target.conversation_key,
                command.actor,
                command.position,
                command.conversation == "broadcast:all",
            ),
        )
    )


def _erase(tx: Transaction, command: Recall, target: _Target) -> Done:
    tx.run("UPDATE entries SET data = NULL, digest = NULL WHERE id = ?", (target.id,))
    entry = tx.append(
        target.conversation_key,
        command.conversation,
        EventType.RECALLED,
        {"by": command.actor, "target": command.position},
    )
    tx.run(
        "INSERT INTO recalls (conversation, target, position) VALUES (?, ?, ?)",
        (target.conversation_key, command.position, entry.position),
    )
    tx.erased_content = True
    return Done(Recalled(entry.position, entry.time), (entry,))
