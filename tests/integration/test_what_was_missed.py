"""What devices are told to reload, and what the ledger says of it then: nothing that was not so.

One user's devices come and go at random, with little that a connection may be given, and keep what
devices keep. Whatever the ledger calls delivered, one of them has.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
from door_embedded import SETTINGS, EmbeddedDoor
from doors import PATIENCE_SECONDS

from qunxin.brokers.local import LocalBroker
from qunxin.clock import SystemClock
from qunxin.engine import Engine, EngineSettings
from qunxin.engine.session import Session
from qunxin.engine.sink import CloseReason, Comings, Delivery, Position, SubscriptionStart
from qunxin.errors import QunxinError
from qunxin.model import Cursor, DeliveryState, EventType
from qunxin.store.commands import Command, MoveCursors
from qunxin.store.results import Outcome
from qunxin.stores.sqlite import SqliteStore

TEA = "group:tea"
LITTLE = msgspec.structs.replace(
    SETTINGS, recovery_budget_entries=6, catchup_page_entries=3, cursor_flush_seconds=3600.0
)
"""What is gathered is handed to the store when a test says so."""


class Handset:
    """A device that keeps, for the group, the position that it was told or given last, and which
    entries it has. What it was handed it may lose, until it answers a ping or keeps it."""

    def __init__(self, had: set[int]) -> None:
        self.kept: Position | None = None
        self.session: Session | None = None
        self.ended: CloseReason | None = None
        self.told: list[SubscriptionStart] = []
        self.changed = asyncio.Event()
        self._had = had
        self._handed: set[int] = set()
        self._at: Position | None = None

    # --- as a sink ---------------------------------------------------------------------------

    def subscribed(self, start: SubscriptionStart) -> None:
        if start.conversation == TEA:
            self.told.append(start)
            self._at = Position(start.epoch, start.position)
            if not start.recovered:
                self.kept = self._at
        self.changed.set()

    def deliver(self, delivery: Delivery) -> None:
        if delivery.conversation == TEA and self._at is not None:
            self._handed |= {e.position for e in delivery.entries if e.type != EventType.HIDDEN}
            self._at = Position(self._at.epoch, delivery.last)
        self.changed.set()

    def unsubscribed(self, conversation: str, reason: str) -> None:
        """It goes on from there if its user comes back."""

    def came(self, comings: Comings) -> None:
        """Not asked for."""

    def close(self, reason: CloseReason) -> None:
        self.ended = reason
        self.changed.set()

    async def drained(self) -> None:
        """At once."""

    # --- as a device -------------------------------------------------------------------------

    async def connect(self, engine: Engine, at: Position | None) -> None:
        self._at, self._handed, self.ended = at, set(), None
        positions = {} if at is None else {TEA: at}
        self.session = await engine.connect("bob", self, positions=positions)
        for start in self.session.starts:
            self.subscribed(start)
        self.session.start()

    def keep(self) -> None:
        """What it was handed is its own, for ever."""
        self._had |= self._handed
        self.kept = self._at or self.kept

    def answer(self) -> None:
        """A pong: it has everything that it was handed."""
        self.keep()
        mark = None if self.session is None else self.session.mark()
        if mark is not None and self.session is not None:
            self.session.prove(mark)

    async def take_over(self) -> None:
        """It asks again for what it follows, and drops what it was handed and did not keep."""
        if self.session is None or self.kept is None or not self.session.subscribed(TEA):
            return
        start = await self.session.take_over(TEA, self.kept)
        self.subscribed(start)
        self.kept = self._at
        self.session.resume(TEA)

    async def leave(self) -> None:
        if self.session is not None:
            await self.session.close()
        self.session = None


@asynccontextmanager
async def _engine(path: Path, settings: EngineSettings = LITTLE) -> AsyncIterator[Engine]:
    clock = SystemClock()
    engine = Engine(SqliteStore(path, clock), LocalBroker(), settings=settings, clock=clock)
    await engine.open()
    try:
        yield engine
    finally:
        await engine.close()


async def _make_tea(engine: Engine) -> None:
    for user in ("alice", "bob"):
        await engine.put_user(user)
    await engine.put_group("tea", owner="alice", members=["bob"])


async def _say(engine: Engine, times: int) -> int:
    """The position of the last of so many messages."""
    texts = (f"第 {n} 条 🫖" for n in range(times))
    sent = [await engine.send("group", "tea", sender="alice", text=text) for text in texts]
    return sent[-1].position


async def _settle(engine: Engine, handset: Handset) -> None:
    """Return once it follows the group in step, is out of it, or its session has ended."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while handset.ended is None and handset.session is not None:
            member = await engine.store.read_member("tea", "bob")
            (head,) = (await engine.store.read_heads([TEA])).values()
            mine = [s for s in engine.fanout._index.get(TEA, ()) if s.session == handset.session.id]
            if any(s.live and s.position == head for s in mine) == (member is not None):
                return
            await asyncio.sleep(0.005)


