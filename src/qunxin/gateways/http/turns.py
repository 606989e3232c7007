"""Requests that arrive together do not begin together: everything else goes on between them."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

PER_TURN: Final = 8
"""Requests that may begin in one turn of the loop: some milliseconds."""


def with_turns(app: ASGIApp) -> ASGIApp:
    """`app`, whose requests begin in the order of their coming, `PER_TURN` in one turn of the loop.
    A thousand that arrive in the same moment would otherwise hold up every message until the last
    of them is checked."""
    turns = _Turns()

    async def paced(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await turns.begin()
        await app(scope, receive, send)

    return paced


class _Turns:
    def __init__(self) -> None:
        self._left = PER_TURN
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._scheduled = False

    async def begin(self) -> None:
        """Return when it is this one's turn. Who is cancelled meanwhile takes nobody's."""
        loop = asyncio.get_running_loop()
        if not self._scheduled:
            self._scheduled = True
            loop.call_soon(self._next)
        if self._left:
            self._left -= 1
            return
        turn = loop.create_future()
        self._waiting.append(turn)
        await turn

    def _next(self) -> None:
        """Another turn of the loop."""
        self._left = PER_TURN
        while self._waiting and self._left:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                self._left -= 1
        self._scheduled = self._left < PER_TURN
        if self._scheduled:
            asyncio.get_running_loop().call_soon(self._next)
