"""The gate of heavy reads: those that look at a whole audience, as the ledger does.

A store reads with few connections, one queue before them. A group of 50,000 takes one of them for a
tenth of a second, so an author who asks a hundred times at once would have them all for seconds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar

from qunxin.engine.access import SYSTEM, Caller
from qunxin.errors import QunxinError

AT_ONCE: Final = 2
"""Heavy reads of a node under way: one less than the SQLite store has readers, so that every
other read finds one that is not taken for long."""
MAX_WAITING: Final = 100
"""Of one user or one key; a read beyond it is refused as `overloaded`."""
WAIT_SECONDS: Final = 5.0
"""After it a read that was not begun is refused as `overloaded`: less than the time that a request
over HTTP has."""

T = TypeVar("T")


class _Turn:
    """Whose turn it is among the reads of one caller, the one under way included."""

    __slots__ = ("lock", "reads")

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.reads = 0


class ReadGate:
    """Lets heavy reads through: of each user and each key one at a time, `at_once` in all, in the
    order in which they came to the front of their caller's own.

    So whoever asks much waits behind themself, and others behind one read of theirs. The embedding
    program is not refused: what waits is its own.
    """

    def __init__(
        self,
        *,
        at_once: int = AT_ONCE,
        max_waiting: int = MAX_WAITING,
        wait_seconds: float = WAIT_SECONDS,
    ) -> None:
        self._places = asyncio.Semaphore(at_once)
        self._max_waiting = max_waiting
        self._wait_seconds = wait_seconds
        self._turns: dict[tuple[bool, str], _Turn] = {}
        self._running: set[asyncio.Task[Any]] = set()

    async def run(self, caller: Caller, read: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """What `read` returns or raises, once it may begin. Raises `overloaded` where too many
        wait or it would wait too long; `read` was not begun then. A read that is under way holds
        its place to its end: a caller who goes away gains nothing by it."""
        trusted = caller.key_id == SYSTEM.key_id
        name = (caller.is_key, caller.user or caller.key_id or "")
        turn = self._turns.setdefault(name, _Turn())
        if turn.reads > self._max_waiting and not trusted:
            raise QunxinError("overloaded")
        turn.reads += 1
        try:
            await self._wait(turn, None if trusted else self._wait_seconds)
        except BaseException:
            self._leave(name, turn)
            raise
        task = asyncio.get_running_loop().create_task(read(), name="heavy read")
        self._running.add(task)
        task.add_done_callback(lambda task: self._end(name, turn, task))
        return await asyncio.shield(task)

    async def _wait(self, turn: _Turn, seconds: float | None) -> None:
        """Return with the caller's turn and a place, or raise with neither."""
        try:
            async with asyncio.timeout(seconds):
                await turn.lock.acquire()
                try:
                    await self._places.acquire()
                except BaseException:
                    turn.lock.release()
                    raise
        except TimeoutError:
            raise QunxinError("overloaded") from None

    def _end(self, name: tuple[bool, str], turn: _Turn, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        self._places.release()
        turn.lock.release()
        self._leave(name, turn)

    def _leave(self, name: tuple[bool, str], turn: _Turn) -> None:
        turn.reads -= 1
        if not turn.reads:
            del self._turns[name]
