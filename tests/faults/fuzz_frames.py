"""What a hostile or broken client may send, from a seed: bytes of WebSocket frames."""

from __future__ import annotations

import json
from collections.abc import Callable
from random import Random
from typing import Any

from realtime_client import BINARY, PING, PONG, TEXT, frame

CHANNELS = (
    "group:tea",
    "group:没有",
    "private:alice~mallory",
    "inbox:mallory",
    "broadcast:all",
    "x",
)
METHODS = (
    "message.send",
    "conversation.entries",
    "cursor.read",
    "user.conversations",
    "group.members",
    "message.recall",
    "token.create",
    "没有",
    "",
)
TEXTS = (
    "",
    "早安 👩\u200d👩\u200d👧",
    "مرحبا \u202eabc\u202c",
    "\u2028\u2029\x00\x7f",
    "a\nb\r\n",
    "x" * 3000,
)
NUMBERS = (0, -1, 1, 2**31, 2**53 - 1, 2**53, 2**63, 2**64, 10**40, 1.5, 1e308, -0.0)
RAW_NUMBERS = (b"1e400", b"-1e999", b"9" * 400, b"0.1e-400", b"01", b"+1", b"NaN", b"-", b"1.")

Make = Callable[[Random], bytes]


class FrameMaker:
    """`harmless` frames leave the connection as it is; `final` ones break a rule that ends it."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self._id = 1

    def harmless(self) -> bytes:
        make = self.random.choices(_HARMLESS_KINDS, _HARMLESS_WEIGHTS)[0]
        return make(self)

    def final(self) -> bytes:
        return self.random.choice(_FINAL)(self)

    # --- parts -------------------------------------------------------------------------------

    def number(self) -> int:
        self._id += 1
        return self._id

    def value(self, depth: int = 3) -> Any:
        random = self.random
        kind = random.randrange(8 if depth else 5)
        if kind < 2:
            return random.choice(TEXTS)
        if kind == 2:
            return random.choice(NUMBERS)
        if kind < 5:
            return random.choice((None, True, False, [], {}))
        if kind < 7:
            names = ("type", "to", "text", "content", "key", "user", "position", "limit", "新")
            count = random.randrange(4)
            return {random.choice(names): self.value(depth - 1) for _ in range(count)}
        return [self.value(depth - 1) for _ in range(random.randrange(4))]

    def command(self) -> dict[str, Any]:
        random = self.random
        channel = random.choice(CHANNELS)
        bodies: dict[str, Any] = {
            "rpc": {"method": random.choice(METHODS), "data": self.value()},
            "publish": {"channel": channel, "data": self.value()},
            "history": {"channel": channel, "limit": random.choice((0, 1, 3, -1)),
                        "reverse": random.random() < 0.5},
            "subscribe": {"channel": channel, "recover": True, "offset": random.choice((0, 1, 9)),
                          "epoch": random.choice(TEXTS)},
            "unsubscribe": {"channel": random.choice(CHANNELS[1:])},
            "presence": {"channel": channel},
            "refresh": {"token": random.choice(TEXTS)},
            "ping": {},
        }  # fmt: skip
        kind = random.choice(list(bodies))
        return {"id": self.number(), kind: bodies[kind]}

    def text(self, data: bytes) -> bytes:
        """As one text frame, or in fragments with control frames between them."""
        if self.random.random() < 0.8:
            return frame(TEXT, data)
        edge = self.random.randrange(len(data) + 1)
        parts = [
            frame(TEXT, data[:edge], fin=False),
            self.control(),
            frame(0, data[edge:], fin=True),
        ]
        return b"".join(parts)

    def control(self) -> bytes:
        payload = self.random.choice((b"", "心".encode() * 40, b"\xff" * 125))
        return frame(self.random.choice((PING, PONG)), payload)

    # --- harmless ----------------------------------------------------------------------------

    def one_command(self) -> bytes:
        return self.text(json.dumps(self.command(), ensure_ascii=False).encode("utf-8", "replace"))

    def several_commands(self) -> bytes:
        lines = [json.dumps(self.command()).encode() for _ in range(self.random.randrange(1, 6))]
        lines.insert(self.random.randrange(len(lines) + 1), b" ")
        return self.text(b"\n".join(lines))

    def newline_in_a_string(self) -> bytes:
        body = json.dumps({"channel": "group:tea", "data": {"text": "一\n二\n{}\n"}})
        return self.text(f'{{"id":{self.number()},"publish":{body}}}'.encode())

    def nested(self) -> bytes:
        depth = self.random.choice((10, 63, 64, 65, 1000, 20_000))
        opening, closing = self.random.choice(((b"[", b"]"), (b'{"a":', b"}")))
        data = opening * depth + b"1" + closing * depth
        return self.text(b'{"id":%d,"rpc":{"method":"x","data":%b}}' % (self.number(), data))

    def odd_number(self) -> bytes:
        number = self.random.choice(RAW_NUMBERS)
        data = b'{"id":%d,"rpc":{"method":"cursor.read","data":{"position":%b}}}'
        return self.text(data % (self.number(), number))

    def wrong_types(self) -> bytes:
        command = self.command()
        kind = next(name for name in command if name != "id")
        command[kind] = self.value()
        if command[kind] is None and self.random.random() < 0.5:
            command["rpc"] = {"method": "user.get"}
        return self.text(json.dumps(command).encode())

    def surrogate(self) -> bytes:
        text = self.random.choice((b"\\ud83d", b"\\ude00\\ud83d", b"\\ud83dx", b"\\u0000"))
        data = b'{"id":%d,"publish":{"channel":"group:tea","data":{"text":"%b"}}}'
        return self.text(data % (self.number(), text))

    def blank(self) -> bytes:
        return self.text(self.random.choice((b"", b"\n", b" \r\n\n", b"\t")))

    def large(self) -> bytes:
        text = "大" * self.random.choice((15_000, 30_000, 60_000))
        body = json.dumps({"channel": "group:没有", "data": {"text": text}}, ensure_ascii=False)
        return self.text(f'{{"id":{self.number()},"publish":{body}}}'.encode())

    # --- final -------------------------------------------------------------------------------

    def binary(self) -> bytes:
        return frame(BINARY, self.random.randbytes(self.random.randrange(200)))

    def bad_text(self) -> bytes:
        return frame(TEXT, b'{"id":1,"rpc":{"data":"\xff\xfe"}}')

    def random_bytes(self) -> bytes:
        return self.random.randbytes(self.random.randrange(1, 400))

    def random_payload(self) -> bytes:
        return frame(TEXT, self.random.randbytes(self.random.randrange(1, 400)))

    def cut_json(self) -> bytes:
        data = json.dumps(self.command()).encode()
        return frame(TEXT, data[1 : self.random.randrange(2, len(data))])

    def broken_fragments(self) -> bytes:
        return frame(TEXT, b"{", fin=False) + frame(TEXT, b"}")

    def reserved(self) -> bytes:
        return frame(self.random.choice((3, 7, 11, 15)), b"x", rsv=self.random.randrange(8))

    def compressed(self) -> bytes:
        return frame(TEXT, b"{}", rsv=4)

    def unmasked(self) -> bytes:
        return b"\x81\x02{}"

    def long_control(self) -> bytes:
        return frame(PING, b"x" * 126)

    def lying_length(self) -> bytes:
        size = self.random.choice((2**21, 2**40, 2**63 - 1, 2**63))
        return b"\x81\xff" + size.to_bytes(8, "big") + b"mask" + b"x" * 500

    def endless_fragments(self) -> bytes:
        return frame(TEXT, b"x" * 1000, fin=False) + frame(0, b"x" * 60_000, fin=False) * 20

    def unasked_pong(self) -> bytes:
        return frame(TEXT, b"{}\n" * 50)

    def second_connect(self) -> bytes:
        return frame(TEXT, b'{"id":1,"connect":{"token":"x"}}')

    def line_bomb(self) -> bytes:
        return frame(TEXT, b"\n".join([b"{}"] * 5000))


_HARMLESS = {
    FrameMaker.one_command: 40,
    FrameMaker.several_commands: 10,
    FrameMaker.newline_in_a_string: 5,
    FrameMaker.nested: 1,
    FrameMaker.odd_number: 10,
    FrameMaker.wrong_types: 20,
    FrameMaker.surrogate: 5,
    FrameMaker.blank: 5,
    FrameMaker.control: 15,
    FrameMaker.large: 0.2,
}
_HARMLESS_KINDS = list(_HARMLESS)
_HARMLESS_WEIGHTS = list(_HARMLESS.values())
_FINAL = (
    FrameMaker.binary,
    FrameMaker.bad_text,
    FrameMaker.random_bytes,
    FrameMaker.random_payload,
    FrameMaker.cut_json,
    FrameMaker.broken_fragments,
    FrameMaker.reserved,
    FrameMaker.compressed,
    FrameMaker.unmasked,
    FrameMaker.long_control,
    FrameMaker.lying_length,
    FrameMaker.endless_fragments,
    FrameMaker.unasked_pong,
    FrameMaker.second_connect,
    FrameMaker.line_bomb,
)
