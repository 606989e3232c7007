"""A WebSocket client that may break every rule, and a node for it to talk to."""

from __future__ import annotations

import asyncio
import base64
import json
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, ClassVar, NamedTuple, Self

import jwt
import uvicorn
from google.protobuf.json_format import MessageToDict, ParseDict
from starlette.types import ASGIApp
from uvicorn.server import ServerState

from qunxin.engine import Engine
from qunxin.gateways.auth import Authenticator
from qunxin.gateways.http import HttpSettings
from qunxin.gateways.http.protocol import http_protocol
from qunxin.gateways.keyring import TokenKeys, new_key
from qunxin.gateways.realtime import PATH, RealtimeGateway, RealtimeSettings
from qunxin.wire.framing import WEBSOCKET_PROTOBUF
from qunxin.wire.protobuf import PROTOBUF, split_messages
from qunxin.wire.realtime_pb2 import Command, Reply

TEXT, BINARY, CLOSE, PING, PONG = 0x1, 0x2, 0x8, 0x9, 0xA
TEA = "group:tea"
WORDS = "早安 👩\u200d👩\u200d👧\u200d👦 مرحبا \u202eabc\u202c\u2028"
PATIENCE_SECONDS = 10.0


class Closed(Exception):  # noqa: N818 - an event rather than a fault
    """The server has closed the connection: with a code, or (None) without a close frame."""

    def __init__(self, code: int | None, reason: str = "") -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason


