"""How the subscriptions of a session that begins come in step with the live stream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from door_embedded import SETTINGS, EmbeddedDoor
from doors import PATIENCE_SECONDS

from qunxin.brokers.local import LocalBroker
from qunxin.clock import SystemClock
from qunxin.engine import Engine
from qunxin.store.reads import LogPage
from qunxin.stores.sqlite import SqliteStore
from realtime_client import in_step

GROUPS = 30


class WatchedStore(SqliteStore):
    """Counts the readings of logs; answers a reading of many heads when its gate opens, with what
    was true before."""

    logs = 0
    gate: asyncio.Event | None = None
    reached: asyncio.Event

    async def read_log(self, *arguments: Any, **options: Any) -> LogPage:
        self.logs += 1
        return await super().read_log(*arguments, **options)

    async def read_heads(self, conversations: Sequence[str]) -> dict[str, int]:
        found = await super().read_heads(conversations)
        if self.gate is not None and len(conversations) > 1:
            self.reached.set()
            await self.gate.wait()
        return found


@asynccontextmanager
async def _door(path: Path) -> AsyncIterator[tuple[EmbeddedDoor, WatchedStore]]:
    door, clock = EmbeddedDoor(path), SystemClock()
    store = WatchedStore(path, clock)
    door.engine = Engine(store, LocalBroker(), settings=SETTINGS, clock=clock)
    await door.open()
    try:
        yield door, store
    finally:
        await door.close_devices()
        await door.close()


async def test_a_device_that_has_everything_reads_no_log(tmp_path: Path) -> None:
    """However many conversations it has, one look tells that nothing is new in them; where there
    is something new, that log alone is read."""
    async with _door(tmp_path / "chat.db") as (door, store):
        alice, bob = await door.users("alice", "bob")
        groups = [await door.group(f"tea{n}", alice, bob) for n in range(GROUPS)]
        first = await door.device(bob)
        for group in groups:
            await in_step(door.engine, f"group:{group}")
        positions = first.positions()
        await door.close_devices()
        missed = await door.send("group", groups[7], alice, "你不在的时候 📬")
        store.logs = 0
        second = await door.device(bob, positions)
        await second.reach(missed.conversation, missed.position)
        for group in groups:
            await in_step(door.engine, f"group:{group}")
        assert store.logs <= 2


async def test_what_happens_while_the_heads_are_read_is_missed_by_nobody(tmp_path: Path) -> None:
    """A message then comes, and a removal is told."""
    async with _door(tmp_path / "chat.db") as (door, store):
        alice, bob = await door.users("alice", "bob")
        tea, gone = await door.group("tea", alice, bob), await door.group("gone", alice, bob)
        store.reached, store.gate = asyncio.Event(), asyncio.Event()
        device = await door.device(bob)
        await asyncio.wait_for(store.reached.wait(), PATIENCE_SECONDS)
        sent = await door.send("group", tea, alice, "正好这时候 ⏱️ עכשיו")
        removed = await door.remove(gone, bob)
        store.gate.set()
        await device.reach(sent.conversation, sent.position)
        await device.reach(f"group:{gone}", removed.membership_version)
        assert device.entries(sent.conversation) == await door.read_all(sent.conversation, bob)
