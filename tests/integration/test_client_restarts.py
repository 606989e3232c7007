"""The Python SDK over restarts and cuts: what it follows, what it loads, and what is proven."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from client_device import PATIENCE_SECONDS, WORDS, quick_node, running

from qunxin.client import Client, Entry, Event, Reload, connect
from qunxin.client.receiver import Receiver
from qunxin.engine import Engine
from qunxin.errors import QunxinError
from qunxin.model import DeliveryState
from realtime_client import TEA, RealtimeNode


@pytest.fixture
async def node(engine: Engine) -> AsyncIterator[RealtimeNode]:
    async with quick_node(engine) as running_node:
        yield running_node


async def say(node: RealtimeNode, text: str) -> int:
    """A message of alice's to tea; its position."""
    return (await node.engine.send("group", "tea", sender="alice", text=text)).position


async def prove(node: RealtimeNode, *texts: str) -> None:
    """Another device of bob's gets `texts` and everything before them, and has proven it."""
    async with running(node, "bob") as phone:
        for position in [await say(node, text) for text in texts]:
            await phone.has(TEA, position)
        await is_delivered(node, position)


async def is_delivered(node: RealtimeNode, position: int) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            for session in list(node.gateway._sessions):
                session.ping_now()
            page = await node.engine.deliveries(TEA, position)
            if page.counts[DeliveryState.DELIVERED]:
                return
            await asyncio.sleep(0.02)


# --- conversations in which nothing happens ---------------------------------------------------


async def test_promise_8_a_quiet_conversation_is_followed_over_a_restart(
    node: RealtimeNode, tmp_path: Path
) -> None:
    """A device that followed it, without an entry of it, misses nothing of what another device
    of the user proved while it was away."""
    file = tmp_path / "鲍勃.db"
    await prove(node, "以前")
    async with running(node, "bob", file) as bob:
        assert bob.client.positions[TEA].position == 2
    await prove(node, WORDS, "一", "二")
    last = await say(node, "三")
    async with running(node, "bob", file) as bob:
        await bob.has(TEA, last)
        assert bob.positions(TEA) == [3, 4, 5, 6]
    assert [type(event) for event in bob.events if not isinstance(event, Entry)] == []


@pytest.mark.parametrize("has_file", [True, False])
async def test_promise_8_a_program_that_keeps_positions_misses_nothing_of_it(
    node: RealtimeNode, tmp_path: Path, has_file: bool
) -> None:
    """The file stands in for what the program has not saved; without a file it saves all."""
    file = tmp_path / "鲍勃.db" if has_file else None
    await prove(node, "以前")
    async with running(node, "bob", file, positions={}) as bob:
        kept = {} if has_file else dict(bob.client.positions)
    await prove(node, WORDS)
    last = await say(node, "后来")
    async with running(node, "bob", file, positions=kept) as bob:
        await bob.has(TEA, last)
        assert bob.positions(TEA) == [3, 4]


async def test_what_was_handed_counts_more_than_where_it_began(
    node: RealtimeNode, tmp_path: Path
) -> None:
    """An event that comes with the subscription does not come again after a restart."""
    file = tmp_path / "鲍勃.db"
    last = await say(node, WORDS)
    async with running(node, "bob", file) as bob:
        await bob.has(TEA, last)
    async with running(node, "bob", file) as bob:
        await bob.has(TEA, await say(node, "二"))
        assert bob.positions(TEA) == [last + 1]


# --- groups that the user has left ------------------------------------------------------------


async def test_promise_8_a_group_left_while_away_is_told_to_be_reloaded(
    node: RealtimeNode, tmp_path: Path
) -> None:
    """A device that knows nothing of it does not get what others of the user had long ago; it is
    told, once, and again where its program had not finished."""
    await prove(node, *(f"{number} {WORDS}" for number in range(5)))
    await say(node, "最后")
    removed = await node.engine.remove_member("tea", "bob")

    def fail(event: Event) -> None:
        if isinstance(event, Reload):
            raise ZeroDivisionError

    file = tmp_path / "鲍勃.db"
    async with connect(node.url, node.token("bob"), outbox=file) as client:
        with pytest.raises(ZeroDivisionError):
            async with asyncio.timeout(PATIENCE_SECONDS):
                await client.run(fail)
    async with running(node, "bob", file) as bob:
        told = await bob.until(lambda event: isinstance(event, Reload))
        assert told == Reload(TEA, node.engine.epoch, removed.membership_version)
        page = await bob.client.history(TEA, limit=3)
        assert page.entries[-1].position == removed.membership_version
    async with running(node, "bob", file) as bob:
        private = await node.engine.send("private", "bob", sender="alice", text=WORDS)
        await bob.has("private:alice~bob", private.position)
        assert not [event for event in bob.events if isinstance(event, Reload)]
        assert bob.positions(TEA) == []


async def _passed_stay(node: RealtimeNode, file: Path) -> None:
    """Carol's device has the file, and knows nothing yet of a stay of hers that is over, and that
    another device of hers has proven to have."""
    async with running(node, "carol", file):
        pass
    async with running(node, "carol") as phone:
        await node.engine.add_members("tea", ["carol"])
        position = await say(node, WORDS)
        await phone.has(TEA, position)
        await is_delivered(node, position)
    await node.engine.remove_member("tea", "carol")


def _hold_loading(monkeypatch: pytest.MonkeyPatch, before: Callable[[], Awaitable[None]]) -> None:
    """`before` is waited for before each page of a log that a device loads."""
    load = Receiver._load_page

    async def held(self: Receiver, *args: Any) -> None:
        await before()
        await load(self, *args)

    monkeypatch.setattr(Receiver, "_load_page", held)


