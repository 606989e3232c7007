"""Frames read by the `websockets` library: the fallback where picows cannot be used."""

from __future__ import annotations

import asyncio
from typing import cast

from websockets.frames import Frame
from websockets.frames import Opcode as LibraryOpcode
from websockets.protocol import Protocol, Side, State
from websockets.utils import accept_key

from qunxin.gateways.connection import Connection
from qunxin.wire.codes import BAD_FRAME, FRAME_TOO_LARGE, Disconnect

_TOO_BIG = 1009


def attach(
    transport: asyncio.Transport,
    connection: Connection,
    max_frame_bytes: int,
    key: str,
    subprotocol: str,
) -> None:
    """Let the library read `transport` from now on, and answer the upgrade, with the subprotocol
    unless that is empty. `connection.receiver` is told of every frame."""
    transport.set_protocol(_Reader(connection, max_frame_bytes))
    chosen = f"Sec-WebSocket-Protocol: {subprotocol}\r\n" if subprotocol else ""
    transport.write(
        (
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Accept: {accept_key(key)}\r\n{chosen}\r\n"
        ).encode()
    )


class _Parser(Protocol):
    """The library's frame parser. What it would send is left unsent: `Connection` writes."""

    def __init__(self, max_frame_bytes: int) -> None:
        super().__init__(Side.SERVER, state=State.OPEN, max_size=max_frame_bytes)
        self.violation: Disconnect | None = None

    def fail(self, code: int, reason: str = "") -> None:
        self.violation = FRAME_TOO_LARGE if code == _TOO_BIG else BAD_FRAME
        super().fail(code, reason)

    def end(self) -> None:
        """Let go of what refers back to itself, so that memory does not wait for the collector."""
        self.parser.close()
        self.parser_exc = None


class _Reader(asyncio.Protocol):
    def __init__(self, connection: Connection, max_frame_bytes: int) -> None:
        self._connection = connection
        self._parser = _Parser(max_frame_bytes)

    def data_received(self, data: bytes) -> None:
        parser = self._parser
        if parser.violation is not None:
            return
        parser.receive_data(data)
        parser.data_to_send()
        for event in parser.events_received():
            self._take(cast("Frame", event))
        violation = self._parser.violation
        if violation is not None:
            parser.end()
            self._connection.broken(violation)

    def connection_lost(self, _error: Exception | None) -> None:
        self._parser.end()
        self._connection.lost()

    def _take(self, frame: Frame) -> None:
        connection = self._connection
        if frame.opcode == LibraryOpcode.CLOSE:
            connection.answer_close()
        elif connection.receiver is not None and frame.opcode != LibraryOpcode.PONG:
            payload = bytes(frame.data)
            connection.receiver.received(int(frame.opcode), frame.fin, payload)
