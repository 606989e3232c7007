"""The membership fence where the broker does everything that a broker may do.

Batches come late, out of order, twice, the inbox before the group or after it. What a device gets
must not depend on any of it.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from door_embedded import SETTINGS, EmbeddedDoor
from doors import Json

from qunxin.broker import Batch, BatchHandler
from qunxin.clock import SystemClock
from qunxin.engine import Engine
from qunxin.stores.sqlite import SqliteStore

ROUNDS = 8


class UnrulyBroker:
    """Hands each batch over after a time of its own, now and then twice; never the wrong one."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._names: set[str] = set()
        self._handler: BatchHandler | None = None
        self._loop = asyncio.get_running_loop()

    async def open(self, handler: BatchHandler) -> None:
        self._handler = handler

    def subscribe(self, conversation: str) -> None:
        self._names.add(conversation)

    def unsubscribe(self, conversation: str) -> None:
        self._names.discard(conversation)

    def publish(self, batch: Batch) -> None:
        for _ in range(self._random.choice((1, 1, 1, 2))):
            late = self._random.choice((0.0, 0.0, 0.001, 0.004, 0.01))
            self._loop.call_later(late, self._deliver, batch)

    def _deliver(self, batch: Batch) -> None:
        if self._handler is not None and batch.conversation in self._names:
            self._handler(batch)

    async def close(self) -> None:
        self._handler = None


class UnrulyDoor(EmbeddedDoor):
    """The embedded engine over an unruly broker."""

    def __init__(self, path: Path, seed: int) -> None:
        super().__init__(path)
        clock = SystemClock()
        self.engine = Engine(
            SqliteStore(path, clock), UnrulyBroker(seed), settings=SETTINGS, clock=clock
        )


@pytest.fixture(params=range(12))
async def unruly(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[UnrulyDoor]:
    door = UnrulyDoor(tmp_path / "chat 乱.db", request.param)
    await door.open()
    yield door
    try:
        await door.close_devices()
    finally:
        await door.close()


def _visible(entries: list[Json]) -> list[Json]:
    return [entry for entry in entries if entry["type"] != "hidden"]


async def test_in_and_out_under_an_unruly_broker(unruly: UnrulyDoor) -> None:
    """Removed and added again and again while people talk: at the end the device has what its
    user may read since the last joining, and nothing that they may not."""
    alice, bob = await unruly.users("alice", "bob")
    tea = await unruly.group("tea", alice, bob)
    name = f"group:{tea}"
    device = await unruly.device(bob)

    async def shuffle() -> None:
        for _ in range(ROUNDS):
            await unruly.remove(tea, bob)
            await unruly.add(tea, bob)

    async def talk() -> None:
        for n in range(3 * ROUNDS):
            await unruly.send("group", tea, alice, f"{n} 🎲")

    await asyncio.gather(shuffle(), talk())
    last = await unruly.send("group", tea, alice, "最后 🏁")
    await device.reach(name, last.position)
    log = _visible(await unruly.read_all(name, bob))
    seen = _visible(device.entries(name))
    joined = max(entry["position"] for entry in log if entry["type"] == "joined")
    assert [e for e in seen if e["position"] >= joined] == [
        e for e in log if e["position"] >= joined
    ]
    assert all(entry in log for entry in seen)


async def test_one_order_under_an_unruly_broker(unruly: UnrulyDoor) -> None:
    """No gap, no repeat, for every device, whatever the broker does with the batches."""
    people = await unruly.users("alice", "bob", "carol")
    tea = await unruly.group("tea", *people)
    devices = await unruly.devices(*people)
    sends = (unruly.send("group", tea, user, f"{n} 🎲") for n in range(20) for user in people)
    head = max(receipt.position for receipt in await asyncio.gather(*sends))
    for device in devices:
        await device.reach(f"group:{tea}", head)
        assert device.entries(f"group:{tea}") == await unruly.read_all(f"group:{tea}")


async def test_a_recall_under_an_unruly_broker(unruly: UnrulyDoor) -> None:
    """Once every device has passed the recall, who had not seen the content sees none."""
    alice, bob, carol = await unruly.users("alice", "bob", "carol")
    tea = await unruly.group("tea", alice, bob, carol)
    slow = await unruly.slow_device(carol)
    sent = await unruly.send("group", tea, alice, "说漏嘴了 🤐")
    recalled = await unruly.recall(sent.conversation, sent.position, alice)
    witness = await unruly.device(bob)
    await witness.reach(sent.conversation, recalled.position)
    while unruly.engine.fanout.recalls_seen(sent.conversation) == 0:  # noqa: ASYNC110
        await asyncio.sleep(0.001)
    slow.go_on()
    await slow.reach(sent.conversation, recalled.position)
    assert witness.messages(sent.conversation) == [None]
    assert slow.messages(sent.conversation) == [None]
