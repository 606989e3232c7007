"""The client's file: the outbox, and how far the program has got. SQLite, one writer thread.

Writes that come together share one transaction: while one is being fsynced the next gathers.
Without a path everything is kept in memory, by the same code.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, NamedTuple, TypeAlias

import apsw
import msgspec

from qunxin.client.streams import NOWHERE
from qunxin.errors import QunxinError
from qunxin.model import JsonObject
from qunxin.wire.device import Fault

_log = logging.getLogger("qunxin.client")

_VERSION: Final = 1
_SCHEMA: Final = f"""
    CREATE TABLE about (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
    CREATE TABLE outbox (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        message BLOB NOT NULL,
        refusal BLOB
    ) STRICT;
    CREATE TABLE positions (
        conversation TEXT PRIMARY KEY,
        epoch TEXT NOT NULL,
        position INTEGER NOT NULL,
        ended_at INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    PRAGMA user_version = {_VERSION};
"""
_ADD: Final = "INSERT INTO outbox (message) VALUES (?)"
_REMOVE: Final = "DELETE FROM outbox WHERE id = ?"
_REFUSE: Final = "UPDATE outbox SET refusal = ? WHERE id = ?"
_STAND: Final = """
    INSERT INTO positions VALUES (?, ?, ?, ?) ON CONFLICT (conversation) DO UPDATE
    SET epoch = excluded.epoch, position = excluded.position, ended_at = excluded.ended_at
"""
_BEGIN: Final = """
    INSERT INTO positions VALUES (?, ?, ?, ?) ON CONFLICT (conversation) DO UPDATE
    SET epoch = excluded.epoch, position = excluded.position, ended_at = excluded.ended_at
    WHERE epoch = ''
"""
_JOIN: Final = """
    INSERT INTO positions VALUES (?, '', ?, 0) ON CONFLICT (conversation) DO NOTHING
"""
_LEAVE: Final = f"""
    INSERT INTO positions VALUES (?, '', {NOWHERE}, ?) ON CONFLICT (conversation) DO UPDATE
    SET ended_at = max(ended_at, excluded.ended_at)
"""  # noqa: S608
_ABOUT: Final = "INSERT OR REPLACE INTO about VALUES (?, ?)"


class StoredMessage(NamedTuple):
    """One row of the outbox: the fields of `message.send`."""

    id: int
    message: JsonObject
    refusal: Fault | None


class StoredPosition(NamedTuple):
    """Where the program stands in a conversation. An empty epoch: nothing of it was followed yet,
    and the position is the one before the user came into it, or `NOWHERE`."""

    conversation: str
    epoch: str
    position: int
    ended_at: int


class Contents(NamedTuple):
    """What a file held when it was opened, the outbox in the order of sending."""

    user: str
    outbox: list[StoredMessage]
    positions: list[StoredPosition]


Statement: TypeAlias = tuple[str, tuple[str | int | bytes, ...]]


class _Write(NamedTuple):
    statements: Sequence[Statement]
    durable: bool
    done: asyncio.Future[int]


class ClientFile:
    """Open from `open` to `close`; one process at a time. All methods on one loop.

    What is asked for is written in the order of the calls. It is there when what the call gives
    back is done; whoever does not wait for that, or is cancelled meanwhile, has written all the
    same. It raises `store_unavailable` where the file cannot be written.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._thread = ThreadPoolExecutor(1, "qunxin-client-file")
        self._database: apsw.Connection | None = None
        self._waiting: list[_Write] = []
        self._writer: asyncio.Task[None] | None = None

    async def open(self) -> Contents:
        """What the file holds; made where there is none. Raises `cannot_start` where it is in
        use or is not such a file."""
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._thread, self._open)
        except apsw.BusyError:
            await self.close()
            raise self._unusable("another process uses it") from None
        except apsw.Error as error:
            await self.close()
            raise self._unusable(str(error)) from error

    async def close(self) -> None:
        """Everything asked for is written, and another process may open the file."""
        if self._writer is not None:
            await asyncio.wait([self._writer])
        await asyncio.get_running_loop().run_in_executor(self._thread, self._close)
        self._thread.shutdown(wait=False)

    # --- writing -----------------------------------------------------------------------------

    def add(self, message: JsonObject) -> Awaitable[int]:
        """Put a message into the outbox; gives its id. On the disk (fsynced) when done."""
        return self._write([(_ADD, (msgspec.json.encode(message),))], durable=True)

    def remove(self, message_id: int) -> Awaitable[int]:
        """Take a message out of the outbox. A crash may bring it back; its key makes a repeat
        harmless."""
        return self._write([(_REMOVE, (message_id,))])

    def refuse(self, message_id: int, refusal: Fault) -> Awaitable[int]:
        """Keep a refused message until its program has been told."""
        return self._write([(_REFUSE, (msgspec.json.encode(refusal), message_id))])

    def begin(self, at: StoredPosition) -> Awaitable[int]:
        """A conversation is followed for the first time, from there. Where the program stands in
        it already, nothing changes."""
        return self._write([(_BEGIN, tuple(at))])

    def stand(
        self,
        at: StoredPosition,
        *,
        joined: tuple[str, int] | None = None,
        left: tuple[str, int] | None = None,
    ) -> Awaitable[int]:
        """The program has got so far. `joined`: a conversation, and the position before the one
        at which the user came into it. `left`: one, and the last position that they may read."""
        statements: list[Statement] = [(_STAND, tuple(at))]
        if joined is not None:
            statements.append((_JOIN, joined))
        if left is not None:
            statements.append((_LEAVE, left))
        return self._write(statements)

    def belong_to(self, user: str) -> Awaitable[int]:
        """The file is this user's from now on."""
        return self._write([(_ABOUT, ("user", user))])

    def _write(
        self, statements: Sequence[Statement], *, durable: bool = False
    ) -> asyncio.Future[int]:
        done: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Write(statements, durable, done))
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._run(), name="client file")
        return done

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting:
            batch, self._waiting = self._waiting, []
            try:
                ids = await loop.run_in_executor(self._thread, self._commit, batch)
            except apsw.Error:
                _log.exception("the client's file cannot be written")
                _tell(batch, QunxinError("store_unavailable"))
                continue
            for write, row_id in zip(batch, ids, strict=True):
                if not write.done.done():
                    write.done.set_result(row_id)

    # --- in the thread -----------------------------------------------------------------------

    def _open(self) -> Contents:
        database = apsw.Connection(":memory:" if self.path is None else str(self.path))
        self._database = database
        database.pragma("locking_mode", "EXCLUSIVE")
        database.pragma("journal_mode", "WAL")
        with database:
            version = database.pragma("user_version")
            if version == 0:
                database.execute(_SCHEMA)
            elif version != _VERSION:
                raise apsw.SQLError(f"version {version} is not known")
            database.execute(_ABOUT, ("version", str(_VERSION)))  # takes the lock
        return _read(database)

    def _commit(self, batch: Sequence[_Write]) -> list[int]:
        """One transaction. Only what must outlive the machine is worth an fsync; the rest
        outlives this process."""
        database = self._database
        assert database is not None  # noqa: S101 - opened before anything is written
        durable = any(write.durable for write in batch)
        database.pragma("synchronous", "FULL" if durable else "NORMAL")
        ids = []
        with database:
            for write in batch:
                for sql, bindings in write.statements:
                    database.execute(sql, bindings)
                ids.append(database.last_insert_rowid())
        return ids

    def _close(self) -> None:
        if self._database is not None:
            self._database.close()

    def _unusable(self, detail: str) -> QunxinError:
        return QunxinError("cannot_start", detail=f"{self.path}: {detail}")


async def written(write: Awaitable[int]) -> None:
    """For a task that only sees to it that a failure to write is noticed."""
    await write


def _tell(batch: Sequence[_Write], error: QunxinError) -> None:
    for write in batch:
        if not write.done.done():
            write.done.set_exception(error)


def _read(database: apsw.Connection) -> Contents:
    outbox = [
        StoredMessage(
            row_id,
            msgspec.json.decode(message),
            None if refusal is None else msgspec.json.decode(refusal, type=Fault),
        )
        for row_id, message, refusal in database.execute("SELECT * FROM outbox ORDER BY id")
    ]
    positions = [StoredPosition(*row) for row in database.execute("SELECT * FROM positions")]
    users = database.execute("SELECT value FROM about WHERE name = 'user'").fetchall()
    return Contents(str(users[0][0]) if users else "", outbox, positions)
