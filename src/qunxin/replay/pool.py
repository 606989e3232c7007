"""Who is online: at most so many connections at once, the longest unused given up first."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from qunxin.replay.client import Participant


class OnlinePool:
    """Participants take turns being connected. Calls may run side by side.

    A place is taken from before the connection is opened until after it is closed, so there are
    never more than `limit`.
    """

    def __init__(self, participants: Mapping[str, Participant], limit: int) -> None:
        self._participants = participants
        self._limit = limit
        self._online: dict[str, None] = {}
        self._users: Counter[str] = Counter()
        self._leaving: set[str] = set()
        self._moved = asyncio.Event()
        self.most = 0
        """The most places that were ever taken."""

    @property
    def online(self) -> tuple[str, ...]:
        return tuple(self._online)

    @asynccontextmanager
    async def connected(self, user: str) -> AsyncIterator[Participant]:
        """`user`'s device, with a place that nobody takes away inside the block. It is connected
        at the beginning and comes back by itself. Raises `Refused` or
        `ApiRefused` where the server will not have it."""
        await self._take_place(user)
        try:
            participant = self._participants[user]
            await participant.go_online()
            yield participant
        finally:
            self._users[user] -= 1
            self._tell()

    async def leave(self, user: str) -> None:
        """Offline on return; the place is free. Nothing where the user had none."""
        if user not in self._online:
            return
        del self._online[user]
        self._leaving.add(user)
        try:
            await self._participants[user].go_offline()
        finally:
            self._leaving.discard(user)
            self._tell()

    def has_room(self) -> bool:
        return len(self._online) + len(self._leaving) < self._limit

    async def _take_place(self, user: str) -> None:
        while True:
            if user in self._online:
                del self._online[user]
                break
            if user not in self._leaving:
                if self.has_room():
                    break
                victim = next((one for one in self._online if not self._users[one]), None)
                if victim is not None:
                    await self.leave(victim)
                    continue
            self._moved.clear()
            await self._moved.wait()
        self._online[user] = None
        self._users[user] += 1
        self.most = max(self.most, len(self._online) + len(self._leaving))

    def _tell(self) -> None:
        self._moved.set()
