"""One connection: commands out, lines in, and its end.

It knows the protocol's frames and nothing of conversations. What the server says is handed to the
`Listener` in the order in which it came.
"""

from __future__ import annotations

import asyncio
import ssl as tls
from typing import Any, Final, Protocol
from urllib.parse import urlsplit, urlunsplit

import msgspec
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import (
    ConnectionClosed,
    InvalidHandshake,
    InvalidStatus,
    InvalidURI,
    ProxyError,
)

from qunxin.client.refusals import RefusedError, is_too_large, too_large
from qunxin.client.streams import GapError
from qunxin.errors import QunxinError
from qunxin.wire.device import (
    Ended,
    Push,
    ServerLine,
    Subscribed,
    Welcome,
    encode_command,
    read_frame,
)

PATH: Final = "/connection/websocket"
_MAX_MESSAGE_BYTES: Final = 64 * 1024 * 1024
_OPEN_SECONDS: Final = 10.0
_CLOSE_SECONDS: Final = 2.0
_SILENCE_SECONDS: Final = 10.0
"""So long after the announced ping has not come the connection counts as dead."""
_SCHEMES: Final = {"http": "ws", "https": "wss", "ws": "ws", "wss": "wss"}
_LOST: Final = Ended(1006, "the connection broke")


class LinkBrokenError(Exception):
    """The connection ended, or there was no answer in time: the outcome is not known."""


class NoServerError(Exception):
    """No connection could be made. `worth_repeating`: another try may go better, whatever the
    application does."""

    def __init__(self, detail: str, *, worth_repeating: bool = True) -> None:
        super().__init__(detail)
        self.worth_repeating = worth_repeating


class Listener(Protocol):
    """Whom the lines are for. Called on the loop, one line after the other."""

    def welcomed(self, link: Link, welcome: Welcome) -> None: ...

    def pushed(self, link: Link, push: Push) -> None: ...

    def subscribed(self, link: Link, conversation: str, start: Subscribed) -> None: ...

    def pinged(self, link: Link) -> None: ...


def websocket_address(url: str) -> str:
    """The address of the realtime door: ``http`` means ``ws``, and a server's bare address is
    enough. Raises `invalid_request`."""
    parts = urlsplit(url)
    scheme = _SCHEMES.get(parts.scheme)
    if scheme is None or not parts.netloc:
        detail = f"{url!r} is no address of a server, such as https://chat.example.org"
        raise QunxinError("invalid_request", detail=detail)
    path = PATH if parts.path in ("", "/") else parts.path
    return urlunsplit((scheme, parts.netloc, path, parts.query, ""))


