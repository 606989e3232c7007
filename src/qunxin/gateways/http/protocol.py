"""One connection's limits, which an ASGI application cannot see: uvicorn's protocol with
deadlines and bounds on what arrives before, beside and after a request's body.

A client that sends its headers drop by drop, that never stops sending headers or trailers, or
that does not take its answer, holds one connection and nothing else, and not for long.
"""

from __future__ import annotations

import asyncio
import sys
from functools import lru_cache
from http import HTTPStatus
from typing import Any, ClassVar, Final

from httptools import HttpParserUpgrade
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from qunxin.errors import QunxinError
from qunxin.gateways.client_limits import ClientLimits
from qunxin.gateways.http.settings import HttpSettings
from qunxin.gateways.problems import HttpStatusError, whole_answer

_RAW_FACTOR: Final = 16
"""A body in chunks of one byte takes six bytes a byte; beyond this factor it is an attack."""


def http_protocol(
    settings: HttpSettings, limits: ClientLimits | None = None
) -> type[asyncio.Protocol]:
    """The class for uvicorn's `http` setting. `limits` counts connections by their address."""
    fields = {"settings": settings, "limits": limits}
    return type("BoundedHttpProtocol", (_BoundedHttpProtocol,), fields)


class _BoundedHttpProtocol(HttpToolsProtocol):
    settings: ClassVar[HttpSettings]
    limits: ClassVar[ClientLimits | None]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._in_headers = True
        self._header_bytes = 0
        self._raw_bytes = 0
        self._latest = b""
        self._header_timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None
        self._client: str | None = None
        self._refused = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._expect_headers()
        self._enter(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_header_timer()
        self._stop_write_timer()
        self._leave()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        self._raw_bytes += len(data)
        self._latest = data
        super().data_received(data)
        if self.transport.is_closing() or self.transport.get_protocol() is not self:
            return
        if self._in_headers:
            self._header_bytes += len(data)
        if self._header_bytes > self.settings.max_header_bytes:
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "the headers are too large")
        elif self._raw_bytes > _RAW_FACTOR * self.settings.max_body_bytes:
            self.transport.abort()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stop_write_timer()
        self._write_timer = self.loop.call_later(
            self.settings.write_deadline_seconds, self.transport.abort
        )

    def resume_writing(self) -> None:
        self._stop_write_timer()
        super().resume_writing()

    def handle_websocket_upgrade(self) -> None:
        """Called while the parser's exception is handled, which says where the request ended.
        Nothing may follow it before it was answered (RFC 6455, 4.1); uvicorn would drop what does
        without a word."""
        self._stop_header_timer()
        upgrade, latest = sys.exception(), self._latest
        self._latest = b""
        if isinstance(upgrade, HttpParserUpgrade) and upgrade.args[0] < len(latest):
            self._refuse(HTTPStatus.BAD_REQUEST, "frames before the upgrade was answered")
            return
        self._leave()
        super().handle_websocket_upgrade()
        del self.parser  # it and this protocol hold each other, and neither is needed any more

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._header_bytes = self._raw_bytes = 0
        self._expect_headers()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Also called for trailers, which nothing here reads: they count and are dropped."""
        self._header_bytes += len(name) + len(value)
        if self._in_headers:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._stop_header_timer()
        self._in_headers = False
        self._header_bytes = 0
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        self._refuse(HTTPStatus.BAD_REQUEST, msg)

    def _enter(self, transport: asyncio.Transport) -> None:
        """Count the connection, or refuse it. An upgraded one is counted by the gateway that
        takes it."""
        if self.limits is None:
            return
        peer = transport.get_extra_info("peername")
        client = self.limits.peer(peer[0] if isinstance(peer, tuple) else None)
        try:
            self.limits.enter(client)
        except QunxinError as error:
            self._refuse_unread(whole_answer(error, "en"))
            return
        self._client = client

    def _refuse_unread(self, answer: bytes) -> None:
        """Answer whatever the client is about to ask, and give it the time to read that: closing
        at once over what it has sent would reset the connection under the answer."""
        self._refused = True
        self.transport.write(answer)
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._stop_header_timer()
        self._header_timer = self.loop.call_later(self.settings.drain_seconds, self.transport.abort)

    def _leave(self) -> None:
        client, self._client = self._client, None
        if self.limits is not None:
            self.limits.leave(client)

    def _expect_headers(self) -> None:
        self._stop_header_timer()
        self._in_headers = True
        self._header_timer = self.loop.call_later(
            self.settings.header_deadline_seconds, self._headers_overdue
        )

    def _headers_overdue(self) -> None:
        self._refuse(HTTPStatus.REQUEST_TIMEOUT, "the headers did not arrive in time")

    def _refuse(self, status: HTTPStatus, detail: str) -> None:
        """Answer what never became a whole request, and close; in front of or behind an answer
        that is under way nothing can be said."""
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is not None and cycle.response_complete:
            cycle = None
        if not self.pipeline and not (cycle is not None and cycle.response_started):
            self.transport.write(_refusal(status, detail))
        if cycle is not None:
            cycle.disconnected = True
            cycle.message_event.set()
        self.transport.close()

    def _stop_header_timer(self) -> None:
        if self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None

    def _stop_write_timer(self) -> None:
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None


@lru_cache(maxsize=64)
def _refusal(status: HTTPStatus, detail: str) -> bytes:
    """In English, no language being known yet. Kept, since a thousand connections may come to their
    deadline in one turn."""
    return whole_answer(HttpStatusError(status, detail), "en")
