"""How every connection to the database is set up."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import apsw

from qunxin.errors import QunxinError
from qunxin.stores.sqlite.schema import check_schema, migrate

BUSY_TIMEOUT_MS: Final = 5_000
_STATEMENT_CACHE: Final = 400
"""Statements kept prepared; the writer's come in several sizes each (see `batches`)."""

_SHARED: Final = (
    "PRAGMA foreign_keys = ON",
    "PRAGMA temp_store = MEMORY",
    "PRAGMA trusted_schema = OFF",
)
_WRITER: Final = (
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    "PRAGMA secure_delete = ON",
    "PRAGMA wal_autocheckpoint = 0",
    "PRAGMA cache_size = -32000",
)
_READER: Final = ("PRAGMA query_only = ON", "PRAGMA cache_size = -8000")


def connect(path: Path, *, vfs: str | None = None) -> apsw.Connection:
    """A bare connection with a busy timeout and the statement cache, nothing else set."""
    flags = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE
    db = apsw.Connection(str(path), flags=flags, vfs=vfs, statementcachesize=_STATEMENT_CACHE)
    db.set_busy_timeout(BUSY_TIMEOUT_MS)
    return db


def connect_writer(path: Path, *, vfs: str | None = None) -> apsw.Connection:
    """The one connection that writes: every commit is fsynced, what is deleted is zeroed; the
    schema is up to date. A database that is refused is left untouched.

    Checkpoints are the writer's own business (`writer`), so that none runs inside a commit that
    somebody waits for.
    """
    db = connect(path, vfs=vfs)
    try:
        check_schema(db)
        _set(db, _SHARED + _WRITER)
        migrate(db)
    except (apsw.Error, QunxinError):
        db.close(True)
        raise
    return db


def connect_reader(path: Path, *, vfs: str | None = None) -> apsw.Connection:
    """A connection that cannot write."""
    db = connect(path, vfs=vfs)
    try:
        _set(db, _SHARED + _READER)
    except apsw.Error:
        db.close(True)
        raise
    return db


def _set(db: apsw.Connection, pragmas: tuple[str, ...]) -> None:
    for pragma in pragmas:
        db.execute(pragma).fetchall()
