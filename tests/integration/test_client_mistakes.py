"""The Python SDK in a program with a mistake in it: it is told at once, and not retried."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from client_device import PATIENCE_SECONDS, WORDS, running

from qunxin.client import Event, QunxinError, connect
from qunxin.engine import Engine
from qunxin.gateways.realtime import RealtimeSettings
from realtime_client import TEA, RealtimeNode, put_tea, realtime_node

HALF = "半个 \ud83c"
"""Half of an emoji: a surrogate without the other."""


@pytest.fixture
async def node(engine: Engine) -> AsyncIterator[RealtimeNode]:
    await put_tea(engine)
    settings = RealtimeSettings(ping_spacing_seconds=0.05, linger_seconds=0.2)
    async with realtime_node(engine, settings) as running_node:
        yield running_node


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"token": None}, "NoneType is neither a text nor a function"),
        ({"token": 7}, "int is neither"),
        ({"token": b"bytes"}, "bytes is neither"),
        ({"token": ""}, "token: empty"),
        ({"token": HALF}, "token: not valid Unicode"),
        ({"url": None}, "url: NoneType is no text"),
        ({"url": "没有地址"}, "is no address of a server"),
        ({"language": 2}, "language: int is no text"),
        ({"patience_seconds": "30"}, "'30' is no time"),
        ({"patience_seconds": float("nan")}, "nan is no time"),
        ({"max_reconnect_seconds": 0}, "0 is no time"),
    ],
)
def test_arguments_of_a_wrong_type_are_refused_by_connect(
    fields: dict[str, Any], says: str
) -> None:
    """Before there is a client that would try with them for ever."""
    given: dict[str, Any] = {"url": "http://127.0.0.1:9", "token": "令牌 🎫"} | fields
    with pytest.raises(QunxinError, match=says) as refused:
        connect(given.pop("url"), given.pop("token"), **given)
    assert refused.value.code == "invalid_request"


KEPT: dict[str, str] = {}


async def _bug() -> str:
    return KEPT["令牌"]


async def _none() -> Any:
    return None


def _sync() -> str:
    return "令牌 🎫"


async def _mistaken_in_handling() -> str:
    try:
        await _refused()
    except ConnectionError:
        return KEPT["令牌"]
    return ""


MISTAKES = [
    pytest.param(_bug, KeyError, id="a bug"),
    pytest.param(_none, QunxinError, id="no text"),
    pytest.param(_sync, QunxinError, id="not async"),
    pytest.param(_mistaken_in_handling, KeyError, id="a bug in handling a failure"),
]


@pytest.mark.parametrize(("fetch", "cause"), MISTAKES)
async def test_a_mistake_in_fetching_a_token_reaches_the_program(
    fetch: Callable[[], Any], cause: type[Exception]
) -> None:
    """Wherever it waits, with the exception itself as the cause; the message stays."""
    async with connect("http://127.0.0.1:9", fetch) as client:
        for attempt in (
            client.wait_connected(),
            client.send("group", "tea", WORDS),
            client.history(TEA),
            anext(client),
        ):
            with pytest.raises(QunxinError) as told:
                async with asyncio.timeout(PATIENCE_SECONDS):
                    await attempt
            assert told.value.code == "unauthenticated"
            assert isinstance(told.value.__cause__, cause)
        assert client.unsent == 1


async def test_a_mistake_at_the_refresh_reaches_the_program(node: RealtimeNode) -> None:
    """It does not wait until the token that still holds has expired."""
    tokens = [node.token("bob", 2)]

    async def fetch() -> str:
        return tokens.pop()

    async def handle(_event: Event) -> None:
        """Nothing: the program is done with it."""

    async with connect(node.url, fetch) as client, asyncio.timeout(PATIENCE_SECONDS):
        with pytest.raises(QunxinError) as told:
            await client.run(handle)
        assert isinstance(told.value.__cause__, IndexError)
        while client.connected:
            await client._changed.wait()


class LibraryError(Exception):
    """As HTTP libraries raise, of the operating system's error."""


async def _refused() -> None:
    raise ConnectionRefusedError("没有服务器")


async def _in_time() -> None:
    async with asyncio.timeout(0):
        await asyncio.Event().wait()


async def _library() -> None:
    try:
        await _refused()
    except OSError as error:
        raise LibraryError("连接失败") from error


async def _overloaded() -> None:
    raise QunxinError("overloaded", retry_after=0.1)


@pytest.mark.parametrize("fails", [_refused, _in_time, _library, _overloaded])
async def test_a_failure_that_may_pass_is_waited_out(
    node: RealtimeNode, fails: Callable[[], Awaitable[None]], caplog: pytest.LogCaptureFixture
) -> None:
    """The network's, and what a library makes of it; without a traceback for each try."""
    tries = 0

    async def fetch() -> str:
        nonlocal tries
        tries += 1
        if tries <= 2:
            await fails()
        return node.token("bob")

    with caplog.at_level(logging.INFO, "qunxin.client"):
        async with running(node, "bob", token=fetch) as bob:
            assert (bob.client.user, tries) == ("bob", 3)
    assert not [record for record in caplog.records if record.exc_info]
    assert "no token" in caplog.text


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"text": HALF}, "text: not valid Unicode"),
        ({"content": [{"type": "text", "text": HALF}]}, "content: not valid Unicode"),
        ({"content": [object()]}, "content: Encoding objects of type object is unsupported"),
        ({"text": "茶", "key": HALF}, "key: not valid Unicode"),
        ({"text": "茶", "to": HALF}, "to: not valid Unicode"),
        ({"text": "茶", "to": 5}, "to: int is no text"),
        ({"text": "茶", "type": None}, "type: NoneType is no text"),
        ({"text": "茶".encode()}, "text: bytes is no text"),
        ({"text": "茶", "key": 7}, "key: int is no text"),
        ({"text": "茶", "require": True}, "require: bool is no text"),
        ({"content": "茶"}, "content: str is no list"),
    ],
)
async def test_what_can_never_be_sent_is_refused_at_the_call(
    node: RealtimeNode,
    tmp_path: Path,
    fields: dict[str, Any],
    says: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Nothing of it is in the outbox, and the next message goes out."""
    async with running(node, "alice", tmp_path / "发件箱.db") as alice:
        given = {"type": "group", "to": "tea"} | fields
        for call in (alice.client.send, alice.client.post):
            with pytest.raises(QunxinError, match=says) as refused:
                await call(**given)
            assert refused.value.code == "invalid_request"
        assert alice.client.unsent == 0
        assert (await alice.client.send("group", "tea", WORDS)).position == 2
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


async def test_what_is_no_text_is_refused_in_questions(node: RealtimeNode) -> None:
    """Any operation's fields; the connection stays."""
    async with running(node, "alice") as alice:
        with pytest.raises(QunxinError, match="conversation: not valid Unicode") as refused:
            await alice.client.history(f"group:{HALF}")
        assert refused.value.code == "invalid_request"
        assert alice.client.connected
