"""What stands under each path: the operations, health, metrics, and the readable page."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Iterator, Mapping
from enum import Enum, auto
from functools import cached_property
from http import HTTPStatus
from typing import Any, Final, NamedTuple

import msgspec
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from qunxin.engine import Engine
from qunxin.errors import QunxinError
from qunxin.gateways.auth import Authenticator
from qunxin.gateways.client_limits import ClientLimits
from qunxin.gateways.http.admission import Admission, Gates
from qunxin.gateways.http.binding import Binder, check_json_type
from qunxin.gateways.http.exchange import Exchange, Header
from qunxin.gateways.http.pages import Page, documents
from qunxin.gateways.http.settings import HttpSettings
from qunxin.gateways.operations import OPERATIONS, Operation, Services
from qunxin.gateways.operations.requests import Request
from qunxin.gateways.problems import CLOSE, HttpStatusError

EXCHANGE: Final = "qunxin.exchange"
"""The scope's key under which an endpoint finds its exchange."""

Action = Callable[[Exchange], Awaitable[None]]

_JSON: Final[tuple[Header, ...]] = (
    (b"content-type", b"application/json"),
    (b"cache-control", b"no-store"),
)
_METRICS: Final[tuple[Header, ...]] = (
    (b"content-type", b"text/plain; version=0.0.4; charset=utf-8"),
    (b"cache-control", b"no-store"),
)
_CORS_HEADERS: Final = b"authorization, content-type, idempotency-key, accept-language"
_encode = msgspec.json.Encoder().encode


class Endpoint:
    """Everything under one path: an action for each method. No methods at all: no such path."""

    def __init__(self, actions: Mapping[str, Action], path: str = "other") -> None:
        """`path` is the template under which this stands."""
        self._actions = actions
        self._path = path
        methods = {*actions, "OPTIONS", *(("HEAD",) if "GET" in actions else ())}
        self._allow = ", ".join(sorted(methods))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await receive()
            await send({"type": "websocket.close", "code": 1000, "reason": ""})
            return
        if not self._actions:
            raise QunxinError("not_found", detail="there is no such path")
        exchange: Exchange = scope[EXCHANGE]
        action = self._actions.get(exchange.method)
        if action is not None:
            exchange.route = (self._path, exchange.method)
            await action(exchange)
        elif exchange.method == "OPTIONS":
            await self._answer_options(exchange)
        else:
            raise HttpStatusError(
                HTTPStatus.METHOD_NOT_ALLOWED,
                f"this path takes {self._allow}",
                ((b"allow", self._allow.encode()),),
            )

    async def _answer_options(self, exchange: Exchange) -> None:
        """What a path takes; to an allowed site's page also what it may send (CORS)."""
        headers = [(b"allow", self._allow.encode())]
        if exchange.extra:
            headers += [
                (b"access-control-allow-methods", self._allow.encode()),
                (b"access-control-allow-headers", _CORS_HEADERS),
                (b"access-control-max-age", b"600"),
            ]
        await exchange.reply(HTTPStatus.NO_CONTENT, headers, b"")


class _Step(Enum):
    """How far a request has got."""

    CALLER = auto()
    BODY = auto()
    RUN = auto()


class _Progress:
    __slots__ = ("step",)

    def __init__(self) -> None:
        self.step = _Step.CALLER


class OperationAction:
    """One operation of the table over HTTP."""

    def __init__(
        self,
        operation: Operation,
        services: Services,
        authenticator: Authenticator,
        settings: HttpSettings,
        gates: Gates,
    ) -> None:
        self._operation = operation
        self._gates = gates
        self._services = services
        self._authenticator = authenticator
        self._deadline_seconds = settings.request_deadline_seconds
        self._max_nesting = settings.max_nesting
        self._takes_body = operation.has_body

    # At the operation's first request, which it costs a millisecond: a command makes one of them.

    @cached_property
    def _binder(self) -> Binder:
        return Binder(self._operation, self._max_nesting)

    @cached_property
    def _takes_key(self) -> bool:
        return any(field.name == "key" for field in self._operation.fields)

    async def __call__(self, exchange: Exchange) -> None:
        response = await self._respond(exchange)
        await exchange.reply(self._operation.status_of(response), _JSON, _encode(response))

    async def _respond(self, exchange: Exchange) -> Any:
        """The operation's response, or an error by the deadline: a bare time-out never."""
        progress = _Progress()
        deadline = asyncio.timeout(self._deadline_seconds)
        try:
            async with deadline:
                return await self._admit(exchange, progress)
        except TimeoutError:
            if not deadline.expired():
                raise
            raise self._overdue(progress) from None

    async def _admit(self, exchange: Exchange, progress: _Progress) -> Any:
        caller = await self._authenticator.authenticate_http(exchange.headers)
        with self._gates.reading.held(caller):
            progress.step = _Step.BODY
            request = self._bind(exchange, await self._read_body(exchange))
        with self._gates.running.held(caller):
            progress.step = _Step.RUN
            return await self._operation.run(self._services, caller, request)

    def _overdue(self, progress: _Progress) -> QunxinError:
        """What a request that ran into its deadline is told."""
        if progress.step is _Step.BODY:
            return HttpStatusError(
                HTTPStatus.REQUEST_TIMEOUT,
                "the body did not arrive in time",
                (CLOSE,),
            )
        writing = progress.step is _Step.RUN and self._operation.method != "GET"
        return QunxinError("outcome_unknown" if writing else "overloaded")

    async def _read_body(self, exchange: Exchange) -> bytes:
        if not exchange.sends_body:
            return b""
        if not self._takes_body:
            raise QunxinError(
                "invalid_request", detail="this operation takes no body; use the query"
            )
        check_json_type(exchange.headers.get("content-type"))
        return await exchange.read_body()

    def _bind(self, exchange: Exchange, body: bytes) -> Request:
        scope = exchange.scope
        request = self._binder.bind(scope["path_params"], scope["query_string"], body)
        return self._with_header_key(exchange, request) if self._takes_key else request

    def _with_header_key(self, exchange: Exchange, request: Any) -> Any:
        """The request with the key of the header `Idempotency-Key`, where that is given."""
        key = exchange.headers.get("idempotency-key")
        if key is None or key == request.key:
            return request
        if request.key is not None:
            raise QunxinError(
                "invalid_request", detail="key: the header Idempotency-Key says another one"
            )
        return msgspec.structs.replace(request, key=key)


