"""Realtime over HTTP: one long answer, and requests beside it; the same session with the same
limits as over a WebSocket."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from centrifuge.protocol import client_pb2

from qunxin.engine import Engine
from qunxin.gateways.realtime import RealtimeSettings
from qunxin.wire.protobuf import PROTOBUF, split_messages
from realtime_client import TEA, RealtimeNode, put_tea, realtime_node

WORDS = "早安 👩\u200d👩\u200d👧 مرحبا \u202eabc\u202c\u2028\r\n"
DEEP = '{"session":"x","node":"y","data":"茶","z":' + "[" * 90_000 + "]" * 90_000 + "}"
SETTINGS = RealtimeSettings(
    ping_spacing_seconds=0.1,
    connect_timeout_seconds=1.0,
    allowed_origins=("https://app.example",),
)


@pytest.fixture
async def node(engine: Engine) -> AsyncIterator[RealtimeNode]:
    await put_tea(engine)
    async with realtime_node(engine, SETTINGS) as running:
        yield running


@pytest.fixture
async def http(node: RealtimeNode) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{node.port}", timeout=10) as client:
        yield client


class Stream:
    """What one streamed answer has told, line by line; pings are answered."""

    def __init__(self, http: httpx.AsyncClient, response: httpx.Response) -> None:
        self.http = http
        self.response = response
        self.session: dict[str, str] = {}
        self._lines = self._read()
        self._id = 1

    async def _read(self) -> AsyncIterator[dict[str, Any]]:
        async for line in self._split():
            text = line.removeprefix(b"data: ")
            if not text:
                continue
            found = json.loads(text)
            if found == {} and self.session:
                await self.post("{}")
            elif found:
                yield found

    async def _split(self) -> AsyncIterator[bytes]:
        """At line feeds alone: httpx splits text at other characters too."""
        held = b""
        async for piece in self.response.aiter_raw():
            *lines, held = (held + piece).split(b"\n")
            for line in lines:
                yield line

    async def next(self) -> dict[str, Any]:
        async with asyncio.timeout(10):
            return await anext(self._lines)

    async def until(self, *path: str) -> Any:
        """What stands under `path` in the first line that has it."""
        while True:
            found: Any = await self.next()
            for name in path:
                found = found.get(name) if isinstance(found, dict) else None
            if found is not None:
                return found

    async def rest(self) -> list[dict[str, Any]]:
        async with asyncio.timeout(10):
            return [line async for line in self._lines]

    async def connected(self) -> dict[str, Any]:
        reply: dict[str, Any] = await self.until("connect")
        self.session = {"session": reply["session"], "node": reply["node"]}
        return reply

    async def post(self, data: str) -> httpx.Response:
        return await self.http.post("/emulation", json={**self.session, "data": data})

    async def call(self, **command: Any) -> None:
        self._id += 1
        answer = await self.post(json.dumps({"id": self._id, **command}))
        assert answer.status_code == 204, answer.text


def connect_line(token: str, **fields: Any) -> str:
    return json.dumps({"id": 1, "connect": {"token": token, **fields}})


@asynccontextmanager
async def opened(http: httpx.AsyncClient, kind: str, first: str) -> AsyncIterator[Stream]:
    if kind == "sse":
        request = http.stream("GET", "/connection/sse", params={"cf_connect": first})
    else:
        request = http.stream("POST", "/connection/http_stream", content=first)
    async with request as response:
        assert response.status_code == 200
        yield Stream(http, response)


@pytest.mark.parametrize("kind", ["http_stream", "sse"])
async def test_a_conversation_without_websockets(
    node: RealtimeNode, http: httpx.AsyncClient, kind: str
) -> None:
    """Connected, told, sending, pinged; gone from the node when the answer is closed."""
    async with opened(http, kind, connect_line(node.token("bob"))) as bob:
        reply = await bob.connected()
        assert TEA in reply["subs"]
        receipt = await node.engine.send("group", "tea", sender="alice", text=WORDS)
        while (pub := await bob.until("push", "pub"))["offset"] < receipt.position:
            pass
        assert pub["data"]["content"] == [{"type": "text", "text": WORDS}]
        await bob.call(
            rpc={"method": "message.send", "data": {"type": "group", "to": "tea", "text": WORDS}}
        )
        told = [await bob.next() for _ in range(2)]
        positions = {
            line["rpc"]["data"]["position"] if "rpc" in line else line["push"]["pub"]["offset"]
            for line in told
        }
        assert positions == {receipt.position + 1}
        async with asyncio.timeout(5):
            while not await _delivered(node, receipt.position + 1):
                await bob.call(ping={})
                await bob.until("ping")
    async with asyncio.timeout(5):
        while node.gateway.connections:  # noqa: ASYNC110 - the server's own reading
            await asyncio.sleep(0.01)
    assert (await http.post("/emulation", json={**bob.session, "data": "{}"})).status_code == 404


async def _delivered(node: RealtimeNode, position: int) -> bool:
    """Whether bob's device has proved that it has what stands at `position`."""
    await node.engine.cursors.flush()
    page = await node.engine.conversations("bob")
    (row,) = [row for row in page[0] if row.conversation == TEA]
    return row.delivered >= position