async def _claimed(engine: Engine) -> dict[int, DeliveryState]:
    """By message: what the ledger says of bob, once what was proven is in the store."""
    await engine.cursors.flush()
    (head,) = (await engine.store.read_heads([TEA])).values()
    states = {}
    for position in range(1, head + 1):
        page = await engine.store.list_deliveries(TEA, position)
        if page is not None and page.deliveries:
            states[position] = page.deliveries[0].state
    return states


class Story:
    """Alice talks; bob's three devices do what devices do."""

    def __init__(self, seed: int, path: Path) -> None:
        self.random = random.Random(seed)
        self.path = path
        self.had: set[int] = set()
        self.handsets = [Handset(self.had) for _ in range(3)]

    async def tell(self) -> None:
        for part in range(4):
            async with _engine(self.path) as engine:
                if part == 0:
                    await self._begin(engine)
                for _ in range(15):
                    await self._step(engine)
                await self._check(engine)
                if self.random.random() < 0.5:
                    await self._step(engine)
                    engine.cursors._proven.clear()  # a crash: the newest proofs are lost
                for handset in self.handsets:
                    await handset.leave()

    async def _begin(self, engine: Engine) -> None:
        """The first device is told to reload, and has what follows."""
        await _make_tea(engine)
        await _say(engine, 7)
        await self.handsets[0].connect(engine, None)
        await _say(engine, 3)
        await _settle(engine, self.handsets[0])
        self.handsets[0].answer()
        states = await _claimed(engine)
        assert list(states.values()) == [DeliveryState.QUEUED] * 7 + [DeliveryState.DELIVERED] * 3

    async def _step(self, engine: Engine) -> None:
        choice = self.random.random()
        handset = self.random.choice(self.handsets)
        if choice < 0.3:
            await _say(engine, self.random.choice((1, 2, 4, 9)))
        elif choice < 0.38:
            await self._move_bob(engine)
        elif handset.session is None:
            await self._connect(engine, handset)
        elif choice < 0.6:
            handset.answer()
        elif choice < 0.7:
            handset.keep()
        elif choice < 0.8:
            await handset.take_over()
        else:
            await handset.leave()
        if self.random.random() < 0.7:
            for one in self.handsets:
                await _settle(engine, one)

    async def _move_bob(self, engine: Engine) -> None:
        if await engine.store.read_member("tea", "bob") is None:
            await engine.add_members("tea", ["bob"])
        else:
            await engine.remove_member("tea", "bob")

    async def _connect(self, engine: Engine, handset: Handset) -> None:
        choice = self.random.random()
        if choice < 0.2:
            handset.kept = None
        elif choice < 0.3:
            handset.kept = Position("从前的", 3)
        await handset.connect(engine, handset.kept)

    async def _check(self, engine: Engine) -> None:
        states = await _claimed(engine)
        claimed = {p for p, state in states.items() if state is DeliveryState.DELIVERED}
        assert claimed <= self.had, f"nobody has {sorted(claimed - self.had)}"


@pytest.mark.parametrize("seed", range(12))
async def test_promise_4_whatever_devices_do_nothing_is_claimed_that_none_has(
    tmp_path: Path, seed: int
) -> None:
    """Reloads, lost storage, pongs that never come, removals, crashes: what is delivered was; and
    a device without a position that is given all makes the ledger whole again."""
    story = Story(seed, tmp_path / "茶.db")
    await story.tell()
    async with _engine(story.path, SETTINGS) as engine:
        if await engine.store.read_member("tea", "bob") is None:
            await engine.add_members("tea", ["bob"])
        await _say(engine, 1)
        handset = Handset(story.had)
        await handset.connect(engine, None)
        await _settle(engine, handset)
        handset.answer()
        assert set((await _claimed(engine)).values()) == {DeliveryState.DELIVERED}
        await handset.leave()


async def _whole(engine: Engine, handset: Handset) -> Cursor:
    """The cursor once `handset` has proved what it was given."""
    await _settle(engine, handset)
    handset.answer()
    await engine.cursors.flush()
    return await engine.store.read_cursor("bob", TEA)


