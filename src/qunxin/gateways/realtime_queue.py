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

Handle = Callable[[str, Command], Coroutine[Any, Any, None]]

_SEND = "message.send"


def is_send(kind: str, command: Command) -> bool:
    """Whether the command may share a transaction with its neighbours."""
    return kind == "publish" or (command.rpc is not None and command.rpc.method == _SEND)


def weight(command: Command) -> int:
    """The bytes that the command holds."""
    carrier = command.rpc or command.publish
    return 0 if carrier is None else memoryview(carrier.data).nbytes


async def _nothing(_kind: str, _command: Command) -> None:
    """In place of the handler, once nothing is begun any more."""


class CommandQueue:
    """At most `max_pending` wait, at most `max_sends` messages are under way, and all together
    hold `max_bytes`, or one command that is larger. `handle` must not raise; what has been begun
    is never cancelled, since it may have been accepted."""

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
        self._waiting: deque[tuple[str, Command]] = deque()
        self._sends: set[asyncio.Task[None]] = set()
        self._runner: asyncio.Task[None] | None = None

    def add(self, kind: str, command: Command) -> bool:
        """Take a command; False where too many wait already."""
        size = weight(command)
        if self._bytes and self._bytes + size > self._max_bytes:
            return False
        if self._runner is None and len(self._sends) < self._max_sends and is_send(kind, command):
            self._bytes += size
            self._start_send(kind, command)
            return True
        if len(self._waiting) >= self._max_pending:
            return False
        self._bytes += size
        self._waiting.append((kind, command))
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
                kind, command = self._waiting[0]
                if is_send(kind, command):
                    if len(self._sends) >= self._max_sends:
                        await asyncio.wait(self._sends, return_when=asyncio.FIRST_COMPLETED)
                elif self._sends:
                    await asyncio.wait(self._sends)
                if self._waiting:
                    await self._begin(*self._waiting.popleft())
        finally:
            self._runner = None

    async def _begin(self, kind: str, command: Command) -> None:
        if is_send(kind, command):
            self._start_send(kind, command)
            return
        await self._handle(kind, command)
        self._bytes -= weight(command)

    def _start_send(self, kind: str, command: Command) -> None:
        task = self._tasks.start("send", self._handle(kind, command))
        self._sends.add(task)
        size = weight(command)

        def done(task: asyncio.Task[None]) -> None:
            self._sends.discard(task)
            self._bytes -= size

        task.add_done_callback(done)
