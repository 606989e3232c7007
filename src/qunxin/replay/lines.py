"""What the devices of a run make of the server's lines, and what they say themselves. No I/O.

Publications are read once and remembered by their bytes, as the same entry comes to very many
devices.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from qunxin.model import EventType
from qunxin.replay.plan import Message
from qunxin.replay.records import Observation, Observations, observe
from qunxin.wire.device import Publication, encode_command

_REMEMBERED_LINES: Final = 100_000


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
        self._known: dict[bytes, Known] = {}
        self.recall = self._known.get
        """The publication on a line that was read before, or None."""

    def publication(self, channel: str, publication: Publication, line: bytes) -> Known:
        """What a device keeps of it; `line`, which it stood on, is recognised from now on. Raises
        `msgspec.DecodeError` where its data is not JSON."""
        known = self._entry(channel, publication.offset, msgspec.json.decode(publication.data))
        if len(self._known) < _REMEMBERED_LINES:
            self._known[line] = known
        return known

    def entry(self, channel: str, data: Any) -> Known:
        """The same for an entry that was read from a page."""
        return self._entry(channel, data.get("position", 0) if isinstance(data, dict) else 0, data)

    def _entry(self, channel: str, offset: int, data: Any) -> Known:
        seen = observe(channel, offset, data if isinstance(data, dict) else {})
        return Known(self._observations.number(seen), seen, self._by_key.get(seen.key or ""))


def connect_command(number: int, token: str, positions: dict[str, tuple[str, int]]) -> bytes:
    """`positions`: conversation to epoch and position, of what is to be recovered."""
    subs = {
        conversation: {"recover": True, "epoch": epoch, "offset": position}
        for conversation, (epoch, position) in positions.items()
    }
    fields = {"token": token, "subs": subs, "name": "qunxin-replay"}
    return encode_command(number, "connect", fields).encode()


def rpc_command(number: int, method: str, data: Any) -> bytes:
    return encode_command(number, "rpc", {"method": method, "data": data}).encode()
