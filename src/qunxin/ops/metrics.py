"""Metrics in the Prometheus format: one table of rows, and the observer that fills them.

The engine reports once per batch, so counting costs nothing per delivery. Each metric's name
ends in its unit. The reference page is made from `METRICS`.
"""

from __future__ import annotations

from enum import StrEnum
from importlib.metadata import version
from typing import Final, NamedTuple

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)


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
_BATCH: Final = (1, 2, 5, 10, 20, 50, 100, 200, 500)

METRICS: Final = (
    MetricRow("qunxin_build_info", _G, "1; the label names the version that runs.", ("version",)),
    MetricRow("qunxin_sessions", _G, "Realtime sessions connected to this node."),
    MetricRow(
        "qunxin_commit_seconds",
        _H,
        "Time of one transaction, from its start to its fsync.",
        buckets=_SECONDS,
    ),
    MetricRow("qunxin_commit_commands", _H, "Commands that shared one transaction.", (), _BATCH),
    MetricRow("qunxin_entries_committed_total", _C, "Entries that became durable."),
    MetricRow(
        "qunxin_refusals_total", _C, "Operations that were refused, by error code.", ("code",)
    ),
    MetricRow("qunxin_fanout_batches_total", _C, "Batches handed to local sessions."),
    MetricRow(
        "qunxin_deliveries_total", _C, "Entries handed to local sessions, once for each session."
    ),
    MetricRow(
        "qunxin_caught_up_entries_total", _C, "Entries read from the log for sessions behind it."
    ),
)


class Metrics:
    """An `Observer` that counts, in a registry of its own. One for each node in a process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._sessions = self._gauge("qunxin_sessions")
        self._commit_seconds = self._histogram("qunxin_commit_seconds")
        self._commit_commands = self._histogram("qunxin_commit_commands")
        self._entries = self._counter("qunxin_entries_committed_total")
        self._refusals = self._counter("qunxin_refusals_total")
        self._fanouts = self._counter("qunxin_fanout_batches_total")
        self._deliveries = self._counter("qunxin_deliveries_total")
        self._caught_up = self._counter("qunxin_caught_up_entries_total")
        self._gauge("qunxin_build_info").labels(version("qunxin")).set(1)

    def committed(self, commands: int, entries: int, seconds: float) -> None:
        self._commit_seconds.observe(seconds)
        self._commit_commands.observe(commands)
        self._entries.inc(entries)

    def refused(self, code: str) -> None:
        self._refusals.labels(code).inc()

    def fanned_out(self, entries: int, sessions: int) -> None:
        self._fanouts.inc()
        self._deliveries.inc(entries * sessions)

    def caught_up(self, entries: int) -> None:
        self._caught_up.inc(entries)

    def sessions_changed(self, count: int) -> None:
        self._sessions.set(count)

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


_ROWS: Final = {row.name: row for row in METRICS}
