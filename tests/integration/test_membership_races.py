"""The membership fence where the broker does everything that a broker may do.

Batches come late, out of order, twice, the inbox before the group or after it. What a device gets
must not depend on any of it.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
from door_embedded import SETTINGS, EmbeddedDoor
from doors import Json, opened

from qunxin.broker import Batch, BatchHandler
from qunxin.clock import SystemClock
from qunxin.engine import Engine
from qunxin.store.reads import ConversationRow
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
    async with opened(UnrulyDoor(tmp_path / "chat 乱.db", request.param)) as door:
        yield door


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


class HeldBroker(UnrulyBroker):
    """Holds every batch until it is let go."""

    def __init__(self) -> None:
        super().__init__(0)
        self.held: list[Batch] | None = None

    def publish(self, batch: Batch) -> None:
        if self.held is None:
            self._loop.call_soon(self._deliver, batch)
        else:
            self.held.append(batch)

    def let_go(self, kind: str) -> None:
        """Those of conversations of that kind, in their order."""
        assert self.held is not None
        for batch in self.held:
            if batch.conversation.startswith(kind):
                self._deliver(batch)


async def _turns() -> None:
    """Time enough for what the last batch has set off."""
    for _ in range(5):
        await asyncio.sleep(0.02)


async def test_the_inbox_tells_of_the_rejoining_before_the_group_tells_of_the_leaving(
    tmp_path: Path,
) -> None:
    """The device still stands in the old stay when it hears of the new one: it goes on in the
    new one when the old one has ended."""
    door, broker = EmbeddedDoor(tmp_path / "chat.db"), HeldBroker()
    clock = SystemClock()
    door.engine = Engine(SqliteStore(door.path, clock), broker, settings=SETTINGS, clock=clock)
    await door.open()
    alice, bob = await door.users("alice", "bob")
    tea = await door.group("tea", alice, bob)
    device = await door.device(bob)
    await device.reach(f"group:{tea}", 1)
    await _turns()
    broker.held = []
    await door.remove(tea, bob)
    await door.add(tea, bob)
    broker.let_go("inbox:")
    await _turns()
    broker.let_go("group:")
    await _turns()
    broker.held = None
    sent = await door.send("group", tea, alice, "还在吗？ 🚪")
    await device.reach(sent.conversation, sent.position)
    assert device.entries(sent.conversation) == await door.read_all(sent.conversation, bob)
    await door.close_devices()
    await door.close()


class GatedStore(SqliteStore):
    """Reads the conversations of a user when the first gate opens, answers when the second does."""

    first: asyncio.Event | None = None
    second: asyncio.Event | None = None

    async def read_conversations(
        self, user: str, conversations: Sequence[str]
    ) -> tuple[ConversationRow, ...]:
        first, second = self.first, self.second
        self.first = self.second = None
        if first is not None:
            await first.wait()
        rows = await super().read_conversations(user, conversations)
        if second is not None:
            await second.wait()
        return rows


async def test_removed_and_added_again_while_the_device_reads_of_the_joining(
    tmp_path: Path,
) -> None:
    """The reading finds no membership, and there is one by the time it answers: it is read
    again."""
    door, clock = EmbeddedDoor(tmp_path / "chat.db"), SystemClock()
    store = GatedStore(door.path, clock)
    door.engine = Engine(store, HeldBroker(), settings=SETTINGS, clock=clock)
    await door.open()
    alice, bob = await door.users("alice", "bob")
    tea = await door.group("tea", alice)
    device = await door.device(bob)
    await _turns()
    first = store.first = asyncio.Event()
    second = store.second = asyncio.Event()
    await door.add(tea, bob)
    await _turns()
    await door.remove(tea, bob)
    first.set()
    await _turns()
    await door.add(tea, bob)
    await _turns()
    second.set()
    sent = await door.send("group", tea, alice, "欢迎回来 🚪")
    await device.reach(sent.conversation, sent.position)
    await door.close_devices()
    await door.close()