async def test_promise_4_what_waits_for_older_entries_is_not_delivered(
    node: RealtimeNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A ping behind live entries is answered only after they have been handed to the program,
    also where they wait for a former stay to be loaded."""
    file = tmp_path / "卡罗尔.db"
    await _passed_stay(node, file)
    loading, go_on = asyncio.Event(), asyncio.Event()

    async def wait() -> None:
        loading.set()
        await go_on.wait()

    _hold_loading(monkeypatch, wait)
    async with running(node, "carol", file) as carol, asyncio.timeout(PATIENCE_SECONDS):
        await loading.wait()
        await node.engine.add_members("tea", ["carol"])
        last = await say(node, "现场")
        while not carol.client._receiver.streams[TEA].held:
            await carol.client.get_group("tea")
        (session,) = node.gateway._sessions
        session.ping_now()
        for _ in range(3):  # a question after the ping is answered after its pong has come
            await carol.client.get_group("tea")
        assert session.protocol.pings
        assert carol.positions(TEA) == []
        go_on.set()
        await carol.has(TEA, last)
        assert carol.positions(TEA) == [2, 3, 4, 5, 6]
        await is_delivered(node, last)


async def test_a_refused_page_is_asked_for_again(
    node: RealtimeNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A refusal that a repeat can mend, with live entries waiting for the page, ends the
    connection and not the client."""
    file = tmp_path / "卡罗尔.db"
    await _passed_stay(node, file)
    loading, go_on = asyncio.Event(), asyncio.Event()
    entries, refusals = node.engine.entries, ["overloaded"]

    async def wait() -> None:
        loading.set()
        await go_on.wait()

    async def refuse(*args: Any, **fields: Any) -> Any:
        if refusals:
            raise QunxinError(refusals.pop())
        return await entries(*args, **fields)

    _hold_loading(monkeypatch, wait)
    monkeypatch.setattr(node.engine, "entries", refuse)
    async with running(node, "carol", file) as carol, asyncio.timeout(PATIENCE_SECONDS):
        await loading.wait()
        await node.engine.add_members("tea", ["carol"])
        last = await say(node, "现场")
        while not carol.client._receiver.streams[TEA].held:
            await carol.client.get_group("tea")
        go_on.set()
        await carol.has(TEA, last)
        assert (carol.positions(TEA), refusals) == ([2, 3, 4, 5, 6], [])


# --- the program ------------------------------------------------------------------------------


async def _take_until(client: Client, position: int, handle: Callable[[Event], None]) -> None:
    """Run until the entry of tea at `position` was handled, and asked for the next one."""
    taken = asyncio.Event()

    def take(event: Event) -> None:
        handle(event)
        if isinstance(event, Entry) and (event.conversation, event.position) == (TEA, position):
            taken.set()

    running_on = asyncio.create_task(client.run(take))
    waiting = asyncio.create_task(taken.wait())
    await asyncio.wait([running_on, waiting], return_when=asyncio.FIRST_COMPLETED)
    for task in (running_on, waiting):
        task.cancel()
    await asyncio.wait([running_on, waiting])
    if not running_on.cancelled():
        running_on.result()


async def test_an_event_whose_handler_failed_comes_again_at_the_next_run(
    node: RealtimeNode, tmp_path: Path
) -> None:
    """Calling `run` again does not say that the program is done with it."""
    last = [await say(node, f"{number} {WORDS}") for number in range(3)][-1]
    handled: list[int] = []
    fails = [3]

    def handle(event: Event) -> None:
        if isinstance(event, Entry) and event.conversation == TEA:
            if event.position in fails:
                fails.remove(event.position)
                raise ZeroDivisionError
            handled.append(event.position)

    async with connect(node.url, node.token("bob"), outbox=tmp_path / "鲍勃.db") as client:
        async with asyncio.timeout(PATIENCE_SECONDS):
            with pytest.raises(ZeroDivisionError):
                await _take_until(client, last, handle)
            await _take_until(client, last, handle)
    assert handled == [1, 2, 3, 4]


async def test_iterating_after_a_failed_run_is_done_with_the_event(node: RealtimeNode) -> None:
    """Asking for the next event says so, as always."""

    def fail(_event: Event) -> None:
        raise ZeroDivisionError

    await say(node, WORDS)
    async with connect(node.url, node.token("bob")) as client:
        async with asyncio.timeout(PATIENCE_SECONDS):
            with pytest.raises(ZeroDivisionError):
                await client.run(fail)
            failed = client._in_hand
            following = await anext(client)
        assert failed is not None
        assert following is not failed.event


async def test_unread_counts_each_message_once(node: RealtimeNode, tmp_path: Path) -> None:
    """What `mark_read` finds above the list's head is counted when it is handed on."""
    await prove(node, "一", "二")
    async with connect(node.url, node.token("bob"), outbox=tmp_path / "鲍勃.db") as client:
        await client.wait_connected()
        (before,) = [row for row in client.conversations if row.conversation == TEA]
        last = [await say(node, f"{number} {WORDS}") for number in range(2)][-1]
        await client.mark_read(TEA, 2)
        async with asyncio.timeout(PATIENCE_SECONDS):
            async for event in client:
                if isinstance(event, Entry) and event.position == last:
                    break
        (row,) = [row for row in client.conversations if row.conversation == TEA]
        assert (before.head, row.head, row.unread) == (3, 5, 3)