class Link:
    """Made by `open`. `closed` is done when the connection has ended, and says how."""

    def __init__(
        self,
        socket: ClientConnection,
        listener: Listener,
        call_seconds: float,
        language: str = "en",
    ) -> None:
        self._socket = socket
        self._listener = listener
        self._call_seconds = call_seconds
        self._silence_seconds = call_seconds
        self._language = language
        self._replies: dict[int, asyncio.Future[ServerLine | None]] = {}
        self._subscribing: dict[int, str] = {}
        self._sizes: dict[int, int] = {}
        """Bytes of each command that the server has not answered, whether anybody still waits for
        the answer or not."""
        self._last_id = 0
        self._why: Ended | None = None
        self.closed: asyncio.Future[Ended] = asyncio.get_running_loop().create_future()
        self._reader = asyncio.create_task(self._read(), name="client link")

    @classmethod
    async def open(
        cls,
        url: str,
        listener: Listener,
        *,
        call_seconds: float,
        ssl: tls.SSLContext | None,
        language: str = "en",
    ) -> Link:
        """Upgraded, nothing sent. Raises `NoServerError`."""
        try:
            socket = await connect(
                url,
                ssl=ssl,
                compression=None,
                open_timeout=_OPEN_SECONDS,
                close_timeout=_CLOSE_SECONDS,
                ping_interval=None,
                max_size=_MAX_MESSAGE_BYTES,
            )
        except InvalidURI as error:
            raise NoServerError(str(error), worth_repeating=False) from error
        except InvalidStatus as error:
            raise _rejected(url, error) from error
        except (OSError, TimeoutError, InvalidHandshake, ProxyError, ConnectionClosed) as error:
            raise NoServerError(f"{url}: {str(error) or 'no answer in time'}") from error
        return cls(socket, listener, call_seconds, language)

    @property
    def usable(self) -> bool:
        """Whether it has neither ended nor is about to."""
        return self._why is None and not self.closed.done()

    # --- asking ------------------------------------------------------------------------------

    async def ask(self, kind: str, fields: Any) -> ServerLine:
        """The reply. Raises `RefusedError`, or `LinkBrokenError` where there was none; a reply
        that does not come in time ends the connection. A command that is too large for the server
        ends the connection too, and is refused: `message_too_large`."""
        self._last_id += 1
        number = self._last_id
        reply: asyncio.Future[ServerLine | None] = asyncio.get_running_loop().create_future()
        self._replies[number] = reply
        if kind == "subscribe":
            self._subscribing[number] = fields["channel"]
        try:
            async with asyncio.timeout(self._call_seconds):
                await self._give(number, encode_command(number, kind, fields))
                line = await reply
        except TimeoutError:
            self.abort(Ended(1006, f"no answer to {kind} in {self._call_seconds:g} s"))
            raise LinkBrokenError from None
        except LinkBrokenError:
            raise self._why_unanswered(number) from None
        finally:
            self._replies.pop(number, None)
            self._subscribing.pop(number, None)
        if line is None:
            raise self._why_unanswered(number)
        if line.error is not None:
            raise RefusedError(line.error)
        return line

    async def call(self, method: str, data: Any) -> bytes:
        """An operation's result as JSON."""
        line = await self.ask("rpc", {"method": method, "data": data})
        return b"null" if line.rpc is None else bytes(line.rpc.data)

    async def pong(self) -> None:
        """Answer the oldest ping. On a connection that has ended there is nobody to answer."""
        try:
            await self._send("{}")
        except LinkBrokenError:
            return

    async def _give(self, number: int, line: str) -> None:
        if self.usable:
            self._sizes[number] = len(line.encode())
        await self._send(line)

    def _why_unanswered(self, number: int) -> LinkBrokenError | RefusedError:
        """The server ends a connection at a command that is too large, without saying which: it
        was the largest, or that one would have been too large as well."""
        largest = max(self._sizes, key=self._sizes.__getitem__, default=0)
        if self._why is None or not is_too_large(self._why) or number != largest:
            return LinkBrokenError()
        return too_large(self._sizes[number], self._language)

    @property
    def ended_by_a_command(self) -> bool:
        """Whether one was too large for the server. Whoever gave it was told."""
        return self._why is not None and is_too_large(self._why) and bool(self._sizes)

    async def _send(self, line: str) -> None:
        if not self.usable:
            raise LinkBrokenError
        try:
            await self._socket.send(line)
        except ConnectionClosed as closed:
            # The reader learns of it later, in a turn of its own. A link still usable until then
            # would be tried again and again without one: this raises without waiting.
            self.abort(_how(closed))
            raise LinkBrokenError from None

    # --- ending ------------------------------------------------------------------------------

    def abort(self, why: Ended) -> None:
        """Cut the connection, without a word to the server."""
        if self._why is None:
            self._why = why
        self._socket.transport.abort()

    async def close(self) -> None:
        """Say goodbye, and return when the connection has ended."""
        await self._socket.close()
        await asyncio.wait([self._reader])

    # --- reading -----------------------------------------------------------------------------

    async def _read(self) -> None:
        try:
            while True:
                async with asyncio.timeout(self._silence_seconds):
                    frame = await self._socket.recv(decode=False)
                self._take(frame)
        except ConnectionClosed as closed:
            self._why = self._why or _how(closed)
        except TimeoutError:
            self.abort(Ended(1006, "the server was silent for too long"))
        except (msgspec.DecodeError, GapError) as error:
            self.abort(Ended(1002, f"not the protocol: {error}"))
        except Exception as error:  # noqa: BLE001 - raised where the link's end is waited for
            self.abort(Ended(1011, "the client failed"))
            self.closed.set_exception(error)
        finally:
            self._end()

    def _end(self) -> None:
        for reply in self._replies.values():
            if not reply.done():
                reply.set_result(None)
        if not self.closed.done():
            self.closed.set_result(self._why or _LOST)

    def _take(self, frame: bytes) -> None:
        for line in read_frame(frame):
            if self._why is not None:
                return
            if line.is_ping:
                self._listener.pinged(self)
            elif line.push is None:
                self._answer(line)
            elif line.push.disconnect is not None:
                self._why = line.push.disconnect
                self._socket.transport.abort()
            else:
                self._listener.pushed(self, line.push)

    def _answer(self, line: ServerLine) -> None:
        """What a reply begins is begun before the next line is looked at."""
        if line.connect is not None:
            self._silence_seconds = line.connect.ping + _SILENCE_SECONDS
            self._listener.welcomed(self, line.connect)
        if line.subscribe is not None and line.id in self._subscribing:
            self._listener.subscribed(self, self._subscribing[line.id], line.subscribe)
        self._sizes.pop(line.id, None)
        reply = self._replies.get(line.id)
        if reply is not None and not reply.done():
            reply.set_result(line)


def _how(closed: ConnectionClosed) -> Ended:
    """What the server said when it closed, where it did."""
    return _LOST if closed.rcvd is None else Ended(closed.rcvd.code, closed.rcvd.reason)


def _rejected(url: str, error: InvalidStatus) -> NoServerError:
    """The upgrade was answered with something else. What the client asks wrong stays wrong."""
    status, body = error.response.status_code, error.response.body or b""
    words = body.decode("utf-8", "replace").strip()[:200]
    again = status >= 500 or status in (408, 425, 429)
    return NoServerError(f"{url} answered {status} {words}".strip(), worth_repeating=again)
