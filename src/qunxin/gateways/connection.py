"""One WebSocket connection's writing side: whole frames to a transport, and an orderly end.

Which library reads the frames is the backend's matter; what is written is the same for all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

from qunxin.wire.codec import close_frame, pong_frame
from qunxin.wire.codes import Disconnect

_DRAINED_BYTES: Final = 4 * 1024 * 1024
_CONTROL_BYTES: Final = 64 * 1024


class Receiver(Protocol):
    """What the reading side tells. Calls are made on the loop and must not raise."""

    def received(self, opcode: int, fin: bool, payload: bytes) -> None:
        """A data frame, or a ping."""
        ...

    def lost(self) -> None:
        """The client is gone or going: nothing can be told to it any more. Comes once."""
        ...

    def broken(self, disconnect: Disconnect) -> None:
        """What was read breaks the WebSocket protocol; nothing further can be understood."""
        ...


class Outlet(Protocol):
    """The writing side, whatever it is: what a session and its gateway need of it."""

    receiver: Receiver | None

    def write(self, data: bytes, /) -> None:
        """Take what is written; never waits."""
        ...

    def pong(self, payload: bytes) -> None:
        """Answer a ping of the transport's own."""
        ...

    def close(self, disconnect: Disconnect, *, readable: bool = True) -> None:
        """End after what was written, telling why."""
        ...

    def abort(self) -> None:
        """End now."""
        ...


class Connection:
    """Made once the upgrade was accepted. `write` takes whole frames and never waits: what the
    socket does not take is held, and counted in `unsent_bytes`. It must not be used after
    `closing` has become true."""

    __slots__ = (
        "_closed",
        "_linger_seconds",
        "_timer",
        "_transport",
        "closing",
        "receiver",
        "write",
    )

    def __init__(
        self,
        transport: asyncio.Transport,
        linger_seconds: float,
        closed: Callable[[Connection], None],
    ) -> None:
        """`closed` is called once, when the socket is closed."""
        self._transport = transport
        self._linger_seconds = linger_seconds
        self._closed = closed
        self._timer: asyncio.TimerHandle | None = None
        self.write: Callable[[bytes], None] = transport.write
        self.receiver: Receiver | None = None
        self.closing = False

    @property
    def unsent_bytes(self) -> int:
        return self._transport.get_write_buffer_size()

    def pong(self, payload: bytes) -> None:
        """Answer a WebSocket ping, unless its sender does not read its answers."""
        if not self.closing and self.unsent_bytes < _CONTROL_BYTES:
            self.write(pong_frame(payload))

    def close(self, disconnect: Disconnect, *, readable: bool = True) -> None:
        """Send a close frame after what was written, and cut the connection once the client has
        answered it, at the latest after `linger_seconds`.

        Not `readable`: what comes in can no longer be parsed, so it is thrown away.
        """
        if self.closing:
            return
        self.closing = True
        self.write(close_frame(disconnect.code, disconnect.reason))
        self._timer = asyncio.get_running_loop().call_later(self._linger_seconds, self.abort)
        if not readable:
            self._transport.set_protocol(_Drain(self))

    def answer_close(self) -> None:
        """The client has sent a close frame: answer it if it was the first, then cut."""
        if not self.closing:
            self.closing = True
            self.write(close_frame(1000, ""))
            self._timer = asyncio.get_running_loop().call_later(self._linger_seconds, self.abort)
        self._transport.close()
        self._tell_lost()

    def abort(self) -> None:
        """Cut the connection now."""
        self.closing = True
        self._transport.abort()

    def broken(self, disconnect: Disconnect) -> None:
        """The reading side cannot go on."""
        if self.receiver is not None:
            self.receiver.broken(disconnect)

    def lost(self) -> None:
        """The transport is closed: no call follows."""
        self.closing = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._tell_lost()
        self._closed(self)

    def _tell_lost(self) -> None:
        receiver, self.receiver = self.receiver, None
        if receiver is not None:
            receiver.lost()


class _Drain(asyncio.Protocol):
    """Reads and forgets, so that the client gets to read why it was closed: an unread byte would
    make the kernel reset the connection over the close frame."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._left = _DRAINED_BYTES

    def data_received(self, data: bytes) -> None:
        self._left -= len(data)
        if self._left < 0:
            self._connection.abort()

    def connection_lost(self, _error: Exception | None) -> None:
        self._connection.lost()
