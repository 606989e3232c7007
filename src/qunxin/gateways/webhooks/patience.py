"""When a receiver may be asked again: pure, without I/O.

An event that fails says little of the receiver: its conversation waits and no other. Failures of
several conversations in a row, with nothing taken between them, say that the receiver is down.
Then it is asked rarely, in two ways that do not wait for each other: with an event that failed
before, and with one of a conversation that has not failed. So where only some conversations fail,
however many, the others are not held up by them; and where all do, both pauses grow.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final

PROBING_FAILURES: Final = 3
"""After so many failures in a row, not counted while they concern one conversation, the receiver
counts as down."""


def _jitter() -> float:
    """So that many webhooks of one receiver do not come back together."""
    return random.uniform(0.5, 1.0)  # noqa: S311


class Patience:
    """What the failures of one webhook since its last success mean. Times are in seconds, of any
    clock that goes on evenly."""

    def __init__(
        self, first_seconds: float, max_seconds: float, jitter: Callable[[], float] = _jitter
    ) -> None:
        self._first_seconds = first_seconds
        self._max_seconds = max_seconds
        self._jitter = jitter
        self._failing: set[str] = set()
        self._counted = 0
        """Failures while more than one conversation fails."""
        self._begun = 0
        """Conversations that began to fail."""
        self.quiet_until = 0.0
        """Nothing may go out before."""
        self.retries_from = 0.0
        """While the receiver is down: before this nothing that failed goes out again."""
        self.others_from = 0.0
        """While the receiver is down: before this nothing goes out that has not failed."""

    @property
    def down(self) -> bool:
        """The receiver seems to be."""
        return self._counted >= PROBING_FAILURES

    def wait(self, until: float) -> None:
        """Nothing is to go out before."""
        self.quiet_until = max(self.quiet_until, until)

    def taken(self) -> None:
        """The receiver took something: it is not down."""
        self._failing.clear()
        self._counted = self._begun = 0
        self.retries_from = self.others_from = 0.0

    def failed(self, conversation: str, before: int, now: float) -> float:
        """An attempt failed, after `before` others of the same event. Returns when that may be
        tried again: the pause is doubled each time, up to the longest."""
        self._failing.add(conversation)
        if len(self._failing) > 1:
            self._counted += 1
        if before == 0:
            self._begun += 1
            if self._begun > 1:
                self.others_from = now + self._pause(self._begun - 2)
        if self.down:
            self.retries_from = now + self._pause(self._counted - PROBING_FAILURES)
        return now + self._pause(before)

    def _pause(self, doubled: int) -> float:
        pause = min(self._first_seconds * 2 ** min(doubled, 40), self._max_seconds)
        return float(pause * self._jitter())
