"""What a hostile or broken client may say, from a seed: messages of the protocol in JSON, whatever
carries them."""

from __future__ import annotations

import json
from random import Random
from typing import Any, ClassVar

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
NESTED = ((b"[", b"]"), (b'{"a":', b"}"))


class PayloadMaker:
    """`harmless` messages leave a connection as it is, `final` ones break a rule that ends it,
    and `opening` ones come where `connect` should."""

    HARMLESS: ClassVar[dict[str, float]] = {
        "one_command": 40,
        "several_commands": 10,
        "newline_in_a_string": 5,
        "nested": 1,
        "odd_number": 10,
        "wrong_types": 20,
        "surrogate": 5,
        "blank": 5,
        "large": 0.2,
    }
    FINAL: ClassVar[tuple[str, ...]] = (
        "bad_text",
        "noise",
        "cut",
        "unasked_pong",
        "second_connect",
        "message_bomb",
    )
    OPENING: ClassVar[tuple[str, ...]] = (
        "noise",
        "blank",
        "cut",
        "one_command",
        "second_connect",
        "crowded_connect",
        "odd_connect",
    )

    def __init__(self, random: Random) -> None:
        self.random = random
        self._id = 1

    def harmless(self) -> bytes:
        kinds = self.HARMLESS
        return self._make(self.random.choices(list(kinds), list(kinds.values()))[0])

    def final(self) -> bytes:
        return self._make(self.random.choice(self.FINAL))

    def opening(self) -> bytes:
        return self._make(self.random.choice(self.OPENING))

    def connect(self, token: str) -> bytes:
        """One that is as it should be."""
        return json.dumps({"id": 1, "connect": {"token": token}}).encode()

    def _make(self, name: str) -> bytes:
        made: bytes = getattr(self, name)()
        return made

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
                          "epoch": random.choice(TEXTS), "join_leave": True},
            "unsubscribe": {"channel": random.choice(CHANNELS[1:])},
            "presence": {"channel": channel},
            "presence_stats": {"channel": channel},
            "refresh": {"token": random.choice(TEXTS)},
            "ping": {},
        }  # fmt: skip
        kind = random.choice(list(bodies))
        return {"id": self.number(), kind: bodies[kind]}

    def nested_data(self) -> bytes:
        """JSON text that is deeper than anybody needs."""
        depth = self.random.choice((10, 63, 64, 65, 1000, 20_000))
        opening, closing = self.random.choice(NESTED)
        return opening * depth + b"1" + closing * depth

    # --- harmless ----------------------------------------------------------------------------

    def one_command(self) -> bytes:
        return json.dumps(self.command(), ensure_ascii=False).encode("utf-8", "replace")

    def several_commands(self) -> bytes:
        lines = [json.dumps(self.command()).encode() for _ in range(self.random.randrange(1, 6))]
        lines.insert(self.random.randrange(len(lines) + 1), b" ")
        return b"\n".join(lines)

    def newline_in_a_string(self) -> bytes:
        body = json.dumps({"channel": "group:tea", "data": {"text": "一\n二\n{}\n"}})
        return f'{{"id":{self.number()},"publish":{body}}}'.encode()

    def nested(self) -> bytes:
        data = self.nested_data()
        return b'{"id":%d,"rpc":{"method":"x","data":%b}}' % (self.number(), data)

    def odd_number(self) -> bytes:
        number = self.random.choice(RAW_NUMBERS)
        data = b'{"id":%d,"rpc":{"method":"cursor.read","data":{"position":%b}}}'
        return data % (self.number(), number)

    def wrong_types(self) -> bytes:
        command = self.command()
        kind = next(name for name in command if name != "id")
        command[kind] = self.value()
        if command[kind] is None and self.random.random() < 0.5:
            command["rpc"] = {"method": "user.get"}
        return json.dumps(command).encode()

    def surrogate(self) -> bytes:
        text = self.random.choice((b"\\ud83d", b"\\ude00\\ud83d", b"\\ud83dx", b"\\u0000"))
        data = b'{"id":%d,"publish":{"channel":"group:tea","data":{"text":"%b"}}}'
        return data % (self.number(), text)

    def blank(self) -> bytes:
        return self.random.choice((b"", b"\n", b" \r\n\n", b"\t"))

    def large(self) -> bytes:
        text = "大" * self.random.choice((15_000, 30_000, 60_000))
        body = json.dumps({"channel": "group:没有", "data": {"text": text}}, ensure_ascii=False)
        return f'{{"id":{self.number()},"publish":{body}}}'.encode()

    # --- final -------------------------------------------------------------------------------

    def bad_text(self) -> bytes:
        return b'{"id":1,"rpc":{"data":"\xff\xfe"}}'

    def noise(self) -> bytes:
        return self.random.randbytes(self.random.randrange(1, 400))

    def cut(self) -> bytes:
        data = json.dumps(self.command()).encode()
        return data[1 : self.random.randrange(2, len(data))]

    def unasked_pong(self) -> bytes:
        return b"{}\n" * 50

    def second_connect(self) -> bytes:
        return b'{"id":1,"connect":{"token":"x"}}'

    def message_bomb(self) -> bytes:
        return b"\n".join([b"{}"] * 5000)

    # --- opening -----------------------------------------------------------------------------

    def crowded_connect(self) -> bytes:
        """Far more positions, or headers, than anybody has."""
        names = [f"{index:x}" for index in range(self.random.choice((9_000, 30_000)))]
        field = self.random.choice(("subs", "headers"))
        one: Any = {} if field == "subs" else "茶"
        return json.dumps({"id": 1, "connect": {field: dict.fromkeys(names, one)}}).encode()

    def odd_connect(self) -> bytes:
        names = ("token", "data", "subs", "name", "version", "headers")
        fields = {name: self.value() for name in names if self.random.random() < 0.5}
        return json.dumps({"id": 1, "connect": fields}).encode()
