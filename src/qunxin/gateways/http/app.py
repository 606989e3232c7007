"""The HTTP gateway: an ASGI application made from the table of operations.

One path of the table is one route. A request passes host, origin, announced size, credentials,
body, decoding and the engine, and is answered by its response or by a problem document. Nothing
that is raised inside reaches the client as anything else.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from http import HTTPStatus
from time import perf_counter
from typing import Final

from starlette.routing import Router
from starlette.types import ASGIApp, Receive, Scope, Send

from qunxin.engine import Engine
from qunxin.errors import QunxinError
from qunxin.gateways.auth import Authenticator
from qunxin.gateways.client_limits import ClientLimits
from qunxin.gateways.http.endpoints import (
    EXCHANGE,
    Endpoint,
    health_routes,
    operation_routes,
    page_routes,
)
from qunxin.gateways.http.exchange import Exchange
from qunxin.gateways.http.sessions import session_routes
from qunxin.gateways.http.settings import HttpSettings
from qunxin.gateways.operations import Services
from qunxin.gateways.problems import HttpStatusError
from qunxin.gateways.sign_in import SignIn
from qunxin.gateways.sites import SitePolicy
from qunxin.ops.request_id import REQUEST_ID

_log = logging.getLogger("qunxin.http")

_CORS_EXPOSED: Final = b"retry-after, content-language, x-request-id"


def build_app(
    engine: Engine,
    authenticator: Authenticator,
    settings: HttpSettings,
    metrics: Callable[[], bytes],
    sign_in: SignIn | None = None,
    limits: ClientLimits | None = None,
) -> ASGIApp:
    """The gateway as an ASGI application for `http` scopes (a `websocket` is closed unopened).
    `metrics` renders the metrics in Prometheus' text format, for clients that `limits` lets read
    them (any, where there are none). Without `sign_in` nobody can sign in
    to the page. The engine's life is its owner's: nothing is opened or closed here."""
    return Gateway(engine, authenticator, settings, metrics, sign_in, limits)


class Gateway:
    """The ASGI application; `build_app` makes it."""

    def __init__(
        self,
        engine: Engine,
        authenticator: Authenticator,
        settings: HttpSettings,
        metrics: Callable[[], bytes],
        sign_in: SignIn | None,
        limits: ClientLimits | None,
    ) -> None:
        self._observer = engine.observer
        self._tracer = engine.tracer
        self._settings = settings
        self._sites = SitePolicy(settings.allowed_hosts, settings.allowed_origins)
        services = Services(engine, authenticator)
        self._router = Router(
            [
                *operation_routes(services, authenticator, settings),
                *health_routes(engine, metrics, limits),
                *page_routes(),
                *(() if sign_in is None else session_routes(sign_in, settings)),
            ],
            redirect_slashes=False,
            default=Endpoint({}),
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._router(scope, receive, send)
            return
        exchange = Exchange(scope, receive, send, self._settings)
        REQUEST_ID.set(exchange.request_id)  # of this request's own task
        started = perf_counter()
        with self._tracer.request(scope["method"], scope["headers"]) as trace:
            try:
                await self._answer(exchange, receive, send)
            finally:
                seconds = perf_counter() - started
                self._observer.answered(*exchange.route, exchange.status, seconds)
                trace.answered(exchange.route[0], exchange.status)

    async def _answer(self, exchange: Exchange, receive: Receive, send: Send) -> None:
        try:
            await self._serve(exchange, receive, send)
        except QunxinError as error:
            await self._refuse(exchange, error)
        except asyncio.CancelledError:
            # Only the server cancels a request, when it stops and has waited long enough. With
            # this answer the request is over; uvicorn's own would say nothing of what to do.
            if exchange.answered:
                raise
            reading = exchange.method == "GET"
            await self._refuse(
                exchange, QunxinError("shutting_down" if reading else "outcome_unknown")
            )
        except Exception:
            _log.exception("%s %s failed", exchange.method, exchange.scope["path"])
            if exchange.answered:
                raise
            await self._refuse(exchange, QunxinError("internal"))

    async def _refuse(self, exchange: Exchange, error: QunxinError) -> None:
        self._observer.answered_error("http", error.code)
        await exchange.refuse(error)

    async def _serve(self, exchange: Exchange, receive: Receive, send: Send) -> None:
        exchange.read_headers()
        self._check_site(exchange)
        exchange.check_announced_size()
        exchange.scope[EXCHANGE] = exchange
        await self._router(exchange.scope, receive, send)

    def _check_site(self, exchange: Exchange) -> None:
        """Host and origin; for an allowed origin the answer gets its CORS headers."""
        host = exchange.headers.get("host")
        server = exchange.scope.get("server")
        try:
            self._sites.check_host(host, None if server is None else server[0])
        except QunxinError as error:
            if not host:
                raise
            raise HttpStatusError(HTTPStatus.MISDIRECTED_REQUEST, error.facts["detail"]) from None
        origin = exchange.headers.get("origin")
        if origin is not None and self._sites.check_origin(origin, host):
            exchange.extra += [
                (b"access-control-allow-origin", origin.encode()),
                (b"access-control-expose-headers", _CORS_EXPOSED),
                (b"vary", b"origin"),
            ]
