"""Frames read by picows: its own protocol object becomes the transport's, so that no Python runs
per read, only per frame.

picows offers no way to take over a connection that somebody else accepted. What is used here
beyond its public interface is the class `WSProtocol` and the order of its arguments, in the exact
version that this project pins; the tests of this gateway prove it.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Final

from picows import (
    WSFrame,
    WSListener,
    WSMsgType,
    WSTransport,
    WSUpgradeResponse,
    WSUpgradeResponseWithListener,
)
from picows.picows import WSAutoPingStrategy, WSProtocol  # type: ignore[attr-defined]

from qunxin.gateways.connection import Connection
from qunxin.wire.codes import BAD_FRAME, FRAME_TOO_LARGE
from qunxin.wire.messages import Opcode

_log = logging.getLogger("qunxin.realtime")

_READ_BUFFER_BYTES: Final = 4096
_TOO_BIG: Final = 1009
_OPCODES: Final = {kind: Opcode(int(kind.value)) for kind in WSMsgType}
_CLOSE: Final = WSMsgType.CLOSE
_PONG: Final = WSMsgType.PONG


def attach(
    transport: asyncio.Transport,
    connection: Connection,
    max_frame_bytes: int,
    key: str,
    subprotocol: str,
) -> None:
    """Let picows read `transport` from now on, and answer the upgrade, with the subprotocol unless
    that is empty. `connection.receiver` is told of every frame."""
    protocol = WSProtocol(
        None,
        None,
        False,
        lambda _request: _answer(_Listener(connection), subprotocol),
        _Reports(connection),
        True,
        None,
        False,
        0,
        0,
        WSAutoPingStrategy.PING_WHEN_IDLE,
        False,
        max_frame_bytes,
        None,
        _READ_BUFFER_BYTES,
    )
    protocol.connection_made(_Transport(transport, connection))
    transport.set_protocol(protocol)
    feed(protocol, _upgrade_request(key))


def feed(protocol: Any, data: bytes) -> None:
    """Hand `data` to a buffered protocol as if it had just been read."""
    left = memoryview(data)
    while left:
        buffer = protocol.get_buffer(-1)
        size = min(len(buffer), len(left))
        buffer[:size] = left[:size]
        protocol.buffer_updated(size)
        left = left[size:]


def _upgrade_request(key: str) -> bytes:
    """The request that picows answers, in the one spelling it knows: the real one has been
    checked already, and picows refuses `Connection: keep-alive, Upgrade`."""
    return (
        "GET / HTTP/1.1\r\nHost: _\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n"
    ).encode()


def _answer(listener: WSListener, subprotocol: str) -> WSUpgradeResponseWithListener:
    headers = {"Sec-WebSocket-Protocol": subprotocol} if subprotocol else {}
    return WSUpgradeResponseWithListener(WSUpgradeResponse.create_101_response(headers), listener)


class _Listener(WSListener):
    """Passes frames on."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def on_ws_frame(self, _transport: WSTransport, frame: WSFrame) -> None:
        connection = self._connection
        kind = frame.msg_type
        if kind == _CLOSE:
            connection.answer_close()
        elif connection.receiver is None or kind == _PONG:
            return
        elif frame.rsv1 or frame.rsv2 or frame.rsv3:
            connection.broken(BAD_FRAME)
        else:
            payload = frame.get_payload_as_bytes()
            connection.receiver.received(_OPCODES[kind], bool(frame.fin), payload)

    def on_ws_disconnected(self, _transport: WSTransport) -> None:
        self._connection.lost()

    def pause_writing(self) -> None:
        """What is unsent is bounded by the session."""

    def resume_writing(self) -> None:
        """See `pause_writing`."""


class _Transport:
    """What picows sees of the transport: it may answer the upgrade, and nothing else.

    Frames are written and connections closed by `Connection` alone. A write buffer that is never
    empty keeps picows from writing past the transport, straight to the socket.
    """

    def __init__(self, transport: asyncio.Transport, connection: Connection) -> None:
        self._transport = transport
        self._connection = connection
        self.get_extra_info = transport.get_extra_info
        self._answered = False

    def get_write_buffer_size(self) -> int:
        return 1

    def write(self, data: bytes) -> None:
        if not self._answered:
            self._answered = True
            self._transport.write(bytes(data))

    def close(self) -> None:
        """Asked for after an error that `_Reports` has seen."""

    def abort(self) -> None:
        """See `close`."""


class _Reports:
    """What picows takes for its logger. It reports a frame that it cannot accept here, before it
    would close with a code of its own (1009 among them, after which clients do not come back)."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def isEnabledFor(self, _level: int) -> bool:  # noqa: N802 - the logging module's own name
        return False

    def error(self, _message: str, details: tuple[Any, ...]) -> None:
        code = getattr(details[0], "value", details[0])
        self._connection.broken(FRAME_TOO_LARGE if code == _TOO_BIG else BAD_FRAME)

    def exception(self, message: str, *_details: object) -> None:
        _log.exception("reading a connection failed: %s", message)
        self._connection.broken(BAD_FRAME)

    def debug(self, *_details: object) -> None:
        """Of no use here."""

    info = warning = log = debug
