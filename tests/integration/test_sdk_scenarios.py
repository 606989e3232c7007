"""What applications live through with the SDKs, unchanged, in every way that they can connect:
nothing lost, doubled or reordered at the application's own callback."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock

import pytest

import qunxin
from qunxin.engine import Engine
from qunxin.engine.settings import EngineSettings
from qunxin.errors import ERRORS
from qunxin.gateways.realtime import RealtimeSettings
from qunxin.wire.codes import ERROR_NUMBERS, FAILED, NO_REPLY_COMMAND
from realtime_client import TEA, RealtimeNode, put_tea, realtime_node
from sdk_devices import NODE, PYTHON, Kind, SdkDevice, SdkError, install_javascript, make_device
from serving import ServerProcess, answer

WORDS = "早安 👩\u200d👩\u200d👧 مرحبا \u202eabc\u202c\u2028"
SETTINGS = RealtimeSettings(ping_spacing_seconds=0.1, linger_seconds=0.5)

KINDS = [
    *(pytest.param(kind, id=kind.name) for kind in PYTHON),
    *(pytest.param(kind, id=kind.name, marks=pytest.mark.browser) for kind in NODE),
]


JAVASCRIPT_KINDS = pytest.mark.parametrize(
    "kind",
    [pytest.param(kind, id=kind.name, marks=pytest.mark.browser) for kind in NODE],
    indirect=True,
)


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    found: Kind = request.param
    if found.language == "javascript":
        install_javascript()
    return found


Open = Callable[..., Awaitable[SdkDevice]]


@pytest.fixture
async def open_device(kind: Kind) -> AsyncIterator[Open]:
    """Connects a device of the kind under test as a user."""
    async with AsyncExitStack() as stack:

        async def open_one(
            node: RealtimeNode, user: str, data: Any = None, *, followed: str = TEA
        ) -> SdkDevice:
            async def get_token() -> str:
                return node.token(user)

            device = make_device(kind)
            stack.push_async_callback(device.close)
            await device.connect(f"http://127.0.0.1:{node.port}", get_token, data)
            await device.until("subscribed", followed)
            return device

        yield open_one


@asynccontextmanager
async def tea_node(engine: Engine) -> AsyncIterator[RealtimeNode]:
    await put_tea(engine, "carol")
    async with realtime_node(engine, SETTINGS) as running:
        yield running


@pytest.fixture
async def node(engine: Engine) -> AsyncIterator[RealtimeNode]:
    async with tea_node(engine) as running:
        yield running


async def _send(engine: Engine, count: int) -> int:
    receipts = [await engine.send("group", "tea", sender="alice", text=WORDS) for _ in range(count)]
    return receipts[-1].position


def _in_order(given: list[int]) -> bool:
    return given == list(range(given[0], given[-1] + 1))


async def test_asking_and_telling(node: RealtimeNode, open_device: Open) -> None:
    """Own and others' messages once each, receipts, history, presence, refusals."""
    alice, bob = await open_device(node, "alice"), await open_device(node, "bob")
    sent = await alice.rpc("message.send", type="group", to="tea", text=WORDS, key="键")
    await bob.call("publish", channel=TEA, data={"text": "二"})
    for device in (alice, bob):
        event = await device.until("publication", TEA, sent["position"])
        assert event[3]["content"] == [{"type": "text", "text": WORDS}]
        assert _in_order(await device.until_given(TEA, sent["position"] + 1))
    history = await bob.call("history", channel=TEA, limit=2, reverse=True)
    assert history["publications"] == [sent["position"] + 1, sent["position"]]
    assert sorted(await bob.call("presence", channel=TEA)) == ["alice", "bob"]
    stats = await bob.call("presenceStats", channel=TEA)
    assert (stats["numClients"], stats["numUsers"]) == (2, 2)
    with pytest.raises(SdkError) as refused:
        await bob.rpc("message.send", type="group", to="nowhere", text="?")
    assert (refused.value.code, refused.value.temporary) == (1201, False)


@JAVASCRIPT_KINDS
async def test_a_message_without_an_answer_ends_the_device_and_says_why(
    node: RealtimeNode, open_device: Open
) -> None:
    """`send`, which centrifuge-python does not have: the call is well as far as the SDK knows, so
    the end is what tells the program, with what to use instead; others go on."""
    alice, bob = await open_device(node, "alice"), await open_device(node, "bob")
    await bob.call("send", data={"text": WORDS})
    ended = await bob.until("disconnected", NO_REPLY_COMMAND.code)
    assert ended[2] == "send is not available, use publish or rpc"
    last = await _send(node.engine, 1)
    await alice.until_given(TEA, last)