class HealthActions:
    """Whether the process lives, and whether it can do its work."""

    def __init__(
        self, engine: Engine, metrics: Callable[[], bytes], limits: ClientLimits | None
    ) -> None:
        self._engine = engine
        self._metrics = metrics
        self._limits = limits

    async def live(self, exchange: Exchange) -> None:
        """200 as long as the event loop turns."""
        await exchange.reply(HTTPStatus.OK, _JSON, b'{"status":"live"}')

    async def ready(self, exchange: Exchange) -> None:
        """200 where the store answers, else the problem `store_unavailable`."""
        if not await self._engine.healthy():
            raise QunxinError("store_unavailable")
        await exchange.reply(HTTPStatus.OK, _JSON, b'{"status":"ready"}')

    async def metrics(self, exchange: Exchange) -> None:
        """For clients in `metrics_networks`; for whoever reaches the port where no limits hold."""
        if self._limits is not None:
            client = exchange.scope["client"]
            self._limits.check_metrics(None if client is None else client[0], exchange.headers)
        await exchange.reply(HTTPStatus.OK, _METRICS, self._metrics())


class _Tagged(NamedTuple):
    """A document as it is answered."""

    tag: str
    headers: tuple[Header, ...]
    body: bytes


class PageAction:
    """A document, made when it is first asked for; asked again with its tag it is not sent
    twice."""

    def __init__(self, make: Callable[[], Page]) -> None:
        """`make` is called in another thread."""
        self._make = make
        self._made: _Tagged | None = None

    async def __call__(self, exchange: Exchange) -> None:
        if self._made is None:
            self._made = await asyncio.to_thread(self._tagged)
        page = self._made
        if page.tag in exchange.headers.get("if-none-match", ""):
            await exchange.reply(HTTPStatus.NOT_MODIFIED, page.headers, b"")
        else:
            await exchange.reply(HTTPStatus.OK, page.headers, page.body)

    def _tagged(self) -> _Tagged:
        page = self._make()
        tag = '"' + hashlib.blake2b(page.body, digest_size=12).hexdigest() + '"'
        own = ((b"etag", tag.encode()), (b"cache-control", b"no-cache"))
        return _Tagged(tag, (*page.headers, *own), page.body)


_ROUTES: Final = {"/v1/users/{user}/tokens/{id}": "/v1/users/{user}/tokens/{id:path}"}
"""The path whose last part may hold slashes, since others choose their tokens' ids: the `%2F` that
a client sends has been decoded before the router looks."""


def operation_routes(
    services: Services, authenticator: Authenticator, settings: HttpSettings
) -> Iterator[Route]:
    """A route for each path of the table; those without a variable part first, since they are
    tried in order and sending a message is one of them."""
    gates = Gates(
        reading=Admission(settings.max_bodies_in_flight, settings.max_requests_per_user),
        running=Admission(settings.max_requests_in_flight, settings.max_requests_per_user),
    )
    by_path: dict[str, dict[str, Action]] = {}
    for operation in OPERATIONS.values():
        action = OperationAction(operation, services, authenticator, settings, gates)
        by_path.setdefault(operation.path, {})[operation.method] = action
    for path in sorted(by_path, key=lambda path: ("{" in path, path != "/v1/messages")):
        yield Route(_ROUTES.get(path, path), Endpoint(by_path[path], path))


def health_routes(
    engine: Engine, metrics: Callable[[], bytes], limits: ClientLimits | None
) -> Iterator[Route]:
    """Health, open to whoever reaches the port, and metrics, for those whom `limits` lets: both
    without credentials, names or content."""
    actions = HealthActions(engine, metrics, limits)
    for path, action in (
        ("/health/live", actions.live),
        ("/health/ready", actions.ready),
        ("/metrics", actions.metrics),
    ):
        yield Route(path, Endpoint({"GET": action}, path))


def page_routes() -> Iterator[Route]:
    """The description of the API, and its readable page."""
    for path, make in documents().items():
        yield Route(path, Endpoint({"GET": PageAction(make)}, path))
