"""Threads that own a connection each, and the bridge between them and the loop."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from typing import Any, Final, Generic, NamedTuple, Protocol, TypeVar

from qunxin.errors import QunxinError
from qunxin.stores.sqlite.faults import unavailable

WAITING_LIMIT: Final = 20_000
"""Calls that may wait for a thread; one more is refused as `overloaded`."""


class Context(Protocol):
    """What one thread owns. All calls are made on that thread."""

    def rest(self) -> float | None:
        """Called after each piece of work, when its caller has been answered. Returns the
        seconds after which it wants to be called again though nothing came, or None."""
        ...

    def close(self) -> None: ...


C = TypeVar("C", bound=Context)
T = TypeVar("T")


class _Job(NamedTuple):
    work: Callable[[Any], Any]
    future: asyncio.Future[Any]
    loop: asyncio.AbstractEventLoop


class Threads(Generic[C]):
    """`count` threads fed from one queue, each with a context of its own from `make`.

    Calls are begun in order; with one thread they are done in order. A call that is cancelled
    while it waits is still done. What a call raises comes back as a `QunxinError`.
    """

    def __init__(self, name: str, count: int, make: Callable[[], C]) -> None:
        self._name = name
        self._count = count
        self._make = make
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._ends: list[asyncio.Future[None]] = []
        self._open = False

    async def start(self) -> None:
        """Start the threads and make the contexts, one after the other; where one cannot be
        made, end those that were and raise why."""
        for number in range(self._count):
            loop = asyncio.get_running_loop()
            ready, end = loop.create_future(), loop.create_future()
            threading.Thread(
                target=self._run,
                args=(loop, ready, end),
                name=f"{self._name}-{number}",
                daemon=True,
            ).start()
            try:
                await ready
            except QunxinError:
                await end
                await self.stop()
                raise
            self._ends.append(end)
        self._open = True

    async def run(self, work: Callable[[C], T]) -> T:
        """Do `work` on one of the threads and return what it returns."""
        if not self._open:
            raise QunxinError("store_unavailable", detail="the store is not open")
        if self._jobs.qsize() >= WAITING_LIMIT:
            raise QunxinError("overloaded")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._jobs.put(_Job(work, future, loop))
        try:
            return await future
        finally:
            del future  # an error's traceback would lead back to the error through it

    async def stop(self) -> None:
        """Do what was handed in, close every context, end the threads."""
        self._open = False
        ends, self._ends = self._ends, []
        for _ in ends:
            self._jobs.put(None)
        failures = await asyncio.gather(*ends, return_exceptions=True)
        for failure in failures:
            if failure is not None:
                raise failure

    def _run(
        self,
        loop: asyncio.AbstractEventLoop,
        ready: asyncio.Future[None],
        end: asyncio.Future[None],
    ) -> None:
        try:
            context = self._make()
        except Exception as error:  # noqa: BLE001  whatever it is, the opener is told
            _answer(loop, ready, None, unavailable(error))
            _answer(loop, end, None, None)
            return
        _answer(loop, ready, None, None)
        try:
            self._serve(context)
            context.close()
        except Exception as error:  # noqa: BLE001  whatever it is, the closer is told
            _answer(loop, end, None, unavailable(error))
        else:
            _answer(loop, end, None, None)

    def _serve(self, context: C) -> None:
        wait: float | None = None
        while True:
            try:
                job = self._jobs.get(timeout=wait)
            except queue.Empty:
                wait = context.rest()
                continue
            if job is None:
                return
            try:
                result = job.work(context)
            except Exception as error:  # noqa: BLE001  whatever it is, the caller is told
                _answer(job.loop, job.future, None, unavailable(error))
            else:
                _answer(job.loop, job.future, result, None)
            wait = context.rest()


def _answer(
    loop: asyncio.AbstractEventLoop,
    future: asyncio.Future[Any],
    result: object,
    error: QunxinError | None,
) -> None:
    if loop.is_closed():
        return  # nobody is left to wait
    loop.call_soon_threadsafe(_settle, future, result, error)


def _settle(future: asyncio.Future[Any], result: object, error: QunxinError | None) -> None:
    if future.done():
        return  # cancelled while it waited
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)
