"""The Python SDK's outbox: nothing in it is told to nobody, and nothing waits for ever."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from client_device import PATIENCE_SECONDS, WORDS, quick_node, running

from qunxin.client import (
    Client,
    Event,
    Posted,
    QunxinError,
    RefusedError,
    UnansweredError,
    Unsent,
    connect,
)
from qunxin.engine import Engine
from realtime_client import TEA, RealtimeNode

TOO_LARGE = "长" * 400_000


@pytest.fixture
async def node(engine: Engine) -> AsyncIterator[RealtimeNode]:
    async with quick_node(engine) as running_node:
        yield running_node


@asynccontextmanager
async def sender(node: RealtimeNode, file: Path | None = None) -> AsyncIterator[Client]:
    """A connected client of alice's."""
    async with connect(node.url, node.token("alice"), outbox=file) as client:
        async with asyncio.timeout(PATIENCE_SECONDS):
            await client.wait_connected()
        yield client


class Held:
    """Writes to a client's file that wait until they may go on."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self._go_on = threading.Event()
        self._loop = asyncio.get_running_loop()

    def wait(self) -> None:
        self._loop.call_soon_threadsafe(self.begun.set)
        self._go_on.wait()

    def go_on(self) -> None:
        self._go_on.set()


@contextmanager
def held_writes(client: Client, *statements: str) -> Iterator[Held]:
    """What begins with one of `statements` waits in the file's thread."""
    held, commit = Held(), client._file._commit

    def waiting(batch: Any) -> Any:
        if any(sql.startswith(statements) for write in batch for sql, _ in write.statements):
            held.wait()
        return commit(batch)

    client._file._commit = waiting  # type: ignore[method-assign]
    try:
        yield held
    finally:
        held.go_on()


async def next_unsent(client: Client) -> Unsent:
    async with asyncio.timeout(PATIENCE_SECONDS):
        async for event in client:
            if isinstance(event, Unsent):
                return event
    pytest.fail("the client has ended")


async def unsent_of_a_start(node: RealtimeNode, file: Path) -> list[Event]:
    """What the file's refusals tell at a start, before anything else."""
    async with running(node, "alice", file) as alice:
        receipt = await alice.client.send("group", "tea", WORDS)
        await alice.has(TEA, receipt.position)
        return [event for event in alice.events if isinstance(event, Unsent)]


# --- refusals reach somebody ------------------------------------------------------------------


async def test_promise_2_a_refusal_whose_waiter_gave_up_comes_as_an_event(
    node: RealtimeNode, tmp_path: Path
) -> None:
    """The time-out comes while the file is being written."""
    async with sender(node, tmp_path / "发件箱.db") as client:
        with held_writes(client, "UPDATE outbox", "DELETE FROM outbox") as held:
            sending = asyncio.create_task(client.send("group", "nowhere", WORDS, key="键"))
            async with asyncio.timeout(PATIENCE_SECONDS):
                await held.begun.wait()
            sending.cancel()
            await asyncio.wait([sending])
        told = await next_unsent(client)
        assert (told.key, told.error.code) == ("键", "group_not_found")


async def test_promise_2_a_refusal_that_a_cancellation_met_comes_as_an_event(
    node: RealtimeNode, tmp_path: Path
) -> None:
    """Cancelled in the very turn in which the outcome is there: it was raised to nobody."""
    async with sender(node, tmp_path / "发件箱.db") as client:
        posted = await client.post("group", "nowhere", WORDS, key="键")
        waiting = asyncio.create_task(posted.receipt())
        posted.outcome.add_done_callback(lambda _: waiting.cancel())
        told = await next_unsent(client)
        assert waiting.cancelled()
        assert (told.key, told.error.code) == ("键", "group_not_found")


async def test_a_refusal_that_was_raised_is_not_told_again(
    node: RealtimeNode, tmp_path: Path
) -> None:
    """To one of those who waited is enough; after a restart there is nothing left of it."""
    file = tmp_path / "发件箱.db"
    async with sender(node, file) as client:
        posted = await client.post("group", "nowhere", WORDS)
        waiting = [asyncio.create_task(posted.receipt()) for _ in range(3)]
        posted.outcome.add_done_callback(lambda _: waiting[0].cancel())
        await asyncio.wait(waiting)
        assert waiting[0].cancelled()
        assert [type(task.exception()) for task in waiting[1:]] == [RefusedError] * 2
        assert client.unsent == 0
    assert await unsent_of_a_start(node, file) == []


