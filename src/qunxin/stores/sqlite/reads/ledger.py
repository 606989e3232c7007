"""The ledger: for each member, how far one message got."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import msgspec

from qunxin.model import DeliveryState, UserState
from qunxin.store.reads import Delivery, LedgerPage, Queued
from qunxin.stores.sqlite.commands.lookups import reason_of
from qunxin.stores.sqlite.readers import Reader
from qunxin.stores.sqlite.reads.directory import key_from_cursor
from qunxin.stores.sqlite.rows import LAST_MESSAGE_CODE, OPERATOR, Row
from qunxin.stores.sqlite.schema import BROADCAST_KEY

_MESSAGE: Final = f"""
    SELECT c.key, e.sender, (
        SELECT r.position FROM recalls r WHERE r.conversation = c.key AND r.target = e.position
    )
    FROM conversations c JOIN entries e ON e.conversation = c.key
    WHERE c.name = ? AND e.position = ? AND e.type <= {LAST_MESSAGE_CODE}
"""  # noqa: S608

_STAYERS: Final = """
    SELECT s.user AS key, u.user, u.state FROM stays s JOIN users u ON u.key = s.user
    WHERE s.conversation = :conversation AND s.user > :after
      AND s.joined <= :position AND (s.last IS NULL OR s.last >= :position)
"""
_ACCOUNTS: Final = """
    SELECT u.key, u.user, u.state FROM users u
    WHERE u.key > :after
      AND u.broadcast_first <= :position
      AND (u.broadcast_last IS NULL OR u.broadcast_last >= :position)
"""
_JUDGED: Final = """
    SELECT a.key, a.user, a.state AS account,
           CASE WHEN c.read >= :proof THEN 'read'
                WHEN c.delivered >= :proof AND :proof NOT BETWEEN c.missed_from AND c.missed_to
                THEN 'delivered'
                WHEN a.state <> 'active' THEN 'unreachable'
                ELSE 'queued' END AS state
    FROM ($AUDIENCE) a
    LEFT JOIN cursors c ON c.conversation = :conversation AND c.user = a.key
    WHERE a.key <> :sender
"""
_QUEUED: Final = """
    FROM ($AUDIENCE) a
    LEFT JOIN cursors c ON c.conversation = :conversation AND c.user = a.key
    WHERE a.key <> :sender AND a.state = 'active'
      AND COALESCE(c.read, 0) < :proof
      AND (COALESCE(c.delivered, 0) < :proof OR :proof BETWEEN c.missed_from AND c.missed_to)
"""
"""Those whom `_JUDGED` calls queued, in half the time."""
_WITHOUT: Final = " AND a.user NOT IN (SELECT value FROM json_each(:without))"


class LedgerRead(NamedTuple):
    """What a page is asked for; the meaning of each stands at `Store.list_deliveries`."""

    conversation: str
    position: int
    state: DeliveryState | None
    cursor: str | None
    limit: int
    without: Sequence[str]
    counted: bool


def list_deliveries(reader: Reader, asked: LedgerRead) -> LedgerPage | None:
    after, limit = key_from_cursor(asked.cursor), asked.limit
    with reader:
        message = reader.row(_MESSAGE, (asked.conversation, asked.position))
        if message is None:
            return None
        key, sender, recalled = message
        judged = _of(_JUDGED, key, asked.without)
        bindings = _bindings(key, asked.position, sender, asked.without)
        bindings |= {"proof": recalled or asked.position, "after": after}
        counts = _count(reader, judged, bindings) if asked.counted else {}
        rows = _page(reader, judged, bindings, asked.state, limit + 1)
    deliveries = tuple(_delivery(row) for row in rows[:limit])
    following = str(rows[limit - 1][0]) if len(rows) > limit else None
    return LedgerPage(counts, deliveries, following, recalled)


class QueuedRead(NamedTuple):
    """A message that was not recalled, of whose ledger the queued are asked for."""

    key: int
    """Of the conversation."""
    position: int
    sender: int | None
    without: Sequence[str]
    limit: int
    counted: bool


def read_queued(reader: Reader, asked: QueuedRead) -> Queued:
    """Within the reader's own block. Counts by a second look only where not all are named."""
    limit = asked.limit
    queued = _of(_QUEUED, asked.key, asked.without)
    bindings = _bindings(asked.key, asked.position, asked.sender, asked.without)
    page = f"SELECT a.key, a.user {queued} ORDER BY a.key LIMIT :limit"
    rows: list[Row] = reader.rows(page, {**bindings, "limit": limit + 1}).fetchall()
    users = tuple(row[1] for row in rows[:limit])
    if len(rows) <= limit:
        return Queued(users, len(users) if asked.counted else None, None)
    count = reader.value(f"SELECT count(*) {queued}", bindings) if asked.counted else None
    return Queued(users, count, str(rows[limit - 1][0]))


def _of(sql: str, key: int, without: Sequence[str]) -> str:
    """The statement about the audience of the conversation `key`."""
    sql = sql.replace("$AUDIENCE", _ACCOUNTS if key == BROADCAST_KEY else _STAYERS)
    return sql + _WITHOUT if without else sql


def _bindings(
    key: int, position: int, sender: int | None, without: Sequence[str]
) -> dict[str, Any]:
    return {
        "conversation": key,
        "position": position,
        "proof": position,
        "sender": OPERATOR if sender is None else sender,
        "after": 0,
        "without": msgspec.json.encode(without).decode(),
    }


def _count(reader: Reader, judged: str, bindings: dict[str, Any]) -> dict[DeliveryState, int]:
    sql = f"SELECT state, count(*) FROM ({judged}) GROUP BY state"  # noqa: S608
    found = {row[0]: row[1] for row in reader.rows(sql, {**bindings, "after": 0})}
    return {state: int(found.get(state.value) or 0) for state in DeliveryState}


def _page(
    reader: Reader,
    judged: str,
    bindings: dict[str, Any],
    state: DeliveryState | None,
    limit: int,
) -> list[tuple[Any, ...]]:
    sql = (
        f"SELECT key, user, account, state FROM ({judged})"  # noqa: S608
        " WHERE :wanted IS NULL OR state = :wanted ORDER BY key LIMIT :limit"
    )
    wanted = None if state is None else str(state)
    return reader.rows(sql, {**bindings, "wanted": wanted, "limit": limit}).fetchall()


def _delivery(row: tuple[Any, ...]) -> Delivery:
    _, user, account, state = row
    found = DeliveryState(state)
    reason = reason_of(UserState(account)) if found is DeliveryState.UNREACHABLE else None
    return Delivery(user, found, reason)
