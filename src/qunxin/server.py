"""Where the parts meet: one node on one port, from its start to its orderly end."""

from __future__ import annotations

import asyncio
import errno
import logging
import math
import os
import resource
import signal
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, Final, cast

import jwt  # noqa: F401 - here, so that the first token does not hold up the loop
import msgspec
import uvicorn
from starlette.types import ASGIApp

from qunxin.config import Settings
from qunxin.control_socket import control_socket
from qunxin.errors import QunxinError
from qunxin.gateways.auth import Authenticator
from qunxin.gateways.client_limits import AddressSettings, ClientLimits
from qunxin.gateways.http import (
    HttpSettings,
    build_app,
    with_client_rate,
    with_turns,
)
from qunxin.gateways.http.protocol import http_protocol
from qunxin.gateways.realtime import PATH, RealtimeGateway, RealtimeSettings
from qunxin.gateways.webhooks import WebhookSender, WebhookSettings
from qunxin.node import Node, try_node
from qunxin.observe import Tracer
from qunxin.ops.collector import rare_collections
from qunxin.ops.manager import tell_manager
from qunxin.ops.metrics import Metrics
from qunxin.ops.switching import quick_switches
from qunxin.ops.traces import open_tracer
from qunxin.owner import build_owner_app, link_address
from qunxin.tls import HANDSHAKE_SECONDS, current_tls
from qunxin.version import VERSION

if TYPE_CHECKING:
    from qunxin.gateways.jwks import KeySet  # see `_others_keys`

_log = logging.getLogger("qunxin.server")

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)
_WAIT_FOR_FOLDER_SECONDS: Final = 5.0
"""How long another command may still hold the folder when a server starts."""
_RETRY_SECONDS: Final = 0.05
OTHER_FILES: Final = 200
"""Open files beside the realtime connections: the store's, HTTP requests, sockets."""


class ServerFacts(msgspec.Struct, frozen=True):
    """What whoever started a server wants to know."""

    url: str
    websocket_url: str
    port: int
    pid: int
    data: str
    epoch: str
    version: str

    def as_json(self) -> dict[str, Any]:
        return {"event": "ready", **msgspec.structs.asdict(self)}


async def serve_node(settings: Settings, announce: Callable[[ServerFacts, str], None]) -> None:
    """Run a node until SIGINT or SIGTERM; returns when it has stopped in order.

    `announce` is called once, when the node takes requests, with the facts and with a link that
    lets one person sign in to the page with a new account. On a signal the node takes no new
    connections, answers what was accepted, tells sessions to come back, and stops within
    `shutdown_timeout_seconds`; a second signal stops it at once. Raises `cannot_start` where the
    port is in use, another process owns the folder, or a file that the settings name is of no
    use.
    """
    stopping = asyncio.Event()
    settings = _with_open_files(settings)
    async with AsyncExitStack() as stack:
        tracer = stack.enter_context(open_tracer())
        stack.enter_context(_stop_on_signals(stopping, settings.shutdown_timeout_seconds))
        tls = stack.enter_context(current_tls(settings))
        others = await stack.enter_async_context(_others_keys(settings))
        listeners = stack.enter_context(listening(settings.host, settings.port))
        metrics = Metrics()
        node = await stack.enter_async_context(_owning_node(settings, tracer, metrics))
        webhooks = WebhookSender(node.engine, settings.part(WebhookSettings), metrics)
        await stack.enter_async_context(webhooks)
        facts = _facts(node, listeners[0].getsockname()[1])
        owner_listener = stack.enter_context(control_socket(node.folder))
        owner = _owner_server(node, facts, metrics)
        await stack.enter_async_context(_serving(owner, [owner_listener], stopping))
        public = _public_server(node, metrics, others, tls)
        stack.enter_context(rare_collections())
        stack.enter_context(quick_switches())
        await stack.enter_async_context(_serving(public, listeners, stopping))
        _log.info("ready on %s", facts.url)
        announce(facts, link_address(facts.url, node.links.make(None)[0], None))
        tell_manager("READY=1")
        await stopping.wait()
        tell_manager("STOPPING=1")
    _log.info("stopped")


def _with_open_files(settings: Settings) -> Settings:
    """Raise this process's limit of open files to what `max_connections` needs; where the system
    does not let it, the settings with as many connections as fit. Beyond them clients are told
    to come back, instead of hanging unaccepted."""
    wanted = settings.max_connections + OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if allowed > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    if allowed == wanted:
        return settings
    fitting = max(1, allowed - OTHER_FILES)
    _log.info("max_connections is lowered to %d: only %d open files are allowed", fitting, allowed)
    return msgspec.structs.replace(settings, max_connections=fitting)


