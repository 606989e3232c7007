"""The broker of a single node: it only has to carry batches to its own handler, later."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

from qunxin.broker import Batch, BatchHandler

WAITING_LIMIT: Final = 10_000
"""Batches that may wait for the loop; what is beyond is dropped, as by any broker."""


class LocalBroker:
    """Delivers on a later turn of the loop, in the order of publishing, all that waits at once."""

    def __init__(self, waiting_limit: int = WAITING_LIMIT) -> None:
        self._limit = waiting_limit
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
        if len(self._waiting) >= self._limit:
            return
        self._waiting.append(batch)
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._deliver)

    async def close(self) -> None:
        self._handler = None
        self._loop = None
        self._subscribed.clear()
        self._waiting.clear()

    def _deliver(self) -> None:
        """Hand over what waits now; what a handler publishes meanwhile waits for the next turn."""
        self._scheduled = False
        batches, self._waiting = self._waiting, deque()
        for batch in batches:
            if self._handler is None:
                return
            if batch.conversation in self._subscribed:
                self._handler(batch)
