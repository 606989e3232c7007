"""Traces in OpenTelemetry's form: an operation and its five steps, from the caller's own trace on.

Off unless the standard environment variables ask for it, and then the libraries of the extra
``otel`` are needed. What is told of an operation is its kind, its place, its outcome and the id
of its request: never content, never names.
"""

from __future__ import annotations

import os
import time
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from qunxin.errors import QunxinError
from qunxin.observe import NULL_TRACER, OperationTrace, RequestTrace, Tracer
from qunxin.ops.request_id import REQUEST_ID
from qunxin.version import VERSION

if TYPE_CHECKING:  # without the extra there is nothing to import
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.trace import Span

_ASKING: Final = (
    "OTEL_TRACES_EXPORTER",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
)
_PROTOCOLS: Final = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_NAMES: Final = ("OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES")
_METHODS: Final = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD"})
_SERVER_ERRORS: Final = range(500, 600)
"""Statuses for which OpenTelemetry's conventions call the span of a server an error."""
_PLACED_LIMIT: Final = 10_000
"""Traced messages that may be on their way from commit to fan-out; beyond it the oldest lose
their last step."""


@contextmanager
def open_tracer(environment: Mapping[str, str] = os.environ) -> Iterator[Tracer]:
    """The tracer that `environment` asks for; one that does nothing where it asks for none. At the
    end what was gathered is sent, which may block for some seconds.

    Raises `invalid_settings` where it asks for what is not installed or not known.
    """
    exporter = _asked_exporter(environment)
    if exporter is None:
        yield NULL_TRACER
        return
    provider = _open_provider(exporter, environment)
    try:
        yield OpenTelemetryTracer(provider)
    finally:
        provider.shutdown()


def _asked_exporter(environment: Mapping[str, str]) -> str | None:
    asked = environment.get("OTEL_TRACES_EXPORTER", "")
    disabled = environment.get("OTEL_SDK_DISABLED", "").lower() == "true"
    if disabled or asked == "none" or not any(environment.get(name) for name in _ASKING):
        return None
    if asked not in ("", "otlp", "console"):
        detail = f"OTEL_TRACES_EXPORTER must be otlp, console or none; it is {asked!r}"
        raise QunxinError("invalid_settings", detail=detail)
    for name in _PROTOCOLS:
        if environment.get(name, "http/protobuf") not in ("", "http/protobuf"):
            detail = f"{name} must be http/protobuf; it is {environment[name]!r}"
            raise QunxinError("invalid_settings", detail=detail)
    return asked or "otlp"


def _open_provider(exporter: str, environment: Mapping[str, str]) -> TracerProvider:
    try:
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
    except ImportError as error:
        raise _not_installed() from error
    named = any(environment.get(name) for name in _NAMES)
    resource = Resource.create({} if named else {"service.name": "qunxin"})
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(_open_exporter(exporter)))
    return provider


def _open_exporter(exporter: str) -> SpanExporter:
    try:
        if exporter == "console":
            from opentelemetry.sdk.trace.export import ConsoleSpanExporter  # noqa: PLC0415

            return ConsoleSpanExporter()
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415
            OTLPSpanExporter,
        )
    except ImportError as error:
        raise _not_installed() from error
    return OTLPSpanExporter()


def _not_installed() -> QunxinError:
    detail = "the OTEL_ variables ask for traces; install them: pip install 'qunxin[otel]'"
    return QunxinError("invalid_settings", detail=detail)


