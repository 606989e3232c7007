"""One request and its answer, over plain ASGI: headers, the bounded body, the reply.

Thinner than a framework's request and response objects, because every message sent passes here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from http import HTTPStatus
from typing import Final

from starlette.types import Receive, Scope, Send

from qunxin.errors import QunxinError, best_language
from qunxin.gateways.http.request_ids import request_id_of
from qunxin.gateways.http.settings import HttpSettings
from qunxin.gateways.problems import CLOSE, HttpStatusError, problem_response

Header = tuple[bytes, bytes]

_ONCE_ONLY: Final = frozenset(
    {b"host", b"authorization", b"content-length", b"content-type", b"origin", b"idempotency-key"}
)
_COMMON: Final[tuple[Header, ...]] = ((b"x-content-type-options", b"nosniff"),)


class Exchange:
    """A request being answered. `extra` headers go with whatever the answer is."""

    __slots__ = (
        "_receive",
        "_send",
        "_settings",
        "answered",
        "extra",
        "headers",
        "request_id",
        "route",
        "scope",
        "status",
    )

    def __init__(self, scope: Scope, receive: Receive, send: Send, settings: HttpSettings) -> None:
        self.scope = scope
        self._receive = receive
        self._send = send
        self._settings = settings
        self.headers: dict[str, str] = {}
        self.extra: list[Header] = []
        self.answered = False
        self.request_id = request_id_of(scope["headers"])
        self.status = 0
        """Of the answer, once it has begun."""
        self.route = ("other", "other")
        """The template of the path and the method, where both are known ones."""

    @property
    def method(self) -> str:
        """The method; HEAD counts as GET (the server leaves the body out)."""
        method: str = self.scope["method"]
        return "GET" if method == "HEAD" else method

    @property
    def language(self) -> str:
        """``zh`` or ``en``, as the client prefers."""
        return best_language(self.headers.get("accept-language", ""))

    def read_headers(self) -> None:
        """Fill `headers`, names in lower case, values as UTF-8. Raises `invalid_request` for a
        value that is not, and for a repeat of one that must not be repeated."""
        for name, value in self.scope["headers"]:
            text = _text(name)
            if text not in self.headers:
                self.headers[text] = _text(value)
            elif name in _ONCE_ONLY:
                raise QunxinError("invalid_request", detail=f"the header {text} was sent twice")
            else:
                self.headers[text] += ", " + _text(value)

    @property
    def sends_body(self) -> bool:
        """Whether the request announces a body."""
        length = self.headers.get("content-length", "0")
        return length != "0" or "transfer-encoding" in self.headers

    def check_announced_size(self) -> None:
        """Refuse a body by its announced size, before any of it is read."""
        length = self.headers.get("content-length", "0")
        if not (length.isascii() and length.isdigit()):
            raise QunxinError("invalid_request", detail="Content-Length is not a number")
        if int(length) > self._settings.max_body_bytes:
            raise self._too_large(int(length))

    async def read_body(self) -> bytes:
        """The whole body. Raises `message_too_large` as soon as the limit is passed, and 408 as
        soon as it is too slow; how long it may take in all is the caller's to bound. Cancelled,
        it leaves the rest unread."""
        begun = asyncio.get_running_loop().time() + self._settings.body_grace_seconds
        deadline = asyncio.timeout_at(begun)
        try:
            async with deadline:
                return await self._read_parts(begun, deadline)
        except TimeoutError:
            if not deadline.expired():
                raise
            raise HttpStatusError(
                HTTPStatus.REQUEST_TIMEOUT, "the body comes too slowly", (CLOSE,)
            ) from None

    async def _read_parts(self, begun: float, deadline: asyncio.Timeout) -> bytes:
        parts: list[bytes] = []
        size = 0
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise QunxinError("invalid_request", detail="the body was cut off")
            part = message.get("body", b"")
            size += len(part)
            if size > self._settings.max_body_bytes:
                raise self._too_large(size)
            parts.append(part)
            if not message.get("more_body", False):
                return parts[0] if len(parts) == 1 else b"".join(parts)
            deadline.reschedule(begun + size / self._settings.min_body_bytes_per_second)

    async def reply(self, status: int, headers: Iterable[Header], body: bytes) -> None:
        """Send the whole answer."""
        await self._start(status, headers, body)
        await self._send({"type": "http.response.body", "body": body})

    async def refuse(self, error: QunxinError) -> None:
        """Send the problem document. A body that was too large is drained a little after it, so
        that the client, still writing, comes to read it; then the connection closes."""
        status, headers, body = problem_response(error, self.language)
        if status != HTTPStatus.REQUEST_ENTITY_TOO_LARGE or not self.sends_body:
            await self.reply(status, headers, body)
            return
        await self._start(status, [*headers, CLOSE], body)
        await self._send({"type": "http.response.body", "body": body, "more_body": True})
        await self._drain()
        await self._send({"type": "http.response.body", "body": b""})

    async def _start(self, status: int, headers: Iterable[Header], body: bytes) -> None:
        self.answered = True
        self.status = status
        name = (b"x-request-id", self.request_id.encode())
        all_headers = [*headers, *_COMMON, *self.extra, name]
        if status != HTTPStatus.NO_CONTENT:
            all_headers.append((b"content-length", b"%d" % len(body)))
        await self._send({"type": "http.response.start", "status": status, "headers": all_headers})

    async def _drain(self) -> None:
        """Read on until the body's end, for `drain_seconds` at most. Beyond `drain_bytes` nothing
        more is read, and the client's writing stands still: closing then would reset the
        connection under the refusal, of which a proxy makes a 502."""
        left = self._settings.drain_bytes
        with suppress(TimeoutError):
            async with asyncio.timeout(self._settings.drain_seconds):
                while left > 0:
                    message = await self._receive()
                    if message["type"] == "http.disconnect" or not message.get("more_body"):
                        return
                    left -= len(message.get("body", b""))
                await asyncio.Event().wait()

    def _too_large(self, size: int) -> QunxinError:
        return QunxinError("message_too_large", size=size, limit=self._settings.max_body_bytes)


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise QunxinError("invalid_request", detail="a header is not UTF-8") from None
