"""The observer's contract: where the engine reports what it did, once per batch, never per
delivery. `qunxin.ops.metrics` turns the reports into metrics."""

from __future__ import annotations

from typing import Protocol


class Observer(Protocol):
    """Calls must return at once and must not raise. All run on the engine's loop."""

    def committed(self, commands: int, entries: int, seconds: float) -> None:
        """One transaction became durable; `seconds` from its start to its fsync."""
        ...

    def refused(self, code: str) -> None:
        """One operation was refused with the error `code`."""
        ...

    def fanned_out(self, entries: int, sessions: int) -> None:
        """A batch of `entries` was handed to `sessions` local sessions."""
        ...

    def caught_up(self, entries: int) -> None:
        """A session was given a page of `entries` from the log."""
        ...

    def sessions_changed(self, count: int) -> None:
        """The number of connected sessions is now `count`."""
        ...


class NullObserver:
    """Looks away."""

    def committed(self, commands: int, entries: int, seconds: float) -> None: ...

    def refused(self, code: str) -> None: ...

    def fanned_out(self, entries: int, sessions: int) -> None: ...

    def caught_up(self, entries: int) -> None: ...

    def sessions_changed(self, count: int) -> None: ...