async def test_protobuf_over_a_stream(node: RealtimeNode, http: httpx.AsyncClient) -> None:
    """Lengths and messages, in the answer and in what is posted."""
    connect = client_pb2.Command(id=1, connect={"token": node.token("bob")})
    kind = {"content-type": "application/octet-stream"}
    async with http.stream(
        "POST", "/connection/http_stream", content=_delimited(connect), headers=kind
    ) as response:
        replies = _replies(response)
        reply = (await anext(replies)).connect
        assert TEA in reply.subs
        ping = _delimited(client_pb2.Command(id=2, ping={}))
        posted = client_pb2.EmulationRequest(node=reply.node, session=reply.session, data=ping)
        answer = await http.post("/emulation", content=posted.SerializeToString(), headers=kind)
        assert answer.status_code == 204
        while (found := await anext(replies)).id != 2:
            pass
        assert found.HasField("ping")


def _delimited(message: Any) -> bytes:
    encoded: bytes = message.SerializeToString()
    assert len(encoded) < 2**14
    return bytes([len(encoded) & 0x7F | 0x80, len(encoded) >> 7]) + encoded


async def _replies(response: httpx.Response) -> AsyncIterator[Any]:
    """Each write of the server is a piece of its own here, since nothing is cut."""
    async for piece in response.aiter_raw():
        for part in split_messages(piece) or []:
            yield client_pb2.Reply.FromString(part)


async def test_the_end_is_told_with_its_code(node: RealtimeNode, http: httpx.AsyncClient) -> None:
    """Where a WebSocket has a close frame a stream has a push, then its end."""
    async with opened(http, "http_stream", connect_line(node.token("bob"))) as bob:
        await bob.connected()
        await node.engine.put_user("bob", state="suspended")
        *_, last = await bob.rest()
        assert last == {
            "push": {"disconnect": {"code": 4500, "reason": "the account is suspended"}}
        }


async def test_a_node_that_goes_down_tells_its_streams(
    node: RealtimeNode, http: httpx.AsyncClient
) -> None:
    async with opened(http, "sse", connect_line(node.token("bob"))) as bob:
        await bob.connected()
        closing = asyncio.create_task(node.gateway.close())
        *_, last = await bob.rest()
        assert last["push"]["disconnect"]["code"] == 4000
        await closing
    refused = await http.post("/connection/http_stream", content="{}")
    assert refused.status_code == 503
    assert refused.json()["code"] == "shutting_down"


async def test_a_refused_connect_is_an_error_in_the_stream(http: httpx.AsyncClient) -> None:
    """And whoever neither leaves nor connects is ended in time."""
    async with opened(http, "http_stream", connect_line("不是令牌")) as stranger:
        error = await stranger.until("error")
        assert error["code"] == 1001
        assert (await stranger.rest())[-1]["push"]["disconnect"]["code"] == 4006
    async with opened(http, "http_stream", "") as silent:
        assert (await silent.rest())[-1]["push"]["disconnect"]["code"] == 4005


