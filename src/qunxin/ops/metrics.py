"""Metrics in the Prometheus format: one table of rows, and the observer that fills them.

The engine reports once per batch, so counting costs nothing per delivery. Labels come from tables,
never from what a client sends. Each metric's name ends in its unit. The reference page is made
from `METRICS`.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Final, NamedTuple

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)

from qunxin.version import VERSION


class MetricKind(StrEnum):
    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class MetricRow(NamedTuple):
    """One metric as it is exposed, and as the reference page shows it."""

    name: str
    kind: MetricKind
    description: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


_C, _G, _H = MetricKind.COUNTER, MetricKind.GAUGE, MetricKind.HISTOGRAM

_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_FAST_SECONDS: Final = (0.000_05, 0.000_1, 0.000_25, 0.000_5, *_SECONDS)
_BATCH: Final = (1, 2, 5, 10, 20, 50, 100, 200, 500)
_BATCH_BYTES: Final = (256, 1_024, 4_096, 16_384, 65_536, 262_144, 1_048_576, 4_194_304)

METRICS: Final = (
    MetricRow("qunxin_build_info", _G, "1; the label names the version that runs.", ("version",)),
    MetricRow("qunxin_sessions", _G, "Realtime sessions connected to this node."),
    MetricRow(
        "qunxin_connections", _G, "Realtime sockets open, before and after their session too."
    ),
    MetricRow(
        "qunxin_disconnects_total",
        _C,
        "Ends of realtime connections, by close code; `client` where the client left.",
        ("code",),
    ),
    MetricRow(
        "qunxin_http_requests_total",
        _C,
        "HTTP requests answered, by path template, method and status; status 0 where nobody was "
        "left to answer.",
        ("route", "method", "status"),
    ),
    MetricRow(
        "qunxin_http_request_seconds",
        _H,
        "Time from a request's headers to the end of its answer, by path template.",
        ("route",),
        _SECONDS,
    ),
    MetricRow(
        "qunxin_answered_errors_total",
        _C,
        "Errors that a gateway answered with, by error code.",
        ("gateway", "code"),
    ),
    MetricRow("qunxin_commit_queue_commands", _G, "Commands waiting for the next transaction."),
    MetricRow("qunxin_commit_queue_bytes", _G, "Content of the messages among them."),
    MetricRow(
        "qunxin_commit_seconds",
        _H,
        "Time of one transaction, from its start to its fsync.",
        buckets=_SECONDS,
    ),
    MetricRow("qunxin_commit_commands", _H, "Commands that shared one transaction.", (), _BATCH),
    MetricRow(
        "qunxin_commit_bytes", _H, "Content of the messages of one transaction.", (), _BATCH_BYTES
    ),
    MetricRow("qunxin_entries_committed_total", _C, "Entries that became durable."),
    MetricRow(
        "qunxin_refusals_total",
        _C,
        "Commands that the store refused, that failed on the way to it, or that had no answer in "
        "time, by error code.",
        ("code",),
    ),
    MetricRow("qunxin_fanout_batches_total", _C, "Batches handed to local sessions."),
    MetricRow(
        "qunxin_fanout_seconds",
        _H,
        "Time until a batch was handed to the last of its local sessions.",
        (),
        _FAST_SECONDS,
    ),
    MetricRow(
        "qunxin_deliveries_total",
        _C,
        "Entries handed to local sessions, once for each session; not those read from the log.",
    ),
    MetricRow(
        "qunxin_caught_up_entries_total", _C, "Entries read from the log for sessions behind it."
    ),
    MetricRow("qunxin_store_file_bytes", _G, "Size of the database file."),
    MetricRow("qunxin_store_log_bytes", _G, "Size of the database's write-ahead log."),
    MetricRow(
        "qunxin_webhook_attempts_total",
        _C,
        "Attempts to send an event to a webhook, by result: taken, failed, gone.",
        ("result",),
    ),
    MetricRow(
        "qunxin_webhook_attempt_seconds",
        _H,
        "Time of one attempt, without the reading of the event.",
        buckets=_SECONDS,
    ),
    MetricRow(
        "qunxin_webhook_waiting_since_timestamp_seconds",
        _G,
        "When the oldest event that a webhook, paused or not, still has to send happened; 0 where "
        "none waits.",
        ("webhook",),
    ),
)


class Metrics:
    """An `Observer` that counts, in a registry of its own. One for each node in a process."""

    def __init__(self) -> None:
        # A `…_created` beside each counter and histogram is a third more to scrape, and no row
        # tells of it. The library has this for the whole process, which a server's own is.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._sessions = self._gauge("qunxin_sessions")
        self._commit_seconds = self._histogram("qunxin_commit_seconds")
        self._commit_bytes = self._histogram("qunxin_commit_bytes")
        self._commit_commands = self._histogram("qunxin_commit_commands")
        self._entries = self._counter("qunxin_entries_committed_total")
        self._refusals = self._counter("qunxin_refusals_total")
        self._fanouts = self._counter("qunxin_fanout_batches_total")
        self._fanout_seconds = self._histogram("qunxin_fanout_seconds")
        self._deliveries = self._counter("qunxin_deliveries_total")
        self._caught_up = self._counter("qunxin_caught_up_entries_total")
        self._disconnects = self._counter("qunxin_disconnects_total")
        self._requests = self._counter("qunxin_http_requests_total")
        self._request_seconds = self._histogram("qunxin_http_request_seconds")
        self._answered: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}
        """The two of each combination: to look them up by label costs more than to count."""
        self._errors = self._counter("qunxin_answered_errors_total")
        self._watched = {name: self._gauge(name) for name in _WATCHED}
        self._webhook_attempts = self._counter("qunxin_webhook_attempts_total")
        self._webhook_seconds = self._histogram("qunxin_webhook_attempt_seconds")
        self._webhook_waiting = self._gauge("qunxin_webhook_waiting_since_timestamp_seconds")
        self._gauge("qunxin_build_info").labels(VERSION).set(1)

    def watch(self, name: str, measure: Callable[[], float]) -> None:
        """Ask `measure` for this gauge whenever the metrics are read: one of those that are
        nobody's to report."""
        self._watched[name].set_function(measure)

    def committed(self, commands: int, entries: int, content_bytes: int, seconds: float) -> None:
        self._commit_seconds.observe(seconds)
        self._commit_commands.observe(commands)
        self._commit_bytes.observe(content_bytes)
        self._entries.inc(entries)

    def refused(self, code: str) -> None:
        self._refusals.labels(code).inc()

    def fanned_out(self, entries: int, sessions: int, seconds: float) -> None:
        self._fanouts.inc()
        self._fanout_seconds.observe(seconds)
        self._deliveries.inc(entries * sessions)

    def answered(self, route: str, method: str, status: int, seconds: float) -> None:
        found = self._answered.get((route, method, status))
        if found is None:
            made = (
                self._requests.labels(route, method, status),
                self._request_seconds.labels(route),
            )
            found = self._answered[route, method, status] = made
        found[0].inc()
        found[1].observe(seconds)

    def answered_error(self, gateway: str, code: str) -> None:
        self._errors.labels(gateway, code).inc()

    def disconnected(self, code: int | None) -> None:
        self._disconnects.labels("client" if code is None else code).inc()

    def caught_up(self, entries: int) -> None:
        self._caught_up.inc(entries)

    def sessions_changed(self, count: int) -> None:
        self._sessions.set(count)

    def webhook_attempted(self, result: str, seconds: float) -> None:
        self._webhook_attempts.labels(result).inc()
        self._webhook_seconds.observe(seconds)

    def webhook_waiting(self, webhook: str, since: int | None) -> None:
        self._webhook_waiting.labels(webhook).set(0 if since is None else since / 1000)

    def webhook_deleted(self, webhook: str) -> None:
        self._webhook_waiting.remove(webhook)

    def render(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self.registry)

    def _counter(self, name: str) -> Counter:
        row = _ROWS[name]
        return Counter(row.name, row.description, row.labels, registry=self.registry)

    def _gauge(self, name: str) -> Gauge:
        row = _ROWS[name]
        return Gauge(row.name, row.description, row.labels, registry=self.registry)

    def _histogram(self, name: str) -> Histogram:
        row = _ROWS[name]
        return Histogram(
            row.name, row.description, row.labels, buckets=row.buckets, registry=self.registry
        )


_WATCHED: Final = (
    "qunxin_connections",
    "qunxin_commit_queue_commands",
    "qunxin_commit_queue_bytes",
    "qunxin_store_file_bytes",
    "qunxin_store_log_bytes",
)
_ROWS: Final = {row.name: row for row in METRICS}
