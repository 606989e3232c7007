"""How long to wait before the next try: twice as long each time, with jitter, within a bound."""

from __future__ import annotations

import random
from typing import Final

FIRST_SECONDS: Final = 0.1
LAST_SECONDS: Final = 20.0


class Backoff:
    """One run of failures. The jitter keeps the clients of a restarted server apart."""

    def __init__(self, first: float = FIRST_SECONDS, last: float = LAST_SECONDS) -> None:
        self._first = first
        self._last = last
        self._failures = 0

    def reset(self) -> None:
        """It went well: the next failure is a first one."""
        self._failures = 0

    def next_seconds(self, at_least: float | None = None) -> float:
        """Between half and all of a time that doubles with every call; above `at_least`, the
        advice of an error, where there is one."""
        seconds = min(self._last, self._first * 2.0 ** min(self._failures, 20))
        self._failures += 1
        return (at_least or 0.0) + seconds * random.uniform(0.5, 1.0)  # noqa: S311
