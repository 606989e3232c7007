"""Commands, replies and pushes of the Centrifugo client protocol, in JSON.

One frame of text holds one or several objects, one a line. What comes in is checked before it is
decoded (lines, depth) and decoded into typed structs that refuse what does not fit; fields that
this server does not know are passed over, since SDKs add some now and then. What goes out is
always one line: no value, wherever it came from, brings a newline with it.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Final, TypeAlias

import msgspec
from msgspec import Meta

from qunxin.model import MAX_INTEGER

MAX_LINES: Final = 1_000
"""Commands in one frame."""
MAX_DEPTH: Final = 64
"""Nesting of one command, whatever it carries."""
MAX_CHANNELS: Final = 10_000
"""Positions in one `connect`, and headers."""
MAX_BRACKETS: Final = 12_000
MAX_QUOTES: Final = 140_000
"""Arrays and objects, and quotation marks, in one command: more than the largest `connect` and
the largest message need."""

PING: Final = b"{}"
"""A ping from the server; the client answers with the same."""
PONG: Final = b"{}"

Number: TypeAlias = Annotated[int, Meta(ge=0, le=MAX_INTEGER)]
Channel: TypeAlias = Annotated[str, Meta(min_length=1, max_length=255)]
Epoch: TypeAlias = Annotated[str, Meta(max_length=64)]
Label: TypeAlias = Annotated[str, Meta(max_length=256)]


class StreamPosition(msgspec.Struct):
    """A place in one conversation: JavaScript leaves out what is 0 or empty."""

    offset: Number = 0
    epoch: Epoch = ""


class Recover(StreamPosition):
    """What `connect.subs` and `subscribe` say of a stored position: none without `recover`; and
    whether the client wants to be told who comes and goes."""

    recover: bool = False
    join_leave: bool = False


class Connect(msgspec.Struct):
    token: str = ""
    data: msgspec.Raw = msgspec.Raw()
    subs: Annotated[dict[Channel, Recover], Meta(max_length=MAX_CHANNELS)] | None = None
    name: Label = ""
    version: Label = ""
    headers: Annotated[dict[str, str], Meta(max_length=MAX_CHANNELS)] | None = None


class Subscribe(Recover, kw_only=True):
    channel: Channel


class OfChannel(msgspec.Struct):
    channel: Channel


class Publish(msgspec.Struct):
    channel: Channel
    data: msgspec.Raw = msgspec.Raw()


class History(msgspec.Struct):
    channel: Channel
    limit: Annotated[int, Meta(ge=-1, le=MAX_INTEGER)] = 0
    since: StreamPosition | None = None
    reverse: bool = False


class Rpc(msgspec.Struct):
    method: Label = ""
    data: msgspec.Raw = msgspec.Raw()


class Refresh(msgspec.Struct):
    token: str = ""


class Nothing(msgspec.Struct):
    """What says all by being there. Fields in it are passed over, and not kept."""


class Command(msgspec.Struct):
    """One line from a client: an id and exactly one of the others."""

    id: Number = 0
    connect: Connect | None = None
    subscribe: Subscribe | None = None
    unsubscribe: OfChannel | None = None
    publish: Publish | None = None
    history: History | None = None
    rpc: Rpc | None = None
    refresh: Refresh | None = None
    presence: OfChannel | None = None
    presence_stats: OfChannel | None = None
    sub_refresh: OfChannel | None = None
    ping: Nothing | None = None
    send: Nothing | None = None

    @property
    def kinds(self) -> list[str]:
        """The names of the commands in this line: one, where the line is valid."""
        return [name for name in _KINDS if getattr(self, name) is not None]


_KINDS: Final = Command.__struct_fields__[1:]


class BadLine(msgspec.Struct, frozen=True):
    """A line that is no command. `id` is the one to answer to, 0 where there is none to be
    found: then nobody can be told, and the connection is not worth keeping."""

    id: int
    detail: str


class _OnlyId(msgspec.Struct):
    id: Number = 0


_decoder = msgspec.json.Decoder(Command)
_id_decoder = msgspec.json.Decoder(_OnlyId)
_any_decoder = msgspec.json.Decoder()
_encode = msgspec.json.Encoder().encode

_ID_FIRST = re.compile(rb'\s*\{\s*"id"\s*:\s*(\d{1,15})\s*[,}]')
_ID_LAST = re.compile(rb',\s*"id"\s*:\s*(\d{1,15})\s*\}\s*\Z')
_STRINGS = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)', re.DOTALL)
_SQUARE = bytes.maketrans(b"{}", b"[]")
_NO_BRACKETS = bytes(byte for byte in range(256) if byte not in b"[]{}")


def split_lines(frame: bytes) -> list[bytes] | None:
    """The frame's lines without the empty ones; None where there are more than `MAX_LINES`."""
    lines = frame.split(b"\n", MAX_LINES)
    if len(lines) > MAX_LINES and lines[-1].strip():
        return None
    return [line for line in lines if line.strip()]


