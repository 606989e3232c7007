"""The observer's contract: where the engine and the gateways report what they did, once per batch,
never per delivery. `qunxin.ops.metrics` turns the reports into metrics."""

from __future__ import annotations

from typing import Protocol


class Observer(Protocol):
    """Calls must return at once and must not raise. All run on the engine's loop."""

    def committed(self, commands: int, entries: int, content_bytes: int, seconds: float) -> None:
        """One transaction became durable; `seconds` from its start to its fsync."""
        ...

    def refused(self, code: str) -> None:
        """One command was refused with the error `code`, by the store or on the way to it."""
        ...

    def fanned_out(self, entries: int, sessions: int, seconds: float) -> None:
        """A batch of `entries` was handed to `sessions` local sessions, the last of them after
        `seconds`."""
        ...

    def answered(self, route: str, method: str, status: int, seconds: float) -> None:
        """One HTTP request was answered; `route` is the template of its path. Both names come
        from tables, whatever a client sends. Status 0: nobody was left to answer."""
        ...

    def answered_error(self, gateway: str, code: str) -> None:
        """A gateway answered a request or a command with the error `code`."""
        ...

    def disconnected(self, code: int | None) -> None:
        """A realtime session ended with the close code `code`; None where the client left."""
        ...

    def caught_up(self, entries: int) -> None:
        """A session was given a page of `entries` from the log."""
        ...

    def sessions_changed(self, count: int) -> None:
        """The number of connected sessions is now `count`."""
        ...

    def webhook_attempted(self, result: str, seconds: float) -> None:
        """One attempt to send an event ended: `taken`, `failed` or `gone`."""
        ...

    def webhook_waiting(self, webhook: str, since: int | None) -> None:
        """The oldest event that the webhook still has to send is of that time (milliseconds
        since 1970); None: there is none."""
        ...


class NullObserver:
    """Looks away."""

    def committed(
        self, commands: int, entries: int, content_bytes: int, seconds: float
    ) -> None: ...

    def refused(self, code: str) -> None: ...

    def fanned_out(self, entries: int, sessions: int, seconds: float) -> None: ...

    def answered(self, route: str, method: str, status: int, seconds: float) -> None: ...

    def answered_error(self, gateway: str, code: str) -> None: ...

    def disconnected(self, code: int | None) -> None: ...

    def caught_up(self, entries: int) -> None: ...

    def sessions_changed(self, count: int) -> None: ...

    def webhook_attempted(self, result: str, seconds: float) -> None: ...

    def webhook_waiting(self, webhook: str, since: int | None) -> None: ...
