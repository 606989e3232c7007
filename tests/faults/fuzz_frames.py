"""WebSocket frames that a hostile or broken client may send, from a seed: around messages, and
against the rules of frames themselves."""

from __future__ import annotations

from random import Random
from typing import ClassVar

from fuzz_payloads import PayloadMaker
from fuzz_protobuf import ProtobufMaker

from realtime_client import BINARY, PING, PONG, TEXT, frame

ENCODINGS: dict[str, tuple[type[PayloadMaker], int]] = {
    "json": (PayloadMaker, TEXT),
    "protobuf": (ProtobufMaker, BINARY),
}
CONTROL_SHARE = 0.15
FRAGMENTED_SHARE = 0.2


class FrameMaker:
    """`harmless` frames leave the connection as it is; `final` ones break a rule that ends it,
    and an `opening` comes where `connect` should."""

    FINAL: ClassVar[tuple[str, ...]] = (
        "other_kind",
        "random_bytes",
        "broken_fragments",
        "reserved",
        "compressed",
        "unmasked",
        "long_control",
        "lying_length",
        "endless_fragments",
    )

    def __init__(self, seed: int, encoding: str) -> None:
        self.random = Random(seed)
        make, self.opcode = ENCODINGS[encoding]
        self.payloads = make(self.random)

    def harmless(self) -> bytes:
        if self.random.random() < CONTROL_SHARE:
            return self.control()
        return self.message(self.payloads.harmless())

    def final(self) -> bytes:
        name = self.random.choice((*self.FINAL, *self.payloads.FINAL))
        if name in self.FINAL:
            made: bytes = getattr(self, name)()
            return made
        return frame(self.opcode, self.payloads.final())

    def opening(self) -> bytes:
        return self.message(self.payloads.opening())

    def message(self, data: bytes) -> bytes:
        """In one frame, or in fragments with control frames between them."""
        if self.random.random() > FRAGMENTED_SHARE:
            return frame(self.opcode, data)
        edge = self.random.randrange(len(data) + 1)
        parts = [
            frame(self.opcode, data[:edge], fin=False),
            self.control(),
            frame(0, data[edge:], fin=True),
        ]
        return b"".join(parts)

    def control(self) -> bytes:
        payload = self.random.choice((b"", "心".encode() * 40, b"\xff" * 125))
        return frame(self.random.choice((PING, PONG)), payload)

    # --- final -------------------------------------------------------------------------------

    def other_kind(self) -> bytes:
        """Binary where text is spoken, text where Protobuf is."""
        opcode = TEXT if self.opcode == BINARY else BINARY
        return frame(opcode, self.random.choice((self.payloads.harmless(), b"", b"{}", b"\x00")))

    def random_bytes(self) -> bytes:
        return self.random.randbytes(self.random.randrange(1, 400))

    def broken_fragments(self) -> bytes:
        return frame(self.opcode, b"{", fin=False) + frame(self.opcode, b"}")

    def reserved(self) -> bytes:
        return frame(self.random.choice((3, 7, 11, 15)), b"x", rsv=self.random.randrange(8))

    def compressed(self) -> bytes:
        return frame(self.opcode, b"{}", rsv=4)

    def unmasked(self) -> bytes:
        return bytes((0x80 | self.opcode,)) + b"\x02{}"

    def long_control(self) -> bytes:
        return frame(PING, b"x" * 126)

    def lying_length(self) -> bytes:
        size = self.random.choice((2**21, 2**40, 2**63 - 1, 2**63))
        head = bytes((0x80 | self.opcode, 0xFF))
        return head + size.to_bytes(8, "big") + b"mask" + b"x" * 500

    def endless_fragments(self) -> bytes:
        first = frame(self.opcode, b"x" * 1000, fin=False)
        return first + frame(0, b"x" * 60_000, fin=False) * 20
