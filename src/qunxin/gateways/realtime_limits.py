"""How many commands a connection may give: a bucket of tokens, filled with time."""

from __future__ import annotations


class CommandBudget:
    """`per_second` on average, `burst` at once. What is taken beyond that is owed."""

    __slots__ = ("_burst", "_filled_at", "_per_second", "_tokens")

    def __init__(self, per_second: float, burst: float, now: float) -> None:
        self._per_second = per_second
        self._burst = burst
        self._tokens = burst
        self._filled_at = now

    def take(self, now: float) -> bool:
        """Take one; False where there was none left."""
        filled = self._tokens + (now - self._filled_at) * self._per_second
        self._filled_at = now
        self._tokens = min(filled, self._burst) - 1.0
        return self._tokens >= 0.0

    @property
    def is_abused(self) -> bool:
        """Whether as much again as the burst was taken in spite of refusals."""
        return self._tokens < -self._burst

    @property
    def seconds_to_next(self) -> float:
        """Until one more may be taken."""
        return max(0.0, (1.0 - self._tokens) / self._per_second)
