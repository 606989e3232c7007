"""From WebSocket frames to messages: fragments put together, limits kept, text proven to be
text.

The rules of RFC 6455, 5.4 to 5.6, as far as they are left to whoever reads frames.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TypeAlias

from qunxin.wire.codes import (
    BAD_FRAME,
    BINARY_FRAME,
    FRAME_TOO_LARGE,
    INVALID_UTF8,
    TEXT_FRAME,
    Disconnect,
)


class Opcode(IntEnum):
    """What a WebSocket frame is."""

    CONTINUATION = 0x0
    TEXT = 0x1
    BINARY = 0x2
    CLOSE = 0x8
    PING = 0x9
    PONG = 0xA


Message: TypeAlias = bytes


_OTHER_KIND: dict[int, Disconnect] = {Opcode.BINARY: BINARY_FRAME, Opcode.TEXT: TEXT_FRAME}


class MessageAssembler:
    """Takes data frames in order, gives whole messages of at most `max_bytes`, all of one kind:
    text, or binary."""

    __slots__ = ("_kind", "_max_bytes", "_parts")

    def __init__(self, max_bytes: int, kind: Opcode = Opcode.TEXT) -> None:
        self._max_bytes = max_bytes
        self._kind = kind
        self._parts: bytearray | None = None

    def take(self, opcode: int, fin: bool, payload: bytes) -> Message | Disconnect | None:
        """The message that this frame completes; None where more must come; why the connection
        must be ended where the frame breaks a rule. Control frames are not for this call."""
        if opcode == self._kind and self._parts is None:
            if fin:
                return self._check(payload)
            self._parts = bytearray()
        elif opcode != Opcode.CONTINUATION or self._parts is None:
            is_new = self._parts is None
            return _OTHER_KIND.get(opcode, BAD_FRAME) if is_new else BAD_FRAME
        if len(self._parts) + len(payload) > self._max_bytes:
            return FRAME_TOO_LARGE
        self._parts += payload
        if not fin:
            return None
        whole, self._parts = bytes(self._parts), None
        return self._check(whole)

    def _check(self, message: bytes) -> Message | Disconnect:
        if len(message) > self._max_bytes:
            return FRAME_TOO_LARGE
        if self._kind is Opcode.TEXT:
            try:
                message.decode()
            except UnicodeDecodeError:
                return INVALID_UTF8
        return message
