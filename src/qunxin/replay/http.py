"""HTTP/1.1 with kept connections, and nothing more.

A replay makes thousands of small requests on the core that its devices need too; a general
client takes ten times as long for each as the server does.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import Final, NamedTuple
from urllib.parse import urlsplit

import httptools

_READ_BYTES: Final = 64 * 1024


class TransportError(Exception):
    """The connection failed, or no answer came in time: whether the request was carried out is
    unknown."""


class Response(NamedTuple):
    """A whole answer, its body as it came."""

    status: int
    body: bytes

    @property
    def is_success(self) -> bool:
        return 200 <= self.status < 300


class HttpClient:
    """Requests to one origin. At most `connections` at once, the others wait."""

    def __init__(self, url: str, connections: int, timeout_seconds: float) -> None:
        parts = urlsplit(url)
        self._host = parts.hostname or ""
        self._secure = parts.scheme == "https"
        self._port = parts.port or (443 if self._secure else 80)
        self._authority = parts.netloc.rpartition("@")[2]
        self._prefix = parts.path.rstrip("/")
        self._timeout_seconds = timeout_seconds
        self._places = asyncio.Semaphore(connections)
        self._idle: list[_Connection] = []

    async def request(
        self, method: str, path: str, headers: dict[str, str], body: bytes = b""
    ) -> Response:
        """The whole answer. Raises `TransportError`; nothing is repeated here."""
        head = self._head(method, path, {**headers, "Content-Length": str(len(body))})
        async with self._places:
            connection = self._idle.pop() if self._idle else None
            try:
                async with asyncio.timeout(self._timeout_seconds):
                    if connection is None:
                        connection = await self._connect()
                    response = await connection.ask(head + body)
            except BaseException as error:
                if connection is not None:
                    connection.close()
                if isinstance(error, (OSError, TimeoutError, httptools.HttpParserError)):
                    raise TransportError(str(error)) from error
                raise
            if connection.keeps:
                self._idle.append(connection)
            else:
                connection.close()
            return response

    def close(self) -> None:
        """End every connection that is not in use."""
        for connection in self._idle:
            connection.close()
        self._idle.clear()

    def _head(self, method: str, path: str, headers: dict[str, str]) -> bytes:
        lines = [f"{method} {self._prefix}{path} HTTP/1.1", f"Host: {self._authority}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        return "\r\n".join([*lines, "", ""]).encode("ascii")

    async def _connect(self) -> _Connection:
        context = ssl.create_default_context() if self._secure else None
        streams = await asyncio.open_connection(self._host, self._port, ssl=context)
        return _Connection(*streams)


class _Connection:
    """One connection, one request at a time; the parser's callbacks gather the answer."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._parts: list[bytes] = []
        self._complete = False
        self.keeps = True
        """Whether another request may follow."""

    async def ask(self, request: bytes) -> Response:
        self._parts, self._complete = [], False
        parser = httptools.HttpResponseParser(self)
        self._writer.write(request)
        while not self._complete:
            data = await self._reader.read(_READ_BYTES)
            if not data:
                raise ConnectionResetError("the connection ended before the answer")
            parser.feed_data(data)
        self.keeps = parser.should_keep_alive()
        return Response(parser.get_status_code(), b"".join(self._parts))

    def close(self) -> None:
        self._writer.close()

    def on_body(self, body: bytes) -> None:
        self._parts.append(body)

    def on_message_complete(self) -> None:
        self._complete = True
