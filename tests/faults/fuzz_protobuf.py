"""What a hostile or broken client may say in Protobuf, from a seed."""

from __future__ import annotations

import json
from typing import Any, ClassVar

from fuzz_payloads import METHODS, PayloadMaker

from qunxin.wire.realtime_pb2 import Command
from realtime_client import delimited, varint

RPC, DATA, METHOD, CONNECT, SUBS, HEADERS = 13, 1, 2, 4, 3, 6
VARINT, EIGHT_BYTES, BYTES, GROUP, END_OF_GROUP, FOUR_BYTES = range(6)
BAD_UTF8 = (b"\xff\xfe", b"\xc3", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xc0\x80")
LONG_IDS = (b"\xff\xff\xff\xff\x0f", b"\xff\xff\xff\xff\x7f", b"\x81\x80\x80\x80\x80\x80\x00")
BAD_IDS = (b"\xff" * 9 + b"\x01", b"\xff" * 11, b"\x80")
LENGTHS = (2**20 + 1, 2**31, 2**32 - 1, 2**35 - 1)
BAD_LENGTHS = (b"\x80\x80\x80\x80\x80\x01", b"\xff" * 10, b"\xff" * 9 + b"\x01", b"\x80")


def field(number: int, content: bytes) -> bytes:
    """One that has its length before it."""
    return varint(number << 3 | BYTES) + varint(len(content)) + content


class ProtobufMaker(PayloadMaker):
    """The same in binary. A mutation may do no harm, or any."""

    HARMLESS: ClassVar[dict[str, float]] = {
        "one_command": 40,
        "several_commands": 10,
        "mutated": 25,
        "nested": 1,
        "bad_utf8": 10,
        "unknown_fields": 10,
        "wrong_wire_types": 10,
        "long_id": 5,
        "data_that_is_no_json": 10,
        "large": 0.2,
    }
    FINAL: ClassVar[tuple[str, ...]] = (
        "noise",
        "cut",
        "bad_id",
        "overlong",
        "bad_length",
        "trailing",
        "unasked_pong",
        "second_connect",
        "message_bomb",
        "endless_groups",
        "no_reply",
    )
    OPENING: ClassVar[tuple[str, ...]] = (
        *FINAL,
        "blank",
        "one_command",
        "crowded_connect",
        "odd_connect",
    )

    def connect(self, token: str) -> bytes:
        return delimited(Command(id=1, connect={"token": token}).SerializeToString())

    # --- parts -------------------------------------------------------------------------------

    def id_field(self) -> bytes:
        return b"\x08" + varint(self.number())

    def message(self) -> bytes:
        """A valid command: what is `data` in it is the JSON text of what would stand there."""
        command = self.command()
        for body in command.values():
            if isinstance(body, dict):
                _prepare(body)
        return Command(**command).SerializeToString()

    # --- harmless ----------------------------------------------------------------------------

    def one_command(self) -> bytes:
        return delimited(self.message())

    def several_commands(self) -> bytes:
        return b"".join(self.one_command() for _ in range(self.random.randrange(1, 6)))

    def mutated(self) -> bytes:
        """A few bytes behind the id changed, taken out or put in; the length is right."""
        random, message = self.random, bytearray(self.message())
        for _ in range(random.randrange(1, 4)):
            place = random.randrange(min(3, len(message)), len(message) + 1)
            kind = random.randrange(3)
            if kind == 0 and place < len(message):
                message[place] = random.randrange(256)
            elif kind == 1:
                del message[place : place + random.randrange(1, 9)]
            else:
                message[place:place] = random.randbytes(random.randrange(1, 9))
        return delimited(bytes(message))

    def nested(self) -> bytes:
        rpc = field(METHOD, b"message.send") + field(DATA, self.nested_data())
        return delimited(self.id_field() + field(RPC, rpc))

    def bad_utf8(self) -> bytes:
        """In a string, or in the text that `data` is."""
        text = self.random.choice(BAD_UTF8)
        rpc = self.random.choice((
            field(METHOD, "方".encode() + text),
            field(METHOD, b"message.send") + field(DATA, b'{"text":"%b"}' % text),
        ))  # fmt: skip
        return delimited(self.id_field() + field(RPC, rpc))

    def unknown_fields(self) -> bytes:
        random, message = self.random, self.message()
        for _ in range(random.randrange(1, 20)):
            number = random.randrange(50, 2**29)
            message += random.choice((
                field(number, random.randbytes(random.randrange(40))),
                varint(number << 3 | VARINT) + varint(random.getrandbits(63)),
                varint(number << 3 | EIGHT_BYTES) + random.randbytes(8),
                varint(number << 3 | FOUR_BYTES) + random.randbytes(4),
                varint(number << 3 | GROUP) + varint(number << 3 | END_OF_GROUP),
            ))  # fmt: skip
        return delimited(message)

    def wrong_wire_types(self) -> bytes:
        """What should be a message is a number, and the other way round."""
        number = self.random.choice((1, *range(5, 12), 13, 14, 15))
        kind = self.random.choice((VARINT, EIGHT_BYTES, BYTES, FOUR_BYTES))
        content = {VARINT: varint(self.random.getrandbits(64)), BYTES: b"\x02\xff\xff"}
        encoded = content.get(kind, self.random.randbytes(8 if kind == EIGHT_BYTES else 4))
        return delimited(self.id_field() + varint(number << 3 | kind) + encoded)

    def long_id(self) -> bytes:
        """An id of more bits than it may have, or than it needs; with a command or without."""
        message = b"\x08" + self.random.choice(LONG_IDS)
        return delimited(message + self.random.choice((b"", field(RPC, b""), field(RPC, b"\xff"))))

    def data_that_is_no_json(self) -> bytes:
        data = self.random.choice((b"", b"{", b'"', b"\x00", b"nul", self.random.randbytes(40)))
        rpc = field(METHOD, self.random.choice(METHODS).encode()) + field(DATA, data)
        return delimited(self.id_field() + field(RPC, rpc))

    def blank(self) -> bytes:
        return b""

    def large(self) -> bytes:
        size = self.random.choice((45_000, 90_000, 180_000))
        rpc = field(METHOD, b"message.send") + field(DATA, b'{"text":"' + b"x" * size + b'"}')
        return delimited(self.id_field() + field(RPC, rpc))

    # --- final -------------------------------------------------------------------------------

    def noise(self) -> bytes:
        return b"\xff" + super().noise()

    def cut(self) -> bytes:
        data = self.one_command()
        return data[: self.random.randrange(1, len(data))]

    def bad_id(self) -> bytes:
        return delimited(b"\x08" + self.random.choice(BAD_IDS))

    def overlong(self) -> bytes:
        return varint(self.random.choice(LENGTHS)) + self.message()

    def bad_length(self) -> bytes:
        return self.random.choice(BAD_LENGTHS) + self.random.choice((b"", self.message()))

    def trailing(self) -> bytes:
        return self.one_command() + b"\x7f" + self.random.randbytes(self.random.randrange(100))

    def unasked_pong(self) -> bytes:
        return b"\x00" * 50

    def second_connect(self) -> bytes:
        return self.connect("x")

    def message_bomb(self) -> bytes:
        return b"\x00" * 5000

    def endless_groups(self) -> bytes:
        return delimited(varint(99 << 3 | GROUP) * self.random.choice((10, 99, 101, 20_000)))

    def no_reply(self) -> bytes:
        return delimited(Command(send={}).SerializeToString())

    # --- opening -----------------------------------------------------------------------------

    def crowded_connect(self) -> bytes:
        """As much of it as fits: many keys, or one key again and again."""
        number = self.random.choice((SUBS, HEADERS))
        count = self.random.choice((9_000, 50_000, 110_000))
        is_one_key = self.random.random() < 0.5
        entries = b"".join(
            field(number, b"" if is_one_key else field(1, b"%05x" % index))
            for index in range(count)
        )
        return delimited(b"\x08\x01" + field(CONNECT, entries))

    def odd_connect(self) -> bytes:
        texts = [value.encode() for value in ("", "茶 🍵", "x" * 300, "\x00")]
        fields = [
            field(number, self.random.choice((*texts, *BAD_UTF8, b"{", b'{"positions":[]}')))
            for number in range(1, 7)
            if self.random.random() < 0.4
        ]
        return delimited(b"\x08\x01" + field(CONNECT, b"".join(fields)))


def _prepare(body: dict[str, Any]) -> None:
    if "data" in body:
        body["data"] = json.dumps(body["data"]).encode()
    for name, value in body.items():
        if isinstance(value, str):
            body[name] = value.encode("utf-8", "replace").decode()
