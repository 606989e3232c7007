"""How what is encoded goes over a connection: each way that clients can ask for is one `Framing`.

A framing turns payloads of its format into the very bytes that are written, once for all the
connections that they go to.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Final

from qunxin.wire.codec import MAX_FRAME_BYTES, binary_frame, text_frame
from qunxin.wire.format import JSON, Format
from qunxin.wire.messages import Opcode


class Framing:
    """A format, and what each payload of it is wrapped into."""

    def __init__(
        self,
        name: str,
        load: Callable[[], Format],
        wrap: Callable[[bytes], bytes],
        opcode: Opcode = Opcode.TEXT,
        subprotocol: str = "",
    ) -> None:
        self.name = name
        """Under which a delivery keeps what was built."""
        self.opcode = opcode
        """Of the frames that a client of this framing sends."""
        self.subprotocol = subprotocol
        """What a WebSocket client asks for to get it; empty for none."""
        self._load = load
        self._wrap = wrap

    @cached_property
    def format(self) -> Format:
        """Loaded with the first client that speaks it."""
        return self._load()

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


def _json() -> Format:
    return JSON


def _protobuf() -> Format:
    # Many nodes never see a client that speaks it; loading takes some 20 ms.
    from qunxin.wire.protobuf import PROTOBUF  # noqa: PLC0415

    return PROTOBUF


WEBSOCKET_JSON: Final = Framing("websocket json", _json, text_frame)
WEBSOCKET_PROTOBUF: Final = Framing(
    "websocket protobuf", _protobuf, binary_frame, Opcode.BINARY, "centrifuge-protobuf"
)
STREAM_JSON: Final = Framing("stream json", _json, _line)
STREAM_PROTOBUF: Final = Framing("stream protobuf", _protobuf, bytes, Opcode.BINARY)
EVENTS_JSON: Final = Framing("events json", _json, _event)
