"""What participants saw, kept small: each distinct entry once, and for each participant numbers.

The same entry reaches a hundred people as the same bytes. It is read once, becomes an
`Observation` with a number, and a participant's record is a row of such numbers with the time
each arrived.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from typing import Any, Final, NamedTuple, TypeAlias

import msgspec

from qunxin.model import EventType, MessageType

JsonObject: TypeAlias = dict[str, Any]

_MESSAGE_TYPES: Final = frozenset(str(kind) for kind in MessageType)
RELOADED: Final = "reloaded"
"""The type of an observation that is none: the device threw away what it had of a conversation,
as it was told to."""


class Observation(NamedTuple):
    """One entry exactly as it was seen: in the stream of `channel`, with `offset` there."""

    channel: str
    offset: int
    type: str
    conversation: str = ""
    """What the entry itself says it belongs to."""
    position: int = 0
    sender: str | None = None
    key: str | None = None
    text: str | None = None
    """None where there was no content; for content of any other shape its JSON."""
    recalled: int | None = None
    target: int = 0
    """For a recall, the position of the message."""
    first: int = 0
    """Of a hidden range; elsewhere the same as `offset`."""
    other: str = ""
    """In an inbox: the conversation gained or lost."""
    last: int = 0
    """In an inbox, of a lost conversation: the last position to be read."""

    @property
    def is_message(self) -> bool:
        return self.type in _MESSAGE_TYPES


def observe(channel: str, offset: int, data: Mapping[str, Any]) -> Observation:
    """The observation of one publication; what is missing or of another type is left empty, and
    so never matches what was sent."""
    kind = data.get("type")
    return Observation(
        channel=channel,
        offset=offset,
        type=kind if isinstance(kind, str) else "",
        conversation=_string(data, "conversation") or "",
        position=_integer(data, "position") or 0,
        sender=_string(data, "from"),
        key=_string(data, "key"),
        text=_text(data.get("content")),
        recalled=_integer(data, "recalled"),
        target=_integer(data, "target") or 0,
        first=(_integer(data, "first") or offset) if kind == EventType.HIDDEN else offset,
        other=_string(data, "conversation_joined") or _string(data, "conversation_left") or "",
        last=_integer(data, "last") or 0,
    )


def _string(data: Mapping[str, Any], name: str) -> str | None:
    value = data.get(name)
    return value if isinstance(value, str) else None


def _integer(data: Mapping[str, Any], name: str) -> int | None:
    value = data.get(name)
    return value if isinstance(value, int) else None


def _text(content: Any) -> str | None:
    match content:
        case None:
            return None
        case [{"type": "text", "text": str(text)}]:
            return text
    return msgspec.json.encode(content).decode()


class Observations:
    """Every distinct observation of a run, numbered from 0."""

    def __init__(self) -> None:
        self.all: list[Observation] = []
        self._numbers: dict[Observation, int] = {}

    def number(self, observation: Observation) -> int:
        number = self._numbers.get(observation)
        if number is None:
            number = self._numbers[observation] = len(self.all)
            self.all.append(observation)
        return number


class Record:
    """What one participant saw, in the order it arrived, over all their connections."""

    __slots__ = ("arrived", "connections", "numbers")

    def __init__(self) -> None:
        self.numbers = array("I")
        """Numbers of observations."""
        self.arrived = array("d")
        """When each arrived, in seconds of the run's clock."""
        self.connections: list[tuple[int, float]] = []
        """For each connection: how many entries had been seen before it, and when it began."""

    def began(self, when: float) -> None:
        self.connections.append((len(self.numbers), when))

    def add(self, number: int, when: float) -> None:
        self.numbers.append(number)
        self.arrived.append(when)


class Journal:
    """What the clients were told: receipts, and the times of them on the run's clock.

    Times are seconds, 0 where it has not happened.
    """

    def __init__(self, messages: int) -> None:
        self.sent = array("d", bytes(8 * messages))
        self.accepted = array("d", bytes(8 * messages))
        self.recalled: dict[int, float] = {}
        """Message to the time its recall was accepted."""
        self.positions: dict[str, dict[int, int]] = {}
        """Conversation to slot to position."""
        self.faults: list[str] = []
        """What the server answered that it never should have."""

    def place(self, conversation: str, slot: int, position: int) -> None:
        self.positions.setdefault(conversation, {})[slot] = position

    def position(self, conversation: str, slot: int) -> int:
        """0 where no receipt told it."""
        return self.positions.get(conversation, {}).get(slot, 0)