async def test_a_client_that_never_pongs_is_ended(engine: Engine) -> None:
    settings = RealtimeSettings(ping_spacing_seconds=0.1, pong_timeout_seconds=0.5)
    await engine.put_user("bob")
    async with realtime_node(engine, settings) as node:
        url = f"http://127.0.0.1:{node.port}"
        async with (
            httpx.AsyncClient(base_url=url, timeout=10) as http,
            opened(http, "http_stream", connect_line(node.token("bob"))) as bob,
        ):
            assert (await bob.rest())[-1]["push"]["disconnect"]["code"] == 4002


@pytest.mark.parametrize(
    ("method", "path", "fields", "status"),
    [
        ("GET", "/connection/http_stream", {}, 405),
        ("POST", "/connection/sse", {}, 405),
        ("GET", "/connection/sse", {}, 400),
        ("GET", "/emulation", {}, 405),
        ("POST", "/emulation", {"content": "茶"}, 400),
        ("POST", "/emulation", {"json": {"session": "x", "node": "y", "data": 1}}, 400),
        ("POST", "/emulation", {"content": DEEP}, 400),
        ("POST", "/emulation", {"json": {"session": "x", "node": "y", "data": "{}"}}, 404),
        ("POST", "/connection/http_stream", {"content": b"x" * (2**20 + 1)}, 413),
        ("POST", "/connection/http_stream", {"headers": {"host": "evil.example"}}, 400),
        ("POST", "/emulation", {"headers": {"origin": "https://evil.example"}}, 403),
        ("GET", "/elsewhere", {}, 404),
    ],
)
async def test_requests_that_are_refused(
    node: RealtimeNode,
    http: httpx.AsyncClient,
    method: str,
    path: str,
    fields: dict[str, Any],
    status: int,
) -> None:
    """With a problem document, unless somebody else answers."""
    answer = await http.request(method, path, **fields)
    assert answer.status_code == status, answer.text
    if path != "/elsewhere":
        assert answer.headers["content-type"].startswith("application/problem+json")
        assert answer.json()["status"] == status
    assert not node.gateway.connections


async def test_a_lost_upgrade_is_told(node: RealtimeNode, http: httpx.AsyncClient) -> None:
    """What a proxy that does not pass `Upgrade` on makes of a WebSocket's request: 426, with what
    to mend; strangers are refused as such, and the WebSocket itself is still there."""
    key = {"sec-websocket-key": "x3JJHMbDL1EzLkh9GBhXDw==", "sec-websocket-version": "13"}
    for language, word in (("en", "not valid"), ("zh", "请求无效")):
        headers = {**key, "accept-language": language}
        answer = await http.get("/connection/websocket", headers=headers)
        assert (answer.status_code, answer.json()["status"]) == (426, 426)
        assert (answer.headers["upgrade"], answer.headers["connection"]) == ("websocket", "upgrade")
        assert answer.headers["content-type"] == "application/problem+json"
        assert word in answer.json()["detail"]
        assert "must pass Upgrade and Connection on" in answer.json()["detail"]
    foreign = {"origin": "https://evil.example"}
    assert (await http.get("/connection/websocket", headers=foreign)).status_code == 403
    posted = await http.post("/connection/websocket")
    assert (posted.status_code, posted.headers["allow"]) == (405, "GET")
    bob = await node.client("bob")
    assert (await bob.rpc("user.get"))["user"] == "bob"


async def test_an_allowed_origin_may_ask_and_post(
    node: RealtimeNode, http: httpx.AsyncClient
) -> None:
    origin = {"origin": "https://app.example"}
    asked = await http.options("/emulation", headers=origin)
    assert asked.status_code == 204
    assert asked.headers["access-control-allow-origin"] == "https://app.example"
    assert asked.headers["access-control-allow-headers"] == "content-type"
    async with http.stream(
        "POST", "/connection/http_stream", content=connect_line(node.token("bob")), headers=origin
    ) as response:
        assert response.headers["access-control-allow-origin"] == "https://app.example"
        assert response.headers["cache-control"] == "no-store"


