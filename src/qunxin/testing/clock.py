"""A clock that stands still until it is told to move."""

from __future__ import annotations


class ManualClock:
    """Time as a test wants it, in milliseconds since 1970."""

    def __init__(self, now_ms: int = 1_764_000_000_000) -> None:
        self._now_ms = now_ms

    def advance(self, milliseconds: int) -> None:
        self._now_ms += milliseconds

    def now_ms(self) -> int:
        return self._now_ms

    def monotonic(self) -> float:
        return self._now_ms / 1000
