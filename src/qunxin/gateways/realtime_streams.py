"""Realtime without WebSockets, for networks that let none through: what the server says is one long
answer over HTTP, what the client says comes in requests of its own.

This is the emulation that the JavaScript SDK falls back to. A stream's first command, `connect`,
stands in the request that opens it: in its body (`http_stream`, JSON or Protobuf), or in its
address (`sse`, JSON). The reply to it names the session, by a secret, and the node; further
commands are posted with both. Everything else is the same session with the same limits.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from http import HTTPStatus
from typing import Final, Protocol
from urllib.parse import parse_qsl

import msgspec
from starlette.types import ASGIApp, Receive, Scope, Send

from qunxin.errors import QunxinError, best_language
from qunxin.gateways.connection import Outlet, Receiver
from qunxin.gateways.problems import CLOSE, HttpStatusError, problem_response
from qunxin.gateways.realtime_session import RealtimeSession
from qunxin.gateways.realtime_settings import (
    CONNECT_BYTES,
    EMULATION_PATH,
    EVENTS_PATH,
    PATH,
    STREAM_PATH,
    RealtimeSettings,
)
from qunxin.gateways.sites import SitePolicy
from qunxin.wire.codes import Disconnect
from qunxin.wire.framing import EVENTS_JSON, STREAM_JSON, STREAM_PROTOBUF, Framing

_log = logging.getLogger("qunxin.realtime")

Header = tuple[bytes, bytes]

_PROTOBUF_TYPE: Final = "application/octet-stream"
_CONNECT_FIELD: Final = "cf_connect"
_METHODS: Final = {
    PATH: "GET",
    STREAM_PATH: "POST",
    EVENTS_PATH: "GET",
    EMULATION_PATH: "POST",
}
_TYPES: Final = {
    STREAM_JSON: b"application/x-ndjson; charset=utf-8",
    STREAM_PROTOBUF: b"application/octet-stream",
    EVENTS_JSON: b"text/event-stream; charset=utf-8",
}
_UNBUFFERED: Final[tuple[Header, ...]] = (
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
    (b"x-content-type-options", b"nosniff"),
)
_UNREAD: Final = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
_PREFLIGHT_SECONDS: Final = 7_200


class Emulation(msgspec.Struct):
    """Commands of a session whose replies are streamed; `data` is what would be one message."""

    session: str
    node: str
    data: str


class Streams(Protocol):
    """Who takes the sessions."""

    @property
    def node(self) -> str: ...

    def admit(self) -> None:
        """Raise `overloaded` or `shutting_down` where no connection is taken now."""
        ...

    def accept(
        self, connection: Outlet, language: str, framing: Framing, stream: str = ""
    ) -> RealtimeSession:
        """Make the session, and set the connection's receiver."""
        ...

    def stream(self, secret: str) -> RealtimeSession | None:
        """The session of that secret, where it still lives."""
        ...

    def closed(self, connection: Outlet) -> None:
        """The connection is over."""
        ...


class StreamConnection:
    """The writing side: what is written goes out as pieces of one answer. What the socket does
    not take is held, bounded by the session as for any other connection. Made in the task that
    answers, and used within `limit`."""

    def __init__(self, framing: Framing, linger_seconds: float) -> None:
        self.receiver: Receiver | None = None
        self.closing = False
        self.limit = asyncio.timeout(None)
        """Ends, with a `TimeoutError`, whatever the answer waits for. Sending waits for as long as
        a client reads nothing; with the headers too, where an earlier answer is not taken yet."""
        self._framing = framing
        self._linger_seconds = linger_seconds
        self._parts: list[bytes] = []
        self._changed = asyncio.Event()

    def write(self, data: bytes) -> None:
        self._parts.append(data)
        self._changed.set()

    def pong(self, payload: bytes) -> None:
        """HTTP has no pings of its own."""

    def close(self, disconnect: Disconnect, *, readable: bool = True) -> None:  # noqa: ARG002
        """The code and the reason as a push, then the end of the answer, at the latest after
        `linger_seconds`."""
        if not self.closing:
            self.write(self._framing.build((self._framing.format.disconnect_push(disconnect),)))
            self.closing = True
            self._cut_after(self._linger_seconds)

    def abort(self) -> None:
        self.closing = True
        self._cut_after(0)

    def _cut_after(self, seconds: float) -> None:
        if not self.limit.expired():
            self.limit.reschedule(asyncio.get_running_loop().time() + seconds)

    async def run(self, receive: Receive, send: Send) -> None:
        """Pass on what is written until either side has ended it."""
        leaving = asyncio.create_task(_left(receive))
        leaving.add_done_callback(lambda _: self._changed.set())
        try:
            while not leaving.done():
                await self._changed.wait()
                self._changed.clear()
                parts, self._parts = self._parts, []
                ending = self.closing
                if parts:
                    await _piece(send, b"".join(parts), more=True)
                if ending and not self._parts:
                    await _piece(send, b"", more=False)
                    return
        finally:
            leaving.cancel()

    def lost(self) -> None:
        """Nothing more can be told to the client."""
        self.closing = True
        receiver, self.receiver = self.receiver, None
        if receiver is not None:
            receiver.lost()


