"""Pages of a log, and the heads of many."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from qunxin.model import Entry
from qunxin.store.reads import LogPage
from qunxin.stores.sqlite.readers import Reader
from qunxin.stores.sqlite.reads.intervals import read_intervals, readable_ranges
from qunxin.stores.sqlite.rows import ENTRY_COLUMNS, ENTRY_TABLES, Row, entry_from_row

_FIND: Final = """
    SELECT c.key, COALESCE((SELECT max(position) FROM entries WHERE conversation = c.key), 0)
    FROM conversations c WHERE c.name = ?
"""
_RANGE: Final = f"""
    SELECT {ENTRY_COLUMNS} FROM {ENTRY_TABLES}
    WHERE e.conversation = ? AND e.position BETWEEN ? AND ? ORDER BY e.position $ORDER LIMIT ?
"""  # noqa: S608
_ASCENDING: Final = _RANGE.replace("$ORDER", "ASC")
_DESCENDING: Final = _RANGE.replace("$ORDER", "DESC")

_HEADS: Final = """
    SELECT json_group_array(json_array(j.value, COALESCE((
        SELECT max(e.position) FROM conversations c JOIN entries e ON e.conversation = c.key
        WHERE c.name = j.value
    ), 0)))
    FROM json_each(?) j
"""


class LogRead(msgspec.Struct, frozen=True):
    """What a page is asked for; the meaning of each stands at `Store.read_log`."""

    conversation: str
    user: str | None
    after: int
    before: int | None
    limit: int
    max_bytes: int
    newest: bool


def read_log(reader: Reader, asked: LogRead) -> LogPage:
    with reader:
        row = reader.row(_FIND, (asked.conversation,))
        if row is None:
            return LogPage((), asked.after, 0, ())
        key, head = row
        through = head if asked.before is None else min(head, asked.before - 1)
        intervals = read_intervals(reader, key, asked.conversation, asked.user)
        ranges = readable_ranges(intervals, asked.after, through)
        if asked.newest:
            rows = _ranges(reader, _DESCENDING, key, ranges[::-1], asked.limit)
            entries, _ = _take(asked, rows)
            return LogPage(tuple(reversed(entries)), max(through, asked.after), head, intervals)
        rows = _ranges(reader, _ASCENDING, key, ranges, asked.limit + 1)
        entries, whole = _take(asked, rows)
        if not whole:
            through = entries[-1].position if entries else asked.after
        return LogPage(tuple(entries), max(through, asked.after), head, intervals)


def _ranges(
    reader: Reader, sql: str, key: int, ranges: list[tuple[int, int]], limit: int
) -> Iterator[Row]:
    for first, last in ranges:
        for row in reader.rows(sql, (key, first, last, limit)):
            yield row
            limit -= 1
            if limit <= 0:
                return


def _take(asked: LogRead, rows: Iterator[Row]) -> tuple[list[Entry], bool]:
    """As many entries as the page may hold, and whether these are all that there are."""
    entries: list[Entry] = []
    size = 0
    for row in rows:
        size += len(row[5] or b"")
        if len(entries) >= asked.limit or (entries and size > asked.max_bytes):
            return entries, False
        entries.append(entry_from_row(asked.conversation, row))
    return entries, True


def read_heads(reader: Reader, conversations: Sequence[str]) -> dict[str, int]:
    wanted = msgspec.json.encode(list(conversations)).decode()
    return dict(msgspec.json.decode(reader.value(_HEADS, (wanted,))))
