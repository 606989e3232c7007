"""The protocol from the other end: what a device says, and what it is told, in JSON.

Decoding passes over what it does not know, so that a device outlives additions to the protocol.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from qunxin.wire.codes import ERROR_NUMBERS
from qunxin.wire.frames import PING, StreamPosition

ERROR_CODES: Final = {number: code for code, number in ERROR_NUMBERS.items()}
"""From an error's number back to its code."""


class Fault(msgspec.Struct, frozen=True):
    """An error reply."""

    code: int
    message: str
    temporary: bool = False


class Publication(msgspec.Struct, frozen=True):
    """What stands in a conversation; `offset` 0: not an entry, but a notice of the moment."""

    data: msgspec.Raw = msgspec.Raw(b"null")
    offset: int = 0


class Subscribed(msgspec.Struct, frozen=True):
    """Where a subscription begins: entries above `offset` follow. `was_recovering` without
    `recovered`: what lies below it is to be read anew."""

    offset: int = 0
    epoch: str = ""
    was_recovering: bool = False
    recovered: bool = False
    data: msgspec.Raw = msgspec.Raw(b"null")

    @property
    def must_reload(self) -> bool:
        """Whether the server cannot fill in what the device missed."""
        return self.was_recovering and not self.recovered


class Ended(msgspec.Struct, frozen=True):
    """The end of a subscription or of the connection."""

    code: int
    reason: str = ""


class Push(msgspec.Struct, frozen=True):
    channel: str = ""
    pub: Publication | None = None
    subscribe: Subscribed | None = None
    unsubscribe: Ended | None = None
    disconnect: Ended | None = None


class Welcome(msgspec.Struct, frozen=True):
    """The reply to `connect`; `ping` and `ttl` in seconds."""

    client: str
    subs: dict[str, Subscribed] = {}
    ping: float = 0
    expires: bool = False
    ttl: float = 0


class Refreshed(msgspec.Struct, frozen=True):
    expires: bool = False
    ttl: float = 0


class RpcResult(msgspec.Struct, frozen=True):
    data: msgspec.Raw = msgspec.Raw(b"null")


class ServerLine(msgspec.Struct, frozen=True):
    """One line from a server: a reply (it has an `id`), a push, or a ping (it has neither)."""

    id: int = 0
    error: Fault | None = None
    connect: Welcome | None = None
    rpc: RpcResult | None = None
    subscribe: Subscribed | None = None
    refresh: Refreshed | None = None
    push: Push | None = None

    @property
    def is_ping(self) -> bool:
        return self.id == 0 and self.push is None


_A_PING: Final = ServerLine()
_decoder = msgspec.json.Decoder(ServerLine)
_encode = msgspec.json.Encoder().encode


def read_line(line: bytes) -> ServerLine:
    """Raises `msgspec.DecodeError` where it does not keep to the protocol."""
    return _A_PING if line == PING else _decoder.decode(line)


def read_frame(frame: bytes) -> list[ServerLine]:
    """The lines of one text frame, in order. Raises as `read_line` does."""
    return [read_line(line) for line in frame.split(b"\n") if line.strip()]


def encode_command(number: int, kind: str, fields: Any) -> str:
    """One command, as a line for the server."""
    return _encode({"id": number, kind: fields}).decode()


def connect_fields(
    token: str, positions: dict[str, StreamPosition], *, language: str, name: str, version: str
) -> dict[str, Any]:
    """`connect` of a device that kept `positions` over a restart."""
    data = {"positions": positions, "language": language}
    return {"token": token, "data": data, "name": name, "version": version}
