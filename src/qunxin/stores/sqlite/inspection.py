"""What a database file says of itself, and whether it is whole: for backups and for the doctor."""

from __future__ import annotations

from pathlib import Path
from typing import Final
from urllib.parse import quote

import apsw
import msgspec

from qunxin.errors import QunxinError
from qunxin.stores.sqlite.connection import BUSY_TIMEOUT_MS
from qunxin.stores.sqlite.rows import LAST_MESSAGE_CODE
from qunxin.stores.sqlite.schema import check_schema

_SHOWN_DAMAGE: Final = 3
"""SQLite lists up to a hundred findings; the first few say enough."""

_FACTS: Final = """
    SELECT epoch, sequence,
           (SELECT count(*) FROM users), (SELECT count(*) FROM groups),
           (SELECT count(*) FROM conversations), (SELECT count(*) FROM entries),
           (SELECT count(*) FROM entries WHERE type <= ?)
    FROM state
"""


_NEWEST: Final = "SELECT time FROM entries ORDER BY id DESC LIMIT 1"


class DatabaseFacts(msgspec.Struct, frozen=True):
    """One history, counted. `messages` are among the `entries`, recalled ones too."""

    schema: int
    epoch: str
    sequence: int
    users: int
    groups: int
    conversations: int
    entries: int
    messages: int


def inspect_copy(path: Path) -> DatabaseFacts:
    """The facts of the whole and unused database file `path`, every page and index of it checked.

    Nothing is written, no file is made beside it. Raises `invalid_request` where it is damaged or
    no store of ours, `store_unavailable` where a newer version wrote it. Takes time in proportion
    to its size.
    """
    try:
        db = apsw.Connection(
            f"file:{quote(str(path.absolute()))}?immutable=1",
            flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI,
        )
        try:
            schema = check_schema(db)
            found = find_damage(db, whole=True)
            if found:
                raise QunxinError("invalid_request", detail=f"{path} is damaged: {found}")
            row = db.execute(_FACTS, (LAST_MESSAGE_CODE,)).get
        finally:
            db.close(True)
    except apsw.Error as error:
        raise QunxinError("invalid_request", detail=f"{path} is damaged: {error}") from error
    return DatabaseFacts(schema, *row)


class Examined(msgspec.Struct, frozen=True):
    """A database as it lies there. `damage` is empty where none was found."""

    damage: str
    schema: int
    newest_time: int
    """Of the last entry, in milliseconds since 1970 (UTC); 0 where there is none."""


def examine_database(path: Path) -> Examined:
    """Look through the database `path`, in use or not, and leave it as it is: what its log holds
    is not even carried over. Raises `store_unavailable` for one that this version cannot open."""
    log = path.with_name(f"{path.name}-wal")
    logged = log.exists() and log.stat().st_size > 0
    try:
        db = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
        try:
            if logged:
                db.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
            db.set_busy_timeout(BUSY_TIMEOUT_MS)
            db.execute("PRAGMA query_only = ON; BEGIN").fetchall()
            schema = check_schema(db)
            damage = find_damage(db, whole=False)
            newest = 0 if damage else db.execute(_NEWEST).get
        finally:
            db.close(True)
    except apsw.Error as error:
        return Examined(str(error), 0, 0)
    return Examined(damage, schema, newest or 0)


def find_damage(db: apsw.Connection, *, whole: bool) -> str:
    """What is wrong with the database, in SQLite's words; empty where nothing is. `whole` also
    compares every index with its table, which takes longer."""
    check = "integrity_check" if whole else "quick_check"
    found = [str(text) for (text,) in db.execute(f"PRAGMA {check}({_SHOWN_DAMAGE})")]
    return "" if found == ["ok"] else "; ".join(found)