async def test_added_and_removed_while_connected(node: RealtimeNode, open_device: Open) -> None:
    """The entries that say so come with the subscription, and before its end."""
    bob = await open_device(node, "bob")
    await node.engine.remove_member("tea", "bob")
    await bob.until("unsubscribed", TEA)
    await _send(node.engine, 2)
    back = await node.engine.add_members("tea", ["bob"])
    await bob.until("subscribed", TEA)
    last = await _send(node.engine, 1)
    given = await bob.until_given(TEA, last)
    assert back.membership_version in given
    assert last - 1 in given
    assert given == sorted(set(given))
    await node.engine.put_group("milk", name="奶茶 🧋", owner="alice", members=("bob",))
    gained = await bob.until("subscribed", "group:milk")
    assert gained[4]["name"] == "奶茶 🧋"


@asynccontextmanager
async def comings_node(folder: Path, **settings: Any) -> AsyncIterator[RealtimeNode]:
    """A node that gathers comings for a tenth of a second."""
    chosen = EngineSettings(join_leave_seconds=0.1, **settings)
    async with (
        qunxin.open(folder / "茶.db", settings=chosen) as engine,
        tea_node(engine) as node,
    ):
        yield node


@pytest.fixture
async def quick_node(tmp_path: Path) -> AsyncIterator[RealtimeNode]:
    async with comings_node(tmp_path) as running:
        yield running


async def test_who_comes_and_goes_on_the_client(
    quick_node: RealtimeNode, open_device: Open
) -> None:
    """Of groups that the server subscribes to: its own coming, others', a broken connection's end
    and its coming back under another name, and nothing after removal."""
    node = quick_node
    alice = await open_device(node, "alice", {"join_leave": True})
    bob = await open_device(node, "bob", {"join_leave": [TEA]})
    assert (await alice.until("join", TEA, "alice"))[3] == node.engine.sessions("alice")[0].session
    old = (await alice.until("join", TEA, "bob"))[3]
    assert (await bob.until("join", TEA, "bob"))[3] == old
    assert old == node.engine.sessions("bob")[0].session
    for session in list(node.gateway._sessions):
        if session.engine_session is not None and session.engine_session.id == old:
            session.disconnect(FAILED)
    assert (await alice.until("leave", TEA, "bob"))[3] == old
    new = (await alice.until("join", TEA, "bob"))[3]
    assert new == node.engine.sessions("bob")[0].session != old
    await bob.until("join", TEA, "bob", new)
    await node.engine.remove_member("tea", "bob")
    await alice.until("leave", TEA, "bob", new)
    await bob.until("unsubscribed", TEA)
    await node.engine.add_members("tea", ["carol"])
    carol = await open_device(node, "carol")
    third = await alice.until("join", TEA, "carol")
    await carol.close()
    assert await alice.until("leave", TEA, "carol") == ("leave", *third[1:])
    await bob.rpc("user.get", user="bob")
    assert not [event for event in bob.events if event[0] in ("join", "leave")]


async def test_who_comes_and_goes_on_a_subscription(
    tmp_path: Path, kind: Kind, open_device: Open
) -> None:
    """A subscription object that asks with `join_leave`, in each SDK's own way."""
    assert kind
    async with comings_node(tmp_path, recent_conversations=0) as node:
        alice = await open_device(node, "alice", followed="inbox:alice")
        bob = await open_device(node, "bob", followed="inbox:bob")
        await alice.call("subscribe", channel=TEA)
        first = await alice.until("join of", "alice")
        assert first[2] == node.engine.sessions("alice")[0].session
        await bob.call("subscribe", channel=TEA)
        second = await alice.until("join of", "bob")
        await bob.until("join of", *second[1:])
        await bob.call("unsubscribe", channel=TEA)
        await alice.until("leave of", *second[1:])
        assert not [event for event in bob.events if event[0] == "leave of"]
        await alice.close()
        await bob.close()


async def test_a_broken_connection_loses_nothing(node: RealtimeNode, open_device: Open) -> None:
    """Cut again and again while messages come: each once, in order, at the callback."""
    bob = await open_device(node, "bob")
    first = last = await _send(node.engine, 1)
    for _ in range(3):
        await bob.until_given(TEA, last)
        for connection in list(node.gateway._connections):
            connection.abort()
        last = await _send(node.engine, 10)
    given = await bob.until_given(TEA, last)
    assert [position for position in given if position >= first] == list(range(first, last + 1))


async def test_away_for_too_long_is_told_to_reload(
    tmp_path: Path, kind: Kind, open_device: Open
) -> None:
    """`recovered` is false, and what comes next comes live."""
    assert kind
    settings = EngineSettings(recovery_budget_entries=5)
    async with (
        qunxin.open(tmp_path / "茶.db", settings=settings) as engine,
        tea_node(engine) as node,
    ):
        bob = await open_device(node, "bob")
        await bob.until_given(TEA, await _send(engine, 1))
        node.gateway.admit, admit = _closed, node.gateway.admit  # type: ignore[method-assign]
        for connection in list(node.gateway._connections):
            connection.abort()
        await bob.until("connecting")
        await _send(engine, 9)
        node.gateway.admit = admit  # type: ignore[method-assign]
        again = await bob.until("subscribed", TEA)
        assert again[2:4] == (True, False)
        last = await _send(engine, 1)
        assert (await bob.until_given(TEA, last))[-1] == last
        await bob.close()