async def test_a_body_drop_by_drop_is_cut(node: RealtimeNode) -> None:
    """A client that announces a connect command and does not send it holds nothing for long."""
    reader, writer = await asyncio.open_connection("127.0.0.1", node.port)
    writer.write(
        b"POST /connection/http_stream HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{"
    )
    async with asyncio.timeout(5):
        head = await reader.readuntil(b"\r\n\r\n")
        assert b" 408 " in head.split(b"\r\n")[0]
        assert (await reader.read()).endswith(b"}")
    writer.close()
    assert not node.gateway.connections


LARGE = "大水 🌊".encode() * 1_000_000
"""More than the sockets on both sides take."""


async def _large(_scope: Any, _receive: Any, send: Any) -> None:
    headers = [(b"content-length", b"%d" % len(LARGE))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": LARGE})


async def _dial(node: RealtimeNode) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection that takes little before it is read from."""
    dialled = socket.socket()
    dialled.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    dialled.setblocking(False)
    await asyncio.get_running_loop().sock_connect(dialled, ("127.0.0.1", node.port))
    return await asyncio.open_connection(sock=dialled, limit=4_096)


def _post(node: RealtimeNode) -> bytes:
    """The request that opens a stream for bob."""
    body = connect_line(node.token("bob")).encode()
    head = "POST /connection/http_stream HTTP/1.1\r\nHost: localhost\r\nContent-Length: "
    return head.encode() + b"%d\r\n\r\n%b" % (len(body), body)


async def _until_connections(node: RealtimeNode, count: int) -> None:
    while node.gateway.connections != count:  # noqa: ASYNC110 - the server's own reading
        await asyncio.sleep(0.01)


async def test_closing_does_not_wait_for_a_stream_that_cannot_begin(engine: Engine) -> None:
    """Its client does not take the answer before it. That one is not touched."""
    await put_tea(engine)
    settings = RealtimeSettings(shutdown_timeout_seconds=1)
    async with realtime_node(engine, settings, _large) as node:
        reader, writer = await _dial(node)
        writer.write(b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n" + _post(node))
        await _until_connections(node, 1)
        await node.gateway.close()
        assert node.gateway.connections == 0
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 ")
        assert await reader.readexactly(len(LARGE)) == LARGE
        writer.close()


async def test_a_slow_stream_is_let_go_soon_after_its_end(engine: Engine) -> None:
    """One that does not take its last words either is cut, as a WebSocket is: the pieces that are
    on their way are all that still comes. It is not kept until the socket itself breaks."""
    await put_tea(engine)
    settings = RealtimeSettings(max_unsent_bytes=2**20, slow_seconds=2, linger_seconds=0.2)
    async with realtime_node(engine, settings) as node:
        reader, writer = await _dial(node)
        writer.write(_post(node))
        await _until_connections(node, 1)
        await _until_sessions(node, 1)
        text = "慢" * 20_000
        for _ in range(20):
            sends = [engine.send("group", "tea", sender="alice", text=text) for _ in range(10)]
            await asyncio.gather(*sends)
        await _until_sessions(node, 0)
        await _until_connections(node, 0)
        answer = await reader.read(-1)
        writer.close()
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.endswith(b"}\n\r\n"), answer[-100:]


async def _until_sessions(node: RealtimeNode, count: int) -> None:
    while len(node.engine.sessions("bob")) != count:  # noqa: ASYNC110
        await asyncio.sleep(0.01)


def test_events_are_put_together_again() -> None:
    from qunxin.wire.framing import EVENTS_JSON

    assert EVENTS_JSON.build([b'{"a":1}', b"{}"]) == b'data: {"a":1}\ndata: {}\n\n'
    assert PROTOBUF.ping == b"\x00"