def frame(opcode: int, payload: bytes, *, fin: bool = True, rsv: int = 0) -> bytes:
    """A masked client frame."""
    head = bytes([(0x80 if fin else 0) | rsv << 4 | opcode])
    size = len(payload)
    if size < 126:
        head += bytes([0x80 | size])
    elif size < 65_536:
        head += bytes([0x80 | 126]) + size.to_bytes(2, "big")
    else:
        head += bytes([0x80 | 127]) + size.to_bytes(8, "big")
    mask = os.urandom(4)
    key = (mask * (size // 4 + 1))[:size]
    masked = (int.from_bytes(payload, "big") ^ int.from_bytes(key, "big")).to_bytes(size, "big")
    return head + mask + masked


def varint(number: int) -> bytes:
    written = bytearray()
    while number > 0x7F:
        written.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes((*written, number))


def delimited(message: bytes) -> bytes:
    """A Protobuf message with its length before it."""
    return varint(len(message)) + message


class RawClient:
    """Reads and writes frames; `lines` of text frames come one by one. Those that a test leaves
    open are closed with the node."""

    opened: ClassVar[list[RawClient]] = []
    opcode = TEXT
    subprotocol = "-"
    pong = b"{}"

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.lines: list[dict[str, Any]] = []
        self.frame_sizes: list[int] = []
        self.answers_pings = True
        self._id = 0
        self.opened.append(self)

    @classmethod
    async def dial(cls, port: int) -> Self:
        """Connected, nothing sent."""
        return cls(*await asyncio.open_connection("127.0.0.1", port, limit=2**20))

    @classmethod
    async def open(cls, port: int, **headers: str) -> Self:
        """Connected and upgraded."""
        client = await cls.dial(port)
        asked = {"Sec_WebSocket_Protocol": cls.subprotocol, **headers}
        status, _, body = await client.upgrade(**asked)
        assert status == 101, (status, body)
        return client

    async def upgrade(
        self, path: str = PATH, method: str = "GET", **headers: str
    ) -> tuple[int, dict[str, str], bytes]:
        """Ask for the upgrade; status, headers and body of the answer. An empty value leaves a
        header out."""
        fields = {
            "Host": "localhost",
            "Connection": "keep-alive, Upgrade",
            "Upgrade": "websocket",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": base64.b64encode(os.urandom(16)).decode(),
        }
        fields |= {name.replace("_", "-"): value for name, value in headers.items()}
        lines = [f"{name}: {value}" for name, value in fields.items() if value != "-"]
        self.writer.write("\r\n".join([f"{method} {path} HTTP/1.1", *lines, "", ""]).encode())
        return await self.read_response()

    async def read_response(self) -> tuple[int, dict[str, str], bytes]:
        async with asyncio.timeout(PATIENCE_SECONDS):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode()
            first, *lines = head.split("\r\n")[:-2]
            pairs = [line.partition(": ") for line in lines]
            headers = {name.lower(): value for name, _, value in pairs}
            body = await self.reader.readexactly(int(headers.get("content-length", 0)))
        return int(first.split(" ")[1]), headers, body

    def send_frame(self, opcode: int, payload: bytes, *, fin: bool = True, rsv: int = 0) -> None:
        self.writer.write(frame(opcode, payload, fin=fin, rsv=rsv))

    def send(self, *commands: dict[str, Any]) -> None:
        """Commands in one frame."""
        self.send_frame(self.opcode, self.encode(commands))

    def encode(self, commands: Sequence[dict[str, Any]]) -> bytes:
        """A line each."""
        lines = (json.dumps(command, ensure_ascii=False) for command in commands)
        return "\n".join(lines).encode()

    def decode(self, payload: bytes) -> list[dict[str, Any]]:
        """The lines of one frame; pings are empty."""
        return [json.loads(text) for text in payload.decode().split("\n")]

    async def call(self, **command: Any) -> dict[str, Any]:
        """Give one command; its reply. Pushes before it stay in `lines`."""
        self._id += 1
        number = self._id
        self.send({"id": number, **command})
        return await self.reply(number)

    async def reply(self, number: int) -> dict[str, Any]:
        return await self._find(lambda line: line.get("id") == number)

    async def push(self, kind: str, channel: str | None = None) -> dict[str, Any]:
        """The next push of that kind (and channel)."""

        def fits(line: dict[str, Any]) -> bool:
            push = line.get("push", {})
            return kind in push and channel in (None, push.get("channel"))

        line = await self._find(fits)
        push: dict[str, Any] = line["push"]
        return push

    async def positions(self, last: int, channel: str = TEA) -> list[int]:
        """Offsets of the channel's next pushes until `last` has come."""
        seen: list[int] = []
        while not seen or seen[-1] < last:
            seen.append((await self.push("pub", channel))["pub"]["offset"])
        return seen

    async def ping(self) -> None:
        """Return once the server has pinged, answered or not."""
        await self._find(lambda line: not line)

    async def _find(self, fits: Any) -> dict[str, Any]:
        seen = 0
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                while seen < len(self.lines):
                    if fits(self.lines[seen]):
                        return self.lines.pop(seen)
                    seen += 1
                await self.read_more()

    async def read_more(self) -> None:
        """Read one frame. Raises `Closed`."""
        opcode, payload = await self.read_frame()
        if opcode == CLOSE:
            code = int.from_bytes(payload[:2], "big") if payload else None
            raise Closed(code, payload[2:].decode())
        if opcode == self.opcode:
            self.frame_sizes.append(len(payload))
            for line in self.decode(payload):
                if line == {} and self.answers_pings:
                    self.send_frame(self.opcode, self.pong)
                self.lines.append(line)

    async def read_frame(self) -> tuple[int, bytes]:
        try:
            head = await self.reader.readexactly(2)
            size = head[1] & 0x7F
            assert not head[1] & 0x80, "a server must not mask"
            if size > 125:
                size = int.from_bytes(await self.reader.readexactly(2 if size == 126 else 8), "big")
            return head[0] & 0xF, await self.reader.readexactly(size)
        except (asyncio.IncompleteReadError, ConnectionError):
            raise Closed(None) from None

    async def closed(self) -> Closed:
        """Read on until the server has closed; how it did."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            try:
                while True:
                    await self.read_more()
            except Closed as closed:
                return closed

    async def connect(self, token: str, **fields: Any) -> dict[str, Any]:
        """The connect reply's object. Raises where it is an error."""
        reply = await self.call(connect={"token": token, **fields})
        assert "connect" in reply, reply
        connected: dict[str, Any] = reply["connect"]
        return connected

    async def rpc(self, method: str, **data: Any) -> dict[str, Any]:
        reply = await self.call(rpc={"method": method, "data": data})
        assert "rpc" in reply, reply
        result: dict[str, Any] = reply["rpc"]["data"]
        return result

    def cut(self) -> None:
        """Close the socket without a word."""
        self.writer.transport.abort()


class ProtobufClient(RawClient):
    """The same in Protobuf: lines look as they do in JSON, but for `data`, which is base64, and
    64-bit numbers, which are strings."""

    opcode = BINARY
    subprotocol = WEBSOCKET_PROTOBUF.subprotocol
    pong = PROTOBUF.ping

    def encode(self, commands: Sequence[dict[str, Any]]) -> bytes:
        messages = [ParseDict(one, Command()) for one in commands]
        return b"".join(delimited(one.SerializeToString()) for one in messages)

    def decode(self, payload: bytes) -> list[dict[str, Any]]:
        parts = split_messages(payload)
        assert parts is not None, payload
        replies = [Reply.FromString(part) for part in parts]
        return [MessageToDict(one, preserving_proto_field_name=True) for one in replies]


async def cut_all() -> None:
    """End every client that is still there."""
    while RawClient.opened:
        client = RawClient.opened.pop()
        client.cut()
        with suppress(ConnectionError):
            await client.writer.wait_closed()


class RealtimeNode(NamedTuple):
    """A running gateway."""

    engine: Engine
    authenticator: Authenticator
    gateway: RealtimeGateway
    port: int
    protobuf: bool = False
    """What SDKs are to speak in a test that runs with both encodings."""

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}{PATH}"

    def token(self, user: str, ttl_seconds: int = 3600) -> str:
        return self.authenticator.issue_token(user, ttl_seconds)[0]

    def expired_token(self, user: str) -> str:
        """One of the node's own, signed with its key, in order but for its time, which was over
        ten minutes ago."""
        claims = jwt.decode(self.token(user), options={"verify_signature": False})
        for name in ("iat", "exp"):
            claims[name] -= 3600 + 600
        key = self.authenticator._keys.signing
        return jwt.encode(claims, key.secret, key.algorithm, headers={"kid": key.id})

    async def client(self, user: str, **fields: Any) -> RawClient:
        """A connected client of `user`."""
        client = await RawClient.open(self.port)
        await client.connect(self.token(user), **fields)
        return client

    async def say(self, count: int, text: str = WORDS) -> int:
        """Messages in the tea group by alice; the last position."""
        position = 0
        for i in range(count):
            receipt = await self.engine.send("group", "tea", sender="alice", text=f"{text} {i}")
            position = receipt.position
        return position


async def _nothing_here(_scope: Any, _receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 404, "headers": []})
    await send({"type": "http.response.body", "body": b""})


