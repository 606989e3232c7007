"""The suite that every broker passes. Override `make_brokers`, which gives two that are joined
to the same cluster (or one twice, where there is only one node)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final, TypeAlias

import msgspec
import pytest

from qunxin.broker import Batch, Broker
from qunxin.model import Entry

BrokerPair: TypeAlias = tuple[Broker, Broker]
PairMaker: TypeAlias = Callable[[], BrokerPair]

WAIT_SECONDS: Final = 5.0
TEXTS: Final = ("", "茶好了 🍵", "👨‍👩‍👧‍👦", "مرحبا", "字" * 21_000)


def batch(conversation: str, first: int, *texts: str) -> Batch:
    """A batch of messages with rising positions."""
    return Batch(
        conversation,
        tuple(
            Entry(
                conversation,
                first + number,
                "group",
                1_764_000_000_000,
                "ann",
                content=msgspec.Raw(msgspec.json.encode([{"type": "text", "text": text}])),
            )
            for number, text in enumerate(texts)
        ),
    )


def event(conversation: str, position: int) -> Batch:
    """A batch of one event with a body."""
    body = {"by": None, "users": ["安"], "keys": [2**53 - 1], "count": 1}
    return Batch(conversation, (Entry(conversation, position, "joined", 1, body=body),))


class Inbox:
    """A handler that remembers, and can be waited for."""

    def __init__(self) -> None:
        self.batches: list[Batch] = []
        self._news = asyncio.Event()

    def __call__(self, received: Batch) -> None:
        self.batches.append(received)
        self._news.set()

    async def holds(self, condition: Callable[[list[Batch]], bool]) -> None:
        """Return once `condition` holds of what was received."""
        async with asyncio.timeout(WAIT_SECONDS):
            while not condition(self.batches):
                self._news.clear()
                await self._news.wait()

    async def receives(self, wanted: Batch) -> None:
        await self.holds(lambda batches: wanted in batches)

    def positions(self, conversation: str) -> set[int]:
        return {
            entry.position
            for received in self.batches
            if received.conversation == conversation
            for entry in received.entries
        }


@asynccontextmanager
async def _opened(pair: BrokerPair) -> AsyncIterator[tuple[Broker, Inbox, Broker, Inbox]]:
    here, there = pair
    here_inbox, there_inbox = Inbox(), Inbox()
    await here.open(here_inbox)
    if there is not here:
        await there.open(there_inbox)
    try:
        yield here, here_inbox, there, there_inbox if there is not here else here_inbox
    finally:
        await here.close()
        if there is not here:
            await there.close()


async def _until_received(broker: Broker, inbox: Inbox, conversation: str) -> None:
    """A broker subscribes some moment soon: publish until the first batch comes through."""
    async with asyncio.timeout(WAIT_SECONDS):
        while not inbox.positions(conversation):
            broker.publish(batch(conversation, 1, "开始"))
            await asyncio.sleep(0.01)


class BrokerSuite:
    """What the contract promises of every broker, which is little."""

    @pytest.fixture
    def make_brokers(self) -> PairMaker:
        pytest.fail("a class that runs the suite must provide make_brokers")

    async def test_delivers_to_who_subscribed(self, make_brokers: PairMaker) -> None:
        """A batch reaches the handler of every node that asked for its conversation, the
        publisher's own too, just as it was."""
        async with _opened(make_brokers()) as (here, here_inbox, there, there_inbox):
            for broker in (here, there):
                broker.subscribe("group:tea")
            await _until_received(here, here_inbox, "group:tea")
            await _until_received(there, there_inbox, "group:tea")
            for wanted in (batch("group:tea", 7, *TEXTS), event("group:tea", 12)):
                here.publish(wanted)
                await here_inbox.receives(wanted)
                await there_inbox.receives(wanted)

    async def test_never_inside_publish(self, make_brokers: PairMaker) -> None:
        """The handler never runs while `publish` does."""
        async with _opened(make_brokers()) as (here, inbox, _, _):
            here.subscribe("group:tea")
            await _until_received(here, inbox, "group:tea")
            before = len(inbox.batches)
            here.publish(batch("group:tea", 2, "稍后"))
            assert len(inbox.batches) == before
            await inbox.receives(batch("group:tea", 2, "稍后"))

    async def test_only_what_was_asked_for(self, make_brokers: PairMaker) -> None:
        """Batches of other conversations, names with the same beginning included, never come."""
        async with _opened(make_brokers()) as (here, inbox, there, _):
            here.subscribe("group:tea")
            await _until_received(there, inbox, "group:tea")
            for other in ("group:te", "group:tea.2", "group:Tea", "private:a~tea", "inbox:tea"):
                there.publish(batch(other, 1, "不是给你的"))
            there.publish(batch("group:tea", 2, "最后"))
            await inbox.receives(batch("group:tea", 2, "最后"))
            assert {received.conversation for received in inbox.batches} == {"group:tea"}

    async def test_unsubscribed(self, make_brokers: PairMaker) -> None:
        """Some moment after `unsubscribe` nothing comes any more, while others still do."""
        async with _opened(make_brokers()) as (here, inbox, there, _):
            for name in ("group:tea", "group:rice"):
                here.subscribe(name)
                await _until_received(there, inbox, name)
            here.unsubscribe("group:tea")
            await self._silent(there, inbox, "group:tea", "group:rice")

    async def _silent(self, broker: Broker, inbox: Inbox, silent: str, heard: str) -> None:
        """Publish to both until a round brings only the one that is still subscribed."""
        async with asyncio.timeout(WAIT_SECONDS):
            for position in range(2, 1_000):
                broker.publish(batch(silent, position, "静"))
                broker.publish(batch(heard, position, "响"))
                await inbox.receives(batch(heard, position, "响"))
                if position not in inbox.positions(silent):
                    return
        pytest.fail(f"{silent} is still delivered")

    async def test_repeats_change_nothing(self, make_brokers: PairMaker) -> None:
        """Subscribing twice does not deliver twice, and one `unsubscribe` ends both; unknown
        names change nothing."""
        async with _opened(make_brokers()) as (here, inbox, there, _):
            here.unsubscribe("group:无")
            for name in ("group:tea", "group:tea", "group:rice"):
                here.subscribe(name)
            await _until_received(there, inbox, "group:tea")
            await _until_received(there, inbox, "group:rice")
            there.publish(batch("group:tea", 2, "一次"))
            there.publish(batch("group:tea", 3, "之后"))
            await inbox.receives(batch("group:tea", 3, "之后"))
            assert inbox.batches.count(batch("group:tea", 2, "一次")) == 1
            here.unsubscribe("group:tea")
            await self._silent(there, inbox, "group:tea", "group:rice")

    async def test_subscribed_again(self, make_brokers: PairMaker) -> None:
        """A conversation that was left can be asked for again."""
        async with _opened(make_brokers()) as (here, inbox, there, _):
            here.subscribe("group:tea")
            await _until_received(there, inbox, "group:tea")
            here.unsubscribe("group:tea")
            here.subscribe("group:tea")
            inbox.batches.clear()
            await _until_received(there, inbox, "group:tea")

    async def test_many_conversations(self, make_brokers: PairMaker) -> None:
        """Hundreds of conversations are kept apart."""
        names = [f"group:茶{number}" for number in range(300)]
        async with _opened(make_brokers()) as (here, inbox, there, _):
            for name in names:
                here.subscribe(name)
            await _until_received(there, inbox, names[-1])
            for name in names:
                there.publish(batch(name, 2, name))
            await inbox.holds(lambda _: all(2 in inbox.positions(name) for name in names))
            for received in inbox.batches:
                assert all(one.conversation == received.conversation for one in received.entries)

    async def test_publish_may_be_called_from_a_handler(self, make_brokers: PairMaker) -> None:
        """A handler may publish, subscribe and unsubscribe."""
        async with _opened(make_brokers()) as (here, inbox, _, _):
            here.subscribe("group:tea")
            await _until_received(here, inbox, "group:tea")
            loop = asyncio.get_running_loop()
            loop.call_soon(here.publish, batch("group:tea", 2, "一"))
            loop.call_soon(here.publish, batch("group:tea", 3, "二"))
            await inbox.receives(batch("group:tea", 3, "二"))

    async def test_closed(self, make_brokers: PairMaker) -> None:
        """After `close` nothing reaches the handler, and publishing is harmless."""
        async with _opened(make_brokers()) as (here, inbox, _, _):
            here.subscribe("group:tea")
            await _until_received(here, inbox, "group:tea")
            here.publish(batch("group:tea", 2, "在路上"))
            await here.close()
            before = len(inbox.batches)
            here.publish(batch("group:tea", 3, "太晚"))
            for _ in range(5):
                await asyncio.sleep(0)
            assert len(inbox.batches) == before
