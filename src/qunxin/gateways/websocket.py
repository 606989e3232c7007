"""WebSockets on the same port as HTTP: what uvicorn calls where a request asks for an upgrade.

uvicorn parses the request, makes a `ws_protocol_class`, and hands it the transport and the
request's head. The upgrade is judged here, the same for both backends; then the backend's own
protocol object becomes the transport's, and uvicorn is out of the way.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import logging
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any, Final, NamedTuple, Protocol, cast

import msgspec

from qunxin.errors import QunxinError, best_language
from qunxin.gateways import websocket_library, websocket_picows
from qunxin.gateways.client_limits import ClientLimits
from qunxin.gateways.connection import Connection
from qunxin.gateways.realtime_settings import PATH, RealtimeSettings
from qunxin.gateways.sites import SitePolicy
from qunxin.wire.framing import WEBSOCKET_JSON, WEBSOCKET_PROTOBUF, Framing
from qunxin.wire.protobuf import PROTOBUF

_log = logging.getLogger("qunxin.realtime")

_VERSION: Final = "13"
_FRAMINGS: Final = (WEBSOCKET_JSON, WEBSOCKET_PROTOBUF)
_BACKENDS: Final = {"picows": websocket_picows.attach, "websockets": websocket_library.attach}


class UpgradeRequest(NamedTuple):
    """The head of a request, header names in lower case; of a repeated one the values stand
    joined by commas."""

    method: str
    path: str
    headers: Mapping[str, str]

    @classmethod
    def parse(cls, head: bytes) -> UpgradeRequest:
        """From the head as uvicorn wrote it down, which it had parsed before."""
        first, *lines = head.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
        method, _, rest = first.partition(" ")
        headers: dict[str, str] = {}
        for line in lines:
            name, _, value = line.partition(":")
            name, value = name.lower(), value.strip()
            headers[name] = f"{headers[name]},{value}" if name in headers else value
        return cls(method, rest.rpartition(" ")[0].partition("?")[0], headers)


class Refusal(NamedTuple):
    """Why a request is not upgraded, as HTTP says it."""

    status: HTTPStatus
    error: QunxinError
    headers: tuple[str, ...] = ()


def check_upgrade(
    request: UpgradeRequest, sites: SitePolicy, local_address: str | None
) -> Refusal | None:
    """Why `request` must not become a WebSocket; None where it may."""
    headers = request.headers
    if request.path != PATH:
        return _refusal(HTTPStatus.NOT_FOUND, "not_found", f"WebSockets are at {PATH}")
    host = headers.get("host")
    try:
        sites.check_host(host, local_address)
    except QunxinError as error:
        return Refusal(HTTPStatus.BAD_REQUEST, error)
    try:
        sites.check_origin(headers.get("origin"), host)
    except QunxinError as error:
        return Refusal(HTTPStatus.FORBIDDEN, error)
    return _check_handshake(request) or _check_subprotocol(headers)


def _check_handshake(request: UpgradeRequest) -> Refusal | None:
    """RFC 6455, 4.2.1."""
    headers = request.headers
    if request.method != "GET":
        return _refusal(HTTPStatus.BAD_REQUEST, "invalid_request", "an upgrade is a GET")
    if headers.get("sec-websocket-version") != _VERSION:
        refusal = _refusal(
            HTTPStatus.UPGRADE_REQUIRED,
            "invalid_request",
            f"WebSocket version {_VERSION} is spoken",
        )
        return refusal._replace(headers=(f"Sec-WebSocket-Version: {_VERSION}",))
    if not _is_key(headers.get("sec-websocket-key", "")):
        return _refusal(HTTPStatus.BAD_REQUEST, "invalid_request", "no valid Sec-WebSocket-Key")
    if headers.get("content-length", "0") != "0" or "transfer-encoding" in headers:
        return _refusal(HTTPStatus.BAD_REQUEST, "invalid_request", "an upgrade has no body")
    return None


def _check_subprotocol(headers: Mapping[str, str]) -> Refusal | None:
    if _framing_of(headers) is None:
        detail = f"the only subprotocol here is {PROTOBUF.subprotocol}; JSON needs none"
        return _refusal(HTTPStatus.BAD_REQUEST, "invalid_request", detail)
    return None


def _framing_of(headers: Mapping[str, str]) -> Framing | None:
    """What the client asked to speak, its first choice that is known. JSON has no subprotocol,
    and some clients send the header empty."""
    asked = [part.strip() for part in headers.get("sec-websocket-protocol", "").split(",")]
    known = {framing.format.subprotocol: framing for framing in _FRAMINGS}
    named = [name for name in asked if name] or [""]
    return next((known[name] for name in named if name in known), None)


def _is_key(value: str) -> bool:
    try:
        return len(base64.b64decode(value, validate=True)) == 16
    except (binascii.Error, ValueError):
        return False


def _refusal(status: HTTPStatus, code: str, detail: str) -> Refusal:
    return Refusal(status, QunxinError(code, detail=detail))


def problem_of(refusal: Refusal, language: str) -> tuple[list[tuple[str, str]], bytes]:
    """Headers and body of a refusal, RFC 9457."""
    status, error = refusal.status, refusal.error
    problem: dict[str, Any] = {
        "type": "about:blank",
        "title": status.phrase,
        "status": int(status),
        "code": error.code,
        "tier": error.tier,
        "retryable": error.retryable,
        "detail": error.text(language),
    }
    headers = [("Content-Type", "application/problem+json; charset=utf-8")]
    if error.retry_after is not None:
        problem["retry_after"] = error.retry_after
        headers.append(("Retry-After", str(max(1, round(error.retry_after)))))
    body = msgspec.json.encode(problem)
    return [*headers, ("Content-Length", str(len(body)))], body


def refusal_response(refusal: Refusal, language: str) -> bytes:
    """The whole answer, after which the connection is closed."""
    headers, body = problem_of(refusal, language)
    head = [
        f"HTTP/1.1 {int(refusal.status)} {refusal.status.phrase}",
        *(f"{name}: {value}" for name, value in headers),
        "Connection: close",
        *refusal.headers,
    ]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


class Host(Protocol):
    """Who takes the connections."""

    def admit(self) -> None:
        """Raise `overloaded` or `shutting_down` where no connection is taken now."""
        ...

    def accept(self, connection: Connection, language: str, framing: Framing) -> object:
        """Take over an upgraded connection: sets its receiver."""
        ...

    def closed(self, connection: Connection) -> None:
        """The connection's socket is closed."""
        ...