class StreamApp:
    """The ASGI application: the three addresses, and `otherwise` for all others. A request for the
    WebSocket comes here when its upgrade got lost on the way, and is told so."""

    def __init__(self, streams: Streams, settings: RealtimeSettings, otherwise: ASGIApp) -> None:
        self._streams = streams
        self._settings = settings
        self._otherwise = otherwise
        self._sites = SitePolicy(settings.allowed_hosts, settings.allowed_origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] not in _METHODS:
            await self._otherwise(scope, receive, send)
            return
        request = _Request(scope, receive, send)
        try:
            self._check_site(request)
            if request.method == "OPTIONS":
                await request.answer(HTTPStatus.NO_CONTENT, _preflight(request.path))
            elif request.method != _METHODS[request.path]:
                raise _wrong_method(request.path)
            else:
                await self._serve(request)
        except QunxinError as error:
            await request.refuse(error)

    def _check_site(self, request: _Request) -> None:
        """Host and origin, as for an upgrade; an allowed origin gets its CORS headers."""
        host, origin = request.header("host"), request.header("origin")
        server = request.scope.get("server")
        self._sites.check_host(host, None if server is None else server[0])
        foreign = self._sites.check_origin(origin, host)
        if foreign and origin is not None:
            request.extra = (
                (b"access-control-allow-origin", origin.encode()),
                (b"vary", b"origin"),
            )

    async def _serve(self, request: _Request) -> None:
        if request.path == PATH:
            raise _no_upgrade()
        if request.path == EMULATION_PATH:
            await self._emulate(request)
        elif request.path == EVENTS_PATH:
            await self._stream(request, EVENTS_JSON, _connect_of(request))
        else:
            framing = STREAM_PROTOBUF if request.is_protobuf else STREAM_JSON
            await self._stream(request, framing, await self._body(request, CONNECT_BYTES))

    async def _body(self, request: _Request, max_bytes: int) -> bytes:
        """The body, within the time that a `connect` command has."""
        try:
            async with asyncio.timeout(self._settings.connect_timeout_seconds):
                return await request.body(max_bytes)
        except TimeoutError:
            detail = "the body did not arrive in time"
            raise HttpStatusError(HTTPStatus.REQUEST_TIMEOUT, detail) from None

    async def _stream(self, request: _Request, framing: Framing, first: bytes) -> None:
        """Stream what a session says, until it ends or is cut. The server closes the socket of an
        answer that is cut, and does not wait for what the client never takes."""
        self._streams.admit()
        connection = StreamConnection(framing, self._settings.linger_seconds)
        try:
            async with connection.limit:
                await self._converse(request, framing, first, connection)
        except TimeoutError:
            if not connection.limit.expired():
                raise
            _log.debug("a stream was cut")

    async def _converse(
        self, request: _Request, framing: Framing, first: bytes, connection: StreamConnection
    ) -> None:
        """Open a session, give it the commands that opened it, and stream what it says."""
        language = best_language(request.header("accept-language") or "")
        secret = secrets.token_urlsafe(24)
        session = self._streams.accept(connection, language, framing, secret)
        try:
            await request.begin(HTTPStatus.OK, ((b"content-type", _TYPES[framing]), *_UNBUFFERED))
            session.take(first)
            await connection.run(request.receive, request.send)
        finally:
            connection.lost()
            self._streams.closed(connection)

    async def _emulate(self, request: _Request) -> None:
        """Give commands to a session. 404 where it is not here: its stream is over, and the SDK
        opens another."""
        body = await self._body(request, 2 * self._settings.max_frame_bytes)
        asked = _read_emulation(body, is_protobuf=request.is_protobuf)
        session = self._streams.stream(asked[1])
        if session is None or asked[0] != self._streams.node:
            raise QunxinError("not_found", detail="there is no such session on this node")
        session.take(asked[2])
        await request.answer(HTTPStatus.NO_CONTENT)


