"""Where devices are let in: few at the same time, one of each user, the others waiting in their
order, and not for long.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final, Protocol
from weakref import WeakValueDictionary

from qunxin.errors import QunxinError

AT_ONCE: Final = 2
"""Devices that are let in at the same time. Each is work in several turns of the loop and for the
threads that read: more at once are hardly let in sooner, and hold up everybody's messages."""


class Guest(Protocol):
    """Who waits. Of two guests no one is equal to the other."""

    open: bool
    """False once it is gone."""


class Entrance:
    """Used from one loop."""

    def __init__(self, *, max_guests: int, wait_seconds: float) -> None:
        """At most `max_guests` wait or are being let in; none waits for longer than
        `wait_seconds`."""
        self._max_guests = max_guests
        self._wait_seconds = wait_seconds
        self._loop = asyncio.get_running_loop()
        self._guests = 0
        self._ways = asyncio.Semaphore(AT_ONCE)
        self._of_users: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        """Kept by those who hold them or wait for them."""
        self._waiting: dict[Guest, asyncio.Timeout] = {}
        self._closed = False

    @asynccontextmanager
    async def let_in(self, guest: Guest, user: str) -> AsyncIterator[None]:
        """Wait for the guest's turn, and keep it while the block runs. Raises `overloaded` where
        too many are here already, or where the turn did not come in time; `shutting_down` once
        the entrance is closed or the guest is gone, however long it would have waited."""
        if self._guests >= self._max_guests:
            raise QunxinError("overloaded")
        self._guests += 1
        try:
            async with AsyncExitStack() as held:
                await self._wait(held, guest, user)
                yield
        finally:
            self._guests -= 1

    async def _wait(self, held: AsyncExitStack, guest: Guest, user: str) -> None:
        """The user's own turn comes first, so that who waits for it keeps nobody else waiting."""
        in_time = self._is_expected(guest)
        if in_time:
            of_user = self._of_users.setdefault(user, asyncio.Lock())
            try:
                async with asyncio.timeout(self._wait_seconds) as limit:
                    self._waiting[guest] = limit
                    await held.enter_async_context(of_user)
                    await held.enter_async_context(self._ways)
            except TimeoutError:
                in_time = False
            finally:
                self._waiting.pop(guest, None)
        if not self._is_expected(guest):
            raise QunxinError("shutting_down")
        if not in_time:
            raise QunxinError("overloaded")

    def _is_expected(self, guest: Guest) -> bool:
        return guest.open and not self._closed

    def leave(self, guest: Guest) -> None:
        """The guest is gone: it waits no more."""
        limit = self._waiting.pop(guest, None)
        if limit is not None and not limit.expired():
            limit.reschedule(self._loop.time())

    def close(self) -> None:
        """Let nobody in any more; those who are being let in come in."""
        self._closed = True
        for guest in list(self._waiting):
            self.leave(guest)
