"""How entries stand in rows: codes of types, and rows back into values."""

from __future__ import annotations

from typing import Any, Final, TypeAlias

import msgspec

from qunxin.model import Entry, EventType, MessageType

Row: TypeAlias = tuple[Any, ...]

TYPE_CODES: Final[dict[str, int]] = {
    MessageType.PRIVATE: 1,
    MessageType.GROUP: 2,
    MessageType.BROADCAST: 3,
    EventType.CREATED: 10,
    EventType.JOINED: 11,
    EventType.LEFT: 12,
    EventType.CHANGED: 13,
    EventType.DISSOLVED: 14,
    EventType.RECALLED: 15,
    EventType.MEMBER: 20,
    EventType.CEASED: 21,
    EventType.CONTACT: 22,
    EventType.ACCOUNT: 23,
    EventType.SESSIONS_ENDED: 24,
}
"""Kept for ever: they stand in every database."""

TYPES: Final[dict[int, str]] = {code: str(name) for name, code in TYPE_CODES.items()}
LAST_MESSAGE_CODE: Final = 9
"""Codes up to here are messages."""

OPERATOR: Final = 0
"""Stands as sender where the operator speaks: no user has this key."""

ENTRY_COLUMNS: Final = """
    e.position, e.type, e.time, u.user, e.key, e.data,
    CASE WHEN e.data IS NULL THEN (
        SELECT r.position FROM recalls r
        WHERE r.conversation = e.conversation AND r.target = e.position
    ) END
"""
ENTRY_TABLES: Final = "entries e LEFT JOIN users u ON u.key = e.sender"


def entry_from_row(conversation: str, row: Row) -> Entry:
    """The entry of a row of `ENTRY_COLUMNS`."""
    position, code, time, sender, key, data, recalled = row
    if code > LAST_MESSAGE_CODE:
        body = msgspec.json.decode(data)
        return Entry(conversation, position, TYPES[code], time, body=body)
    content = None if data is None else msgspec.Raw(data)
    return Entry(conversation, position, TYPES[code], time, sender, key, content, recalled)
