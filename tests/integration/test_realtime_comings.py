"""Who comes and who goes, told over real sockets to those who asked: the `join` and `leave` pushes
of the protocol."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from centrifuge.protocol import client_pb2

import qunxin
from qunxin.engine.settings import EngineSettings
from qunxin.gateways.realtime import RealtimeSettings
from qunxin.wire.protobuf import split_messages
from realtime_client import BINARY, TEA, RawClient, RealtimeNode, in_step, put_tea, realtime_node

PRIVATE = "private:alice~bob"
WORDS = "早安 👩\u200d👩\u200d👧 مرحبا"
ALL = {"join_leave": True}

Start = Callable[..., AbstractAsyncContextManager[RealtimeNode]]


@pytest.fixture
def start(tmp_path: Path) -> Start:
    """Starts a node with these settings of the engine; comings are gathered for a tenth of a
    second."""

    @asynccontextmanager
    async def node(**settings: Any) -> AsyncIterator[RealtimeNode]:
        chosen = EngineSettings(**{"join_leave_seconds": 0.1, **settings})
        async with qunxin.open(tmp_path / "茶.db", settings=chosen) as engine:
            await put_tea(engine, "carol")
            async with realtime_node(engine, RealtimeSettings(linger_seconds=0.5)) as running:
                yield running

    return node


@pytest.fixture
async def node(start: Start) -> AsyncIterator[RealtimeNode]:
    async with start() as running:
        yield running


async def all_told(node: RealtimeNode) -> None:
    """Return once no coming or going waits to be told."""
    async with asyncio.timeout(5):
        while any(watch.telling for watch in node.engine.comings._index.values()):  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def told(client: RawClient) -> list[dict[str, Any]]:
    """What the client has been told by now of comings and goings, and not read yet."""
    await client.call(ping={})
    found = [line for line in client.lines if set(line.get("push", {})) & {"join", "leave"}]
    client.lines = [line for line in client.lines if line not in found]
    return [line["push"] for line in found]


def own(client: dict[str, Any], user: str) -> dict[str, str]:
    """How a connected client is named in what is told of it."""
    return {"user": user, "client": client["client"]}


async def connected(node: RealtimeNode, user: str, **fields: Any) -> tuple[RawClient, Any]:
    """A client and how it is named."""
    client = await RawClient.open(node.port)
    return client, own(await client.connect(node.token(user), **fields), user)


@pytest.mark.parametrize("asked", [True, [TEA, "group:没有"]])
async def test_a_device_is_told_who_comes_and_goes(node: RealtimeNode, asked: Any) -> None:
    """Asked for in `connect.data`: its own coming, then the others', by the names that `presence`
    gives; whoever did not ask is told nothing."""
    alice, first = await connected(node, "alice", data={"join_leave": asked})
    assert (await alice.push("join"))["join"] == {"info": first}
    bob, second = await connected(node, "bob")
    assert await alice.push("join") == {"channel": TEA, "join": {"info": second}}
    present = (await alice.call(presence={"channel": TEA}))["presence"]["presence"]
    assert present == {one["client"]: one for one in (first, second)}
    assert await told(bob) == []
    bob.cut()
    assert await alice.push("leave") == {"channel": TEA, "leave": {"info": second}}
    assert await told(alice) == []


async def test_subscribe_asks_for_one_conversation(start: Start) -> None:
    """Followed on demand; after `unsubscribe` nothing more comes."""
    async with start(recent_conversations=0) as node:
        (alice, first), (bob, second) = [await connected(node, user) for user in ("alice", "bob")]
        reply = await alice.call(subscribe={"channel": TEA, "join_leave": True})
        assert reply["subscribe"]["positioned"]
        assert (await alice.push("join", TEA))["join"]["info"] == first
        await bob.call(subscribe={"channel": TEA})
        assert (await alice.push("join", TEA))["join"]["info"] == second
        await bob.call(unsubscribe={"channel": TEA})
        assert (await alice.push("leave", TEA))["leave"]["info"] == second
        await alice.call(unsubscribe={"channel": TEA})
        await bob.call(subscribe={"channel": TEA, "join_leave": True})
        assert (await bob.push("join", TEA))["join"]["info"] == second
        assert await told(alice) == []


async def test_entries_of_connect_subs_ask_too(node: RealtimeNode) -> None:
    subs = {TEA: {"recover": True, "epoch": node.engine.epoch, "join_leave": True}}
    alice, first = await connected(node, "alice", subs=subs)
    assert (await alice.push("join", TEA))["join"]["info"] == first
    _, second = await connected(node, "bob")
    assert (await alice.push("join", TEA))["join"]["info"] == second


async def test_protobuf_carries_the_same(start: Start) -> None:
    """Read by the schema of an SDK: `subscribe` with field 11, `join` and `leave` as 5 and 6."""
    async with start(recent_conversations=0) as node:
        alice = await RawClient.open(node.port, Sec_WebSocket_Protocol="centrifuge-protobuf")
        connect = {"token": node.token("alice")}
        subscribe = {"channel": TEA, "join_leave": True}
        for command in (
            client_pb2.Command(id=1, connect=connect),
            client_pb2.Command(id=2, subscribe=subscribe),
        ):
            encoded = command.SerializeToString()
            alice.send_frame(BINARY, _length(len(encoded)) + encoded)
        pushes = _pushes(alice)
        assert (await anext(pushes)).join.info.user == "alice"
        bob, second = await connected(node, "bob")
        await bob.call(subscribe={"channel": TEA})
        came = await anext(pushes)
        assert (came.channel, came.join.info.user) == (TEA, "bob")
        assert came.join.info.client == second["client"]
        bob.cut()
        gone = await anext(pushes)
        assert (gone.channel, gone.leave.info.user) == (TEA, "bob")


def _length(size: int) -> bytes:
    return bytes([size]) if size < 128 else bytes([size & 0x7F | 0x80, size >> 7])


async def _pushes(client: RawClient) -> AsyncIterator[Any]:
    """Joins and leaves, in order."""
    while True:
        async with asyncio.timeout(10):
            _, payload = await client.read_frame()
        for part in split_messages(payload) or []:
            push = client_pb2.Reply.FromString(part).push
            if push.HasField("join") or push.HasField("leave"):
                yield push


async def test_who_is_removed_is_told_nothing_more(node: RealtimeNode) -> None:
    """The others are told that the devices have gone; added again, the asking holds."""
    alice, _ = await connected(node, "alice", data=ALL)
    bob, second = await connected(node, "bob", data=ALL)
    while (await alice.push("join"))["join"]["info"] != second:
        pass
    await bob.push("join")
    await all_told(node)
    await told(alice), await told(bob)
    await node.engine.remove_member("tea", "bob")
    assert (await alice.push("leave"))["leave"]["info"] == second
    await bob.push("unsubscribe", TEA)
    await node.engine.add_members("tea", ["carol"])
    carol, third = await connected(node, "carol")
    assert (await alice.push("join"))["join"]["info"] == third
    carol.cut()
    assert (await alice.push("leave"))["leave"]["info"] == third
    assert await told(bob) == []
    await node.engine.add_members("tea", ["bob"])
    await bob.push("subscribe", TEA)
    assert (await bob.push("join"))["join"]["info"] == second
    assert (await alice.push("join"))["join"]["info"] == second


async def test_other_conversations_tell_nobody(node: RealtimeNode) -> None:
    """Private ones, inboxes and broadcasts, although they were asked about."""
    sent = await node.engine.send("private", "bob", sender="alice", text=WORDS)
    assert sent.conversation == PRIVATE
    names = [PRIVATE, "inbox:alice", "inbox:bob", "broadcast:all"]
    alice, _ = await connected(node, "alice", data={"join_leave": names})
    bob, second = await connected(node, "bob", data=ALL)
    await bob.call(unsubscribe={"channel": PRIVATE})
    await bob.call(subscribe={"channel": PRIVATE, "join_leave": True})
    await in_step(node.engine, PRIVATE)
    while (await bob.push("join", TEA))["join"]["info"] != second:
        pass
    await all_told(node)
    assert set(node.engine.comings._index) == {TEA}
    assert {push["channel"] for push in await told(bob)} <= {TEA}
    assert await told(alice) == []


async def test_over_the_limit_nobody_is_told(start: Start) -> None:
    """Their own coming neither, until fewer follow the group; `presence_stats` goes on."""
    async with start(join_leave_clients=2) as node:
        (bob, _), (again, last) = [await connected(node, "bob") for _ in range(2)]
        await in_step(node.engine, TEA)
        alice, first = await connected(node, "alice", data=ALL)
        await in_step(node.engine, TEA)
        await all_told(node)
        assert await told(alice) == []
        stats = (await alice.call(presence_stats={"channel": TEA}))["presence_stats"]
        assert stats == {"num_clients": 3, "num_users": 2}
        bob.cut()
        assert [(await alice.push("join"))["join"]["info"] for _ in range(2)] == [last, first]
        again.cut()
        assert (await alice.push("leave"))["leave"]["info"] == last
        assert await told(alice) == []


async def test_coming_back_at_once_is_a_going_and_a_coming(start: Start) -> None:
    """The connection is another one, under another name; both are told in one frame."""
    async with start(join_leave_seconds=1) as node:
        alice, first = await connected(node, "alice", data=ALL)
        bob, old = await connected(node, "bob")
        assert [(await alice.push("join"))["join"]["info"] for _ in range(2)] == [first, old]
        await all_told(node)
        alice.frame_sizes.clear()
        bob.cut()
        _, new = await connected(node, "bob")
        assert (await alice.push("leave"))["leave"]["info"] == old
        frames = len(alice.frame_sizes)
        assert (await alice.push("join"))["join"]["info"] == new
        assert len(alice.frame_sizes) == frames


async def test_what_is_told_after_the_own_coming_completes_presence(start: Start) -> None:
    """Every client of a group that comes back together knows all of them in the end."""
    async with start(join_leave_seconds=0.2, user_connections=0) as node:
        clients = [await connected(node, "bob", data=ALL) for _ in range(60)]
        names = {one["client"] for _, one in clients}
        for client, named in clients:
            while (await client.push("join", TEA))["join"]["info"] != named:
                pass
            present = (await client.call(presence={"channel": TEA}))["presence"]["presence"]
            seen = set(present)
            while seen != names:
                seen.add((await client.push("join", TEA))["join"]["info"]["client"])


@pytest.mark.parametrize("wrong", ["ja 是", 1, [1], [""], {"茶": True}])
async def test_what_is_no_answer_to_whom_is_refused(node: RealtimeNode, wrong: Any) -> None:
    client = await RawClient.open(node.port)
    connect = {"token": node.token("bob"), "data": {"join_leave": wrong}}
    reply = await client.call(connect=connect)
    assert reply["error"]["code"] == 1000
    assert "join_leave" in reply["error"]["message"]
