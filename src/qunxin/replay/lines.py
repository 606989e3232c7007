"""The realtime protocol as a device speaks it: lines in, lines out. No I/O.

A line is one JSON object. Publications are read once and remembered by their bytes, as the same
entry comes to very many devices.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from qunxin.model import EventType
from qunxin.replay.plan import Message
from qunxin.replay.records import Observation, Observations, observe

PING: Final = b"{}"
_REMEMBERED_LINES: Final = 100_000


class Fault(msgspec.Struct, frozen=True):
    """An error reply."""

    code: int
    message: str
    temporary: bool = False


class Publication(msgspec.Struct, frozen=True):
    data: Any = None
    offset: int = 0


class Subscribed(msgspec.Struct, frozen=True):
    """A subscription as a connect reply or a push tells it."""

    offset: int = 0
    epoch: str = ""
    recovered: bool = False
    was_recovering: bool = False
    publications: tuple[Publication, ...] = ()


class Ended(msgspec.Struct, frozen=True):
    code: int
    reason: str = ""


class Push(msgspec.Struct, frozen=True):
    channel: str = ""
    pub: Publication | None = None
    subscribe: Subscribed | None = None
    unsubscribe: Ended | None = None
    disconnect: Ended | None = None


class Connected(msgspec.Struct, frozen=True):
    client: str
    subs: dict[str, Subscribed] = {}
    ping: float = 0
    pong: bool = False


class RpcResult(msgspec.Struct, frozen=True):
    data: msgspec.Raw = msgspec.Raw(b"null")


class Line(msgspec.Struct, frozen=True):
    """Anything that a server says; a ping has neither `id` nor `push`."""

    id: int = 0
    error: Fault | None = None
    connect: Connected | None = None
    rpc: RpcResult | None = None
    push: Push | None = None


class Known:
    """A publication that was read before, with what a device does about it."""

    __slots__ = ("at_home", "channel", "ends", "first", "message", "number", "offset", "seen")

    def __init__(self, number: int, seen: Observation, message: Message | None) -> None:
        self.number = number
        self.seen = seen
        self.channel = seen.channel
        self.offset = seen.offset
        self.first = seen.first
        self.message = -1 if message is None else message.number
        self.at_home = message is None or message.conversation == seen.channel
        self.ends = seen.type == EventType.CEASED


class LineReader:
    """Reads lines; all devices of a run share one."""

    def __init__(self, observations: Observations, messages: tuple[Message, ...]) -> None:
        self._observations = observations
        self._by_key = {message.key: message for message in messages}
        self._decode = msgspec.json.Decoder(Line).decode
        self._known: dict[bytes, Known] = {}
        self.recall = self._known.get
        """The publication on a line that was read before, or None."""

    def read(self, line: bytes) -> Line:
        """Raises `msgspec.DecodeError` where the server does not keep to the protocol."""
        return self._decode(line)

    def publication(self, channel: str, publication: Publication, line: bytes = b"") -> Known:
        """What a device keeps of it; `line`, where given, is recognised from now on."""
        data = publication.data if isinstance(publication.data, dict) else {}
        seen = observe(channel, publication.offset, data)
        known = Known(self._observations.number(seen), seen, self._by_key.get(seen.key or ""))
        if line and len(self._known) < _REMEMBERED_LINES:
            self._known[line] = known
        return known

    def entry(self, channel: str, data: Any) -> Known:
        """The same for an entry that was read from a page."""
        position = data.get("position", 0) if isinstance(data, dict) else 0
        return self.publication(channel, Publication(data, position))


_encode = msgspec.json.Encoder().encode


def connect_command(number: int, token: str, positions: dict[str, tuple[str, int]]) -> bytes:
    """`positions`: conversation to epoch and position, of what is to be recovered."""
    subs = {
        conversation: {"recover": True, "epoch": epoch, "offset": position}
        for conversation, (epoch, position) in positions.items()
    }
    connect = {"token": token, "subs": subs, "name": "qunxin-replay"}
    return _encode({"id": number, "connect": connect})


def rpc_command(number: int, method: str, data: Any) -> bytes:
    return _encode({"id": number, "rpc": {"method": method, "data": data}})