# --- starting ---------------------------------------------------------------------------------


@asynccontextmanager
async def _owning_node(settings: Settings, tracer: Tracer, metrics: Metrics) -> AsyncIterator[Node]:
    """The open node; a short command that still holds the folder is waited for."""
    loop = asyncio.get_running_loop()
    async with AsyncExitStack() as stack:
        deadline = loop.time() + _WAIT_FOR_FOLDER_SECONDS
        while True:
            patient = loop.time() < deadline
            node = await try_node(settings, stack, patient=patient, tracer=tracer, metrics=metrics)
            if node is not None:
                break
            await _check_free(settings)
            await asyncio.sleep(_RETRY_SECONDS)  # no event tells when another process lets go
        yield node


async def _check_free(settings: Settings) -> None:
    """Refuse where a server answers in the folder."""
    # Asking takes a client library, which a server that starts can do without.
    from qunxin.control import find_server  # noqa: PLC0415

    async with AsyncExitStack() as stack:
        other = await find_server(settings.data_folder, stack)
        if other is None:
            return
        facts = await other.facts()
    detail = (
        f"a server runs on the data folder {settings.data} already "
        f"(process {facts['pid']}, {facts['url']})"
    )
    raise QunxinError("cannot_start", detail=detail)


@contextmanager
def listening(host: str, port: int) -> Iterator[list[socket.socket]]:
    """Sockets bound to every address of `host`, the same port on each. Raises `cannot_start`."""
    listeners: list[socket.socket] = []
    try:
        for family, (name, _, *rest) in _addresses(host, port):
            same = listeners[0].getsockname()[1] if listeners else port
            listener = _bind(family, (name, same, *rest), host)
            if listener is not None:
                listeners.append(listener)
        if not listeners:
            raise QunxinError("cannot_start", detail=f"{host} is not an address of this machine")
        yield listeners
    finally:
        for listener in listeners:
            listener.close()


def _addresses(host: str, port: int) -> list[tuple[socket.AddressFamily, Any]]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        detail = f"the host {host} is not known ({error.strerror})"
        raise QunxinError("cannot_start", detail=detail) from error
    return [(family, address) for family, _, _, _, address in found]


def _bind(family: socket.AddressFamily, address: Any, host: str) -> socket.socket | None:
    """A bound socket; None where this machine does not have the address."""
    try:
        listener = socket.socket(family, socket.SOCK_STREAM)
    except OSError:  # a family that the kernel does not have
        return None
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind(address)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRNOTAVAIL:
            return None
        raise _cannot_listen(host, address[1], error) from error
    return listener


def _cannot_listen(host: str, port: int, error: OSError) -> QunxinError:
    if error.errno == errno.EADDRINUSE:
        advice = "choose another one with --port, or --port 0 for a free one"
        return QunxinError("cannot_start", detail=f"port {port} on {host} is in use; {advice}")
    return QunxinError("cannot_start", detail=f"port {port} on {host}: {error.strerror}")


def _facts(node: Node, port: int) -> ServerFacts:
    host = node.settings.host
    shown = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104  not bound here
    place = f"[{shown}]:{port}" if ":" in shown else f"{shown}:{port}"
    s = "s" if node.settings.tls_certificate else ""
    return ServerFacts(
        url=f"http{s}://{place}",
        websocket_url=f"ws{s}://{place}{PATH}",
        port=port,
        pid=os.getpid(),
        data=str(node.folder),
        epoch=node.engine.epoch,
        version=VERSION,
    )


# --- serving ----------------------------------------------------------------------------------


Drain = Callable[[], Awaitable[None]]


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers. `ready` is set when it takes connections; at its end
    it first takes no new ones, then runs `drain`, then finishes what HTTP requests are left."""

    def __init__(
        self, config: uvicorn.Config, drain: Drain | None = None, tls: ssl.SSLContext | None = None
    ) -> None:
        super().__init__(config)
        self.ready = asyncio.Event()
        self._drain = drain
        self._tls = tls

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """In place of uvicorn's own, which gives a TLS handshake a whole minute."""
        await self.lifespan.startup()
        loop = asyncio.get_running_loop()
        self.servers = [
            await loop.create_server(
                self._protocol,
                sock=listener,
                backlog=self.config.backlog,
                ssl=self._tls,
                ssl_handshake_timeout=HANDSHAKE_SECONDS if self._tls else None,
            )
            for listener in sockets or ()
        ]
        self.started = True
        self.ready.set()

    def _protocol(self) -> asyncio.Protocol:
        make = cast("Callable[..., asyncio.Protocol]", self.config.http_protocol_class)
        return make(config=self.config, server_state=self.server_state, app_state={})

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        if self._drain is not None:
            await self._drain()
        await super().shutdown(sockets)


