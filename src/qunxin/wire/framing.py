"""How what is encoded goes over a connection: each way that clients can ask for is one `Framing`.

A framing turns payloads of its format into the very bytes that are written, once for all the
connections that they go to.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from qunxin.wire.codec import MAX_FRAME_BYTES, binary_frame, text_frame
from qunxin.wire.format import JSON, Format
from qunxin.wire.messages import Opcode
from qunxin.wire.protobuf import PROTOBUF


class Framing:
    """A format, and what each payload of it is wrapped into."""

    __slots__ = ("_wrap", "format", "name", "opcode")

    def __init__(
        self, name: str, form: Format, wrap: Callable[[bytes], bytes], opcode: Opcode
    ) -> None:
        self.name = name
        """Under which a delivery keeps what was built."""
        self.format = form
        self.opcode = opcode
        """Of the frames that a client of this framing sends."""
        self._wrap = wrap

    def build(self, payloads: Sequence[bytes]) -> bytes:
        """What is written for `payloads`, in order: in as few frames as their bound allows."""
        payload = payloads[0] if len(payloads) == 1 else self.format.join(payloads)
        if len(payload) <= MAX_FRAME_BYTES:
            return self._wrap(payload)
        return b"".join(map(self._wrap, self.format.split(payload, MAX_FRAME_BYTES)))


def _line(payload: bytes) -> bytes:
    return payload + b"\n"


def _event(payload: bytes) -> bytes:
    """One server-sent event; its lines are put together again by whoever reads it."""
    return b"data: %b\n\n" % payload.replace(b"\n", b"\ndata: ")


WEBSOCKET_JSON: Final = Framing("websocket json", JSON, text_frame, Opcode.TEXT)
WEBSOCKET_PROTOBUF: Final = Framing("websocket protobuf", PROTOBUF, binary_frame, Opcode.BINARY)
STREAM_JSON: Final = Framing("stream json", JSON, _line, Opcode.TEXT)
STREAM_PROTOBUF: Final = Framing("stream protobuf", PROTOBUF, bytes, Opcode.BINARY)
EVENTS_JSON: Final = Framing("events json", JSON, _event, Opcode.TEXT)

FRAMINGS: Final = (
    WEBSOCKET_JSON,
    WEBSOCKET_PROTOBUF,
    STREAM_JSON,
    STREAM_PROTOBUF,
    EVENTS_JSON,
)
"""All of them: over WebSockets, over a streamed HTTP answer, as server-sent events."""
