"""What webhooks read of the store: counted, and never content that was recalled before it went."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
import uvloop
from aiohttp import web

import qunxin
from qunxin.engine import Engine, EngineSettings
from qunxin.errors import QunxinError
from qunxin.gateways.webhooks import WebhookSender, WebhookSettings
from qunxin.gateways.webhooks.ahead import FRESH_SECONDS, MAX_AHEAD, ReadAhead
from qunxin.gateways.webhooks.events import EventReader
from qunxin.gateways.webhooks.post import Poster
from qunxin.gateways.webhooks.runner import Runner
from qunxin.gateways.webhooks.window import Window
from qunxin.observe import NullObserver
from qunxin.store.reads import EventRead, OutboxEvent, OutboxItem
from webhook_receiver import Received, Receiver

GROUPS = ("tea", "rice", "salt", "米")
SETTINGS = WebhookSettings(
    webhook_networks=("127.0.0.0/8",),
    webhook_retry_first_seconds=0.01,
    webhook_retry_max_seconds=0.05,
    webhook_progress_seconds=0.02,
)
NEAR = EngineSettings(webhook_networks=SETTINGS.webhook_networks)


class Reads:
    """The store's reads for webhooks, each counted; `before_events` is awaited with what was
    read, before it is answered."""

    def __init__(self, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
        self.outbox = 0
        self._looked = asyncio.Event()
        self.events: list[list[tuple[str, int]]] = []
        self.on_events: Callable[[Sequence[EventRead]], Awaitable[None]] | None = None
        self._read_outbox = engine.store.read_outbox
        self._read_events = engine.store.read_events
        monkeypatch.setattr(engine.store, "read_outbox", self._outbox)
        monkeypatch.setattr(engine.store, "read_events", self._events)

    @property
    def count(self) -> int:
        return self.outbox + len(self.events)

    async def _outbox(self, after: int, *, limit: int = 500) -> Any:
        self.outbox += 1
        self._looked.set()
        return await self._read_outbox(after, limit=limit)

    async def until_looked(self, count: int) -> None:
        while self.outbox < count:
            self._looked.clear()
            await self._looked.wait()

    async def _events(self, asked: Sequence[EventRead], **limits: Any) -> tuple[OutboxEvent, ...]:
        self.events.append([(one.conversation, one.position) for one in asked])
        found = await self._read_events(asked, **limits)
        if self.on_events is not None:
            await self.on_events(asked)
        return found


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[Engine]:
    """One that takes addresses of receivers on this machine."""
    async with qunxin.open(tmp_path / "chat.db", settings=NEAR) as chat:
        yield chat


@pytest.fixture
def reads(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Reads:
    return Reads(engine, monkeypatch)


@pytest.fixture(autouse=True)
async def _people(engine: Engine) -> None:
    for user in ("ann", "bo", "cy"):
        await engine.put_user(user, name=f"用户 {user}")
    for number, group in enumerate(GROUPS):
        await engine.put_group(f"g{number}", name=f"群 {group} 🍵", owner="ann", members=("bo",))


async def say(engine: Engine, group: str, text: str) -> int:
    return (await engine.send("group", group, sender="ann", text=text)).position


class Held:
    """A receiver's behaviour: answers nothing beyond the first `free` requests until opened."""

    def __init__(self, free: int, receiver: Receiver) -> None:
        self._free = free
        self._receiver = receiver
        self._opened = asyncio.Event()
        receiver.behave = self

    async def __call__(self, _: Received) -> int:
        if len(self._receiver.requests) > self._free:
            await self._opened.wait()
        return 204

    def open(self) -> None:
        self._opened.set()


async def test_many_events_are_one_read(engine: Engine, receiver: Receiver, reads: Reads) -> None:
    """While the receiver is slower than the senders, one read serves a page of events, and the
    outbox is read in larger pages still."""
    held = Held(0, receiver)
    count = 40 * len(GROUPS)
    async with WebhookSender(engine, SETTINGS):
        await engine.create_webhook(receiver.url)
        for number in range(count):
            await say(engine, f"g{number % len(GROUPS)}", f"第{number} 🍵")
        held.open()
        await receiver.until_taken(count)
    assert len(receiver.requests) == count
    events = [name for page in reads.events for name in page]
    assert len(events) <= count + MAX_AHEAD
    assert len(reads.events) <= count // 8
    assert reads.outbox <= 10


