"""Group commit: step 4. Commands that arrive together share one durable transaction.

While one batch is being fsynced the next gathers; there is no timer. Outcomes are answered in
order, replies before pushes, and nothing of either before the store has answered for the batch.
What goes to a large audience may wait for the next batch (`publishing`).
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from qunxin.clock import Clock
from qunxin.engine.settings import EngineSettings
from qunxin.errors import QunxinError
from qunxin.observe import Observer
from qunxin.store import Store
from qunxin.store.commands import Command, Post
from qunxin.store.results import Done, Outcome
from qunxin.tasks import TaskSet

_log = logging.getLogger("qunxin.engine.commit")

FAILING_SECONDS: Final = 10.0
"""So long after a transaction that the store could not keep, `failing` holds unless a later one was
kept: then whoever sends work elsewhere meanwhile may try again."""


class _Pending:
    """One command and whoever waits for it."""

    __slots__ = ("command", "future", "handed", "refused", "size")

    def __init__(self, command: Command, future: asyncio.Future[Done]) -> None:
        self.command = command
        self.future = future
        self.handed = False
        self.refused = False
        """The observer has been told so, once: the store's answer may come after the deadline."""
        self.size = len(command.content) if isinstance(command, Post) else 0


class Committer:
    """The one way in which this node changes the store.

    `on_done` is called with each batch's successful outcomes, in their order, after every reply
    has been set: it starts the pushes. `on_next` is called before each batch begins, with the
    conversations that its messages go to, and with none where nothing is left to do.
    """

    def __init__(
        self,
        store: Store,
        settings: EngineSettings,
        clock: Clock,
        observer: Observer,
        on_done: Callable[[Sequence[tuple[Command, Done]]], None],
        on_next: Callable[[Iterable[str]], None],
    ) -> None:
        self._store = store
        self._settings = settings
        self._clock = clock
        self._observer = observer
        self._on_done = on_done
        self._on_next = on_next
        self._queue: deque[_Pending] = deque()
        self._queued_bytes = 0
        self._wake = asyncio.Event()
        self._closing = False
        self._failed_at: float | None = None
        self._runner: asyncio.Task[None] | None = None

    @property
    def queued_commands(self) -> int:
        """Commands that wait for the next transaction."""
        return len(self._queue)

    @property
    def queued_bytes(self) -> int:
        """The content of the messages among them."""
        return self._queued_bytes

    @property
    def failing(self) -> bool:
        """Whether the store could not keep the last transaction, some seconds ago at most."""
        if self._failed_at is None:
            return False
        return self._clock.monotonic() - self._failed_at < FAILING_SECONDS

    def open(self, tasks: TaskSet) -> None:
        """Start; until then nothing may be run."""
        self._runner = tasks.start("commit", self._run())

    async def close(self) -> None:
        """Refuse what comes from now on; return once everything taken before is answered."""
        self._closing = True
        self._wake.set()
        if self._runner is not None:
            await asyncio.wait([self._runner])

    async def run(self, command: Command) -> Done:
        """Commit `command`; on return it is durable.

        Raises the store's refusal; `overloaded` or `shutting_down` (never handed to the store,
        so it never happens); `store_unavailable`; `outcome_unknown`. Cancelled, the command may
        still happen.
        """
        pending = self._enqueue(command)
        deadline = self._settings.commit_deadline_seconds
        try:
            async with asyncio.timeout(deadline):
                return await pending.future
        except TimeoutError:
            if pending.handed:
                raise self._note(pending, QunxinError("outcome_unknown")) from None
            raise self._note(pending, QunxinError("overloaded", retry_after=deadline)) from None
        finally:
            del pending  # a refusal's traceback would lead back to the refusal through it

    def _enqueue(self, command: Command) -> _Pending:
        pending = _Pending(command, asyncio.get_running_loop().create_future())
        if self._closing:
            raise self._note(pending, QunxinError("shutting_down"))
        settings = self._settings
        if (
            len(self._queue) >= settings.commit_queue_commands
            or self._queued_bytes + pending.size > settings.commit_queue_bytes
        ):
            raise self._note(pending, QunxinError("overloaded"))
        self._queue.append(pending)
        self._queued_bytes += pending.size
        self._wake.set()
        return pending

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while batch := self._take():
                self._on_next(_conversations(batch))
                await self._commit(batch)
                await asyncio.sleep(0)
            self._on_next(())
            if self._closing and not self._queue:
                return

    def _take(self) -> list[_Pending]:
        """The next batch; those whose caller has given up are left out, and so never happen."""
        batch: list[_Pending] = []
        queue = self._queue
        while queue and len(batch) < self._settings.commit_batch_commands:
            pending = queue.popleft()
            self._queued_bytes -= pending.size
            if not pending.future.done():
                pending.handed = True
                batch.append(pending)
        return batch

    async def _commit(self, batch: list[_Pending]) -> None:
        started = self._clock.monotonic()
        try:
            outcomes = await self._store.commit([pending.command for pending in batch])
        except QunxinError as error:
            self._fail(batch, error)
            return
        except Exception as error:  # noqa: BLE001 - a store's defect must not end the committer
            _log.exception("the store failed in a way its contract does not know", exc_info=error)
            self._fail(batch, QunxinError("outcome_unknown"))
            return
        self._answer(batch, outcomes, self._clock.monotonic() - started)

    def _answer(self, batch: list[_Pending], outcomes: Sequence[Outcome], seconds: float) -> None:
        done: list[tuple[Command, Done]] = []
        entries = size = 0
        for pending, outcome in zip(batch, outcomes, strict=True):
            if isinstance(outcome, QunxinError):
                _settle(pending.future, self._note(pending, outcome))
                continue
            entries += len(outcome.entries)
            size += pending.size
            done.append((pending.command, outcome))
            if not pending.future.done():
                pending.future.set_result(outcome)
        if done:
            self._failed_at = None
        self._observer.committed(len(batch), entries, size, seconds)
        self._on_done(done)

    def _fail(self, batch: list[_Pending], error: QunxinError) -> None:
        self._failed_at = self._clock.monotonic()
        for pending in batch:
            _settle(pending.future, self._note(pending, error))

    def _note(self, pending: _Pending, error: QunxinError) -> QunxinError:
        """Count `pending` as refused with `error`, which is returned."""
        if not pending.refused:
            pending.refused = True
            self._observer.refused(error.code)
        return error


def _conversations(batch: Sequence[_Pending]) -> Iterable[str]:
    """Where the messages of `batch` go, repeats included."""
    return (p.command.conversation for p in batch if isinstance(p.command, Post))


def _settle(future: asyncio.Future[Done], error: QunxinError) -> None:
    """Fail `future` with an exception of its own: one shared by many would gather tracebacks."""
    if not future.done():
        future.set_exception(QunxinError(error.code, retry_after=error.retry_after, **error.facts))
