"""Live entries for the embedding program: a session whose device is the program itself."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Protocol, Self

from qunxin.engine.fanout import tombstone
from qunxin.engine.proofs import Mark
from qunxin.engine.session import Session
from qunxin.engine.sink import CloseReason, Comings, Delivery, Position, Sink, SubscriptionStart
from qunxin.errors import QunxinError
from qunxin.model import Entry, EventType

_ENDS: dict[CloseReason, Callable[[str], QunxinError]] = {
    CloseReason.SUSPENDED: lambda user: QunxinError("user_suspended", user=user),
    CloseReason.ERASED: lambda user: QunxinError("user_erased", user=user),
    CloseReason.SESSIONS_ENDED: lambda _: QunxinError("forbidden", detail="session ended"),
    CloseReason.SLOW: lambda _: QunxinError("overloaded"),
    CloseReason.SHUTTING_DOWN: lambda _: QunxinError("shutting_down"),
    CloseReason.FAILED: lambda _: QunxinError("store_unavailable"),
}


class LiveQueue:
    """A sink that holds entries for one consumer, in order and within a bound.

    Behind the entries of each delivery stands a mark: when the consumer comes past it, it has
    everything before it.
    """

    def __init__(self, max_entries: int) -> None:
        self._max_entries = max_entries
        self._items: deque[Entry | tuple[Mark]] = deque()
        self._changed = asyncio.Event()
        self.session: Session | None = None
        self.gained: dict[str, SubscriptionStart] = {}
        self.closed: CloseReason | None = None

    def subscribed(self, start: SubscriptionStart) -> None:
        """Entries of the new conversation follow by themselves."""
        self.gained[start.conversation] = start

    def unsubscribed(self, conversation: str, reason: str) -> None:
        """The entry that said so was delivered before."""

    def came(self, comings: Comings) -> None:
        """Told to those alone who ask, which an embedded stream cannot."""

    def deliver(self, delivery: Delivery) -> None:
        if self.session is None or self.closed is not None:
            return
        for entry in delivery.entries:
            if entry.type == EventType.RECALLED:
                self._erase(entry)
        waiting = len(self._items)
        self._items.extend(delivery.entries)
        mark = self.session.mark()
        if mark is not None:
            self._items.append((mark,))
        self._changed.set()
        if waiting > self._max_entries:
            self.session.end(CloseReason.SLOW)

    def close(self, reason: CloseReason) -> None:
        """What waits is given up, since no recall reaches it any more: whoever comes back is
        served from what was taken. A node that goes down learns of no recall, so it stays."""
        self.closed = reason
        if reason is not CloseReason.SHUTTING_DOWN:
            self._items.clear()
        self._changed.set()

    async def drained(self) -> None:
        while self._items and self.closed is None:
            self._changed.clear()
            await self._changed.wait()

    async def take(self) -> Entry | None:
        """The next entry; None once the session has ended and everything was taken."""
        while True:
            while self._items:
                item = self._items.popleft()
                if not self._items:
                    self._changed.set()
                if isinstance(item, Entry):
                    return item
                if self.session is not None:
                    self.session.prove(item[0])
            if self.closed is not None:
                return None
            self._changed.clear()
            await self._changed.wait()

    def _erase(self, recall: Entry) -> None:
        """Content that was recalled before it was taken is not given out any more."""
        target = (recall.body or {}).get("target")
        for index, item in enumerate(self._items):
            if (
                isinstance(item, Entry)
                and item.position == target
                and item.conversation == recall.conversation
            ):
                self._items[index] = tombstone(item, recall.position)


class Connects(Protocol):
    """The part of the engine that `Live` needs."""

    async def connect(
        self, user: str, sink: Sink, *, positions: Mapping[str, Position], client: str
    ) -> Session: ...


class Live:
    """Everything one user receives, as an asynchronous iterator; used with ``async with``.

    Entries of one conversation come in order, each once; entries missed since the user's
    delivered cursors come first. Asking for the next entry proves the one before. One task at a
    time may iterate. A consumer that falls too far behind is ended with `overloaded`; whoever
    leaves the ``async with`` ends it plainly.
    """

    def __init__(
        self,
        engine: Connects,
        user: str,
        positions: Mapping[str, Position],
        max_entries: int,
    ) -> None:
        self._engine = engine
        self._user = user
        self._positions = positions
        self._queue = LiveQueue(max_entries)

    @property
    def starts(self) -> tuple[SubscriptionStart, ...]:
        """Where each conversation begins, those gained since at the end; one with `recovered`
        false must be reloaded."""
        gained = self._queue.gained
        first = (s for s in self._session.starts if s.conversation not in gained)
        return (*first, *gained.values())

    @property
    def _session(self) -> Session:
        if self._queue.session is None:
            raise RuntimeError("use it with: async with chat.listen(user) as live")
        return self._queue.session

    async def __aenter__(self) -> Self:
        session = await self._engine.connect(
            self._user, self._queue, positions=self._positions, client="embedded"
        )
        self._queue.session = session
        session.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._session.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Entry:
        entry = await self._queue.take()
        if entry is None:
            raise _ENDS[self._queue.closed or CloseReason.FAILED](self._user)
        return entry
