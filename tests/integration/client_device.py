"""The Python SDK over a real gateway, and what its program was handed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from qunxin.client import Client, Entry, Event, connect
from qunxin.engine import Engine
from qunxin.gateways.realtime import RealtimeSettings
from realtime_client import RealtimeNode, put_tea, realtime_node

PATIENCE_SECONDS = 15.0
WORDS = "早安 👩\u200d👩\u200d👧 مرحبا \u202eabc\u202c"


class Program:
    """The application on top of one client: it keeps everything that it is handed."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.events: list[Event] = []
        self._reached: dict[str, int] = {}
        self._changed = asyncio.Condition()
        self.handling: Callable[[Event], Any] | None = None

    async def run(self) -> None:
        await self.client.run(self._take)

    async def _take(self, event: Event) -> None:
        async with self._changed:
            self.events.append(event)
            if isinstance(event, Entry):
                self._reached[event.conversation] = event.position
            self._changed.notify_all()
        if self.handling is not None:
            await self.handling(event)

    async def until(self, fits: Callable[[Event], Any]) -> Event:
        """The first event, handed already or yet to come, that fits."""
        async with asyncio.timeout(PATIENCE_SECONDS), self._changed:
            while True:
                found = next((event for event in self.events if fits(event)), None)
                if found is not None:
                    return found
                await self._changed.wait()

    async def has(self, conversation: str, position: int) -> None:
        """Return once the program was handed everything of `conversation` up to `position`."""
        async with asyncio.timeout(PATIENCE_SECONDS), self._changed:
            while self._reached.get(conversation, 0) < position:
                await self._changed.wait()

    def entries(self, conversation: str) -> list[Entry]:
        return [
            event
            for event in self.events
            if isinstance(event, Entry) and event.conversation == conversation
        ]

    def positions(self, conversation: str) -> list[int]:
        return [entry.position for entry in self.entries(conversation)]


@asynccontextmanager
async def running(
    node: RealtimeNode, user: str, outbox: Path | None = None, **options: Any
) -> AsyncIterator[Program]:
    """A connected client of `user`, and a program that takes its events."""

    async def token() -> str:
        return node.token(user)

    options = {"token": token} | options
    async with connect(node.url, outbox=outbox, **options) as client:
        program = Program(client)
        taking = asyncio.create_task(program.run())
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                await client.wait_connected()
            yield program
        finally:
            taking.cancel()
            await asyncio.wait([taking])
            if not taking.cancelled() and (error := taking.exception()) is not None:
                raise error


def cut(node: RealtimeNode) -> None:
    """Break every connection without a word."""
    for connection in list(node.gateway._connections):
        connection.abort()


@asynccontextmanager
async def quick_node(engine: Engine) -> AsyncIterator[RealtimeNode]:
    """A gateway that pings often, over an engine with the group tea; carol is not in it."""
    await put_tea(engine, "carol")
    settings = RealtimeSettings(ping_spacing_seconds=0.05, linger_seconds=0.2)
    async with realtime_node(engine, settings) as node:
        yield node