async def test_what_is_missed_is_durable_before_the_device_is_told(tmp_path: Path) -> None:
    """At connecting, at subscribing, at being added: the store has it as soon as the device does,
    though nothing was flushed."""
    path = tmp_path / "茶.db"
    async with _engine(path) as engine:
        await _make_tea(engine)
        head = await _say(engine, 20)
        handset = Handset(set())
        await handset.connect(engine, None)
        (start,) = handset.told
        assert (start.recovered, start.position) == (False, head)
        missed = Cursor("bob", TEA, head, 0, 1, head)
        assert await engine.store.read_cursor("bob", TEA) == missed
        await handset.leave()
    alone = msgspec.structs.replace(LITTLE, recent_conversations=0)
    async with _engine(path, alone) as engine:
        head = await _say(engine, 20)
        await handset.connect(engine, None)
        assert handset.session is not None
        start = await handset.session.subscribe(TEA, Position("从前的", 3))
        assert (start.recovered, start.position) == (False, head)
        missed = Cursor("bob", TEA, head, 0, 1, head)
        assert await engine.store.read_cursor("bob", TEA) == missed
        handset.session.resume(TEA)
        await engine.remove_member("tea", "bob")
        await _settle(engine, handset)
        last = await _say(engine, 20)
        handset.told.clear()
        await engine.add_members("tea", ["bob"])
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not handset.told:
                handset.changed.clear()
                await handset.changed.wait()
        (start,) = handset.told
        assert (start.recovered, start.position) == (False, last + 1)
        missed = Cursor("bob", TEA, last + 1, 0, 1, last + 1)
        assert await engine.store.read_cursor("bob", TEA) == missed
        await handset.leave()


async def test_a_device_without_a_position_is_given_what_was_missed_or_goes_on(
    tmp_path: Path,
) -> None:
    """From before it, where that is not too much; otherwise from beyond it, and it stays missed."""
    path = tmp_path / "茶.db"
    async with _engine(path) as engine:
        await _make_tea(engine)
        head = await _say(engine, 20)
        first, second = Handset(set()), Handset(set())
        await first.connect(engine, None)
        assert await _whole(engine, first) == Cursor("bob", TEA, head, 0, 1, head)
        await first.leave()
        await _say(engine, 3)
        await second.connect(engine, None)
        (start,) = second.told
        assert (start.recovered, start.position) == (True, head)
        assert await _whole(engine, second) == Cursor("bob", TEA, head + 3, 0, 1, head)
        await second.leave()
    async with _engine(path, SETTINGS) as engine:
        third = Handset(set())
        await third.connect(engine, None)
        assert third.told[0].position == 0
        assert await _whole(engine, third) == Cursor("bob", TEA, head + 3)
        await third.leave()


@pytest.mark.parametrize("answers", [True, False])
async def test_promise_4_what_was_dropped_at_a_reload_is_not_claimed(
    tmp_path: Path, *, answers: bool
) -> None:
    """A device that asks again for what it follows is told to reload beyond what it was handed.
    Its next word, from there, claims nothing of that; a pong for it does."""
    async with _engine(tmp_path / "茶.db") as engine:
        await _make_tea(engine)
        head = await _say(engine, 3)
        handset = Handset(set())
        await handset.connect(engine, None)
        await _settle(engine, handset)
        handset.kept = Position(engine.epoch, 2)
        assert [(one.recovered, one.position) for one in handset.told] == [(True, 0)]
        handset.told.clear()
        await handset.take_over()
        assert [(one.recovered, one.position) for one in handset.told] == [(False, head)]
        if answers:
            handset.answer()
        await handset.leave()
        await handset.connect(engine, handset.kept)
        await _say(engine, 1)
        await _settle(engine, handset)
        handset.answer()
        before = DeliveryState.DELIVERED if answers else DeliveryState.QUEUED
        states = await _claimed(engine)
        assert list(states.values()) == [before] * 3 + [DeliveryState.DELIVERED]
        await handset.leave()


class FailingStore(SqliteStore):
    """Takes no cursors while `fails` is set."""

    fails = False

    async def commit(self, commands: Sequence[Command]) -> Sequence[Outcome]:
        if self.fails and any(isinstance(one, MoveCursors) for one in commands):
            raise QunxinError("store_unavailable")
        return await super().commit(commands)


async def test_a_device_is_not_told_what_the_store_cannot_take(tmp_path: Path) -> None:
    """It is refused, and comes back: at connecting, and where it asks again for what it follows,
    after which it has nothing that it follows no more without knowing."""
    door, clock = EmbeddedDoor(tmp_path / "茶.db"), SystemClock()
    store = FailingStore(door.path, clock)
    door.engine = Engine(store, LocalBroker(), settings=LITTLE, clock=clock)
    await door.open()
    await _make_tea(door.engine)
    await _say(door.engine, 20)
    handset = Handset(set())
    store.fails = True
    with pytest.raises(QunxinError) as refused:
        await handset.connect(door.engine, None)
    assert refused.value.code == "store_unavailable"
    assert refused.value.retryable
    assert door.engine.fanout._index == {}
    store.fails = False
    await handset.connect(door.engine, None)
    await _settle(door.engine, handset)
    handset.kept = handset._at
    await _say(door.engine, 2)
    await _settle(door.engine, handset)
    store.fails = True
    with pytest.raises(QunxinError):
        await handset.take_over()
    assert handset.ended is CloseReason.FAILED
    store.fails = False
    await handset.leave()
    await door.close()
