"""What a session does with the conversations that its user comes into."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from door_embedded import SETTINGS, EmbeddedDoor

from qunxin.brokers.local import LocalBroker
from qunxin.clock import SystemClock
from qunxin.engine import Engine, EngineSettings
from qunxin.engine.session import GAINS_AT_ONCE
from qunxin.store.reads import ConversationRow
from qunxin.stores.sqlite import SqliteStore

MEMBERS = 40


class WatchedStore(SqliteStore):
    """Notes how many readings of users' conversations are under way at once, at the most."""

    under_way = 0
    most = 0

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
