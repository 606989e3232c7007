"""The order of one connection's commands.

They are begun in the order in which they came. Messages to send do not wait for each other's
outcome: they reach the commit in order and share its transactions. Every other command waits for
all before it, and all after it wait for it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any

from qunxin.tasks import TaskSet
from qunxin.wire.frames import Command
from qunxin.wire.session import Received

Handle = Callable[[str, Command], Coroutine[Any, Any, None]]

_SEND = "message.send"


def is_send(kind: str, command: Command) -> bool:
    """Whether the command may share a transaction with its neighbours."""
    return kind == "publish" or (command.rpc is not None and command.rpc.method == _SEND)


def _weight(line: Received) -> int:
    """What counts of a command. Of `connect` there is never more than one, with a bound of its own:
    what an SDK sends right behind it is not refused for its length."""
    return 0 if line.kind == "connect" else line.size


async def _nothing(_kind: str, _command: Command) -> None:
    """In place of the handler, once nothing is begun any more."""


class CommandQueue:
    """At most `max_pending` wait, at most `max_sends` messages are under way, and the lines of all
    together, but for `connect`, are `max_bytes` long, or there is one that is longer. `handle` must
    not raise; what has been begun is never cancelled, since it may have been accepted."""

    __slots__ = (
        "_bytes",
        "_handle",
        "_max_bytes",
        "_max_pending",
        "_max_sends",
        "_runner",
        "_sends",
        "_tasks",
        "_waiting",
    )

    def __init__(
        self, handle: Handle, tasks: TaskSet, *, max_pending: int, max_sends: int, max_bytes: int
    ) -> None:
        self._handle = handle
        self._tasks = tasks
        self._max_pending = max_pending
        self._max_sends = max_sends
        self._max_bytes = max_bytes
        self._bytes = 0
        self._waiting: deque[Received] = deque()
        self._sends: set[asyncio.Task[None]] = set()
        self._runner: asyncio.Task[None] | None = None

    def add(self, line: Received) -> bool:
        """Take a command; False where too many wait already, or too long ones."""
        size = _weight(line)
        if self._bytes and self._bytes + size > self._max_bytes:
            return False
        is_next = self._runner is None and len(self._sends) < self._max_sends
        if is_next and is_send(line.kind, line.command):
            self._bytes += size
            self._start_send(line)
            return True
        if len(self._waiting) >= self._max_pending:
            return False
        self._bytes += size
        self._waiting.append(line)
        if self._runner is None:
            self._runner = self._tasks.start("commands", self._run())
        return True

    def close(self) -> None:
        """Forget what has not been begun, and who would have begun it. Nothing may be added
        afterwards."""
        self._waiting.clear()
        self._handle = _nothing

    async def idle(self) -> None:
        """Return once nothing is under way."""
        while self._runner is not None or self._sends:
            await asyncio.wait([task for task in (self._runner, *self._sends) if task is not None])

    async def _run(self) -> None:
        try:
            while self._waiting:
                line = self._waiting[0]
                if is_send(line.kind, line.command):
                    if len(self._sends) >= self._max_sends:
                        await asyncio.wait(self._sends, return_when=asyncio.FIRST_COMPLETED)
                elif self._sends:
                    await asyncio.wait(self._sends)
                if self._waiting:
                    await self._begin(self._waiting.popleft())
        finally:
            self._runner = None

    async def _begin(self, line: Received) -> None:
        if is_send(line.kind, line.command):
            self._start_send(line)
            return
        await self._handle(line.kind, line.command)
        self._bytes -= _weight(line)

    def _start_send(self, line: Received) -> None:
        task = self._tasks.start("send", self._handle(line.kind, line.command))
        self._sends.add(task)
        size = _weight(line)

        def done(task: asyncio.Task[None]) -> None:
            self._sends.discard(task)
            self._bytes -= size

        task.add_done_callback(done)
