"""Readers: connections that read snapshots beside the writer, one on each thread of a pool."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final, Self

import apsw

from qunxin.stores.sqlite.connection import connect_reader
from qunxin.stores.sqlite.rows import Row

READERS: Final = 3
"""Few: a read is short, and one long one (a ledger of a million) must not hold up the others."""


class Reader:
    """One connection that reads. Made and used on one thread of the pool."""

    def __init__(self, path: Path, *, vfs: str | None = None) -> None:
        self._db = connect_reader(path, vfs=vfs)

    def __enter__(self) -> Self:
        """Everything read in this block is of one snapshot."""
        self._db.execute("BEGIN").fetchall()
        return self

    def __exit__(self, *_: object) -> None:
        if self._db.in_transaction:
            self._db.execute("ROLLBACK").fetchall()

    def rows(self, sql: str, bindings: tuple[Any, ...] | dict[str, Any] = ()) -> apsw.Cursor:
        """Rows one after the other, as they are taken."""
        return self._db.execute(sql, bindings)

    def row(self, sql: str, bindings: tuple[Any, ...] | dict[str, Any] = ()) -> Row | None:
        """The first row, or None."""
        rows = self._db.execute(sql, bindings).fetchall()
        return rows[0] if rows else None

    def value(self, sql: str, bindings: tuple[Any, ...] | dict[str, Any] = ()) -> Any:
        """The first column of the first row, or None."""
        row = self.row(sql, bindings)
        return None if row is None else row[0]

    def rest(self) -> float | None:
        return None

    def close(self) -> None:
        self._db.close(True)
