"""Two contracts. To an observer the engine and the gateways report what they did, once per batch,
never per delivery: `qunxin.ops.metrics` turns the reports into metrics. A tracer follows single
operations through their steps: `qunxin.ops.traces` makes spans of them."""

from __future__ import annotations

from collections.abc import Iterable
from types import TracebackType
from typing import Final, Protocol, Self


class Observer(Protocol):
    """Calls must return at once and must not raise. All run on the engine's loop."""

    def committed(self, commands: int, entries: int, content_bytes: int, seconds: float) -> None:
        """One transaction became durable; `seconds` from its start to its fsync."""
        ...

    def refused(self, code: str) -> None:
        """One command was refused with the error `code`, by the store or on the way to it, or had
        no answer in time. Once for each command."""
        ...

    def fanned_out(self, entries: int, sessions: int, seconds: float) -> None:
        """A batch of `entries` was handed to `sessions` local sessions, the last of them after
        `seconds`. Those that read it from the log instead are not among them."""
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
        """The oldest event that the webhook still has to send, paused or not, is of that time
        (milliseconds since 1970); None: there is none."""
        ...

    def webhook_deleted(self, webhook: str) -> None:
        """There is no such webhook any more."""
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

    def webhook_deleted(self, webhook: str) -> None: ...


class OperationTrace(Protocol):
    """One operation on its way, used with ``with``; an error that leaves the block is its
    outcome. Neither content nor anybody's name or id is told."""

    def tell(self, name: str, value: str | int) -> None:
        """A fact about it. Both come from tables or are numbers, never from what a client sends."""
        ...

    def step(self, name: str) -> None:
        """The step `name` begins here, and the one before it is over."""
        ...

    def placed(self, conversation: str, position: int) -> None:
        """It became this entry: the fan-out of that belongs to it."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...


class RequestTrace(Protocol):
    """One HTTP request, used with ``with``; operations in the same task belong to it."""

    def answered(self, route: str, status: int) -> None:
        """`route` is the template of the path."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...


class Tracer(Protocol):
    """Follows single operations through the node. Calls return at once and do not raise."""

    def operation(self, name: str) -> OperationTrace: ...

    def request(self, method: str, headers: Iterable[tuple[bytes, bytes]]) -> RequestTrace:
        """`headers` may say whose trace this continues (W3C Trace Context)."""
        ...

    def fanned_out(
        self, conversation: str, first: int, last: int, sessions: int, seconds: float
    ) -> None:
        """The entries from `first` to `last` were handed to `sessions` local sessions, the last
        of them after `seconds`."""
        ...


class _NullTrace:
    def tell(self, name: str, value: str | int) -> None: ...

    def step(self, name: str) -> None: ...

    def placed(self, conversation: str, position: int) -> None: ...

    def answered(self, route: str, status: int) -> None: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...


_NULL_TRACE: Final = _NullTrace()


class NullTracer:
    """Follows nothing."""

    def operation(self, name: str) -> OperationTrace:  # noqa: ARG002
        return _NULL_TRACE

    def request(
        self,
        method: str,  # noqa: ARG002
        headers: Iterable[tuple[bytes, bytes]],  # noqa: ARG002
    ) -> RequestTrace:
        return _NULL_TRACE

    def fanned_out(
        self, conversation: str, first: int, last: int, sessions: int, seconds: float
    ) -> None: ...


NULL_TRACER: Final = NullTracer()
