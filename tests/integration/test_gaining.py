"""What a session does with the conversations that its user comes into."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
from door_embedded import SETTINGS, EmbeddedDoor
from doors import At

from qunxin.brokers.local import LocalBroker
from qunxin.clock import SystemClock
from qunxin.engine import Engine, EngineSettings
from qunxin.engine.live import LiveQueue
from qunxin.engine.session import GAINS_AT_ONCE
from qunxin.engine.sink import Position, SubscriptionStart
from qunxin.store.reads import ConversationRow, LogPage
from qunxin.stores.sqlite import SqliteStore

MEMBERS = 40


class WatchedStore(SqliteStore):
    """Notes how many readings of users' conversations are under way at once, at the most, and
    counts those of logs. Something can be made to happen just before conversations are listed."""

    under_way = 0
    most = 0
    logs = 0
    before_list: Callable[[], Awaitable[None]] | None = None

    async def read_log(self, *arguments: Any, **options: Any) -> LogPage:
        self.logs += 1
        return await super().read_log(*arguments, **options)

    async def list_conversations(
        self, *arguments: Any, **options: Any
    ) -> tuple[tuple[ConversationRow, ...], str | None]:
        before, self.before_list = self.before_list, None
        if before is not None:
            await before()
        return await super().list_conversations(*arguments, **options)

    async def read_conversations(
        self, user: str, conversations: Sequence[str]
    ) -> tuple[ConversationRow, ...]:
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            return await super().read_conversations(user, conversations)
        finally:
            self.under_way -= 1


@asynccontextmanager
async def _door(
    path: Path, settings: EngineSettings = SETTINGS
) -> AsyncIterator[tuple[EmbeddedDoor, WatchedStore]]:
    door, clock = EmbeddedDoor(path, settings), SystemClock()
    store = WatchedStore(path, clock)
    door.engine = Engine(store, LocalBroker(), settings=settings, clock=clock)
    await door.open()
    try:
        yield door, store
        await door.close_devices()
    finally:
        await door.close()


async def test_many_added_together_leave_the_store_to_others(tmp_path: Path) -> None:
    """However many members are connected when they are added, a few of them read at a time; all
    come into the group and miss nothing there."""
    async with _door(tmp_path / "chat.db") as (door, store):
        alice, *others = await door.users("alice", *(f"m{n}" for n in range(MEMBERS)))
        tea = await door.group("tea", alice)
        devices = await door.devices(*others)
        store.most = 0
        added = await door.add(tea, *others)
        sent = await door.send("group", tea, alice, "大家好 👋🏽 שלום")
        for device in devices:
            await device.reach(sent.conversation, sent.position)
            seen = [entry["position"] for entry in device.entries(sent.conversation)]
            assert seen == [added.membership_version, sent.position]
        assert 1 <= store.most <= GAINS_AT_ONCE


async def test_who_leaves_while_waiting_for_the_others_is_not_read(tmp_path: Path) -> None:
    """A session that ends before its turn costs no reading, and leaves nothing behind."""
    async with _door(tmp_path / "chat.db") as (door, store):
        alice, *others = await door.users("alice", *(f"m{n}" for n in range(MEMBERS)))
        tea = await door.group("tea", alice)
        devices = await door.devices(*others)
        for _ in range(GAINS_AT_ONCE):
            await door.engine.gains.acquire()
        await door.add(tea, *others)
        for device in devices:
            await device.reach(f"inbox:{device.user}", 1)
        store.most = 0
        await door.close_devices()
        for _ in range(GAINS_AT_ONCE):
            door.engine.gains.release()
        gains = (t for t in asyncio.all_tasks() if t.get_name() == f"gain group:{tea}")
        await asyncio.gather(*gains)
        assert store.most == 0
        assert door.engine.fanout._index == {}


class Away:
    """A device of bob's that was there when its user was in one group, and went away."""

    def __init__(
        self, door: EmbeddedDoor, alice: str, bob: str, positions: Mapping[str, At]
    ) -> None:
        self.door = door
        self.alice, self.bob = alice, bob
        self.inbox = f"inbox:{bob}"
        self.positions = {name: Position(at.epoch, at.position) for name, at in positions.items()}

    async def gain(self, name: str, messages: int = 3) -> tuple[str, int]:
        """Bob comes into a group meanwhile and reads it all on another device: its conversation,
        and the position before the joining."""
        tea = await self.door.group(name, self.alice)
        joined = (await self.door.add(tea, self.bob)).membership_version
        for n in range(messages):
            await self.door.send("group", tea, self.alice, f"{n} 🎉")
        await self.door.mark_read(self.bob, f"group:{tea}", joined + messages)
        return f"group:{tea}", joined - 1

    async def starts(
        self, positions: Mapping[str, Position] | None = None
    ) -> dict[str, SubscriptionStart]:
        """Where it begins when it comes back with all that it stored, or with `positions`."""
        queue = LiveQueue(1_000)
        given = self.positions if positions is None else positions
        session = await self.door.engine.connect(self.bob, queue, positions=given)
        await session.close()
        return {start.conversation: start for start in session.starts}


async def _away(door: EmbeddedDoor) -> Away:
    alice, bob = await door.users("alice", "bob")
    await door.group("old", alice, bob)
    device = await door.device(bob)
    await device.reach(f"inbox:{bob}", 1)
    await door.close_devices()
    return Away(door, alice, bob, device.positions())


