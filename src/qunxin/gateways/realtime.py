"""The realtime gateway: the Centrifugo client protocol over WebSockets, in JSON and Protobuf.

Read in this order: `websocket` (the upgrade) or `realtime_streams` (a stream over HTTP),
`realtime_session` (one connection), `realtime_queue`, `realtime_commands` and `realtime_entrance`
(what it asks for), `realtime_writer` (how everything ready in one turn is written). Here is what
all connections share: the sweep that keeps their deadlines, and their end.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Callable
from typing import Any, Final

from starlette.types import ASGIApp

from qunxin.clock import Clock, SystemClock
from qunxin.engine import Engine
from qunxin.engine.session import Session
from qunxin.errors import QunxinError
from qunxin.gateways.client_limits import ClientLimits
from qunxin.gateways.connection import Outlet
from qunxin.gateways.draining import plan_lots
from qunxin.gateways.realtime_commands import Commands, Identity, Tokens
from qunxin.gateways.realtime_queue import CommandQueue
from qunxin.gateways.realtime_session import RealtimeSession
from qunxin.gateways.realtime_settings import PATH, RealtimeSettings
from qunxin.gateways.realtime_streams import StreamApp
from qunxin.gateways.realtime_writer import Writer
from qunxin.gateways.websocket import Upgrades
from qunxin.tasks import TaskSet
from qunxin.wire.codes import SHUTTING_DOWN
from qunxin.wire.framing import Framing

_log = logging.getLogger("qunxin.realtime")

_SWEEP_SECONDS: Final = 1.0
_SWEEP_SLICE: Final = 1_000
_LAST_CLOSES_SHARE: Final = 0.1
"""Of the time for ending connections, what the last of them have for their close handshake."""


class RealtimeGateway:
    """Takes connections from uvicorn (`ws_protocol_class`) and serves them until `close`.

    Made on the running loop that will serve.
    """

    def __init__(
        self,
        engine: Engine,
        tokens: Tokens,
        settings: RealtimeSettings | None = None,
        *,
        clock: Clock | None = None,
        limits: ClientLimits | None = None,
    ) -> None:
        self.settings = settings or RealtimeSettings()
        self.closing = False
        self._loop = asyncio.get_running_loop()
        self.now: Callable[[], float] = self._loop.time
        self._clock = clock or SystemClock()
        self._commands = Commands(engine, tokens, self.settings, self._clock)
        self._upgrades = Upgrades(self.settings, self, limits)
        self._observer = engine.observer
        self._tasks = TaskSet()
        self._sweeper: asyncio.Task[None] | None = None
        self._sessions: set[RealtimeSession] = set()
        self._streams: dict[str, RealtimeSession] = {}
        self._connections: set[Outlet] = set()
        self._all_closed = asyncio.Event()
        self._writers: dict[Framing, Writer] = {}

    @property
    def ws_protocol_class(self) -> Callable[..., asyncio.Protocol]:
        """For uvicorn's `ws` setting."""
        return self._upgrades.protocol

    def over_http(self, otherwise: ASGIApp) -> ASGIApp:
        """The ASGI application for clients without WebSockets; `otherwise` answers what is not
        theirs."""
        return StreamApp(self, self.settings, otherwise)

    @property
    def node(self) -> str:
        """The name under which streams are posted to; another one after each start."""
        return self._commands.node

    @property
    def connections(self) -> int:
        """Sockets open now, those that are being closed included."""
        return len(self._connections)

    # --- connections -------------------------------------------------------------------------

    def admit(self) -> None:
        if self.closing:
            raise QunxinError("shutting_down")
        if len(self._connections) >= self.settings.max_connections:
            raise QunxinError("overloaded")

    def accept(
        self, connection: Outlet, language: str, framing: Framing, stream: str = ""
    ) -> RealtimeSession:
        writer = self._writers.get(framing)
        if writer is None:
            writer = self._writers[framing] = Writer(framing)
        session = RealtimeSession(self, connection, writer, language, self.now(), stream)
        connection.receiver = session
        if stream:
            self._streams[stream] = session
        self._connections.add(connection)
        self._sessions.add(session)
        if self._sweeper is None:
            self._sweeper = self._tasks.start("realtime sweep", self._sweep())
        return session

    def stream(self, secret: str) -> RealtimeSession | None:
        return self._streams.get(secret)

    def closed(self, connection: Outlet) -> None:
        self._connections.discard(connection)
        if not self._connections:
            self._all_closed.set()

    def refused(self, code: str) -> None:
        self._observer.answered_error("realtime", code)

    def ended(
        self, session: RealtimeSession, engine_session: Session | None, code: int | None
    ) -> None:
        """Called by each session once, when it takes and gives nothing more."""
        self._sessions.discard(session)
        self._commands.ended(session)
        self._streams.pop(session.stream, None)
        self._observer.disconnected(code)
        if engine_session is not None:
            self._tasks.start(f"end of session {engine_session.id}", engine_session.close())

    def commands_of(self, session: RealtimeSession) -> CommandQueue:
        async def handle(kind: str, command: Any) -> None:
            await self._commands.handle(session, kind, command)

        return CommandQueue(
            handle,
            self._tasks,
            max_pending=self.settings.max_pending_commands,
            max_sends=self.settings.max_sends_at_once,
            max_bytes=self.settings.max_pending_bytes,
        )

    # --- time --------------------------------------------------------------------------------

    async def _sweep(self) -> None:
        """Once a second, every session's deadlines and pings, others' work in between."""
        while True:
            await asyncio.sleep(_SWEEP_SECONDS)
            for index, session in enumerate(list(self._sessions)):
                if session.open:
                    session.sweep(self.now(), self._clock.now_ms())
                if index % _SWEEP_SLICE == _SWEEP_SLICE - 1:
                    await asyncio.sleep(0)

    # --- the end -----------------------------------------------------------------------------

    async def close(self) -> None:
        """Take nothing new; answer what was accepted; tell every client to come back, evenly over
        the time left, so that they do not all come back at once. On return all sockets are closed,
        those of clients that did not answer within half of `shutdown_timeout_seconds` cut."""
        self.closing = True
        self._commands.close()
        deadline = self.now() + self.settings.shutdown_timeout_seconds / 2
        sessions = list(self._sessions)
        await self._answer_all(sessions, deadline)
        await self._end_all([session for session in sessions if session.open], deadline)
        await self._wait_closed(deadline)
        await self._tasks.close()

    async def _answer_all(self, sessions: list[RealtimeSession], deadline: float) -> None:
        waiting = [asyncio.create_task(session.commands.idle()) for session in sessions]
        if waiting:
            _, late = await asyncio.wait(waiting, timeout=(deadline - self.now()) / 2)
            for task in late:
                task.cancel()

    async def _end_all(self, sessions: list[RealtimeSession], deadline: float) -> None:
        """A lot that comes late, the loop being busy, does not delay those after it."""
        began, ending = self.now(), iter(sessions)
        for lot in plan_lots(len(sessions), (deadline - began) * (1 - _LAST_CLOSES_SHARE)):
            await asyncio.sleep(max(0.0, began + lot.after_seconds - self.now()))
            for session in itertools.islice(ending, lot.size):
                session.disconnect(SHUTTING_DOWN)

    async def _wait_closed(self, deadline: float) -> None:
        if self._connections:
            self._all_closed.clear()
            try:
                async with asyncio.timeout_at(max(deadline, self.now() + 0.1)):
                    await self._all_closed.wait()
            except TimeoutError:
                _log.info("%d connections are cut", len(self._connections))
        for connection in list(self._connections):
            connection.abort()
        while self._connections:
            self._all_closed.clear()
            await self._all_closed.wait()


__all__ = ["PATH", "Identity", "RealtimeGateway", "RealtimeSettings", "Tokens"]