@asynccontextmanager
async def realtime_node(
    engine: Engine, settings: RealtimeSettings | None = None, otherwise: ASGIApp = _nothing_here
) -> AsyncIterator[RealtimeNode]:
    """The gateway over `engine` on a free port while the block runs; `otherwise` answers what is
    not for it."""
    key = new_key()
    authenticator = Authenticator(engine, TokenKeys(active=key.id, keys=(key,)))
    gateway = RealtimeGateway(engine, authenticator, settings or RealtimeSettings())
    async with _serving(gateway, otherwise) as port:
        try:
            yield RealtimeNode(engine, authenticator, gateway, port)
        finally:
            await cut_all()
            await gateway.close()


@asynccontextmanager
async def _serving(gateway: RealtimeGateway, otherwise: ASGIApp) -> AsyncIterator[int]:
    """The node's own HTTP protocol on a free port, without the waits of uvicorn's server."""
    config = uvicorn.Config(
        gateway.over_http(otherwise),
        http=http_protocol(HttpSettings()),
        ws=gateway.ws_protocol_class,  # type: ignore[arg-type]
        lifespan="off",
        log_config=None,
        access_log=False,
    )
    config.load()
    state = ServerState()

    def protocol() -> asyncio.Protocol:
        made: asyncio.Protocol = config.http_protocol_class(config, state, {})  # type: ignore[call-arg]
        return made

    server = await asyncio.get_running_loop().create_server(protocol, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]
        for connection in list(state.connections):
            connection.shutdown()


async def put_tea(engine: Engine, *outside: str) -> None:
    """The group tea of alice, who owns it, and bob; and accounts that are not in it."""
    for user in ("alice", "bob", *outside):
        await engine.put_user(user, name=f"{user} 先生")
    await engine.put_group("tea", name="茶友会 🍵", owner="alice", members=("bob",))


async def in_step(engine: Engine, conversation: str) -> None:
    """Return once every session in `conversation` is: what is sent before may be read from the
    log, at the pace of the device's pongs, and then nothing of it waits anywhere."""
    async with asyncio.timeout(10):
        while not all(one.live for one in engine.fanout._index[conversation]):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
