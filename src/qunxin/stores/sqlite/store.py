"""The store on SQLite: the contract of `qunxin.store`, over one writer thread and a few readers."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import TypeVar

from qunxin.clock import Clock, SystemClock
from qunxin.errors import QunxinError
from qunxin.model import ApiKey, Cursor, DeliveryState, Group, Member, SignIn, User, Webhook
from qunxin.records import Record
from qunxin.store.commands import Command
from qunxin.store.reads import (
    ConversationRow,
    EventRead,
    GroupsPage,
    LedgerPage,
    LogPage,
    MemberKeys,
    MembersPage,
    OutboxEvent,
    OutboxItem,
    OutboxPage,
    UnreachableSet,
    UsersPage,
)
from qunxin.store.results import Outcome
from qunxin.stores.sqlite.backup import write_backup
from qunxin.stores.sqlite.exports import Export
from qunxin.stores.sqlite.faults import unavailable
from qunxin.stores.sqlite.files import make_private
from qunxin.stores.sqlite.lock import Lock
from qunxin.stores.sqlite.readers import READERS, Reader
from qunxin.stores.sqlite.reads import conversations as lists
from qunxin.stores.sqlite.reads import directory, events, ledger, log, outbox
from qunxin.stores.sqlite.threads import Threads
from qunxin.stores.sqlite.writer import Writer

T = TypeVar("T")


class SqliteStore:
    """A store in the file `path`; beside it lie SQLite's own files, the lock and the sequence
    last answered for (`epoch`). All of them only their owner may read."""

    def __init__(self, path: Path, clock: Clock | None = None, *, vfs: str | None = None) -> None:
        """`vfs` names another file layer of SQLite, for tests that break disks."""
        self._path = Path(path).absolute()
        self._vfs = vfs
        clock = SystemClock() if clock is None else clock
        self._epoch = ""
        self._writers = Threads("qunxin-writer", 1, partial(Writer, self._path, clock, vfs=vfs))
        self._readers = Threads("qunxin-reader", READERS, partial(Reader, self._path, vfs=vfs))
        self._stopped = threading.Event()
        self._backups: set[asyncio.Task[None]] = set()
        self._exports: set[Threads[Export]] = set()
        self._close = AsyncExitStack()

    @property
    def epoch(self) -> str:
        if not self._epoch:
            raise QunxinError("store_unavailable", detail="the store is not open")
        return self._epoch

    async def open(self) -> None:
        async with AsyncExitStack() as undo:
            try:
                make_private(self._path)
                undo.callback(Lock(self._path).release)
            except OSError as error:
                raise unavailable(error) from error
            await self._writers.start()
            undo.push_async_callback(self._writers.stop)
            self._epoch = await self._writers.run(lambda writer: writer.epoch)
            await self._readers.start()
            undo.push_async_callback(self._readers.stop)
            undo.push_async_callback(self._stop_copies)
            self._stopped.clear()
            self._close = undo.pop_all()

    async def close(self) -> None:
        await self._close.aclose()

    async def _stop_copies(self) -> None:
        self._stopped.set()
        await asyncio.gather(*self._backups, return_exceptions=True)
        for export in list(self._exports):
            await export.stop()

    async def commit(self, commands: Sequence[Command]) -> Sequence[Outcome]:
        return await self._writers.run(lambda writer: writer.commit(commands))

    async def read_log(
        self,
        conversation: str,
        reader: str | None,
        *,
        after: int = 0,
        before: int | None = None,
        limit: int = 100,
        max_bytes: int = 256 * 1024,
        newest: bool = False,
    ) -> LogPage:
        asked = log.LogRead(conversation, reader, after, before, limit, max_bytes, newest)
        return await self._read(lambda db: log.read_log(db, asked))

    async def read_heads(self, conversations: Sequence[str]) -> dict[str, int]:
        return await self._read(lambda db: log.read_heads(db, conversations))

    async def read_user(self, user: str) -> User | None:
        return await self._read(lambda db: directory.read_user(db, user))

    async def read_sign_in(self, user: str, token: str | None = None) -> SignIn | None:
        return await self._read(lambda db: directory.read_sign_in(db, user, token))

    async def read_group(self, group: str) -> Group | None:
        return await self._read(lambda db: directory.read_group(db, group))

    async def list_users(self, *, cursor: str | None = None, limit: int = 100) -> UsersPage:
        return await self._read(lambda db: directory.list_users(db, cursor, limit))

    async def list_groups(self, *, cursor: str | None = None, limit: int = 100) -> GroupsPage:
        return await self._read(lambda db: directory.list_groups(db, cursor, limit))

    async def read_member(self, group: str, user: str) -> Member | None:
        return await self._read(lambda db: directory.read_member(db, group, user))

    async def list_members(
        self, group: str, *, cursor: str | None = None, limit: int = 100
    ) -> MembersPage:
        return await self._read(lambda db: directory.list_members(db, group, cursor, limit))

    async def read_member_keys(self, group: str) -> MemberKeys:
        return await self._read(lambda db: directory.read_member_keys(db, group))

    async def read_unreachable(self) -> UnreachableSet:
        return await self._read(directory.read_unreachable)

    async def list_blocked(self, user: str) -> tuple[str, ...]:
        return await self._read(lambda db: directory.list_blocked(db, user))

    async def list_conversations(
        self, user: str, *, cursor: str | None = None, limit: int = 200
    ) -> tuple[tuple[ConversationRow, ...], str | None]:
        return await self._read(lambda db: lists.list_conversations(db, user, cursor, limit))

    async def read_conversations(
        self, user: str, conversations: Sequence[str]
    ) -> tuple[ConversationRow, ...]:
        return await self._read(lambda db: lists.read_conversations(db, user, conversations))

    async def read_cursor(self, user: str, conversation: str) -> Cursor:
        return await self._read(lambda db: lists.read_cursor(db, user, conversation))

    async def list_deliveries(
        self,
        conversation: str,
        position: int,
        *,
        state: DeliveryState | None = None,
        cursor: str | None = None,
        limit: int = 100,
        without: Sequence[str] = (),
        counted: bool = True,
    ) -> LedgerPage | None:
        asked = ledger.LedgerRead(conversation, position, state, cursor, limit, without, counted)
        return await self._read(lambda db: ledger.list_deliveries(db, asked))

    async def read_api_keys(self) -> tuple[ApiKey, ...]:
        return await self._read(directory.read_api_keys)

    async def read_webhooks(self) -> tuple[Webhook, ...]:
        return await self._read(outbox.read_webhooks)

    async def read_outbox(self, after: int, *, limit: int = 500) -> OutboxPage:
        return await self._read(lambda db: outbox.read_outbox(db, after, limit))

    async def read_outbox_at(self, serials: Sequence[int]) -> tuple[OutboxItem, ...]:
        return await self._read(lambda db: outbox.read_outbox_at(db, serials))

    async def read_events(
        self,
        asked: Sequence[EventRead],
        *,
        named: int = 100,
        audience: int = 10_000,
        max_bytes: int = 256 * 1024,
    ) -> tuple[OutboxEvent, ...]:
        limits = events.EventLimits(named, audience, max_bytes)
        return await self._read(lambda db: events.read_events(db, asked, limits))

    async def find_serial(self, time: int) -> int:
        return await self._read(lambda db: outbox.find_serial(db, time))

    async def backup(self, path: Path) -> None:
        task = asyncio.ensure_future(self._write_backup(Path(path)))
        self._backups.add(task)
        task.add_done_callback(self._backups.discard)
        await asyncio.shield(task)

    async def _write_backup(self, path: Path) -> None:
        try:
            await asyncio.to_thread(write_backup, self._path, path, self._stopped)
        except Exception as error:
            raise unavailable(error) from error

    async def export_records(self) -> AsyncGenerator[Sequence[Record], None]:
        export = Threads("qunxin-export", 1, partial(Export, self._path, vfs=self._vfs))
        await export.start()
        self._exports.add(export)
        try:
            while part := await export.run(lambda one: one.next_part()):
                yield part
        finally:
            self._exports.discard(export)
            await export.stop()

    async def import_records(self, records: Sequence[Record]) -> None:
        await self._writers.run(lambda writer: writer.import_records(records))

    async def _read(self, work: Callable[[Reader], T]) -> T:
        return await self._readers.run(work)
