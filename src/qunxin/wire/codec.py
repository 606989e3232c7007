"""From entries to the bytes that go over the socket, once for all sessions they go to.

In JSON a publication is one line; lines are joined by newlines into payloads of bounded size. A
frame is built whole, header included, so that handing it to a thousand sockets copies nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from qunxin.model import Entry
from qunxin.wire.entries import encode_entry
from qunxin.wire.frames import one_line

MAX_FRAME_BYTES: Final = 256 * 1024
"""What goes out is put together up to this; a longer piece has a frame of its own."""

_TEXT: Final = 0x81
_BINARY: Final = 0x82
_CLOSE: Final = 0x88
_PONG: Final = 0x8A
_MAX_REASON_BYTES: Final = 123

_encode = msgspec.json.Encoder().encode


def encode_publications(channel: str, entries: Iterable[Entry]) -> list[bytes]:
    """One `pub` push for each entry, in order, its position as the offset."""
    head = b'{"push":{"channel":' + _encode(channel) + b',"pub":{"data":'
    return [
        b'%b%b,"offset":%d}}}' % (head, one_line(encode_entry(entry)), entry.position)
        for entry in entries
    ]


def text_frame(payload: bytes) -> bytes:
    """`payload` as one whole text frame from a server (RFC 6455, 5.2)."""
    return _frame(_TEXT, payload)


def close_frame(code: int, reason: str) -> bytes:
    """A close frame from a server; the reason is cut to what fits."""
    words = reason.encode()[:_MAX_REASON_BYTES].decode(errors="ignore").encode()
    return _frame(_CLOSE, code.to_bytes(2, "big") + words)


def pong_frame(payload: bytes) -> bytes:
    """The answer to a WebSocket ping."""
    return _frame(_PONG, payload)


def binary_frame(payload: bytes) -> bytes:
    """`payload` as one whole binary frame from a server."""
    return _frame(_BINARY, payload)


def lines_within(lines: Sequence[bytes], max_bytes: int) -> list[bytes]:
    """`lines` in order, joined into as few payloads as the bound allows; a longer line has a
    payload of its own."""
    payloads: list[bytes] = []
    first = size = 0
    for index, line in enumerate(lines):
        if index > first and size + len(line) > max_bytes:
            payloads.append(b"\n".join(lines[first:index]))
            first, size = index, 0
        size += len(line) + 1
    payloads.append(b"\n".join(lines[first:]))
    return payloads


def _frame(head: int, payload: bytes) -> bytes:
    size = len(payload)
    if size < 126:
        return bytes((head, size)) + payload
    if size < 65_536:
        return bytes((head, 126)) + size.to_bytes(2, "big") + payload
    return bytes((head, 127)) + size.to_bytes(8, "big") + payload