async def test_a_refusal_that_closing_met_is_told_at_the_next_start(
    node: RealtimeNode, tmp_path: Path
) -> None:
    """The file has it before anybody is told; whoever waited is told that it is not known."""
    file = tmp_path / "发件箱.db"
    client = connect(node.url, node.token("alice"), outbox=file)
    await client.__aenter__()
    with held_writes(client, "UPDATE outbox") as held:
        sending = asyncio.create_task(client.send("group", "nowhere", WORDS, key="键"))
        async with asyncio.timeout(PATIENCE_SECONDS):
            await held.begun.wait()
        closing = asyncio.create_task(client.__aexit__(None, None, None))
        with pytest.raises(UnansweredError):
            await sending
    await closing
    (told,) = await unsent_of_a_start(node, file)
    assert isinstance(told, Unsent)
    assert (told.key, told.error.code) == ("键", "group_not_found")


# --- what is too large ------------------------------------------------------------------------


async def test_a_message_too_large_to_be_read_ends_itself_alone(
    node: RealtimeNode, tmp_path: Path
) -> None:
    """The connection ends at it, and comes back for all the others, in their order."""
    async with sender(node, tmp_path / "发件箱.db") as client, running(node, "bob") as bob:
        sizes = (TOO_LARGE, TOO_LARGE * 2)
        large = [await client.post("group", "tea", text) for text in sizes]
        small = await client.post("group", "tea", WORDS)
        other = await client.post("private", "bob", WORDS)
        async with asyncio.timeout(PATIENCE_SECONDS):
            for posted in large:
                with pytest.raises(RefusedError) as refused:
                    await posted.receipt()
                assert refused.value.code == "message_too_large"
                assert not refused.value.retryable
            receipt = await small.receipt()
            await other.receipt()
        await bob.has(TEA, receipt.position)
        assert [entry.text for entry in bob.entries(TEA)][1:] == [WORDS]
        assert client.unsent == 0


async def test_a_message_too_large_that_is_in_the_file_ends_itself_alone(
    node: RealtimeNode, tmp_path: Path
) -> None:
    """Posted in an earlier run: it is told as unsent, with the text in the client's language."""
    file = tmp_path / "发件箱.db"
    async with connect("http://127.0.0.1:9", "令牌", outbox=file) as offline:
        await offline.post("group", "tea", TOO_LARGE, key="大")
    async with running(node, "alice", file, language="zh") as alice:
        told = await alice.until(lambda event: isinstance(event, Unsent))
        assert isinstance(told, Unsent)
        assert (told.key, told.error.code) == ("大", "message_too_large")
        assert "无法" in told.error.text()
        assert (await alice.client.send("group", "tea", WORDS)).position == 2


async def test_a_question_too_large_to_be_read_is_refused(node: RealtimeNode) -> None:
    """It is not repeated, and takes no message with it."""
    async with sender(node) as client, asyncio.timeout(PATIENCE_SECONDS):
        asking = asyncio.create_task(client.call("user.get", object, user=TOO_LARGE))
        posted = await client.post("group", "tea", WORDS)
        with pytest.raises(RefusedError) as refused:
            await asking
        assert refused.value.code == "message_too_large"
        assert (await posted.receipt()).position == 2


async def test_a_connect_too_large_to_be_read_ends_the_client(node: RealtimeNode) -> None:
    """The next one would be no smaller."""
    async with connect(node.url, TOO_LARGE) as client, asyncio.timeout(PATIENCE_SECONDS):
        with pytest.raises(QunxinError) as ended:
            await client.wait_connected()
        assert ended.value.code == "message_too_large"


# --- what is sent is what was given -----------------------------------------------------------


