"""Many rows in one statement.

Each step of SQLite gives up Python's lock and must get it back from a busy loop thread. A batch
of messages therefore goes down in few statements of many rows, not in many of one; the sizes
are few so that every statement stays prepared.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any, Final

import apsw

SIZES: Final = (64, 16, 4, 1)


@cache
def _values(columns: int, rows: int) -> str:
    row = f"({', '.join('?' * columns)})"
    return ", ".join([row] * rows)


@cache
def _sql(template: str, columns: int, rows: int) -> str:
    return template.replace("$VALUES", _values(columns, rows))


def insert_rows(db: apsw.Connection, template: str, rows: Sequence[tuple[Any, ...]]) -> None:
    """Execute `template`, in which ``$VALUES`` stands for the rows, over all of `rows` in order."""
    done = 0
    for size in SIZES:
        while len(rows) - done >= size:
            part = rows[done : done + size]
            bindings = [value for row in part for value in row]
            db.execute(_sql(template, len(part[0]), size), bindings).fetchall()
            done += size


def select_rows(
    db: apsw.Connection, template: str, rows: Sequence[tuple[Any, ...]]
) -> Iterator[tuple[Any, ...]]:
    """What `template` gives over all of `rows`, in no order. NULLs may stand in for missing
    rows, so a template must find nothing for them."""
    done = 0
    while done < len(rows):
        size = next((s for s in reversed(SIZES) if s >= len(rows) - done), SIZES[0])
        part = rows[done : done + size]
        bindings = [value for row in part for value in row]
        bindings += [None] * (size * len(part[0]) - len(bindings))
        yield from db.execute(_sql(template, len(part[0]), size), bindings)
        done += size