def decode_command(line: bytes) -> tuple[str, Command] | BadLine:
    """The command and its kind. Never raises, whatever the bytes are."""
    if is_too_deep(line):
        return BadLine(find_id(line), f"nested deeper than {MAX_DEPTH}, or made of too many parts")
    try:
        command = _decoder.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return BadLine(find_id(line), str(error))
    return check_command(command)


def check_command(command: Command) -> tuple[str, Command] | BadLine:
    """The command and its kind, where it has an id and is exactly one."""
    kinds = command.kinds
    if len(kinds) != 1:
        return BadLine(command.id, "exactly one command in a line")
    if not command.id and kinds[0] != "send":
        return BadLine(0, "a command needs an id")
    return kinds[0], command


def find_id(line: bytes) -> int:
    """The `id` of a line that may be no valid command; 0 where none can be read.

    Where the line cannot be decoded at all, an `id` that is its first or its last field counts:
    that is where SDKs put it.
    """
    if not is_too_deep(line):
        try:
            return _id_decoder.decode(line).id
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            pass
    found = _ID_FIRST.match(line[:64]) or _ID_LAST.search(line[-64:])
    return int(found[1]) if found else 0


def decode_any(data: bytes) -> Any:
    """Any JSON value as plain objects, None for nothing at all. Raises `ValueError`."""
    if not data:
        return None
    try:
        return _any_decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ValueError(str(error)) from None
    except RecursionError:
        raise ValueError("nested too deep") from None


def is_too_deep(line: bytes, limit: int = MAX_DEPTH) -> bool:
    """Whether `line` nests deeper than `limit`, or is made of more parts than any command needs;
    found without recursion and in linear time, before anything is decoded.

    Strings go first, since a bracket inside one opens nothing, then everything but brackets;
    then the innermost pairs, `limit` times. What is left is too deep, or was never balanced.
    """
    opened = line.count(b"[") + line.count(b"{")
    if opened <= limit:
        return False
    if line.count(b'"') > MAX_QUOTES:
        return True
    brackets = _STRINGS.sub(b"", line).translate(_SQUARE, _NO_BRACKETS)
    if len(brackets) > 2 * MAX_BRACKETS:
        return True
    for _ in range(limit):
        brackets = brackets.replace(b"[]", b"")
    return bool(brackets)


def one_line(data: bytes) -> bytes:
    """`data`, JSON text, without a newline in it."""
    return data if b"\n" not in data else msgspec.json.format(data, indent=-1)


def encode_reply(command_id: int, kind: str, result: Any) -> bytes:
    """The line that answers a command of `kind`."""
    return one_line(_encode({"id": command_id, kind: result}))


def encode_rpc_reply(command_id: int, data: bytes) -> bytes:
    """The line that answers an `rpc` with `data`, JSON text."""
    return b'{"id":%d,"rpc":{"data":%b}}' % (command_id, one_line(data))


def encode_error(command_id: int, number: int, message: str, *, temporary: bool = False) -> bytes:
    """The line that refuses a command. `temporary` tells SDKs that a repeat can help."""
    error: dict[str, Any] = {"code": number, "message": message}
    if temporary:
        error["temporary"] = True
    return _encode({"id": command_id, "error": error})


def encode_subscribe_push(channel: str, subscription: Any) -> bytes:
    """The line that adds a server-side subscription."""
    return one_line(_encode({"push": {"channel": channel, "subscribe": subscription}}))


def encode_unsubscribe_push(channel: str, number: int, reason: str) -> bytes:
    """The line that ends a server-side subscription."""
    ended = {"code": number, "reason": reason}
    return _encode({"push": {"channel": channel, "unsubscribe": ended}})


def encode_join_push(channel: str, client: str, user: str) -> bytes:
    """The line that says that a device has come."""
    return _encode({"push": {"channel": channel, "join": _of(client, user)}})


def encode_leave_push(channel: str, client: str, user: str) -> bytes:
    """The line that says that a device has gone."""
    return _encode({"push": {"channel": channel, "leave": _of(client, user)}})


def _of(client: str, user: str) -> dict[str, Any]:
    return {"info": {"user": user, "client": client}}


def encode_disconnect_push(code: int, reason: str) -> bytes:
    """The line that says why the connection is about to end."""
    return _encode({"push": {"disconnect": {"code": code, "reason": reason}}})
