"""The connection under the protocol, with both WebSocket backends: upgrade, frames, end."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest

from qunxin.engine import Engine
from qunxin.engine.session import Session
from qunxin.gateways.connection import Connection
from qunxin.gateways.realtime import RealtimeSettings
from qunxin.gateways.realtime_session import RealtimeSession
from realtime_client import (
    PING,
    PONG,
    TEA,
    TEXT,
    WORDS,
    Closed,
    RawClient,
    RealtimeNode,
    frame,
    realtime_node,
)


async def test_control_frames_and_fragments(node: RealtimeNode) -> None:
    """WebSocket pings are answered, pongs passed over, also inside a fragmented command."""
    bob = await node.client("bob")
    text = b'{"id":77,"rpc":{"method":"user.get","data":{}}}'
    bob.send_frame(TEXT, text[:20], fin=False)
    bob.send_frame(PING, "心跳".encode())
    bob.send_frame(0, b"", fin=False)
    bob.send_frame(PONG, b"unasked")
    bob.send_frame(0, text[20:])
    while (read := await bob.read_frame())[0] != PONG:
        assert read[0] == TEXT
    assert read[1] == "心跳".encode()
    assert (await bob.reply(77))["rpc"]["data"]["user"] == "bob"


async def test_a_frame_in_single_bytes(node: RealtimeNode) -> None:
    bob = await node.client("bob")
    for byte in frame(TEXT, b'{"id":5,"ping":{}}\n\n{"id":6,"ping":{}}\n'):
        bob.writer.write(bytes([byte]))
        await bob.writer.drain()
    await bob.reply(5)
    await bob.reply(6)


@pytest.mark.parametrize(
    ("opcode", "payload", "rsv", "code"),
    [
        (2, b'{"id":1}', 0, 4507),
        (1, b"\xff\xfe", 0, 4508),
        (1, '{"id":1,"ping":"截'.encode()[:-1], 0, 4508),
        (1, b"{}", 4, 4510),
        (3, b"", 0, 4510),
        (0, b"continued from nothing", 0, 4510),
        (1, b"not json", 0, 4503),
        (1, b'{"id":0,"ping":{}}', 0, 4503),
        (1, b"\n".join([b'{"id":1,"ping":{}}'] * 2000), 0, 4503),
        (1, b"{}", 0, 4506),
        (1, b'{"id":9,"connect":{"token":"x"}}', 0, 4505),
        (1, b'{"send":{"data":1}}', 0, 4511),
    ],
)
async def test_what_ends_a_connection_for_good(
    node: RealtimeNode, opcode: int, payload: bytes, rsv: int, code: int
) -> None:
    """With a code of its own and a reason in words; nobody else notices."""
    alice, bob = await node.client("alice"), await node.client("bob")
    bob.send_frame(opcode, payload, rsv=rsv)
    closed = await bob.closed()
    assert closed.code == code
    assert closed.reason
    last = await node.say(1)
    assert (await alice.positions(last))[-1] == last


async def test_commands_before_connect(node: RealtimeNode) -> None:
    for first in (b'{"id":1,"rpc":{"method":"user.get"}}', b"{}"):
        client = await RawClient.open(node.port)
        client.send_frame(TEXT, first)
        assert (await client.closed()).code == 4504


@pytest.mark.parametrize(
    ("headers", "status", "says"),
    [
        ({"Sec_WebSocket_Protocol": "mqtt"}, 400, "subprotocol"),
        ({"Origin": "https://evil.example"}, 403, "origin"),
        ({"Host": "evil.example"}, 400, "Host"),
        ({"Sec_WebSocket_Version": "8"}, 426, "13"),
        ({"Sec_WebSocket_Key": "短"}, 400, "Sec-WebSocket-Key"),
        ({"path": "/elsewhere"}, 404, "/connection/websocket"),
        ({"method": "POST"}, 400, "GET"),
    ],
)
async def test_upgrades_that_are_refused_say_why(
    node: RealtimeNode, headers: dict[str, str], status: int, says: str
) -> None:
    """A whole HTTP answer (RFC 9457), then the end."""
    client = await RawClient.dial(node.port)
    got, fields, body = await client.upgrade(**headers)
    assert got == status
    assert fields["content-type"].startswith("application/problem+json")
    assert says in body.decode()
    assert await client.reader.read() == b""
    client.cut()


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec_WebSocket_Protocol": ""},
        {"Origin": "http://localhost"},
        {"Connection": "Upgrade"},
        {"X_Forwarded_For": "1.2.3.4"},
    ],
)
async def test_upgrades_that_are_taken(node: RealtimeNode, headers: dict[str, str]) -> None:
    """An empty subprotocol header is none; our own page may connect."""
    client = await RawClient.open(node.port, **headers)
    await client.connect(node.token("bob"))


async def test_an_upgrade_in_pieces(node: RealtimeNode) -> None:
    client = await RawClient.dial(node.port)
    head = (
        b"GET /connection/websocket?a=%E8%8C%B6 HTTP/1.1\r\nHost: localhost\r\n"
        b"Upgrade: WebSocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    for byte in head:
        client.writer.write(bytes([byte]))
        await client.writer.drain()
    status, headers, _ = await client.read_response()
    assert status == 101
    assert headers["sec-websocket-accept"] == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
    await client.connect(node.token("bob"))


async def test_frames_before_the_upgrade_was_answered_are_not_dropped_in_silence(
    node: RealtimeNode,
) -> None:
    """No client may send them (RFC 6455, 4.1); one that does is told."""
    client = await RawClient.dial(node.port)
    client.writer.write(
        b"GET /connection/websocket HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
        b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n" + frame(TEXT, b'{"id":1}')
    )
    status, _, body = await client.read_response()
    assert status == 400
    assert "before the upgrade" in body.decode()


async def test_a_client_that_goes_is_forgotten(node: RealtimeNode) -> None:
    """Closing in order is answered; a cut one is noticed too."""
    for cut in (False, True):
        bob = await node.client("bob")
        if cut:
            bob.cut()
        else:
            bob.send_frame(8, (1000).to_bytes(2, "big") + "再见".encode())
            assert (await bob.closed()).code == 1000
        async with asyncio.timeout(5):
            while node.gateway.connections or node.engine.sessions("bob"):  # noqa: ASYNC110
                await asyncio.sleep(0.01)


async def test_closing_the_gateway_tells_everybody_to_come_back(
    engine: Engine, backend: Any
) -> None:
    """In-flight sends are answered first."""
    await engine.put_user("alice")
    await engine.put_group("tea", owner="alice")
    settings = RealtimeSettings(websocket_backend=backend, linger_seconds=0.5)
    async with realtime_node(engine, settings) as node:
        alice = await node.client("alice")
        idle = await RawClient.open(node.port)
        alice.send(
            *[
                {"id": 100 + i, "publish": {"channel": TEA, "data": {"text": f"最后 {i}"}}}
                for i in range(50)
            ]
        )
        await alice.reply(100)
        closing = asyncio.create_task(node.gateway.close())
        replies = [await alice.reply(100 + i) for i in range(1, 50)]
        assert all(reply == {"id": 101 + i, "publish": {}} for i, reply in enumerate(replies))
        for client in (alice, idle):
            closed = await client.closed()
            assert closed.code == 4000
            client.cut()
        await closing
        refused = await RawClient.dial(node.port)
        status, headers, _ = await refused.upgrade()
        assert (status, headers["retry-after"]) == (503, "1")
        refused.cut()


async def test_nothing_is_left_after_a_raw_cut_in_the_middle_of_a_frame(
    node: RealtimeNode,
) -> None:
    bob = await node.client("bob")
    bob.writer.write(b"\x81\xfe\xff")
    await bob.writer.drain()
    bob.cut()
    with pytest.raises(Closed):
        await bob.read_more()


def _connection_objects() -> list[str]:
    """What there is of connections, garbage that waits for the collector included."""
    kinds = (Connection, RealtimeSession, Session)
    return [type(found).__name__ for found in gc.get_objects() if isinstance(found, kinds)]


async def test_an_ended_connection_leaves_nothing_to_the_collector(node: RealtimeNode) -> None:
    """What a connection held is free as soon as it has ended, or the memory of a server that
    many come to and leave goes up and down with the collector's turns."""
    gc.collect()
    gc.disable()
    try:
        for ending in range(4):
            client = await node.client("bob")
            await node.say(2)
            refused = await client.call(
                publish={"channel": "group:no-such", "data": {"text": WORDS}}
            )
            assert "error" in refused
            if ending == 0:
                client.send_frame(TEXT, b"{", rsv=4)
            elif ending == 1:
                client.send_frame(8, b"")
            elif ending == 2:
                await node.engine.end_sessions("bob")
            client.cut()
        async with asyncio.timeout(10):
            while _connection_objects():  # noqa: ASYNC110 - what is freed has no event
                await asyncio.sleep(0.02)
    finally:
        left = _connection_objects()
        gc.enable()
    assert left == []
