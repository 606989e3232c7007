"""From raw runs to medians, from medians to a table."""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple


class Run(NamedTuple):
    """What one run saw. Latencies in seconds, ascending."""

    seconds: float
    deliveries: int
    bytes: int
    server_cpu_seconds: float
    client_cpu_seconds: float
    ack_seconds: list[float]
    delivery_seconds: list[float]
    messages_per_frame: float


class Figures(NamedTuple):
    """Medians over the runs of one server with one window."""

    deliveries_per_second: float
    deliveries_per_cpu_second: float
    ack_p50_ms: float
    ack_p99_ms: float
    delivery_p50_ms: float
    delivery_p99_ms: float
    server_busy: float
    client_busy: float
    """Share of one core. Above 0.95 the load, not the server, may have set the pace."""
    bytes_per_delivery: float
    messages_per_frame: float
    """As senders and probes saw it; a frame with a reply alone counts too."""

    @classmethod
    def of(cls, run: Run) -> Figures:
        return cls(
            run.deliveries / run.seconds,
            run.deliveries / max(run.server_cpu_seconds, 0.01),
            percentile_ms(run.ack_seconds, 50),
            percentile_ms(run.ack_seconds, 99),
            percentile_ms(run.delivery_seconds, 50),
            percentile_ms(run.delivery_seconds, 99),
            run.server_cpu_seconds / run.seconds,
            run.client_cpu_seconds / run.seconds,
            run.bytes / max(run.deliveries, 1),
            run.messages_per_frame,
        )

    @classmethod
    def median_of(cls, runs: Sequence[Run]) -> Figures:
        each = zip(*(cls.of(run) for run in runs), strict=True)
        return cls(*(round(statistics.median(values), 3) for values in each))


def percentile_ms(ascending: Sequence[float], percent: int) -> float:
    """The value that `percent` of all are at or below, in milliseconds."""
    if not ascending:
        return float("nan")
    return ascending[(len(ascending) - 1) * percent // 100] * 1000


_HEAD = (
    f"{'W':>3} {'server':<8} {'deliveries/s':>13} {'per CPU-s':>11} {'ack p50':>8} {'p99 ms':>8} "
    f"{'del. p50':>9} {'p99 ms':>8} {'server':>7} {'load':>6} "
    f"{'bytes':>6} {'/frame':>6} {'ratio':>6} {'CPU':>5}"
)


def table(figures: dict[int, dict[str, Figures]], memory: dict[str, float]) -> str:
    lines = [_HEAD]
    for window, sides in figures.items():
        for name, row in sides.items():
            lines.append(_row(window, name, row, _ratios(name, sides)))
    for name, each in memory.items():
        lines.append(f"{name}: {each / 1024:.1f} KiB of resident memory per connection")
    return "\n".join(lines)


def _row(window: int, name: str, row: Figures, ratios: str) -> str:
    return (
        f"{window:>3} {name:<8} {row.deliveries_per_second:>13,.0f} "
        f"{row.deliveries_per_cpu_second:>11,.0f} {row.ack_p50_ms:>8.2f} {row.ack_p99_ms:>8.2f} "
        f"{row.delivery_p50_ms:>9.2f} {row.delivery_p99_ms:>8.2f} {row.server_busy:>7.0%} "
        f"{row.client_busy:>6.0%} {row.bytes_per_delivery:>6.0f} "
        f"{row.messages_per_frame:>6.1f} {ratios}"
    )


class Ratios(NamedTuple):
    """The server's figures over those of what stands beside it: the ceiling, or another one."""

    deliveries_per_second: float
    deliveries_per_cpu_second: float


def ratios_of(sides: dict[str, Figures]) -> Ratios | None:
    """None where only one of the two was measured."""
    if len(sides) < 2:
        return None
    ours = sides["qunxin"]
    beside = next(figures for name, figures in sides.items() if name != "qunxin")
    return Ratios(
        round(ours.deliveries_per_second / beside.deliveries_per_second, 3),
        round(ours.deliveries_per_cpu_second / beside.deliveries_per_cpu_second, 3),
    )


def _ratios(name: str, sides: dict[str, Figures]) -> str:
    found = ratios_of(sides)
    if name != "qunxin" or found is None:
        return ""
    return f"{found.deliveries_per_second:>6.2f} {found.deliveries_per_cpu_second:>5.2f}"


def fsync_microseconds(folder: Path) -> float:
    """The median time of an fsync of 4 KiB more in `folder`."""
    times = []
    with tempfile.TemporaryFile(dir=folder) as file:
        for _ in range(50):
            began = time.perf_counter()
            file.write(b"\0" * 4096)
            file.flush()
            os.fsync(file.fileno())
            times.append(time.perf_counter() - began)
    return statistics.median(times) * 1e6
