"""The log of all conversations in the order of its rows, and who is told of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from qunxin.model import Webhook
from qunxin.store.reads import OutboxItem, OutboxPage
from qunxin.stores.sqlite.commands.webhooks import WEBHOOK_SQL, webhook_from_row
from qunxin.stores.sqlite.readers import Reader
from qunxin.stores.sqlite.rows import TYPES, Row

_PAGE: Final = """
    SELECT e.id, c.name, e.position, e.type, e.time, c.kind
    FROM (
        SELECT id, conversation, position, type, time FROM entries
        WHERE id > ? ORDER BY id LIMIT ?
    ) e JOIN conversations c ON c.key = e.conversation
    ORDER BY e.id
"""
_AT: Final = """
    SELECT e.id, c.name, e.position, e.type, e.time, c.kind
    FROM entries e JOIN conversations c ON c.key = e.conversation
    WHERE e.id IN (SELECT value FROM json_each(?)) ORDER BY e.id
"""


def read_outbox(reader: Reader, after: int, limit: int) -> OutboxPage:
    with reader:
        head = _head(reader)
        rows: list[Row] = reader.rows(_PAGE, (after, limit)).fetchall()
    return OutboxPage(_items(rows), rows[-1][0] if rows else after, head)


def read_outbox_at(reader: Reader, serials: Sequence[int]) -> tuple[OutboxItem, ...]:
    return _items(reader.rows(_AT, (msgspec.json.encode(list(serials)).decode(),)))


def _items(rows: Iterable[Row]) -> tuple[OutboxItem, ...]:
    return tuple(
        OutboxItem(serial, name, position, TYPES[code], time)
        for serial, name, position, code, time, kind in rows
        if kind != "inbox"
    )


def find_serial(reader: Reader, time: int) -> int:
    with reader:
        found = reader.value("SELECT id FROM entries WHERE time >= ? ORDER BY id LIMIT 1", (time,))
        return _head(reader) if found is None else int(found) - 1


def _head(reader: Reader) -> int:
    return int(reader.value("SELECT max(id) FROM entries") or 0)


def read_webhooks(reader: Reader) -> tuple[Webhook, ...]:
    rows = reader.rows(f"{WEBHOOK_SQL} ORDER BY created, id")
    return tuple(webhook_from_row(row) for row in rows)
