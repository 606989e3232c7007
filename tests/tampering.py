"""A proxy that spoils what a server says: HTTP and WebSockets pass, and single lines of the
realtime protocol are dropped, doubled or changed on their way to a client."""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from serving import free_port

_TEXT = 1


@dataclass
class Wire:
    """One client's WebSocket: whose it is, once the server has said so, and a way to add lines."""

    write: Callable[[bytes], None]
    user: str = ""

    def say(self, *lines: bytes) -> None:
        """Send lines in a frame of their own."""
        self.write(encode_frame(b"\n".join(lines)))


Tamper = Callable[[Wire, bytes], list[bytes]]
"""What becomes of one line from the server: the lines that the client gets in its place."""


class TamperingProxy:
    """Listens on a free port and passes everything on to the server at `port`.

    WebSocket frames from the server are taken apart, and `tamper` decides about every line.
    """

    def __init__(self, port: int, tamper: Tamper) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.wires: list[Wire] = []
        self._server_port = port
        self._tamper = tamper
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._server is not None
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        upstream, to_server = await asyncio.open_connection("127.0.0.1", self._server_port)
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            to_server.write(head)
            is_socket = b"upgrade: websocket" in head.lower()
            back = self._spoil(upstream, writer) if is_socket else _pass(upstream, writer)
            ways = [asyncio.ensure_future(_pass(reader, to_server)), asyncio.ensure_future(back)]
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for way in ways:
                    way.cancel()
                await asyncio.gather(*ways, return_exceptions=True)
        except asyncio.IncompleteReadError:
            pass  # the client went away without a request
        finally:
            to_server.close()
            writer.close()

    async def _spoil(self, upstream: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await upstream.readuntil(b"\r\n\r\n"))
        wire = Wire(writer.write)
        self.wires.append(wire)
        while True:
            opcode, payload, raw = await _read_frame(upstream)
            if opcode != _TEXT:
                writer.write(raw)
                continue
            lines: list[bytes] = []
            for line in payload.split(b"\n"):
                _learn_user(wire, line)
                lines.extend(self._tamper(wire, line))
            if lines:
                writer.write(encode_frame(b"\n".join(lines)))
            await writer.drain()


def pushed_entry(line: bytes) -> dict[str, Any] | None:
    """The entry that a line brings; None for any other line."""
    if b'"pub"' not in line:
        return None
    push = json.loads(line).get("push", {})
    data: dict[str, Any] | None = push.get("pub", {}).get("data")
    return data


def encode_frame(payload: bytes) -> bytes:
    """One text frame as a server sends it."""
    size = len(payload)
    if size < 126:
        return struct.pack("!BB", 0x80 | _TEXT, size) + payload
    if size < 65_536:
        return struct.pack("!BBH", 0x80 | _TEXT, 126, size) + payload
    return struct.pack("!BBQ", 0x80 | _TEXT, 127, size) + payload


async def _read_frame(reader: asyncio.StreamReader) -> tuple[int, bytes, bytes]:
    """A server's frame: opcode, payload, and all its bytes."""
    head = await reader.readexactly(2)
    size, extended = head[1] & 0x7F, b""
    if size >= 126:
        extended = await reader.readexactly(2 if size == 126 else 8)
        size = int.from_bytes(extended, "big")
    payload = await reader.readexactly(size)
    return head[0] & 0x0F, payload, head + extended + payload


def _learn_user(wire: Wire, line: bytes) -> None:
    if not wire.user and b'"connect"' in line:
        channels = json.loads(line).get("connect", {}).get("subs", {})
        inboxes = [channel for channel in channels if channel.startswith("inbox:")]
        wire.user = inboxes[0].removeprefix("inbox:") if inboxes else ""


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65_536):
        writer.write(data)
        await writer.drain()
