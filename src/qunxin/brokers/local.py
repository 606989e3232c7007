"""The broker of a single node: it only has to carry batches to its own handler, later."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

from qunxin.broker import Batch, BatchHandler

BATCHES_PER_TURN: Final = 1_000
"""Handed over in one turn of the loop; what else the loop has to do comes before the rest."""


class LocalBroker:
    """Delivers on later turns of the loop, in the order of publishing. It loses nothing: what waits
    are the entries of transactions that have only just ended, which bound it."""

    def __init__(self) -> None:
        self._subscribed: set[str] = set()
        self._waiting: deque[Batch] = deque()
        self._handler: BatchHandler | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._scheduled = False

    async def open(self, handler: BatchHandler) -> None:
        self._handler = handler
        self._loop = asyncio.get_running_loop()

    def subscribe(self, conversation: str) -> None:
        self._subscribed.add(conversation)

    def unsubscribe(self, conversation: str) -> None:
        self._subscribed.discard(conversation)

    def publish(self, batch: Batch) -> None:
        if self._loop is None or batch.conversation not in self._subscribed:
            return
        self._waiting.append(batch)
        self._schedule(self._loop)

    async def close(self) -> None:
        self._handler = None
        self._loop = None
        self._subscribed.clear()
        self._waiting.clear()

    def _schedule(self, loop: asyncio.AbstractEventLoop) -> None:
        if not self._scheduled:
            self._scheduled = True
            loop.call_soon(self._deliver)

    def _deliver(self) -> None:
        """Hand over some of what waits now; what a handler publishes meanwhile waits for the next
        turn."""
        self._scheduled = False
        for _ in range(min(len(self._waiting), BATCHES_PER_TURN)):
            if self._handler is None:
                return
            batch = self._waiting.popleft()
            if batch.conversation in self._subscribed:
                self._handler(batch)
        if self._waiting and self._loop is not None:
            self._schedule(self._loop)
