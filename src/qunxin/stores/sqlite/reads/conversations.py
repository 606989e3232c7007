"""A user's conversations as a list shows them, and their cursors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from qunxin.errors import QunxinError
from qunxin.model import Cursor, Role
from qunxin.store.reads import ConversationRow
from qunxin.stores.sqlite.readers import Reader
from qunxin.stores.sqlite.rows import LAST_MESSAGE_CODE, Row

UNREAD_LIMIT: Final = 1_000

LOOKED_AT: Final = 10_000
"""Unread messages are counted among so many of the newest entries: who wrote a million messages
and read none of a million events must not make their list slow."""

_ALL_MINE: Final = """
    mine(conversation, joined, role) AS (
        SELECT s.conversation, s.joined, s.role FROM stays s INDEXED BY stays_of_user
        WHERE s.user = :user AND s.last IS NULL
        UNION ALL
        SELECT c.key, u.broadcast_first, 0 FROM users u CROSS JOIN conversations c
        ON c.name = 'broadcast:all' WHERE u.key = :user AND u.broadcast_last IS NULL
    )
"""
_MINE_OF_THESE: Final = """
    asked AS (
        SELECT DISTINCT c.key, c.kind
        FROM json_each(:names) j CROSS JOIN conversations c ON c.name = j.value
    ),
    mine(conversation, joined, role) AS (
        SELECT s.conversation, s.joined, s.role FROM asked a
        CROSS JOIN stays s INDEXED BY stays_current
        ON s.conversation = a.key AND s.user = :user AND s.last IS NULL
        UNION ALL
        SELECT a.key, u.broadcast_first, 0 FROM asked a CROSS JOIN users u
        ON u.key = :user WHERE a.kind = 'broadcast' AND u.broadcast_last IS NULL
        UNION ALL
        SELECT a.key, 1, 0 FROM asked a WHERE a.key = :user
    )
"""
_TIMED: Final = """
    placed AS (
        SELECT m.*, COALESCE((
            SELECT max(position) FROM entries WHERE conversation = m.conversation
        ), 0) AS head
        FROM mine m
    ),
    timed AS (
        SELECT p.*, c.name, c.kind, COALESCE((
            SELECT time FROM entries WHERE conversation = p.conversation AND position = p.head
        ), 0) AS time
        FROM placed p CROSS JOIN conversations c ON c.key = p.conversation
    )
"""


def _start(above: str) -> str:
    """The position before the first one above `above` at which the user was a member."""
    return f"""
           CASE t.kind WHEN 'group' THEN (
               SELECT max(s.joined, {above} + 1) - 1 FROM stays s
               WHERE s.conversation = t.conversation AND s.user = :user
                 AND (s.last IS NULL OR s.last > {above})
               ORDER BY s.joined LIMIT 1
           ) ELSE max(t.joined, {above} + 1) - 1 END
    """  # noqa: S608


_WHOLE: Final = "iif(c.missed_to > 0, c.missed_from - 1, COALESCE(c.delivered, 0))"
"""Up to there nothing is missed."""

_ROW: Final = f"""
    SELECT t.conversation, t.name,
           CASE t.kind
               WHEN 'group' THEN (SELECT name FROM groups WHERE key = t.conversation)
               WHEN 'private' THEN (
                   SELECT u.name FROM stays s JOIN users u ON u.key = s.user
                   WHERE s.conversation = t.conversation AND s.user <> :user
               )
               ELSE ''
           END,
           t.head, t.time, t.joined, {_start(_WHOLE)}, t.role,
           COALESCE(c.delivered, 0), COALESCE(c.read, 0),
           (SELECT count(*) FROM (
               SELECT 1 FROM entries e INDEXED BY entries_by_position
               WHERE e.conversation = t.conversation
                 AND e.position > max(COALESCE(c.read, 0), t.joined - 1, t.head - {LOOKED_AT})
                 AND e.type <= {LAST_MESSAGE_CODE} AND e.sender <> :user
               LIMIT {UNREAD_LIMIT}
           )),
           COALESCE(c.missed_from, 0), COALESCE(c.missed_to, 0),
           iif(c.missed_to > 0, {_start("c.delivered")}, 0)
    FROM chosen t LEFT JOIN cursors c ON c.conversation = t.conversation AND c.user = :user
    ORDER BY t.time DESC, t.conversation DESC
"""  # noqa: S608
_LIST: Final = f"""
    WITH {_ALL_MINE}, {_TIMED}, chosen AS MATERIALIZED (
        SELECT * FROM timed WHERE (time, conversation) < (:time, :key)
        ORDER BY time DESC, conversation DESC LIMIT :limit
    )
    {_ROW}
"""  # noqa: S608
_NAMED: Final = f"""
    WITH {_MINE_OF_THESE}, {_TIMED}, chosen AS MATERIALIZED (SELECT * FROM timed)
    {_ROW}
"""  # noqa: S608
_BEYOND: Final = 2**62


def list_conversations(
    reader: Reader, user: str, cursor: str | None, limit: int
) -> tuple[tuple[ConversationRow, ...], str | None]:
    time, key = _parse_cursor(cursor)
    with reader:
        user_key = _user_key(reader, user)
        if user_key is None:
            return (), None
        bindings = {"user": user_key, "time": time, "key": key, "limit": limit + 1}
        rows = reader.rows(_LIST, bindings).fetchall()
    following = None
    if len(rows) > limit:
        last = rows[limit - 1]
        following = f"{last[4]}-{last[0]}"
    return tuple(_row(row) for row in rows[:limit]), following


def read_conversations(
    reader: Reader, user: str, conversations: Sequence[str]
) -> tuple[ConversationRow, ...]:
    with reader:
        user_key = _user_key(reader, user)
        if user_key is None:
            return ()
        names = msgspec.json.encode(list(conversations)).decode()
        return tuple(_row(row) for row in reader.rows(_NAMED, {"user": user_key, "names": names}))


def read_cursor(reader: Reader, user: str, conversation: str) -> Cursor:
    row = reader.row(
        "SELECT r.delivered, r.read, r.missed_from, r.missed_to"
        " FROM conversations c CROSS JOIN users u"
        " CROSS JOIN cursors r ON r.conversation = c.key AND r.user = u.key"
        " WHERE c.name = ? AND u.user = ?",
        (conversation, user),
    )
    return Cursor(user, conversation, *(row or ()))


def _user_key(reader: Reader, user: str) -> Any:
    return reader.value("SELECT key FROM users WHERE user = ?", (user,))


def _row(row: Row) -> ConversationRow:
    _, conversation, name, head, time, joined, start, code, *known = row
    role = Role(code) if code else None
    return ConversationRow(conversation, name, head, time, joined, start, role, *known)


def _parse_cursor(cursor: str | None) -> tuple[int, int]:
    if cursor is None:
        return _BEYOND, _BEYOND
    time, _, key = cursor.partition("-")
    if not all(part.isascii() and part.isdigit() and len(part) <= 20 for part in (time, key)):
        raise QunxinError("invalid_request", detail="the cursor is not one of ours")
    place = int(time), int(key)
    if max(place) > _BEYOND:
        raise QunxinError("invalid_request", detail="the cursor is not one of ours")
    return place
