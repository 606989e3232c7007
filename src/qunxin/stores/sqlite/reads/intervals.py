"""Which positions of a log a user may read."""

from __future__ import annotations

from typing import Final

from qunxin.model import BROADCAST, Interval
from qunxin.stores.sqlite.readers import Reader

EVERYTHING: Final = (Interval(1, None, 1),)


def read_intervals(
    reader: Reader, conversation_key: int, name: str, user: str | None
) -> tuple[Interval, ...]:
    """The stays of `user`, ascending; all there is for None. Empty for who was never entitled."""
    if user is None or name == f"inbox:{user}":
        return EVERYTHING
    if name == str(BROADCAST):
        row = reader.row(
            "SELECT broadcast_first, broadcast_last FROM users WHERE user = ?", (user,)
        )
        return () if row is None else (Interval(row[0], row[1], row[0]),)
    rows = reader.rows(
        "SELECT s.first, s.last, s.joined FROM stays s JOIN users u ON u.key = s.user"
        " WHERE u.user = ?2 AND s.conversation = ?1 ORDER BY s.joined",
        (conversation_key, user),
    )
    return tuple(Interval(*row) for row in rows)


def readable_ranges(
    intervals: tuple[Interval, ...], after: int, through: int
) -> list[tuple[int, int]]:
    """The positions above `after` up to `through` that `intervals` allow, as ascending ranges
    that do not touch."""
    ranges: list[tuple[int, int]] = []
    for interval in sorted(intervals, key=lambda one: one.first):
        first = max(interval.first, after + 1)
        last = through if interval.last is None else min(interval.last, through)
        if first > last:
            continue
        if ranges and first <= ranges[-1][1] + 1:
            ranges[-1] = (ranges[-1][0], max(ranges[-1][1], last))
        else:
            ranges.append((first, last))
    return ranges
