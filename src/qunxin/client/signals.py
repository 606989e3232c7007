"""Waking those who wait for something to change."""

from __future__ import annotations

import asyncio


class Signal:
    """`wait` returns at the next `send`. Whoever waits looks first, and again afterwards."""

    def __init__(self) -> None:
        self._waiters: list[asyncio.Future[None]] = []

    def send(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def wait(self) -> None:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            await waiter
        finally:
            if waiter in self._waiters:
                self._waiters.remove(waiter)