def _closed() -> None:
    raise qunxin.QunxinError("overloaded")


async def test_five_hundred_conversations(tmp_path: Path, kind: Kind, open_device: Open) -> None:
    """All in one connect reply; each of them live."""
    assert kind
    settings = EngineSettings(recent_conversations=600)
    async with (
        qunxin.open(tmp_path / "茶.db", settings=settings) as engine,
        tea_node(engine) as node,
    ):
        names = [f"g{number}" for number in range(500)]
        await asyncio.gather(
            *(engine.put_group(name, name=f"群 {name}", owner="alice") for name in names)
        )
        alice = await open_device(node, "alice")
        receipts = await asyncio.gather(
            *(engine.send("group", name, sender="alice", text=WORDS) for name in names)
        )
        for receipt in receipts:
            given = await alice.until_given(receipt.conversation, receipt.position)
            assert given == sorted(set(given))
        await alice.close()


async def test_a_token_is_renewed_before_it_expires(node: RealtimeNode, kind: Kind) -> None:
    """Without the connection ending."""
    asked = 0
    renewed = asyncio.Event()

    async def get_token() -> str:
        nonlocal asked
        asked += 1
        if asked > 1:
            renewed.set()
        return node.token("bob", 2 if asked == 1 else 3600)

    bob = make_device(kind)
    try:
        await bob.connect(f"http://127.0.0.1:{node.port}", get_token)
        await bob.until("subscribed", TEA)
        async with asyncio.timeout(15):
            await renewed.wait()
        last = await _send(node.engine, 1)
        await bob.until_given(TEA, last)
        assert not [event for event in bob.events if event[0] in ("connecting", "disconnected")]
        (session,) = node.gateway._sessions
        async with asyncio.timeout(5):
            while (session.expires_at_ms or 0) < 2_000_000 + node.engine.clock.now_ms():
                await bob.rpc("user.get", user="bob")
    finally:
        await bob.close()


async def test_an_expired_token_at_connect_is_replaced(node: RealtimeNode, kind: Kind) -> None:
    """The server's 109 makes the SDK ask the application for another one, and come in with it."""
    tokens = [node.expired_token("bob"), node.token("bob")]

    async def get_token() -> str:
        return tokens.pop(0)

    bob = make_device(kind)
    try:
        await bob.connect(f"http://127.0.0.1:{node.port}", get_token)
        await bob.until("subscribed", TEA)
        assert not tokens
        assert not [event for event in bob.events if event[0] == "disconnected"]
        await bob.until_given(TEA, await _send(node.engine, 1))
    finally:
        await bob.close()


async def test_every_error_arrives_with_its_number_and_its_advice(
    node: RealtimeNode, open_device: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`temporary` is said of what a repeat can mend, and of nothing else: the whole table, as the
    application sees it in each SDK."""
    bob = await open_device(node, "bob")
    seen = {}
    for code in ERRORS:
        raising = AsyncMock(side_effect=qunxin.QunxinError(code))
        monkeypatch.setattr(node.engine, "get_user", raising)
        with pytest.raises(SdkError) as refused:
            await bob.rpc("user.get", user="bob")
        seen[code] = (refused.value.code, refused.value.temporary)
    assert seen == {code: (ERROR_NUMBERS[code], spec.retryable) for code, spec in ERRORS.items()}


@pytest.fixture
def tea_server(data_folder: Path) -> Iterator[ServerProcess]:
    with ServerProcess(data_folder) as server:
        with server.client() as client:
            for user in ("alice", "bob"):
                answer(client.put(f"/v1/users/{user}", json={}))
            answer(client.put("/v1/groups/tea", json={"owner": "alice", "members": ["bob"]}))
        yield server


@pytest.mark.faults
async def test_a_server_that_is_killed_and_started_again(
    tea_server: ServerProcess, kind: Kind
) -> None:
    """The device comes back by itself and has every accepted message once, in order."""

    async def get_token() -> str:
        return await asyncio.to_thread(tea_server.token, "bob")

    def send(count: int) -> int:
        with tea_server.client() as client:
            body = {"type": "group", "to": "tea", "from": "alice", "text": WORDS}
            sent = [answer(client.post("/v1/messages", json=body)) for _ in range(count)]
        return int(sent[-1]["position"])

    bob = make_device(kind)
    try:
        await bob.connect(tea_server.url, get_token)
        await bob.until("subscribed", TEA)
        first = last = await asyncio.to_thread(send, 1)
        for _ in range(2):
            await bob.until_given(TEA, last)
            await asyncio.to_thread(tea_server.kill)
            await asyncio.to_thread(tea_server.start)
            last = await asyncio.to_thread(send, 10)
        given = await bob.until_given(TEA, last)
        assert [position for position in given if position >= first] == list(range(first, last + 1))
    finally:
        await bob.close()