async def test_what_is_sent_in_quick_succession_is_read_together(
    engine: Engine, receiver: Receiver, reads: Reads, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first event goes out at once; those that come shortly after wait for each other, also
    where the receiver is as quick as the senders."""
    monkeypatch.setattr("qunxin.gateways.webhooks.runner.GATHER_SECONDS", 2.0)
    async with WebhookSender(engine, SETTINGS):
        await engine.create_webhook(receiver.url)
        await say(engine, "g0", "先 🥇")
        await receiver.until_taken(1)
        before = reads.outbox
        for number in range(30):
            await say(engine, f"g{number % len(GROUPS)}", f"第{number} 🍵")
        await receiver.until_taken(31)
        assert reads.outbox <= before + 2
    assert receiver.taken[-1].at - receiver.taken[0].at < 20


async def test_what_is_not_wanted_wakes_nobody(
    engine: Engine, receiver: Receiver, reads: Reads
) -> None:
    """Commits of nothing that a webhook is told of cost it no read; they are passed over together
    with the next that is wanted."""
    settings = msgspec.structs.replace(SETTINGS, webhook_progress_seconds=3_600)
    async with WebhookSender(engine, settings):
        await engine.create_webhook(receiver.url, events=("message.created",))
        await say(engine, "g0", "先 🥇")
        await receiver.until_taken(1)
        await say(engine, "g0", "又 🥈")
        await receiver.until_taken(2)
        before = reads.count
        for number in range(30):
            await engine.put_group("g1", name=f"名字{number}")
        assert reads.count <= before + 1  # it may just have been looking whether there is more
        await say(engine, "g1", "到了 🥉")
        await receiver.until_taken(3)
        assert reads.count <= before + 4
    assert [one.text for one in receiver.requests] == ["先 🥇", "又 🥈", "到了 🥉"]


async def test_what_is_not_wanted_is_passed_over_in_time(
    engine: Engine, receiver: Receiver
) -> None:
    """Though nothing wanted comes, progress is noted: a webhook is not behind for ever."""
    async with WebhookSender(engine, SETTINGS):
        hook = await engine.create_webhook(receiver.url, events=("message.recalled",))
        for number in range(5):
            await say(engine, "g0", f"不要{number}")
        async with asyncio.timeout(20):
            changed = asyncio.Event()
            engine.watch(lambda _: changed.set())
            while (await engine.get_webhook(hook.id)).behind:
                await changed.wait()
                changed.clear()
    assert receiver.requests == []


async def test_a_webhook_that_pauses_costs_no_reads(
    engine: Engine, receiver: Receiver, reads: Reads, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While it waits to try again, commits neither wake it nor have it read anything."""
    turns = 0
    whole = Window.__dict__["next_due"].fget
    assert whole is not None

    def counted(window: Window) -> float | None:
        nonlocal turns
        turns += 1
        due: float | None = whole(window)
        return due

    async def busy(_: Received) -> web.Response:
        return web.Response(status=503, headers={"Retry-After": "3600"})

    monkeypatch.setattr(Window, "next_due", property(counted))
    receiver.behave = busy
    async with WebhookSender(engine, SETTINGS):
        hook = await engine.create_webhook(receiver.url)
        await say(engine, "g0", "一 ☕")
        async with asyncio.timeout(20):
            changed = asyncio.Event()
            engine.watch(lambda _: changed.set())
            while not (await engine.get_webhook(hook.id)).failures:
                await changed.wait()
                changed.clear()
        reads_before, turns_before = reads.count, turns
        for number in range(50):
            await say(engine, f"g{number % len(GROUPS)}", f"第{number}")
        assert reads.count == reads_before
        assert turns <= turns_before + 1
        assert len(receiver.requests) == 1


async def test_promise_7_recalled_while_it_is_being_read(
    engine: Engine, receiver: Receiver, reads: Reads
) -> None:
    """Content that was read before a recall and answered after it is never sent."""

    async def recall_once(asked: Sequence[EventRead]) -> None:
        reads.on_events = None
        await engine.recall(asked[0].conversation, asked[0].position)

    reads.on_events = recall_once
    async with WebhookSender(engine, SETTINGS):
        await engine.create_webhook(receiver.url)
        await say(engine, "g0", "收回我 🙈")
        await receiver.until_taken(2)
    assert all("收回我" not in one.body.decode() for one in receiver.requests)
    assert [one.type for one in receiver.taken] == ["message.created", "message.recalled"]


async def test_promise_7_recalled_after_it_was_read_ahead(
    engine: Engine, receiver: Receiver, reads: Reads
) -> None:
    """An event that was read with others and waits its turn is read anew after a recall."""
    held = Held(3, receiver)
    settings = msgspec.structs.replace(SETTINGS, webhook_max_connections=1)
    async with WebhookSender(engine, settings):
        for number in range(8):
            await say(engine, "g0", f"第{number} 🙉")
        hook = await engine.create_webhook(receiver.url)
        await engine.replay_webhook(hook.id, 0)
        await receiver.until_asked(4)
        waiting = reads.events[-1][-1]
        assert waiting not in {one.place for one in receiver.requests}
        await engine.recall(*waiting)
        reads_before = len(reads.events)
        held.open()
        recall = await engine.store.read_heads([waiting[0]])
        await receiver.until(lambda: (waiting[0], recall[waiting[0]]) in receiver.places)
    (sent,) = [one for one in receiver.requests if one.place == waiting]
    assert sent.text == ""
    assert "recalled" in sent.event["data"]["entry"]
    assert waiting in {name for page in reads.events[reads_before:] for name in page}


async def test_an_event_that_cannot_be_read_holds_up_its_conversation(
    engine: Engine, receiver: Receiver, reads: Reads
) -> None:
    """Others of its page go out meanwhile, the event is told once it can be read, and the status
    says why it waits."""
    broken = True

    async def fail(asked: Sequence[EventRead]) -> None:
        if broken and ("group:g0", 3) in {(one.conversation, one.position) for one in asked}:
            raise QunxinError("store_unavailable", detail="坏块")

    for number in range(12):
        await say(engine, f"g{number % 2}", f"第{number}")
    reads.on_events = fail
    async with WebhookSender(engine, SETTINGS):
        hook = await engine.create_webhook(receiver.url)
        await engine.replay_webhook(hook.id, 0)
        await receiver.until(lambda: ("group:g1", 7) in receiver.places)
        assert ("group:g0", 2) in receiver.places
        assert ("group:g0", 3) not in receiver.places
        broken = False
        await receiver.until(lambda: ("group:g0", 7) in receiver.places)
    g0 = [position for name, position in receiver.places if name == "group:g0"]
    assert g0 == sorted(g0)


async def test_what_was_read_long_ago_is_read_again(engine: Engine) -> None:
    """Pages grow up to a bound while they are used; an event that waited too long is void, and
    the next page is small."""
    positions = [await say(engine, "g0", f"第{number}") for number in range(MAX_AHEAD)]
    page = await engine.store.read_outbox(0)
    items: list[OutboxItem] = [one for one in page.items if one.position in positions]
    items = [one for one in items if one.conversation == "group:g0"]
    ahead = ReadAhead(EventReader(engine))
    sizes = []
    for _ in range(6):
        sizes.append(ahead.size)
        await ahead.read(items[: ahead.size])
    assert sizes == [1, 2, 4, 8, 16, MAX_AHEAD]
    now = asyncio.get_running_loop().time()
    assert ahead.take(items[0], now) is not None
    assert ahead.take(items[0], now) is None
    assert ahead.has(items[1])
    assert ahead.take(items[1], now + FRESH_SECONDS) is None
    assert not ahead.has(items[2])
    assert ahead.size == 1


def test_commits_at_the_moment_of_looking_are_no_defect(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server's loop makes no timer of a time that has come; a commit is answered all the same,
    and wakes."""
    monkeypatch.setattr("qunxin.gateways.webhooks.runner.GATHER_SECONDS", -1.0)
    settings = msgspec.structs.replace(SETTINGS, webhook_progress_seconds=0.0)

    async def course() -> int:
        async with qunxin.open(tmp_path / "线.db", settings=NEAR) as engine:
            await engine.create_webhook("http://127.0.0.1:1/钩子", events=("message.created",))
            (webhook,) = await engine.store.read_webhooks()
            reads = Reads(engine, monkeypatch)
            reader, poster = EventReader(engine), Poster(settings)
            runner = Runner(webhook, engine, reader, poster, settings, NullObserver())
            task = asyncio.create_task(runner.run())
            for looked in range(1, 4):
                async with asyncio.timeout(20):
                    await reads.until_looked(looked)
                    await engine.store.read_heads([])  # behind what the runner has just read
                runner.committed({"changed"})
                runner.committed({"group"})
            task.cancel()
            await asyncio.wait([task])
            return reads.outbox

    assert uvloop.run(course()) >= 3
