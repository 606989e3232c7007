"""The outbox: every message is kept before its first try and until its outcome is known.

One lane for each recipient: its messages go out one after the other, so that their order in the
log is the order in which they were given. Lanes do not wait for each other.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from typing import Final, TypeAlias

import msgspec

from qunxin.client.backoff import Backoff
from qunxin.client.events import Handed, Unsent
from qunxin.client.file import ClientFile, StoredMessage
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
        self.awaited = 0
        """How many wait for the receipt; where nobody does, a refusal becomes an event."""
        self.outcome: asyncio.Future[Receipt | QunxinError] = (
            asyncio.get_running_loop().create_future()
        )

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
        self.awaited += 1
        try:
            outcome = await asyncio.shield(self.outcome)
        finally:
            self.awaited -= 1
        if isinstance(outcome, QunxinError):
            raise outcome
        return outcome


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
        """In the outbox, durably, on return; whoever is cancelled meanwhile has posted it."""
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
        """Stop sending. Whoever waits is told that the outcome is not known."""
        await self._posting.close()
        await self._sending.close()
        self._stop(self._waiting.values(), UnansweredError("the client was closed"))

    async def _add(self, posted: Posted) -> None:
        try:
            posted.id = await self._file.add(posted.message)
            self._enqueue(posted)
        finally:
            self._adding -= 1
            self._look()

    def _enqueue(self, posted: Posted) -> None:
        self._waiting[posted.id] = posted
        self._empty.clear()
        lane = self._lanes.get(posted.lane)
        if lane is not None:
            lane.append(posted)
            return
        self._lanes[posted.lane] = deque([posted])
        self._sending.start(f"send to {posted.lane[1]}", self._run(posted.lane))

    async def _run(self, name: Lane) -> None:
        """One message after the other, until the lane is empty."""
        lane = self._lanes[name]
        while lane:
            posted = lane[0]
            try:
                outcome = await self._deliver(posted)
            except OutboxStoppedError as stopped:
                self._stop(lane, stopped.error)
                del self._lanes[name]
                return
            lane.popleft()
            await self._finish(posted, outcome)
            if not lane:
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
        """Whoever waits is told; the messages stay in the file for the next start."""
        self._stopped = error
        self._empty.set()
        for posted in messages:
            if not posted.outcome.done():
                posted.outcome.set_result(error)

    async def _finish(self, posted: Posted, outcome: Receipt | RefusedError) -> None:
        """What the file cannot keep any more is a failure of the client, not of the message."""
        try:
            await self._settle(posted, outcome)
        finally:
            del self._waiting[posted.id]
            if not posted.outcome.done():
                posted.outcome.set_result(outcome)

    async def _settle(self, posted: Posted, outcome: Receipt | RefusedError) -> None:
        if isinstance(outcome, RefusedError) and not posted.awaited:
            fault = Fault(outcome.number, outcome.message)
            await self._file.refuse(posted.id, fault)
            self._tell_unsent(posted.id, posted.message, outcome)
        else:
            await self._file.remove(posted.id)

    def _tell_unsent(self, message_id: int, message: JsonObject, error: RefusedError) -> None:
        self._tell(Handed(Unsent(message, error), unsent=message_id))

    def _look(self) -> None:
        if not self._waiting and not self._adding:
            self._empty.set()
