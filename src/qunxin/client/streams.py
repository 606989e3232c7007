"""Where a device stands in each conversation, and what it makes of what arrives. No I/O.

Three positions, each at or below the next: what the program is done with (kept in the file), what
was handed to it (`handed`), and what has arrived (`received`). When a connection ends, what was
not handed yet is given up and asked for again, since no recall would reach it meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import Enum, auto
from typing import Final

import msgspec

from qunxin.engine.fanout import tombstone
from qunxin.engine.sink import Position
from qunxin.model import Entry, EventType
from qunxin.wire.device import Subscribed
from qunxin.wire.frames import MAX_CHANNELS, StreamPosition

MAX_LOAD: Final = 20_000
"""Entries that are loaded to fill a hole; beyond it the program is told to reload."""
NOWHERE: Final = -1
"""Where a device stands that knows nothing of a conversation, not even where its user came in."""


class Begin(Enum):
    """What a subscription asks of the device."""

    FOLLOW = auto()
    """Take what comes."""
    LOAD = auto()
    """Read the log up to where the subscription begins, and hold what comes until then."""
    RELOAD = auto()
    """Tell the program: what lies below cannot be filled in."""


class GapError(Exception):
    """Positions are missing: a defect of the server. The connection is not to be trusted."""


class Stream:
    """One conversation, as this device has it."""

    __slots__ = (
        "conversation",
        "ended_at",
        "epoch",
        "handed",
        "handed_epoch",
        "held",
        "received",
        "subscribed",
        "through",
    )

    def __init__(
        self, conversation: str, epoch: str = "", position: int = NOWHERE, ended_at: int = 0
    ) -> None:
        self.conversation = conversation
        self.epoch = epoch
        """Empty as long as nothing of the conversation was followed or asked for."""
        self.handed_epoch = epoch
        self.handed = position
        self.received = position
        self.subscribed = False
        self.held: list[Entry] | None = None
        """What came live while older entries are loaded; None where none are."""
        self.through = 0
        """Up to where they are loaded."""
        self.ended_at = ended_at
        """Where the user has left: the last position that they may read; 0 where not."""

    def begin(self, start: Subscribed) -> Begin:
        """Take note of a subscription, and judge how to go on. One that is new begins at
        `start`, or at the joining that the inbox told of, where that is below."""
        self.subscribed = True
        self.ended_at = 0
        is_new = not self.epoch
        is_other = self.epoch not in ("", start.epoch)
        self.epoch = start.epoch
        if is_other or start.must_reload or self._misses_too_much(start.offset):
            self.received = start.offset
            self.held = None
            return Begin.RELOAD
        if is_new:
            is_lower = self.received == NOWHERE or start.offset < self.received
            self.received = start.offset if is_lower else self.received
            self.hand(Position(start.epoch, self.received))
        return Begin.LOAD if start.offset > self.received else Begin.FOLLOW

    def end(self, epoch: str) -> Begin:
        """Judge how to come to what is missing of a conversation that is the user's no more, in
        the server's `epoch`. Where nothing is known of it, what the user may read could be all
        that was ever written."""
        if self.subscribed or not self.ended_at or self.received >= self.ended_at:
            return Begin.FOLLOW
        is_other = self.epoch not in ("", epoch)
        is_unknown = self.received == NOWHERE
        self.epoch = epoch
        if is_other or is_unknown or self._misses_too_much(self.ended_at):
            self.received = self.ended_at
            return Begin.RELOAD
        return Begin.LOAD

    def _misses_too_much(self, through: int) -> bool:
        return self.received != NOWHERE and through - self.received > MAX_LOAD

    def take(self, entry: Entry) -> Entry | None:
        """The entry as it is to be handed on; None where the device has it already. Raises
        `GapError`."""
        first = first_position(entry)
        if entry.position <= self.received:
            return None
        if first > self.received + 1:
            raise GapError(f"{self.conversation}: {first} came after {self.received}")
        if first <= self.received:
            entry = _shorten(entry, self.received + 1)
        self.received = entry.position
        return entry

    def join(self, joined: int) -> None:
        """The inbox told that the user came into the conversation at position `joined`. What the
        subscription says counts more; this is for a stay that is over before there is one."""
        if not self.epoch and self.received == NOWHERE:
            self.handed = self.received = joined - 1

    def hand(self, at: Position) -> None:
        """The program has been handed everything up to there."""
        self.handed_epoch, self.handed = at.epoch, at.position

    def restart(self) -> None:
        """The connection is gone, and with it everything that was not handed on."""
        self.epoch, self.received = self.handed_epoch, self.handed
        self.subscribed = False
        self.held = None


def first_position(entry: Entry) -> int:
    """The first position that an entry stands for: a hidden range stands at its last."""
    if entry.type == EventType.HIDDEN and entry.body is not None:
        return int(entry.body["first"])
    return entry.position


def _shorten(hidden: Entry, first: int) -> Entry:
    return msgspec.structs.replace(hidden, body={**(hidden.body or {}), "first": first})


def known_positions(streams: Mapping[str, Stream]) -> dict[str, StreamPosition]:
    """What the device says when it connects. A connection takes `MAX_CHANNELS`: those that the
    user has left go last."""
    known = [stream for stream in streams.values() if stream.handed_epoch]
    known.sort(key=lambda stream: stream.ended_at > 0)
    return {
        stream.conversation: StreamPosition(stream.handed, stream.handed_epoch)
        for stream in known[:MAX_CHANNELS]
    }


def handed_positions(streams: Mapping[str, Stream]) -> dict[str, Position]:
    """Where the program stands, by conversation."""
    return {
        stream.conversation: Position(stream.handed_epoch, stream.handed)
        for stream in streams.values()
        if stream.handed_epoch
    }


def recall_in(entry: Entry) -> tuple[str, int] | None:
    """The name of the message that `entry` recalls; None for any other entry."""
    if entry.type != EventType.RECALLED or entry.body is None:
        return None
    return entry.conversation, int(entry.body["target"])


def without_recalled(
    entries: Iterable[Entry], recalls: Mapping[tuple[str, int], int]
) -> tuple[Entry, ...]:
    """`entries` with tombstones in place of the messages that `recalls` names."""
    return tuple(
        tombstone(entry, recalls[entry.conversation, entry.position])
        if entry.content is not None and (entry.conversation, entry.position) in recalls
        else entry
        for entry in entries
    )
