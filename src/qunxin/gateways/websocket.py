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
from functools import partial
from http import HTTPStatus
from typing import Final, Literal, NamedTuple, Protocol, cast

from qunxin.errors import QunxinError, best_language
from qunxin.gateways.client_limits import ClientLimits
from qunxin.gateways.connection import Connection
from qunxin.gateways.problems import HttpStatusError, status_of, whole_answer
from qunxin.gateways.realtime_settings import PATH, RealtimeSettings
from qunxin.gateways.sites import SitePolicy
from qunxin.wire.framing import WEBSOCKET_JSON, WEBSOCKET_PROTOBUF, Framing

_log = logging.getLogger("qunxin.realtime")

HOLD_SECONDS: Final = 1.0
"""Who has asked too often is told so after this time: a program that comes back at once, again and
again, would otherwise be limited by nothing but what refusing it costs the others."""
MAX_HELD: Final = 100
"""Refusals that wait at the same time, few enough for the files that a node keeps free beside its
connections; beyond them a refusal comes at once."""
_VERSION: Final = "13"
_FRAMINGS: Final = {each.subprotocol: each for each in (WEBSOCKET_JSON, WEBSOCKET_PROTOBUF)}


Attach = Callable[[asyncio.Transport, Connection, int, str, str], None]
"""Has a backend read a transport from now on, and answer the upgrade: with the longest frame that
it accepts, the client's key, and the subprotocol that was chosen."""


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


def check_upgrade(request: UpgradeRequest, sites: SitePolicy, local_address: str | None) -> Framing:
    """What will be spoken over it. Raises what a request that must not become a WebSocket is
    answered with."""
    headers = request.headers
    if request.path != PATH:
        raise QunxinError("not_found", detail=f"WebSockets are at {PATH}")
    host = headers.get("host")
    sites.check_host(host, local_address)
    sites.check_origin(headers.get("origin"), host)
    _check_handshake(request)
    return _framing_of(headers)


def _check_handshake(request: UpgradeRequest) -> None:
    """RFC 6455, 4.2.1."""
    headers = request.headers
    if request.method != "GET":
        raise QunxinError("invalid_request", detail="an upgrade is a GET")
    if headers.get("sec-websocket-version") != _VERSION:
        detail = f"WebSocket version {_VERSION} is spoken"
        spoken = ((b"sec-websocket-version", _VERSION.encode()),)
        raise HttpStatusError(HTTPStatus.UPGRADE_REQUIRED, detail, spoken)
    if not _is_key(headers.get("sec-websocket-key", "")):
        raise QunxinError("invalid_request", detail="no valid Sec-WebSocket-Key")
    if headers.get("content-length", "0") != "0" or "transfer-encoding" in headers:
        raise QunxinError("invalid_request", detail="an upgrade has no body")


def _framing_of(headers: Mapping[str, str]) -> Framing:
    """What the client asked to speak, its first choice that is known. JSON has no subprotocol,
    and some clients send the header empty."""
    asked = [part.strip() for part in headers.get("sec-websocket-protocol", "").split(",")]
    named = [name for name in asked if name] or [""]
    found = next((_FRAMINGS[name] for name in named if name in _FRAMINGS), None)
    if found is None:
        detail = f"the only subprotocol here is {WEBSOCKET_PROTOBUF.subprotocol}; JSON needs none"
        raise QunxinError("invalid_request", detail=detail)
    return found


def _is_key(value: str) -> bool:
    try:
        return len(base64.b64decode(value, validate=True)) == 16
    except (binascii.Error, ValueError):
        return False


def _backend(name: Literal["picows", "websockets"]) -> Attach:
    """Loaded when a node begins; the other one is not."""
    if name == "picows":
        from qunxin.gateways.websocket_picows import attach  # noqa: PLC0415
    else:
        from qunxin.gateways.websocket_library import attach  # noqa: PLC0415
    return attach


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

    def refused(self, code: str) -> None:
        """Count a refusal."""
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
        self._held = 0
        self._attach = _backend(settings.websocket_backend)

    def protocol(self, **_uvicorn: object) -> asyncio.Protocol:
        """One upgrade. uvicorn's own arguments are of no use here."""
        return _Upgrade(self)

    def judge(self, request: UpgradeRequest, transport: asyncio.Transport) -> _Accepted:
        """Count the connection in. Raises what the request is refused with."""
        sockname = transport.get_extra_info("sockname")
        address = sockname[0] if isinstance(sockname, tuple) else None
        try:
            framing = check_upgrade(request, self._sites, address)
            self._host.admit()
            leave = self._enter(request, transport)
        except QunxinError as error:
            self._host.refused(error.code)
            quiet = error.code == "rate_limited"  # or one client could fill the log
            _log.log(
                logging.DEBUG if quiet else logging.INFO,
                "upgrade refused: %d %s",
                status_of(error),
                error,
            )
            raise
        return _Accepted(request.headers, framing, leave)

    def _enter(self, request: UpgradeRequest, transport: asyncio.Transport) -> Callable[[], None]:
        """Count the connection for its client; what to call, once, when it is closed."""
        limits = self._limits
        if limits is None:
            return lambda: None
        peer = transport.get_extra_info("peername")
        client = limits.client(peer[0] if isinstance(peer, tuple) else None, request.headers)
        limits.check_handshake(client)
        limits.enter(client)
        return partial(limits.leave, client)

    def hold(self) -> bool:
        """Whether one more refusal may wait; `let_go` follows."""
        if self._held >= MAX_HELD:
            return False
        self._held += 1
        return True

    def let_go(self) -> None:
        """A held refusal was given."""
        self._held -= 1

    def switch(self, accepted: _Accepted, transport: asyncio.Transport) -> None:
        """Hand the transport to the backend."""
        settings, framing = self._settings, accepted.framing

        def closed(connection: Connection) -> None:
            accepted.leave()
            self._host.closed(connection)

        connection = Connection(transport, settings.linger_seconds, closed)
        self._host.accept(connection, _language(accepted.headers), framing)
        key = accepted.headers["sec-websocket-key"]
        self._attach(transport, connection, settings.max_frame_bytes, key, framing.subprotocol)


class _Accepted(NamedTuple):
    """An upgrade that was judged well."""

    headers: Mapping[str, str]
    framing: Framing
    leave: Callable[[], None]
    """To call, once, when its connection is closed."""


def _language(headers: Mapping[str, str]) -> str:
    return best_language(headers.get("accept-language", ""))


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
        transport.pause_reading()
        loop = asyncio.get_running_loop()
        try:
            accepted = self._upgrades.judge(request, transport)
        except QunxinError as error:
            answer = whole_answer(error, _language(request.headers))
            if error.code == "rate_limited" and self._upgrades.hold():
                loop.call_later(HOLD_SECONDS, self._refuse_held, answer)
            else:
                self._refuse(answer)
            return
        loop.call_soon(self._switch, accepted, transport)

    def _refuse_held(self, answer: bytes) -> None:
        self._upgrades.let_go()
        self._refuse(answer)

    def _refuse(self, answer: bytes) -> None:
        """Nothing happens where the client is gone."""
        self._transport.write(answer)
        self._transport.close()

    def _switch(self, accepted: _Accepted, transport: asyncio.Transport) -> None:
        if transport.is_closing():
            accepted.leave()
            return
        self._upgrades.switch(accepted, transport)
        transport.resume_reading()
