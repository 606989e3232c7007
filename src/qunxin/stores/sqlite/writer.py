"""The writer: owns the connection that writes, and turns commands into durable transactions.

All of it runs on the one writer thread; several batches are never in one transaction, and a
batch is never in two.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import apsw
import msgspec

from qunxin.clock import Clock
from qunxin.errors import QunxinError
from qunxin.records import Record
from qunxin.store.commands import Command, Post
from qunxin.store.results import Outcome
from qunxin.stores.sqlite.commands import HANDLERS
from qunxin.stores.sqlite.commands.posts import PostRun
from qunxin.stores.sqlite.connection import BUSY_TIMEOUT_MS, connect_writer
from qunxin.stores.sqlite.epoch import Answered, new_epoch
from qunxin.stores.sqlite.faults import SURELY_ROLLED_BACK, unavailable, unknown
from qunxin.stores.sqlite.imports import Import
from qunxin.stores.sqlite.recent_keys import FILE_AT
from qunxin.stores.sqlite.transaction import Transaction

_log = logging.getLogger("qunxin.stores.sqlite")

CHECKPOINT_PAGES: Final = 2_000
"""Pages in the write-ahead log after which they are carried over to the database (8 MB)."""
STARVED_PAGES: Final = 16_000
"""Pages after which the log is started anew, even if that means waiting for a reader."""
RETRY_SECONDS: Final = 0.05
"""How soon to try again what did not succeed; doubled each time."""
RENEWAL_RETRY_MOST_SECONDS: Final = 1.0
"""The longest wait to begin the log anew while a reader holds it."""
FAULT_RETRY_MOST_SECONDS: Final = 10.0
"""The longest wait to tidy up again on a disk that refused it, as a full one does."""
_CHECKPOINT_BUSY_MS: Final = 5


class Writer:
    """Made and used on the writer thread."""

    def __init__(self, path: Path, clock: Clock, *, vfs: str | None = None) -> None:
        self._clock = clock
        self._wal_pages = 0
        self._carried_pages = 0
        self._renewal = _Backoff(clock, RENEWAL_RETRY_MOST_SECONDS)
        self._fault = _Backoff(clock, FAULT_RETRY_MOST_SECONDS)
        self._stale = False
        self._import: Import | None = None
        with ExitStack() as undo:
            self._db = connect_writer(path, vfs=vfs)
            undo.callback(self._db.close, True)
            self._answered = Answered(path)
            undo.callback(self._answered.close)
            self._db.set_wal_hook(self._note_wal)
            self._tx = Transaction(self._db)
            self._settle_epoch()
            self._renewal.begin()  # a log that a killed process left may hold recalled content
            self._close = undo.pop_all().close

    @property
    def epoch(self) -> str:
        return self._tx.state.epoch

    def commit(self, commands: Sequence[Command]) -> list[Outcome]:
        """Carry out `commands` as one transaction, fsynced when this returns.

        A defect that shows in one command fails that one alone, as `internal`.
        """
        try:
            return self._commit(commands, careful=False)
        except (QunxinError, apsw.Error):
            raise
        except Exception:  # noqa: BLE001  whatever it is, the neighbours go on
            _log.exception("a defect in a command; its batch is done again with savepoints")
            return self._commit(commands, careful=True)

    def _commit(self, commands: Sequence[Command], *, careful: bool) -> list[Outcome]:
        self._begin()
        try:
            changes = self._db.total_changes()
            outcomes = self._carry_out_each(commands) if careful else self._carry_out(commands)
            if self._db.total_changes() != changes:
                self._tx.state.sequence += 1
                self._tx.save_state()
        except BaseException:
            self._abandon()
            raise
        self._finish()
        return outcomes

    def import_records(self, records: Sequence[Record]) -> None:
        """Write the next part of an export as one transaction; with the last, file its keys."""
        self._begin()
        if self._import is None:
            self._import = Import(self._tx)
        try:
            self._import.take(records)
            self._tx.state.sequence += 1
            self._tx.save_state()
        except BaseException:
            self._abandon()
            raise
        self._tx.cache.clear()
        self._finish()
        if self._import.finished:
            self._tx.keys.file()

    def _begin(self) -> None:
        if self._db.in_transaction:
            self._db.execute("ROLLBACK").fetchall()
        self._db.execute("BEGIN IMMEDIATE").fetchall()
        if self._stale:
            self._tx.state = self._tx.load_state()
            self._stale = False
        self._tx.time = self._clock.now_ms()
        self._tx.cache.trim()

    def _finish(self) -> None:
        try:
            self._db.execute("COMMIT").fetchall()
        except SURELY_ROLLED_BACK as error:
            self._abandon()
            raise unavailable(error) from error
        except apsw.Error as error:
            self._abandon()
            raise unknown(error) from error
        self._answered.set(self._tx.state.sequence)
        self._tx.keys.commit()
        if self._tx.erased_content:
            self._tx.erased_content = False
            self._renewal.begin()

    def _abandon(self) -> None:
        """Roll back, and forget whatever was believed of the transaction. What cannot be rolled
        back at once is when the next one begins."""
        self._stale = True
        self._tx.keys.abandon()
        self._tx.erased_content = False
        self._tx.cache.clear()
        if self._db.in_transaction:
            try:
                self._db.execute("ROLLBACK").fetchall()
            except apsw.Error as error:
                unavailable(error)

    def _carry_out(self, commands: Sequence[Command]) -> list[Outcome]:
        outcomes: list[Outcome] = []
        posts: list[Post] = []
        for command in commands:
            if isinstance(command, Post):
                posts.append(command)
                continue
            if posts:
                outcomes += PostRun(self._tx).run(posts)
                posts = []
            outcomes.append(self._handle(command))
        if posts:
            outcomes += PostRun(self._tx).run(posts)
        return outcomes

    def _handle(self, command: Command) -> Outcome:
        if isinstance(command, Post):
            return PostRun(self._tx).run([command])[0]
        changes = self._db.total_changes()
        try:
            return HANDLERS[type(command)](self._tx, command)
        except QunxinError as refusal:
            if self._db.total_changes() != changes:
                raise RuntimeError(f"{type(command).__name__} wrote, then refused") from refusal
            return refusal

    def _carry_out_each(self, commands: Sequence[Command]) -> list[Outcome]:
        return [self._handle_in_savepoint(command) for command in commands]

    def _handle_in_savepoint(self, command: Command) -> Outcome:
        counters = msgspec.structs.replace(self._tx.state)
        keys = self._tx.keys.pending()
        self._db.execute("SAVEPOINT command").fetchall()
        try:
            outcome = self._handle(command)
        except apsw.Error:
            raise
        except Exception:  # noqa: BLE001  whatever it is, the neighbours go on
            _log.exception("a defect in the command %s", type(command).__name__)
            self._db.execute("ROLLBACK TO command").fetchall()
            self._tx.keys.restore(keys)
            self._tx.cache.clear()
            self._tx.state = counters
            outcome = QunxinError("internal")
        self._db.execute("RELEASE command").fetchall()
        return outcome

    def _settle_epoch(self) -> None:
        """Begin a new epoch where this database does not continue what was answered for."""
        state = self._tx.state
        if not self._answered.continues(state.epoch, state.sequence):
            self._begin()
            state.epoch = new_epoch()
            state.sequence += 1
            self._tx.save_state()
            self._finish()
            self._answered.begin(state.epoch, state.sequence)

    def _note_wal(self, _db: apsw.Connection, _name: str, pages: int) -> int:
        """SQLite says how many pages the log has; fewer than before means that it began anew."""
        if pages < self._carried_pages:
            self._carried_pages = 0
        self._wal_pages = pages
        return apsw.SQLITE_OK

    def rest(self) -> float | None:
        """File keys and checkpoint where it is due; nobody waits for it but the next batch. In how
        many seconds to call it again though nothing was committed; None: no need."""
        waits = self._fault.wait_seconds()
        if waits:
            return waits
        try:
            self._tidy()
        except apsw.Error as error:
            unavailable(error)
            self._fault.begin()
            self._fault.delay()
            return self._fault.wait_seconds()
        self._fault.end()
        return self._renewal.wait_seconds()

    def _tidy(self) -> None:
        if len(self._tx.keys) >= FILE_AT:
            self._tx.keys.file()
        if self._wal_pages > STARVED_PAGES:
            self._renewal.begin()
        if self._renewal.is_due():
            self._start_log_anew()
        elif self._wal_pages - self._carried_pages > CHECKPOINT_PAGES:
            self._checkpoint(apsw.SQLITE_CHECKPOINT_PASSIVE)

    def _start_log_anew(self) -> None:
        """Carry everything over and cut the log to nothing, so that no old page is in any file;
        where a reader holds it, that is left for later."""
        self._db.set_busy_timeout(_CHECKPOINT_BUSY_MS)
        try:
            self._checkpoint(apsw.SQLITE_CHECKPOINT_TRUNCATE)
            self._renewal.end()
        except apsw.BusyError:
            self._renewal.delay()
        finally:
            self._db.set_busy_timeout(BUSY_TIMEOUT_MS)

    def _checkpoint(self, mode: int) -> None:
        self._wal_pages, self._carried_pages = self._db.wal_checkpoint(mode=mode)

    def close(self) -> None:
        """Carry everything over to the database file and release it."""
        try:
            self._checkpoint(apsw.SQLITE_CHECKPOINT_TRUNCATE)
        finally:
            self._close()


class _Backoff:
    """When to try next what did not succeed: after a while that doubles up to `most_seconds`. A
    backup may hold the log, and a disk be full, for minutes; trying must not take a busy writer's
    time all the while."""

    def __init__(self, clock: Clock, most_seconds: float) -> None:
        self._clock = clock
        self._most = most_seconds
        self._next: float | None = None
        self._seconds = RETRY_SECONDS

    def begin(self) -> None:
        if self._next is None:
            self._next = self._clock.monotonic()

    def end(self) -> None:
        self._next = None
        self._seconds = RETRY_SECONDS

    def delay(self) -> None:
        if self._next is not None:
            self._next = self._clock.monotonic() + self._seconds
            self._seconds = min(2 * self._seconds, self._most)

    def is_due(self) -> bool:
        return self._next is not None and self._clock.monotonic() >= self._next

    def wait_seconds(self) -> float | None:
        return None if self._next is None else max(0.0, self._next - self._clock.monotonic())