class _Request:
    """One request, and the headers that its answer gets in any case."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope = scope
        self.receive = receive
        self.send = send
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.extra: tuple[Header, ...] = ()

    def header(self, name: str) -> str | None:
        wanted = name.encode()
        return next(
            (value.decode("latin-1") for key, value in self.scope["headers"] if key == wanted),
            None,
        )

    @property
    def is_protobuf(self) -> bool:
        kind = (self.header("content-type") or "").partition(";")[0].strip().lower()
        return kind == _PROTOBUF_TYPE

    async def body(self, max_bytes: int) -> bytes:
        """All of it; refused as soon as it is longer."""
        body = bytearray()
        while True:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                raise QunxinError("invalid_request", detail="the body was cut off")
            body += message.get("body", b"")
            if len(body) > max_bytes:
                raise QunxinError("message_too_large", size=len(body), limit=max_bytes)
            if not message.get("more_body", False):
                return bytes(body)

    async def begin(self, status: HTTPStatus, headers: tuple[Header, ...]) -> None:
        all_headers = [*headers, *self.extra]
        await self.send({"type": "http.response.start", "status": status, "headers": all_headers})

    async def answer(
        self, status: HTTPStatus, headers: tuple[Header, ...] = (), body: bytes = b""
    ) -> None:
        await self.begin(status, headers)
        await _piece(self.send, body, more=False)

    async def refuse(self, error: QunxinError) -> None:
        """The problem document. A body that is not read to its end closes the connection."""
        language = best_language(self.header("accept-language") or "")
        status, headers, body = problem_response(error, language)
        _log.info("stream refused: %d %s", status, error)
        headers.append((b"content-length", b"%d" % len(body)))
        if status in _UNREAD:
            headers.append(CLOSE)
        await self.answer(HTTPStatus(status), tuple(headers), body)


def _connect_of(request: _Request) -> bytes:
    """The first command, from the address."""
    query: str = request.scope["query_string"].decode("latin-1")
    found = next((value for name, value in parse_qsl(query) if name == _CONNECT_FIELD), "")
    if not found:
        raise QunxinError("invalid_request", detail=f"{_CONNECT_FIELD}: missing")
    return found.encode()


def _read_emulation(body: bytes, *, is_protobuf: bool) -> tuple[str, str, bytes]:
    """Node, session and commands."""
    try:
        if is_protobuf:
            # The library is for those nodes that have such clients: see `framing`.
            from qunxin.wire.protobuf import decode_emulation  # noqa: PLC0415

            return decode_emulation(body)
        asked = _emulation_decoder.decode(body)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        detail = str(error) or "not an emulation request"
        raise QunxinError("invalid_request", detail=detail) from None
    return asked.node, asked.session, asked.data.encode()


_emulation_decoder = msgspec.json.Decoder(Emulation)


def _preflight(path: str) -> tuple[Header, ...]:
    return (
        (b"access-control-allow-methods", _METHODS[path].encode()),
        (b"access-control-allow-headers", b"content-type"),
        (b"access-control-max-age", b"%d" % _PREFLIGHT_SECONDS),
    )


def _wrong_method(path: str) -> HttpStatusError:
    method = _METHODS[path]
    detail, allow = f"{path} takes {method}", (b"allow", method.encode())
    return HttpStatusError(HTTPStatus.METHOD_NOT_ALLOWED, detail, (allow,))


def _no_upgrade() -> HttpStatusError:
    """RFC 9110, 15.5.22: what a request for the WebSocket that asks for none is answered."""
    detail = (
        "a WebSocket is here: the request has no Upgrade header; "
        "a proxy in between must pass Upgrade and Connection on"
    )
    headers = ((b"upgrade", b"websocket"), (b"connection", b"upgrade"))
    return HttpStatusError(HTTPStatus.UPGRADE_REQUIRED, detail, headers)


async def _left(receive: Receive) -> None:
    """Return once the client is gone."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def _piece(send: Send, body: bytes, *, more: bool) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": more})