async def test_content_that_is_changed_after_the_call_is_sent_as_it_was(
    node: RealtimeNode, tmp_path: Path
) -> None:
    """The call returns when the message is in the file, and that is what is sent."""
    async with running(node, "bob") as bob:
        client = connect(node.url, node.token("alice"), outbox=tmp_path / "发件箱.db")
        part = {"type": "text", "text": WORDS}
        content: list[dict[str, Any]] = [part]
        async with client:
            posted = await client.post("group", "tea", content=content)
            part["text"] = "改了"
            content.append({"type": "text", "text": "加了"})
            receipt = await posted.receipt()
        await bob.has(TEA, receipt.position)
        assert bob.entries(TEA)[-1].text == WORDS


# --- nothing waits for ever -------------------------------------------------------------------


async def test_a_file_that_fails_stops_sending_and_says_so(
    node: RealtimeNode,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whoever waits is told; nothing overtakes what stays behind; the next start sends it."""
    file = tmp_path / "发件箱.db"

    async def fail(_message_id: int) -> int:
        raise QunxinError("store_unavailable")

    async with sender(node, file) as client, asyncio.timeout(PATIENCE_SECONDS):
        monkeypatch.setattr(client._file, "remove", fail)
        first = await client.post("group", "tea", "一")
        second = await client.post("group", "tea", "二")
        assert (await first.receipt()).position == 2
        third = await client.post("group", "tea", "三")
        for waiting in (second.receipt(), third.receipt(), client.wait_sent()):
            with pytest.raises(QunxinError) as told:
                await waiting
            assert told.value.code == "store_unavailable"
        with pytest.raises(QunxinError) as ended:
            await client.run(lambda _: None)
        assert ended.value.code == "internal"
        assert client.unsent == 2
    assert "send to tea failed" in caplog.text
    async with sender(node, file) as client, asyncio.timeout(PATIENCE_SECONDS):
        await client.wait_sent()
        page = await client.history(TEA, after=1)
        assert [entry.text for entry in page.entries] == ["一", "二", "三"]


WAITS: dict[str, Callable[[Client], Awaitable[Any]]] = {
    "for a connection": lambda client: client.wait_connected(),
    "for an answer": lambda client: client.history(TEA),
    "for a receipt": lambda client: client.send("group", "tea", WORDS),
    "for the outbox": lambda client: client.wait_sent(),
}


@pytest.mark.parametrize("name", WAITS)
async def test_closing_ends_every_wait(name: str, tmp_path: Path) -> None:
    """Whoever waits for a server that is not there is told that the outcome is not known."""
    async with connect("http://127.0.0.1:9", "令牌", outbox=tmp_path / "发件箱.db") as client:
        await client.post("group", "tea", WORDS)
        begun = asyncio.Event()

        async def wait() -> None:
            begun.set()
            await WAITS[name](client)

        waiting = asyncio.create_task(wait())
        await begun.wait()
    async with asyncio.timeout(PATIENCE_SECONDS):
        with pytest.raises(UnansweredError):
            await waiting


async def test_what_is_posted_while_the_client_closes_is_kept(
    node: RealtimeNode, tmp_path: Path
) -> None:
    """`post` returns, `send` says that the outcome is not known, and the next start sends both."""
    file = tmp_path / "发件箱.db"
    client = connect(node.url, node.token("alice"), outbox=file)
    await client.__aenter__()
    close = client._outbox.close
    with held_writes(client, "INSERT INTO outbox") as held:

        async def close_and_go_on() -> None:
            asyncio.get_running_loop().call_soon(held.go_on)
            await close()

        client._outbox.close = close_and_go_on  # type: ignore[method-assign]
        posting = asyncio.create_task(client.post("group", "tea", "一"))
        sending = asyncio.create_task(client.send("group", "tea", WORDS))
        async with asyncio.timeout(PATIENCE_SECONDS):
            await held.begun.wait()
        await client.__aexit__(None, None, None)
    posted = await posting
    assert isinstance(posted, Posted)
    for waiting in (sending, posted.receipt()):
        with pytest.raises(UnansweredError):
            await waiting
    async with running(node, "alice", file) as alice:
        await alice.has(TEA, 3)
        assert [entry.text for entry in alice.entries(TEA)][-2:] == ["一", WORDS]
