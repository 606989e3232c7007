"""What holds at the end of a session, of a subscription, and of an API key."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest
from door_embedded import SETTINGS, EmbeddedDoor
from doors import PATIENCE_SECONDS, Refusal
from gated_store import GatedStore

from qunxin.brokers.local import LocalBroker
from qunxin.clock import SystemClock
from qunxin.engine import Engine
from qunxin.engine.sink import CloseReason, Comings, Delivery, SubscriptionStart
from qunxin.errors import QunxinError
from qunxin.store.reads import ConversationRow
from realtime_client import in_step

SECRET = "说漏嘴了 🤐 סוד"


class GatedRowsStore(GatedStore):
    """The reading of a user's conversations goes through the gate too."""

    async def read_conversations(
        self, user: str, conversations: Sequence[str]
    ) -> tuple[ConversationRow, ...]:
        found = await super().read_conversations(user, conversations)
        await self._pass()
        return found


class ScreenSink:
    """A device that keeps what it is given, and proves it when told to."""

    def __init__(self) -> None:
        self.entries: list[tuple[str, int]] = []
        self.ended: list[str] = []
        self.changed = asyncio.Event()

    def subscribed(self, start: SubscriptionStart) -> None:
        """Its entries follow."""

    def deliver(self, delivery: Delivery) -> None:
        self.entries += [(entry.conversation, entry.position) for entry in delivery.entries]
        self.changed.set()

    def unsubscribed(self, conversation: str, reason: str) -> None:
        self.ended.append(f"{conversation} {reason}")
        self.changed.set()

    def came(self, comings: Comings) -> None:
        """Not asked for."""

    def close(self, reason: CloseReason) -> None:
        self.ended.append(str(reason))
        self.changed.set()

    async def drained(self) -> None:
        """At once."""


async def _gated(
    path: Path, kind: type[GatedStore] = GatedStore
) -> tuple[EmbeddedDoor, GatedStore]:
    door, clock = EmbeddedDoor(path), SystemClock()
    store = kind(path, clock)
    door.engine = Engine(store, LocalBroker(), settings=SETTINGS, clock=clock)
    await door.open()
    return door, store


async def test_an_ended_queue_gives_out_nothing_recalled(tmp_path: Path) -> None:
    """A program that was too slow takes what is left only afterwards: no recall reaches that
    queue any more, so it holds nothing."""
    settings = msgspec.structs.replace(SETTINGS, live_queue_entries=10)
    door = EmbeddedDoor(tmp_path / "chat.db", settings)
    await door.open()
    alice, bob = await door.users("alice", "bob")
    tea = await door.group("tea", alice, bob)
    device = await door.slow_device(bob)
    await in_step(door.engine, f"group:{tea}")
    sent = await door.send("group", tea, alice, SECRET)
    for n in range(30):
        await door.send("group", tea, alice, f"{n} 🌊")
    await door.recall(sent.conversation, sent.position, alice)
    device.go_on()
    await device.until(lambda: device.ended == "overloaded")
    assert SECRET not in str(device.record)
    await door.close_devices()
    await door.close()


async def test_what_was_given_before_a_removal_can_still_be_proven(tmp_path: Path) -> None:
    """The pong after the removal proves the last messages of the stay too."""
    door = EmbeddedDoor(tmp_path / "chat.db")
    await door.open()
    alice, bob = await door.users("alice", "bob")
    tea = await door.group("tea", alice, bob)
    sink = ScreenSink()
    session = await door.engine.connect(bob, sink)
    session.start()
    sent = await door.send("group", tea, alice, "最后看到的 👋🏽")
    await door.remove(tea, bob)
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not sink.ended:
            sink.changed.clear()
            await sink.changed.wait()
    assert sink.ended == [f"group:{tea} removed"]
    mark = session.mark()
    assert mark is not None
    session.prove(mark)
    await door.proven(sent, {"delivered": 1})
    assert session.mark() is None
    await session.close()
    await door.close()


async def test_a_device_that_is_catching_up_is_told_why_its_user_is_out(tmp_path: Path) -> None:
    """The reason is the log's, whether the end comes live or is read."""
    door, store = await _gated(tmp_path / "chat.db")
    alice, bob = await door.users("alice", "bob")
    tea = await door.group("tea", alice, bob)
    sink = ScreenSink()
    session = await door.engine.connect(bob, sink)
    gate = store.close_gate()
    session.start()
    await store.reached.wait()
    await door.send("group", tea, alice, "还没轮到你看 ⏳")
    await door.remove(tea, bob)
    gate.set()
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not sink.ended:
            sink.changed.clear()
            await sink.changed.wait()
    assert sink.ended == [f"group:{tea} removed"]
    await session.close()
    await door.close()


async def test_a_session_that_is_ended_while_it_begins(tmp_path: Path) -> None:
    """It does not begin, and leaves nothing behind that batches would go to."""
    door, store = await _gated(tmp_path / "chat.db")
    (alice,) = await door.users("alice")
    gate = store.close_gate()
    sink = ScreenSink()
    connecting = asyncio.create_task(door.engine.connect(alice, sink))
    await store.reached.wait()
    await door.engine.end_sessions(alice)
    gate.set()
    with pytest.raises(QunxinError) as refused:
        await connecting
    assert refused.value.code == "shutting_down"
    assert refused.value.retryable
    assert door.engine.fanout._index == {}
    assert await door.call("user.sessions", {"user": alice}) == ()
    await door.close()


@pytest.mark.parametrize("ends", ["session", "subscription"])
async def test_a_subscription_that_ends_while_it_is_planned(tmp_path: Path, ends: str) -> None:
    """It does not begin, and nothing is kept of it: neither where batches go nor among those who
    are told who comes. In a session that has ended there is no other."""
    door, store = await _gated(tmp_path / "chat.db", GatedRowsStore)
    alice, bob = await door.users("alice", "bob")
    name = f"group:{await door.group('tea', alice, bob)}"
    session = await door.engine.connect(bob, ScreenSink())
    session.unsubscribe(name)
    gate = store.close_gate()
    subscribing = asyncio.create_task(session.subscribe(name, comings=True))
    await store.reached.wait()
    if ends == "session":
        await session.close()
    else:
        session.unsubscribe(name)
    gate.set()
    with pytest.raises(QunxinError) as refused:
        await subscribing
    assert refused.value.code == "shutting_down"
    assert door.engine.comings._index == {}
    assert name not in door.engine.fanout._index
    if ends == "session":
        with pytest.raises(QunxinError) as refused:
            await session.subscribe(name, comings=True)
        assert refused.value.code == "shutting_down"
        assert door.engine.fanout._index == {}
    await session.close()
    await door.close()


async def test_a_key_revoked_while_the_keys_are_read(tmp_path: Path) -> None:
    """The reading from before the revocation is not kept."""
    door, store = await _gated(tmp_path / "chat.db")
    made = await door.engine.create_key("即将吊销 🔑")
    gate = store.close_gate()
    looking = asyncio.create_task(door.engine.find_key(made.key))
    await store.reached.wait()
    await door.engine.revoke_key(made.id)
    gate.set()
    for asked in (looking, door.engine.find_key(made.key)):
        with pytest.raises(QunxinError) as refused:
            await asked
        assert refused.value.code == "unauthenticated"
    await door.close()


async def test_a_group_that_never_was_is_said_so_to_a_key(embedded: EmbeddedDoor) -> None:
    """Reading it is an error like sending to it, not an empty page."""
    with pytest.raises(Refusal) as refused:
        await embedded.page("group:nothing")
    assert refused.value.code == "group_not_found"
