"""The order of one connection's commands, and what they may hold while they wait."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from google.protobuf.json_format import ParseDict

from qunxin.gateways.realtime_queue import CommandQueue
from qunxin.tasks import TaskSet
from qunxin.wire import realtime_pb2
from qunxin.wire.format import JSON
from qunxin.wire.frames import Command
from qunxin.wire.protobuf import PROTOBUF
from qunxin.wire.session import Received

PAD = "撑" * 3_000
"""9,000 bytes as UTF-8."""
MAX_BYTES = 20_000


class Handled:
    """A queue whose commands take until they are let go; `begun` says which have their turn."""

    def __init__(self, tasks: TaskSet, **bounds: int) -> None:
        self.begun: list[int] = []
        self.done = asyncio.Event()
        bounds = {"max_pending": 100, "max_sends": 2, "max_bytes": MAX_BYTES} | bounds
        self.queue = CommandQueue(self._handle, tasks, **bounds)

    async def _handle(self, _kind: str, command: Command) -> None:
        self.begun.append(command.id)
        await self.done.wait()

    async def finish(self) -> None:
        self.done.set()
        await self.queue.idle()
        self.done.clear()


@pytest.fixture
async def handled() -> AsyncIterator[Handled]:
    tasks = TaskSet()
    yield Handled(tasks)
    await tasks.close()


def as_json(command: dict[str, Any]) -> Received:
    return only(JSON.read(json.dumps(command, ensure_ascii=False).encode(), 2**20))


def as_protobuf(command: dict[str, Any]) -> Received:
    message = ParseDict(command, realtime_pb2.Command()).SerializeToString()
    assert 2**7 <= len(message) < 2**14
    length = bytes([len(message) & 0x7F | 0x80, len(message) >> 7])
    return only(PROTOBUF.read(length + message, 2**20))


def only(read: Any) -> Received:
    (line,) = read
    assert isinstance(line, Received)
    return line


def padded(number: int) -> Received:
    """A command that looks small, in a line that is not."""
    return as_json({"id": number, "rpc": {"method": "user.get", "data": {}}, "pad": PAD})


PADDED: list[Callable[[int], Received]] = [
    padded,
    lambda number: as_json({"id": number, "refresh": {"token": PAD}}),
    lambda number: as_json({"id": number, "ping": {"pad": PAD}}),
    lambda number: as_json({"id": number, "publish": {"channel": "group:茶", "data": PAD}}),
    lambda number: as_protobuf({"id": number, "refresh": {"token": PAD}}),
]


@pytest.mark.parametrize("make", PADDED)
async def test_every_byte_of_a_line_counts(
    handled: Handled, make: Callable[[int], Received]
) -> None:
    """Whatever the command and wherever in it they stand; and room comes back."""
    for _ in range(2):
        taken = [handled.queue.add(make(number)) for number in range(1, 5)]
        assert taken == [True, True, False, False]
        await handled.finish()
    assert handled.begun == [1, 2, 1, 2]


async def test_one_line_that_is_longer_than_the_bound_is_taken_alone(handled: Handled) -> None:
    large = as_json({"id": 7, "refresh": {"token": 3 * PAD}})
    assert large.size > MAX_BYTES
    assert handled.queue.add(large)
    assert not handled.queue.add(padded(8))
    await handled.finish()
    assert handled.begun == [7]


async def test_connect_takes_no_room_from_what_follows_it(handled: Handled) -> None:
    """It has a bound of its own; SDKs write their subscriptions right behind it."""
    subs = {f"group:茶{n}": {"recover": True, "offset": n} for n in range(1_000)}
    assert handled.queue.add(as_json({"id": 1, "connect": {"token": PAD, "subs": subs}}))
    for number in (2, 3):
        assert handled.queue.add(padded(number))
    assert not handled.queue.add(padded(4))
    await handled.finish()
    assert handled.begun == [1, 2, 3]


async def test_messages_do_not_wait_for_each_other_and_all_others_do(handled: Handled) -> None:
    send = {"rpc": {"method": "message.send", "data": {"text": "早安 🍵"}}}
    for number in (1, 2, 3):
        handled.queue.add(as_json({"id": number, **send}))
    handled.queue.add(as_json({"id": 4, "ping": {}}))
    handled.queue.add(as_json({"id": 5, **send}))
    for _ in range(5):
        await asyncio.sleep(0)
    assert handled.begun == [1, 2]
    await handled.finish()
    assert handled.begun == [1, 2, 3, 4, 5]