class OpenTelemetryTracer:
    """A `Tracer` that makes spans of `provider`. All calls on the loop."""

    def __init__(self, provider: TracerProvider) -> None:
        from opentelemetry import context, trace  # noqa: PLC0415
        from opentelemetry.trace.propagation import tracecontext  # noqa: PLC0415

        self._context = context
        self._trace = trace
        self._propagator = tracecontext.TraceContextTextMapPropagator()
        self._tracer = provider.get_tracer("qunxin", VERSION)
        self._placed: OrderedDict[tuple[str, int], Any] = OrderedDict()

    def operation(self, name: str) -> OperationTrace:
        return _OperationTrace(self, self._named(self._tracer.start_span(name)))

    def request(self, method: str, headers: Iterable[tuple[bytes, bytes]]) -> RequestTrace:
        carrier = {
            name.decode("latin-1"): value.decode("latin-1")
            for name, value in headers
            if name in (b"traceparent", b"tracestate")
        }
        parent = self._propagator.extract(carrier)
        kind = self._trace.SpanKind.SERVER
        known = method if method in _METHODS else "_OTHER"
        span = self._named(self._tracer.start_span(known, parent, kind))
        return _RequestTrace(self, span, known)

    def _named(self, span: Span) -> Span:
        """With the id of the request that is being answered, as the log has it."""
        request_id = REQUEST_ID.get()
        if request_id:
            span.set_attribute("qunxin.request_id", request_id)
        return span

    def fanned_out(
        self, conversation: str, first: int, last: int, sessions: int, seconds: float
    ) -> None:
        if not self._placed:
            return
        end = time.time_ns()
        start = end - int(seconds * 1e9)
        for position in range(first, last + 1):
            parent = self._placed.pop((conversation, position), None)
            if parent is not None:
                span = self._tracer.start_span("fan-out", parent, start_time=start)
                span.set_attribute("qunxin.sessions", sessions)
                span.end(end)

    def attach(self, span: Span) -> Any:
        """Make `span` the one that what follows in this task belongs to; for `detach`."""
        return self._context.attach(self._trace.set_span_in_context(span))

    def detach(self, token: Any) -> None:
        self._context.detach(token)

    def begin_step(self, span: Span, name: str) -> Span:
        return self._tracer.start_span(name, self._trace.set_span_in_context(span))

    def place(self, span: Span, conversation: str, position: int) -> None:
        """Have the fan-out of this entry belong to `span`."""
        if span.is_recording():
            self._placed[conversation, position] = self._trace.set_span_in_context(span)
            if len(self._placed) > _PLACED_LIMIT:
                self._placed.popitem(last=False)

    def fail(self, span: Span, error: BaseException) -> None:
        """Note that it ended in `error`: the code of one of ours, else the kind alone."""
        code = error.code if isinstance(error, QunxinError) else type(error).__name__
        ours = not isinstance(error, QunxinError) or error.tier == "system"
        self.refuse(span, code, ours=ours)

    def refuse(self, span: Span, reason: str, *, ours: bool) -> None:
        """Note why it was refused; the span is an error where it was our failure."""
        span.set_attribute("error.type", reason)
        if ours:
            span.set_status(self._trace.StatusCode.ERROR)


class _OperationTrace:
    """One operation's span, and that of the step that it is at."""

    def __init__(self, tracer: OpenTelemetryTracer, span: Span) -> None:
        self._tracer = tracer
        self._span = span
        self._step: Span | None = None

    def tell(self, name: str, value: str | int) -> None:
        self._span.set_attribute(f"qunxin.{name}", value if isinstance(value, int) else str(value))

    def step(self, name: str) -> None:
        if self._step is not None:
            self._step.end()
        self._step = self._tracer.begin_step(self._span, name)

    def placed(self, conversation: str, position: int) -> None:
        self.tell("position", position)
        self._tracer.place(self._span, conversation, position)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for span in (self._step, self._span):
            if span is not None:
                if error is not None:
                    self._tracer.fail(span, error)
                span.end()


class _RequestTrace:
    """An HTTP request's span; operations in the same task belong to it."""

    def __init__(self, tracer: OpenTelemetryTracer, span: Span, method: str) -> None:
        self._tracer = tracer
        self._span = span
        self._method = method
        self._token: Any = None

    def answered(self, route: str, status: int) -> None:
        self._span.update_name(f"{self._method} {route}")
        self._span.set_attribute("http.request.method", self._method)
        self._span.set_attribute("http.route", route)
        self._span.set_attribute("http.response.status_code", status)
        if status in _SERVER_ERRORS:
            self._tracer.refuse(self._span, str(status), ours=True)

    def __enter__(self) -> Self:
        self._token = self._tracer.attach(self._span)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._tracer.detach(self._token)
        if error is not None:
            self._tracer.fail(self._span, error)
        self._span.end()