async def test_more_than_a_page_of_the_inbox_is_read(tmp_path: Path) -> None:
    """Each conversation gained meanwhile begins before its joining, however many they are."""
    async with _door(tmp_path / "chat.db") as (door, _):
        away = await _away(door)
        gained = [await away.gain(f"tea{n}") for n in range(2 * SETTINGS.catchup_page_entries + 1)]
        starts = await away.starts()
        assert {name: starts[name].position for name, _ in gained} == dict(gained)
        assert all(start.recovered for start in starts.values())


async def test_the_inbox_is_read_for_those_alone_who_missed_some_of_it(tmp_path: Path) -> None:
    """Not for a device that has all, that gave no position in the inbox, or whose position does not
    fit; there the user's cursor counts."""
    async with _door(tmp_path / "chat.db") as (door, store):
        away = await _away(door)
        store.logs = 0
        await away.starts()
        assert store.logs == 0
        name, before = await away.gain("tea")
        epoch = door.engine.epoch
        rest = {name: at for name, at in away.positions.items() if name != away.inbox}
        for inbox in (None, Position(epoch, 99), Position("别的", 1)):
            given = rest if inbox is None else {**rest, away.inbox: inbox}
            store.logs = 0
            starts = await away.starts(given)
            assert store.logs == 0
            assert starts[name].position == before + 4
        store.logs = 0
        starts = await away.starts()
        assert store.logs == 1
        assert starts[name].position == before


async def test_a_connection_that_ended_before_the_subscription_began(tmp_path: Path) -> None:
    """The inbox has told the device of the group, and nothing more came: it has the whole inbox,
    and begins before the joining all the same. A device that stands in the group goes on there,
    and the inbox is not read for it."""
    async with _door(tmp_path / "chat.db") as (door, store):
        away = await _away(door)
        name, before = await away.gain("tea")
        told = {**away.positions, away.inbox: Position(door.engine.epoch, 2)}
        starts = await away.starts(told)
        assert (starts[name].position, starts[name].recovered) == (before, True)
        store.logs = 0
        starts = await away.starts({**told, name: Position(door.engine.epoch, before + 3)})
        assert starts[name].position == before + 3
        assert store.logs == 0


async def test_what_was_gained_beyond_the_budget_must_be_reloaded(tmp_path: Path) -> None:
    """The device is told so, and what is left of the budget serves the others."""
    settings = msgspec.structs.replace(SETTINGS, recovery_budget_entries=20)
    async with _door(tmp_path / "chat.db", settings) as (door, _):
        away = await _away(door)
        little, before = await away.gain("little", 3)
        much, _ = await away.gain("much", 30)
        starts = await away.starts()
        assert not starts[much].recovered
        assert (starts[little].position, starts[little].recovered) == (before, True)


async def test_what_was_gained_is_followed_on_demand_from_the_joining(tmp_path: Path) -> None:
    """A conversation that is not among the most recent ones; asked for again without a position,
    it begins as any other."""
    settings = msgspec.structs.replace(SETTINGS, recent_conversations=0)
    async with _door(tmp_path / "chat.db", settings) as (door, _):
        away = await _away(door)
        name, before = await away.gain("tea")
        session = await door.engine.connect(away.bob, LiveQueue(1_000), positions=away.positions)
        start = await session.subscribe(name)
        assert (start.position, start.recovered, start.asked) == (before, True, False)
        session.unsubscribe(name)
        assert (await session.subscribe(name)).position == before + 4
        await session.close()


async def test_what_is_followed_later_has_a_budget_of_its_own(tmp_path: Path) -> None:
    """A session that lasts is not told to reload for what it was given long before; beyond the
    budget it is."""
    settings = msgspec.structs.replace(SETTINGS, recovery_budget_entries=20)
    async with _door(tmp_path / "chat.db", settings) as (door, _):
        away = await _away(door)
        names = [(await away.gain(f"tea{n}", 15))[0] for n in range(3)]
        over, _ = await away.gain("over", 30)
        session = await door.engine.connect(away.bob, LiveQueue(1_000), positions=away.positions)
        started = {start.conversation: start for start in session.starts}
        assert sum(started[name].recovered for name in names) == 1
        epoch = door.engine.epoch
        for name in (*names, over):
            session.unsubscribe(name)
            start = await session.subscribe(name, Position(epoch, 2))
            assert start.recovered == (name != over)
        await session.close()


async def test_a_stay_that_was_over_meanwhile_is_not_left_out(tmp_path: Path) -> None:
    """Added, removed and added again: the device begins before the first joining, and so gets
    the first stay, the time outside as a range, and the second stay."""
    settings = msgspec.structs.replace(SETTINGS, catchup_page_entries=1)
    async with _door(tmp_path / "chat.db", settings) as (door, _):
        away = await _away(door)
        name, before = await away.gain("tea")
        tea = name.partition(":")[2]
        await door.remove(tea, away.bob)
        await door.send("group", tea, away.alice, "不给鲍勃看 🙈")
        again = await door.add(tea, away.bob)
        await door.mark_read(away.bob, name, again.membership_version)
        assert (await away.starts())[name].position == before


async def test_a_joining_while_the_device_connects_is_not_overlooked(tmp_path: Path) -> None:
    """Its inbox had been looked at, and had nothing new; its conversations had not been listed."""
    async with _door(tmp_path / "chat.db") as (door, store):
        away = await _away(door)
        gained: list[tuple[str, int]] = []

        async def gain() -> None:
            gained.append(await away.gain("tea"))

        store.before_list = gain
        starts = await away.starts()
        assert gained == [(name, starts[name].position) for name, _ in gained]
