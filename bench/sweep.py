"""Counting on plain members' connections, as cheaply as it can be done.

Waking up for every frame of a thousand connections would make the load, not the server, set
the pace. Members other than senders and probes are therefore read in sweeps: every few
milliseconds one `recv` each takes all that has arrived, and only frame headers, newlines and
pings are looked at. Nothing on these connections is timed.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Sequence
from typing import Final

from picows import WSTransport

SWEEP_SECONDS: Final = 0.02
SLICE: Final = 64
_TEXT_FRAME: Final = 0x81
_PING: Final = b"{}"
_chunk = bytearray(256 * 1024)
_view = memoryview(_chunk)


class Stream:
    """One connection's incoming frames, counted.

    `lines` and `size` count lines and bytes of text frames, `pings` the lines ``{}`` that began
    or ended one. Anything but an unmasked, whole text frame raises.
    """

    __slots__ = ("_partial", "lines", "pings", "size")

    def __init__(self) -> None:
        self.lines = 0
        self.pings = 0
        self.size = 0
        self._partial = b""

    def take(self, count: int) -> None:
        """Count what is in the first `count` bytes of the shared chunk."""
        if not self._partial:
            done = self._count(_chunk, count)
            self._partial = bytes(_view[done:count])
            return
        data = bytearray(self._partial) + _view[:count]
        done = self._count(data, len(data))
        self._partial = bytes(data[done:])

    def _count(self, data: bytearray, end: int) -> int:
        """Count whole frames; where the first that is not whole begins."""
        start = 0
        while end - start >= 2:
            head, size = _payload(data, start, end)
            stop = start + head + size
            if stop > end:
                break
            if data[start] != _TEXT_FRAME:
                raise ConnectionError(f"not a text frame: {bytes(data[start : start + 130])!r}")
            first = start + head
            self.lines += data.count(b"\n", first, stop) + 1
            self.size += size
            if data[stop - 2 : stop] == _PING or data[first : first + 2] == _PING:
                self.pings += 1
            start = stop
        return start


def _payload(data: bytearray, start: int, end: int) -> tuple[int, int]:
    """Length of the header at `start` and of its payload (RFC 6455, 5.2); a header that is not
    all there counts as a frame that is not."""
    size = data[start + 1]
    if size < 126:
        return 2, size
    wide = 2 if size == 126 else 8
    if end - start < 2 + wide:
        return 2 + wide, end
    return 2 + wide, int.from_bytes(data[start + 2 : start + 2 + wide], "big")


class Swept:
    """A connection whose reading was taken over from its picows transport."""

    def __init__(self, transport: WSTransport, on_ping: Callable[[], None]) -> None:
        self.stream = Stream()
        self._on_ping = on_ping
        underlying = transport.underlying_transport
        underlying.pause_reading()
        number: int = underlying.get_extra_info("socket").fileno()
        self._socket = socket.socket(fileno=os.dup(number))

    def read(self) -> None:
        """Take all that has arrived; never waits. Raises where the other side has closed."""
        stream = self.stream
        while True:
            try:
                count = self._socket.recv_into(_chunk)
            except BlockingIOError:
                return
            if count == 0:
                raise ConnectionError("the server closed a connection")
            stream.take(count)
            while stream.pings:
                stream.pings -= 1
                stream.lines -= 1
                self._on_ping()
            if count < len(_chunk):
                return

    def close(self) -> None:
        self._socket.close()


async def sweep(members: Sequence[Swept]) -> None:
    """Read all `members`, over and over, a slice in each turn of the loop; ends with an error
    or when it is cancelled."""
    while True:
        for start in range(0, len(members), SLICE):
            for member in members[start : start + SLICE]:
                member.read()
            await asyncio.sleep(0)
        await asyncio.sleep(SWEEP_SECONDS)
