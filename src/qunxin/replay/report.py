"""What a replay found: one object for programs, a table for people, and its progress."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from qunxin.replay.options import Speak

PASSED: Final = "passed"
FAILED: Final = "failed"


class ReplayReport(msgspec.Struct, frozen=True):
    """The numbers of one replay. Times in milliseconds, 0.0 where there is nothing to measure.

    `users` are the people of the logs, `skipped_lines` the lines there that tell of nothing that
    can be played. `expected_deliveries` counts every message once for
    everybody entitled to it but its author; `delivered` those that were seen.
    """

    files: int
    users: int
    messages: int
    skipped_lines: int
    expected_deliveries: int
    delivered: int
    lost: int
    duplicated: int
    reordered: int
    misrouted: int
    leaked: int
    kills: int
    ack_p50_ms: float
    ack_p99_ms: float
    delivery_p50_ms: float
    delivery_p99_ms: float
    messages_per_second: float
    deliveries_per_second: float
    verdict: str


@dataclass(frozen=True)
class ReplayOutcome:
    """The report, and in words what stood out: the first faults, and answers that the server
    should not have given."""

    report: ReplayReport
    notes: tuple[str, ...]

    @property
    def passed(self) -> bool:
        return self.report.verdict == PASSED

    def to_json(self) -> str:
        """The report as one object on one line."""
        return msgspec.json.encode(self.report).decode()


def percentile_ms(seconds: Sequence[float], share: float) -> float:
    """The nearest-rank percentile of ascending `seconds`, in milliseconds."""
    if not seconds:
        return 0.0
    rank = min(len(seconds) - 1, int(share * len(seconds)))
    return round(seconds[rank] * 1000, 3)


def print_outcome(outcome: ReplayOutcome, console: Console) -> None:
    """The table for people."""
    report = outcome.report
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold")
    table.add_column(justify="right")
    for label, value in _rows(report):
        table.add_row(label, value)
    console.print(table)
    for note in outcome.notes:
        console.print(f"  {note}", markup=False, highlight=False)
    style = "bold green" if outcome.passed else "bold red"
    console.print(f"Verdict: {report.verdict}", style=style)


def _rows(report: ReplayReport) -> Iterator[tuple[str, str]]:
    yield "Logs", f"{report.files:,}"
    yield "Users", f"{report.users:,}"
    yield "Messages", f"{report.messages:,}"
    yield "Lines skipped", f"{report.skipped_lines:,}"
    yield "Deliveries expected", f"{report.expected_deliveries:,}"
    yield "Delivered", f"{report.delivered:,}"
    for name in ("lost", "duplicated", "reordered", "misrouted", "leaked"):
        yield name.capitalize(), f"{getattr(report, name):,}"
    yield "Server killed", f"{report.kills:,}"
    yield "Accepted within (p50, p99)", f"{report.ack_p50_ms:,.1f} ms, {report.ack_p99_ms:,.1f} ms"
    yield (
        "Delivered within (p50, p99)",
        f"{report.delivery_p50_ms:,.1f} ms, {report.delivery_p99_ms:,.1f} ms",
    )
    yield "Messages per second", f"{report.messages_per_second:,.0f}"
    yield "Deliveries per second", f"{report.deliveries_per_second:,.0f}"


@contextmanager
def shown_progress(console: Console) -> Iterator[Speak]:
    """A bar for each phase on `console`; gone when the replay is over."""
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        transient=True,
    )
    phases = {}
    with bar:

        def speak(phase: str, done: int, total: int) -> None:
            if phase not in phases:
                phases[phase] = bar.add_task(phase, total=total)
            bar.update(phases[phase], completed=done)

        yield speak