class Upgrades:
    """Makes what uvicorn calls `ws_protocol_class`."""

    def __init__(
        self, settings: RealtimeSettings, host: Host, limits: ClientLimits | None = None
    ) -> None:
        """`limits` counts connections and upgrades by the client's address."""
        self._limits = limits
        self._settings = settings
        self._host = host
        self._sites = SitePolicy(settings.allowed_hosts, settings.allowed_origins)

    def protocol(self, **_uvicorn: object) -> asyncio.Protocol:
        """One upgrade. uvicorn's own arguments are of no use here."""
        return _Upgrade(self)

    def judge(self, request: UpgradeRequest, transport: asyncio.Transport) -> Refusal | None:
        sockname = transport.get_extra_info("sockname")
        address = sockname[0] if isinstance(sockname, tuple) else None
        refusal = check_upgrade(request, self._sites, address)
        if refusal is not None:
            return refusal
        try:
            self._host.admit()
            self._enter(request, transport)
        except QunxinError as error:
            limited = error.code == "rate_limited"
            status = HTTPStatus.TOO_MANY_REQUESTS if limited else HTTPStatus.SERVICE_UNAVAILABLE
            return Refusal(status, error)
        return None

    def _enter(self, request: UpgradeRequest, transport: asyncio.Transport) -> None:
        if self._limits is not None:
            client = _client(self._limits, request, transport)
            self._limits.check_handshake(client)
            self._limits.enter(client)

    def leave(self, request: UpgradeRequest, transport: asyncio.Transport) -> Callable[[], None]:
        """What to call, once, when the connection that was judged well is closed."""
        limits = self._limits
        if limits is None:
            return lambda: None
        client = _client(limits, request, transport)
        return lambda: limits.leave(client)

    def switch(self, request: UpgradeRequest, transport: asyncio.Transport) -> None:
        """Hand the transport to the backend."""
        settings = self._settings
        left = self.leave(request, transport)

        def closed(connection: Connection) -> None:
            left()
            self._host.closed(connection)

        connection = Connection(transport, settings.linger_seconds, closed)
        attach = _BACKENDS[settings.websocket_backend]
        language = best_language(request.headers.get("accept-language", ""))
        framing = _framing_of(request.headers) or WEBSOCKET_JSON
        self._host.accept(connection, language, framing)
        key = request.headers["sec-websocket-key"]
        subprotocol = framing.format.subprotocol
        attach(transport, connection, settings.max_frame_bytes, key, subprotocol)


def _client(
    limits: ClientLimits, request: UpgradeRequest, transport: asyncio.Transport
) -> str | None:
    peer = transport.get_extra_info("peername")
    return limits.client(peer[0] if isinstance(peer, tuple) else None, request.headers)


class _Upgrade(asyncio.Protocol):
    """uvicorn makes this the transport's protocol after it has handed over the request, so the
    switch comes one turn later. Until then nothing is read: a loop that has begun to read into
    one kind of protocol must begin anew for the other."""

    _transport: asyncio.Transport

    def __init__(self, upgrades: Upgrades) -> None:
        self._upgrades = upgrades

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """The request's head, whole, in one call."""
        transport, request = self._transport, UpgradeRequest.parse(data)
        refusal = self._upgrades.judge(request, transport)
        if refusal is None:
            transport.pause_reading()
            asyncio.get_running_loop().call_soon(self._switch, request, transport)
            return
        _log.info("upgrade refused: %d %s", refusal.status, refusal.error)
        language = best_language(request.headers.get("accept-language", ""))
        transport.write(refusal_response(refusal, language))
        transport.close()

    def _switch(self, request: UpgradeRequest, transport: asyncio.Transport) -> None:
        if transport.is_closing():
            self._upgrades.leave(request, transport)()
            return
        self._upgrades.switch(request, transport)
        transport.resume_reading()