@asynccontextmanager
async def _others_keys(settings: Settings) -> AsyncIterator[KeySet | None]:
    """The keys of others who sign tokens, where the settings name some. Raises `cannot_start`
    where they are in a file that cannot be used; who is behind a URL may answer later."""
    if not settings.jwks:
        yield None
        return
    # The library that fetches is for those alone who need it.
    from qunxin.gateways.jwks import is_url, open_key_set, read_key_set  # noqa: PLC0415

    if not is_url(settings.jwks):
        await read_key_set(settings.jwks)
    allow_private = settings.jwks_private_addresses == "allow"
    keys = open_key_set(settings.jwks, allow_private=allow_private)
    try:
        yield keys
    finally:
        await keys.close()


def _public_server(
    node: Node, metrics: Metrics, others: KeySet | None, tls: ssl.SSLContext | None
) -> _Server:
    settings = node.settings
    authenticator = node.authenticator(Authenticator, others)
    http = settings.part(HttpSettings)
    sign_in = node.sign_in(authenticator)
    limits = ClientLimits(settings.part(AddressSettings), asyncio.get_running_loop().time)
    app = build_app(node.engine, authenticator, http, metrics.render, sign_in, limits)
    realtime = RealtimeGateway(
        node.engine, authenticator, settings.part(RealtimeSettings), limits=limits
    )
    app = with_turns(with_client_rate(realtime.over_http(app), limits))
    metrics.watch("qunxin_connections", lambda: realtime.connections)
    websocket = cast("type[asyncio.Protocol]", realtime.ws_protocol_class)
    protocol = http_protocol(http, limits)
    config = _uvicorn_config(app, protocol, settings, websocket)
    return _Server(config, realtime.close, tls)


def _owner_server(node: Node, facts: ServerFacts, metrics: Metrics) -> _Server:
    app = build_owner_app(node, facts.as_json(), metrics.render)
    protocol = http_protocol(node.settings.part(HttpSettings))
    return _Server(_uvicorn_config(app, protocol, node.settings, None))


def _uvicorn_config(
    app: ASGIApp,
    protocol: type[asyncio.Protocol],
    settings: Settings,
    websocket: type[asyncio.Protocol] | None,
) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=protocol,
        ws=websocket or "none",
        loop="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # ClientLimits reads them, and for whom it says
        backlog=2048,
        timeout_graceful_shutdown=math.ceil(settings.shutdown_timeout_seconds / 4),
    )


@asynccontextmanager
async def _serving(
    server: _Server, listeners: list[socket.socket], stopping: asyncio.Event
) -> AsyncIterator[None]:
    """`server` takes connections; at the end it has answered what was begun, within its time.
    Should it end by itself, `stopping` is set."""
    serving = asyncio.create_task(server.serve(sockets=listeners), name="serve")
    serving.add_done_callback(lambda _: stopping.set())
    ready = asyncio.create_task(server.ready.wait(), name="serve-ready")
    try:
        await asyncio.wait({serving, ready}, return_when=asyncio.FIRST_COMPLETED)
        if not serving.done():
            yield
    finally:
        ready.cancel()
        server.should_exit = True
        await serving


# --- stopping ---------------------------------------------------------------------------------


@contextmanager
def _stop_on_signals(stopping: asyncio.Event, timeout_seconds: float) -> Iterator[None]:
    """The first signal sets `stopping`, and from then on time is limited; a second one ends the
    process at once."""
    loop = asyncio.get_running_loop()
    limits: list[asyncio.TimerHandle] = []

    def stop(name: str) -> None:
        if stopping.is_set():
            _log.error("stopped at once by a second %s", name)
            os._exit(1)
        _log.info("stopping: %s", name)
        stopping.set()
        limits.append(loop.call_later(timeout_seconds, _give_up, timeout_seconds))

    for number in _SIGNALS:
        loop.add_signal_handler(number, stop, number.name)
    try:
        yield
    finally:
        for number in _SIGNALS:
            loop.remove_signal_handler(number)
        for limit in limits:
            limit.cancel()


def _give_up(seconds: float) -> None:
    """What is accepted is durable, so nothing is lost by this; clients come back and ask."""
    _log.error("not stopped after %g seconds; the rest is cut", seconds)
    os._exit(1)
