"""The clock's contract: what time it is, asked of a value that tests can replace."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """The two readings that the engine and its stores take; both may be asked for at any rate."""

    def now_ms(self) -> int:
        """Milliseconds since 1970 (UTC). May step backwards when the machine's clock is set."""
        ...

    def monotonic(self) -> float:
        """Seconds from an arbitrary start; never steps back. For durations and deadlines."""
        ...


class SystemClock:
    """The machine's own clock."""

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        return time.monotonic()
