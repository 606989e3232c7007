"""The outbox: every message is kept before its first try and until its outcome is known.

One lane for each recipient: its messages go out one after the other, so that their order in the
log is the order in which they were given. Lanes do not wait for each other.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Final, TypeAlias

import msgspec

from qunxin.client.backoff import Backoff
from qunxin.client.events import Handed, Unsent
from qunxin.client.file import ClientFile, StoredMessage, written
from qunxin.client.link import LinkBrokenError
from qunxin.client.refusals import RefusedError, UnansweredError
from qunxin.engine.results import Receipt
from qunxin.errors import QunxinError
from qunxin.model import JsonObject
from qunxin.tasks import TaskSet
from qunxin.wire.device import Fault

_log = logging.getLogger("qunxin.client")

_AT_ONCE: Final = 32
"""Sends under way together: well below what a connection may have waiting."""

Lane: TypeAlias = tuple[str, str]
Send: TypeAlias = Callable[[JsonObject], Awaitable[bytes]]


class OutboxStoppedError(Exception):
    """There will be no connection any more, for the reason of `error`. What was not sent stays."""

    def __init__(self, error: QunxinError) -> None:
        super().__init__(error)
        self.error = error


class Posted:
    """A message in the outbox. It will be sent, over restarts where there is a file, until it is
    accepted or refused."""

    def __init__(self, message: JsonObject, message_id: int = 0) -> None:
        self.id = message_id
        self.message = message
        self.outcome: asyncio.Future[Receipt | QunxinError] = (
            asyncio.get_running_loop().create_future()
        )
        self._awaited = 0
        self._on_refusal: Callable[[bool], None] | None = None

    @property
    def key(self) -> str:
        """Its entries, on all devices, carry this key."""
        return str(self.message["key"])

    @property
    def lane(self) -> Lane:
        return str(self.message["type"]), str(self.message.get("to") or "")

    async def receipt(self) -> Receipt:
        """Wait until it is accepted. Raises the refusal; or, the message staying in the outbox,
        `outcome_unknown` where the client is closed before, and the error for which the server
        ended all connecting. Cancelling gives up the waiting, not the message."""
        with self.awaited():
            outcome = await asyncio.shield(self.outcome)
            if isinstance(outcome, QunxinError):
                self._hear(raised=True)
                raise outcome
        return outcome

    @contextmanager
    def awaited(self) -> Iterator[None]:
        """Inside the block somebody waits for the outcome. A refusal that comes while nobody
        does, or that whoever waited was not told before being cancelled, becomes an event."""
        self._awaited += 1
        try:
            yield
        finally:
            self._awaited -= 1
            if self.outcome.done() and not self._awaited:
                self._hear(raised=False)

    def refuse(self, refusal: RefusedError, on_refusal: Callable[[bool], None]) -> None:
        """The outcome is a refusal. `on_refusal` is called once: with True as soon as it is raised
        to somebody, with False as soon as nobody waits any more."""
        self._on_refusal = on_refusal
        self.outcome.set_result(refusal)
        if not self._awaited:
            self._hear(raised=False)

    def _hear(self, *, raised: bool) -> None:
        told, self._on_refusal = self._on_refusal, None
        if told is not None:
            told(raised)


class Outbox:
    """All lanes of one client. `send` gives the reply's data, or raises `RefusedError`,
    `LinkBrokenError` or `OutboxStoppedError`; it waits for a connection by itself."""

    def __init__(
        self,
        file: ClientFile,
        send: Send,
        tell: Callable[[Handed], None],
        on_failure: Callable[[str, BaseException], None],
    ) -> None:
        self._file = file
        self._send = send
        self._tell = tell
        self._lanes: dict[Lane, deque[Posted]] = {}
        self._sending = TaskSet(on_failure)
        self._posting = TaskSet()
        self._at_once = asyncio.Semaphore(_AT_ONCE)
        self._waiting: dict[int, Posted] = {}
        self._adding = 0
        self._empty = asyncio.Event()
        self._empty.set()
        self._stopped: QunxinError | None = None
        self._closed = False

    def __len__(self) -> int:
        return len(self._waiting) + self._adding

    def restore(self, stored: Iterable[StoredMessage]) -> None:
        """Go on with what the file held; refusals that were not told yet are told."""
        for row in stored:
            if row.refusal is not None:
                self._tell_unsent(row.id, row.message, RefusedError(row.refusal))
            else:
                self._enqueue(Posted(row.message, row.id))

    async def post(self, posted: Posted) -> None:
        """In the outbox, durably, on return; whoever is cancelled meanwhile has posted it. Where
        sending has stopped it stays there for the next start."""
        self._adding += 1
        self._empty.clear()
        await asyncio.shield(self._posting.start("post", self._add(posted)))

    async def wait_empty(self) -> None:
        """Return once every message has its outcome. Raises why there is no connection any
        more."""
        while len(self):
            if self._stopped is not None:
                raise self._stopped
            await self._empty.wait()

    async def close(self) -> None:
        """Stop sending; what is being posted is posted first. Whoever waits is told that the
        outcome is not known."""
        error = UnansweredError("the client was closed")
        self._stop((), error)
        await self._posting.wait()
        await self._sending.close()
        self._stop(self._waiting.values(), error)
        self._closed = True

    async def _add(self, posted: Posted) -> None:
        try:
            posted.id = await self._file.add(posted.message)
            self._enqueue(posted)
        finally:
            self._adding -= 1
            self._look()

    def _enqueue(self, posted: Posted) -> None:
        self._waiting[posted.id] = posted
        if self._stopped is not None:
            posted.outcome.set_result(self._stopped)
            return
        self._empty.clear()
        lane = self._lanes.get(posted.lane)
        if lane is not None:
            lane.append(posted)
            return
        self._lanes[posted.lane] = deque([posted])
        self._sending.start(f"send to {posted.lane[1]}", self._run(posted.lane))

    async def _run(self, name: Lane) -> None:
        """One message after the other, until the lane is empty. A failure of the client stops all
        sending, as nothing may overtake what stays behind."""
        lane = self._lanes[name]
        try:
            while lane:
                outcome = await self._deliver(lane[0])
                await self._finish(lane[0], outcome)
                lane.popleft()
        except OutboxStoppedError as stopped:
            self._stop(lane, stopped.error)
        except Exception as error:
            told = error if isinstance(error, QunxinError) else QunxinError("internal")
            self._stop(lane, told)
            raise
        finally:
            del self._lanes[name]
        self._look()

    async def _deliver(self, posted: Posted) -> Receipt | RefusedError:
        """Try, with the same key, until the outcome is known."""
        backoff = Backoff()
        while True:
            try:
                async with self._at_once:
                    reply = await self._send(posted.message)
                return msgspec.json.decode(reply, type=Receipt)
            except LinkBrokenError:
                continue
            except RefusedError as refused:
                if not refused.retryable:
                    return refused
                _log.info("%s: %s; will be repeated", posted.key, refused)
                await asyncio.sleep(backoff.next_seconds(refused.retry_after))

    def _stop(self, messages: Iterable[Posted], error: QunxinError) -> None:
        """Whoever waits is told; the messages stay in the file for the next start, and so does
        what is posted from now on. The first reason counts."""
        self._stopped = self._stopped or error
        self._empty.set()
        for posted in messages:
            if not posted.outcome.done():
                posted.outcome.set_result(error)

    async def _finish(self, posted: Posted, outcome: Receipt | RefusedError) -> None:
        """What the file cannot keep any more is a failure of the client, not of the message."""
        if isinstance(outcome, RefusedError):
            await self._refuse(posted, outcome)
            return
        try:
            await self._file.remove(posted.id)
        finally:
            del self._waiting[posted.id]
            posted.outcome.set_result(outcome)

    async def _refuse(self, posted: Posted, refusal: RefusedError) -> None:
        """It is in the file before anybody is told, and until somebody was. Where the client is
        closed meanwhile the next start tells of it."""
        failure: QunxinError | None = None
        try:
            await self._file.refuse(posted.id, Fault(refusal.number, refusal.message))
        except QunxinError as error:
            failure = error
        del self._waiting[posted.id]
        posted.refuse(refusal, partial(self._told, posted, refusal))
        if failure is not None:
            raise failure

    def _told(self, posted: Posted, refusal: RefusedError, raised: bool) -> None:
        """After the end of the client the file keeps it, and the next start tells of it."""
        if self._closed:
            return
        if raised:
            removed = self._file.remove(posted.id)
            self._sending.start("forget a refusal", written(removed))
        else:
            self._tell_unsent(posted.id, posted.message, refusal)

    def _tell_unsent(self, message_id: int, message: JsonObject, error: RefusedError) -> None:
        self._tell(Handed(Unsent(message, error), unsent=message_id))

    def _look(self) -> None:
        if not self._waiting and not self._adding:
            self._empty.set()
