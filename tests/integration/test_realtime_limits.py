"""A slow, silent or greedy client hurts only itself: every deadline and bound of a connection."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from qunxin.engine import Engine
from qunxin.gateways.connection import Connection
from qunxin.gateways.realtime import RealtimeSettings
from realtime_client import (
    PING,
    TEA,
    TEXT,
    ProtobufClient,
    RawClient,
    RealtimeNode,
    frame,
    in_step,
    put_tea,
    realtime_node,
)


@asynccontextmanager
async def tea_node(engine: Engine, **settings: Any) -> AsyncIterator[RealtimeNode]:
    await put_tea(engine)
    settings = {"linger_seconds": 0.5, "ping_spacing_seconds": 0.1} | settings
    async with realtime_node(engine, RealtimeSettings(**settings)) as node:
        yield node


async def test_who_does_not_connect_in_time_is_ended(engine: Engine, backend: Any) -> None:
    async with tea_node(engine, websocket_backend=backend, connect_timeout_seconds=0.2) as node:
        silent = await RawClient.open(node.port)
        refused = await RawClient.open(node.port)
        assert "error" in await refused.call(connect={"token": "坏"})
        assert (await silent.closed()).code == 4005
        assert (await refused.closed()).code == 4006


async def test_who_does_not_answer_pings_is_ended(engine: Engine, backend: Any) -> None:
    """And comes back: the code says so. WebSocket pongs are no answer."""
    settings = {"websocket_backend": backend, "pong_timeout_seconds": 0.5}
    async with tea_node(engine, **settings, ping_interval_seconds=3) as node:
        bob = await node.client("bob")
        bob.answers_pings = False
        assert (await bob.closed()).code == 4002


async def test_an_idle_connection_is_pinged_within_the_interval(engine: Engine) -> None:
    async with tea_node(engine, ping_interval_seconds=4) as node:
        bob = await node.client("bob")
        bob.lines.clear()
        started = asyncio.get_running_loop().time()
        for _ in range(2):
            await bob.ping()
        assert asyncio.get_running_loop().time() - started < 8.5


async def test_pings_ride_with_entries_and_are_not_many(engine: Engine) -> None:
    """A busy session is pinged once per spacing, in the frames that it gets anyway."""
    async with tea_node(engine, ping_spacing_seconds=1) as node:
        bob = await node.client("bob")
        await bob.ping()
        for i in range(100):
            await engine.send("group", "tea", sender="alice", text=f"忙 {i}")
        while True:
            push = await bob.push("pub", TEA)
            if push["pub"]["data"].get("content") == [{"type": "text", "text": "忙 99"}]:
                break
        assert sum(line == {} for line in bob.lines) <= 3


async def test_a_reader_that_stops_is_ended_and_the_others_go_on(
    engine: Engine, backend: Any
) -> None:
    """Its unsent bytes are bounded, its memory is let go, it may come back and recover."""
    async with tea_node(
        engine,
        websocket_backend=backend,
        max_unsent_bytes=512 * 1024,
        slow_seconds=0.5,
        linger_seconds=0.2,
    ) as node:
        alice, bob = await node.client("alice"), await node.client("bob")
        await in_step(engine, TEA)
        text = "慢" * 15_000
        sent = 0
        for i in range(60):
            receipt = await alice.rpc("message.send", type="group", to="tea", text=f"{text}{i}")
            sent = receipt["position"]
            alice.lines.clear()
        async with asyncio.timeout(5):
            while engine.sessions("bob"):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert len(engine.sessions("alice")) == 1
        seen = 0
        closed = None
        try:
            while True:
                seen = (await bob.push("pub", TEA))["pub"]["offset"]
        except Exception as error:  # noqa: BLE001 - however it ends, it has ended
            closed = error
        assert closed is not None
        again = await RawClient.open(node.port)
        position = {"recover": True, "offset": seen, "epoch": engine.epoch}
        reply = await again.connect(node.token("bob"), subs={TEA: position})
        assert reply["subs"][TEA]["recovered"] is True
        offsets = [(await again.push("pub", TEA))["pub"]["offset"] for _ in range(seen, sent)]
        assert offsets == list(range(seen + 1, sent + 1))


async def test_a_burst_over_the_bound_does_not_end_a_client_that_keeps_up(
    engine: Engine, backend: Any
) -> None:
    """Else one member who sends much at once would throw out all the others."""
    async with tea_node(
        engine, websocket_backend=backend, max_unsent_bytes=256 * 1024, slow_seconds=1
    ) as node:
        bob = await node.client("bob")
        burst = [engine.send("group", "tea", sender="alice", text="涌" * 20_000) for _ in range(40)]
        receipts = await asyncio.gather(*burst)
        last = max(receipt.position for receipt in receipts)
        offset = 0
        while offset < last:
            push = await bob.push("pub", TEA)
            assert offset in (0, push["pub"]["offset"] - 1)
            offset = push["pub"]["offset"]
        assert (await bob.rpc("user.get"))["user"] == "bob"


async def test_a_client_that_reads_but_never_answers_is_bounded_too(engine: Engine) -> None:
    """The socket does not show an app that is slow behind a fast reader; missing pongs do."""
    async with tea_node(engine, max_unsent_bytes=256 * 1024, slow_seconds=0.5) as node:
        bob = await node.client("bob")
        await in_step(engine, TEA)
        bob.answers_pings = False
        for _ in range(12):
            await engine.send("group", "tea", sender="alice", text="攒" * 10_000)
        assert (await bob.closed()).code == 4001


async def test_a_flood_of_commands_is_refused_with_advice_and_then_ended(
    engine: Engine, backend: Any
) -> None:
    async with tea_node(engine, websocket_backend=backend, commands_per_second=20) as node:
        bob = await node.client("bob")
        bob.send(*[{"id": 100 + i, "ping": {}} for i in range(60)])
        replies = [await bob.reply(100 + i) for i in range(60)]
        refused = [reply for reply in replies if "error" in reply]
        assert 15 <= len(refused) <= 25
        assert refused[0]["error"]["code"] == 1301
        assert refused[0]["error"]["temporary"] is True
        assert " s)" in refused[0]["error"]["message"]
        bob.send(*[{"id": 300 + i, "ping": {}} for i in range(200)])
        assert (await bob.closed()).code == 4007


async def test_send_is_never_answered_with_what_looks_like_a_ping(
    engine: Engine, backend: Any
) -> None:
    """It has no id to answer to; refused for whatever reason, it ends with its own code."""
    async with tea_node(engine, websocket_backend=backend, commands_per_second=20) as node:
        bob = await node.client("bob")
        flood = [{"id": 100 + i, "ping": {}} for i in range(50)]
        bob.send(*flood, {"send": {"data": "寄 📮"}})
        assert (await bob.closed()).code == 4511
        assert "error" in await bob.reply(149)
        assert not _errors_without_id(bob)
        alice = await RawClient.open(node.port)
        long = {"send": {"data": "长" * 60_000}}
        alice.send({"id": 1, "connect": {"token": node.token("alice")}}, long)
        assert (await alice.closed()).code == 4511
        assert not _errors_without_id(alice)


def _errors_without_id(client: RawClient) -> list[dict[str, Any]]:
    return [line for line in client.lines if "error" in line and not line.get("id")]


async def test_send_in_a_node_that_goes_down_has_its_own_end_too(engine: Engine) -> None:
    async with tea_node(engine) as node:
        bob = await node.client("bob")
        node.gateway.closing = True
        bob.send({"id": 2, "ping": {}}, {"send": {"data": "寄 📮"}})
        assert (await bob.reply(2))["error"]["code"] == 1304
        assert (await bob.closed()).code == 4511
        assert not _errors_without_id(bob)


async def test_coming_back_gives_no_new_allowance(engine: Engine, backend: Any) -> None:
    """Who was thrown out for too many commands owes them still; others are not concerned."""
    async with tea_node(engine, websocket_backend=backend, commands_per_second=20) as node:
        bob = await node.client("bob")
        bob.send(*[{"id": 100 + i, "ping": {}} for i in range(200)])
        assert (await bob.closed()).code == 4007
        again = await node.client("bob")
        again.send({"id": 9, "ping": {}})
        assert (await again.closed()).code == 4007
        alice = await node.client("alice")
        assert "error" not in await alice.call(ping={})


@pytest.mark.parametrize(
    "junk",
    [frame(PING, "满".encode()), frame(TEXT, b"", fin=False) + frame(0, b""), frame(1, b"\n")],
    ids=["pings", "empty fragments", "empty lines"],
)
async def test_a_flood_of_frames_that_ask_for_nothing_is_ended(
    engine: Engine, backend: Any, junk: bytes
) -> None:
    async with tea_node(engine, websocket_backend=backend, commands_per_second=50) as node:
        bob = await node.client("bob")
        bob.writer.write(junk * 1000)
        assert (await bob.closed()).code == 4007


async def test_a_client_that_pings_and_does_not_read_gets_no_pongs_piled_up(
    engine: Engine, backend: Any
) -> None:
    """The answers to WebSocket pings are bounded like everything else."""
    async with tea_node(engine, websocket_backend=backend, commands_per_second=1e9) as node:
        bob = await node.client("bob")
        (connection,) = node.gateway._connections
        assert isinstance(connection, Connection)
        ping = frame(PING, "满".encode() * 40) * 500
        for _ in range(100):
            bob.writer.write(ping)
            await asyncio.wait_for(bob.writer.drain(), 5)
            assert connection.unsent_bytes < 256 * 1024


async def test_more_connections_than_allowed_are_told_to_come_back(
    engine: Engine, backend: Any
) -> None:
    async with tea_node(engine, websocket_backend=backend, max_connections=2) as node:
        await node.client("alice")
        bob = await node.client("bob")
        third = await RawClient.dial(node.port)
        status, headers, body = await third.upgrade(Accept_Language="zh")
        assert status == 503
        assert headers["retry-after"] == "1"
        assert "系统繁忙" in body.decode()
        bob.cut()
        async with asyncio.timeout(5):
            while node.gateway.connections > 1:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        await node.client("bob")


@pytest.mark.processes
async def test_a_connection_outlives_its_token_by_the_grace_only(
    engine: Engine, backend: Any
) -> None:
    async with tea_node(engine, websocket_backend=backend, expiry_grace_seconds=0.2) as node:
        bob = await RawClient.open(node.port)
        await bob.connect(node.token("bob", 1))
        assert (await bob.closed()).code == 4004
        refreshed = await RawClient.open(node.port)
        await refreshed.connect(node.token("bob", 1))
        await refreshed.call(refresh={"token": node.token("bob")})
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(2.5):
                await refreshed.closed()


async def test_messages_sent_without_waiting_keep_their_order(engine: Engine) -> None:
    """They share transactions and still are numbered as they were sent, and what comes behind
    them sees them."""
    async with tea_node(engine) as node:
        alice = await node.client("alice")
        for i in range(300):
            data = {"type": "group", "to": "tea", "text": f"第 {i}", "key": f"k{i}"}
            alice.send({"id": 100 + i, "rpc": {"method": "message.send", "data": data}})
        alice.send({"id": 99, "history": {"channel": TEA, "limit": 1, "reverse": True}})
        newest = (await alice.reply(99))["history"]["publications"][0]
        assert newest["data"]["key"] == "k299"
        positions = [(await alice.reply(100 + i))["rpc"]["data"]["position"] for i in range(300)]
        assert positions == list(range(positions[0], positions[0] + 300))


async def test_more_pending_commands_than_the_bound_are_refused(engine: Engine) -> None:
    async with tea_node(engine, max_pending_commands=5) as node:
        bob = await node.client("bob")
        bob.send(*[{"id": 100 + i, "rpc": {"method": "user.get"}} for i in range(20)])
        replies = [await bob.reply(100 + i) for i in range(20)]
        assert ["rpc" in reply for reply in replies] == [True] * 5 + [False] * 15
        assert {r["error"]["code"] for r in replies if "error" in r} == {1301}


async def test_commands_that_hold_too_much_together_are_refused(engine: Engine) -> None:
    """However few they are; afterwards there is room again."""
    async with tea_node(engine, max_pending_bytes=256 * 1024) as node:
        alice = await node.client("alice")
        for _ in range(2):
            for i in range(10):
                data = {"text": "重" * 20_000}
                alice.send({"id": 100 + i, "publish": {"channel": TEA, "data": data}})
            replies = [await alice.reply(100 + i) for i in range(10)]
            refused = [reply["error"]["code"] for reply in replies if "error" in reply]
            assert 0 < len(refused) < 10
            assert set(refused) == {1301}
        assert (await alice.call(publish={"channel": TEA, "data": {"text": "轻"}}))["publish"] == {}


@pytest.mark.parametrize("kind", [RawClient, ProtobufClient])
async def test_lines_that_are_longer_than_what_they_ask_are_refused_too(
    engine: Engine, kind: type[RawClient]
) -> None:
    """Every byte of a command counts while it waits, not those of messages alone."""
    async with tea_node(engine, max_pending_bytes=256 * 1024) as node:
        bob = await kind.open(node.port)
        await bob.connect(node.token("bob"))
        token = "撑" * 20_000
        bob.send(*[{"id": 100 + i, "refresh": {"token": token}} for i in range(10)])
        replies = [await bob.reply(100 + i) for i in range(10)]
        assert [reply["error"]["code"] for reply in replies] == [1001] * 4 + [1301] * 6
        assert (await bob.call(ping={}))["ping"] == {}


async def test_a_half_open_upgrade_leaves_nothing(engine: Engine, backend: Any) -> None:
    """Gone right after the request, before the answer."""
    async with tea_node(engine, websocket_backend=backend) as node:
        for _ in range(20):
            client = await RawClient.dial(node.port)
            client.writer.write(
                b"GET /connection/websocket HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
                b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
            )
            await client.writer.drain()
            client.cut()
        bob = await node.client("bob")
        assert (await bob.rpc("user.get"))["user"] == "bob"
        async with asyncio.timeout(5):
            while node.gateway.connections > 1:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
