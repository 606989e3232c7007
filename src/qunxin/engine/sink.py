"""What a session tells the device behind it: the engine's one outward interface for live
entries. A gateway implements it over a socket, the embedded API over a queue."""

from __future__ import annotations

from enum import StrEnum
from typing import Final, Protocol, TypeAlias

import msgspec

from qunxin.model import Entry
from qunxin.store.reads import ConversationRow


class CloseReason(StrEnum):
    """Why the engine ends a session. All but the first three are worth coming back after."""

    SUSPENDED = "suspended"
    ERASED = "erased"
    SESSIONS_ENDED = "sessions_ended"
    SLOW = "slow"
    SHUTTING_DOWN = "shutting_down"
    FAILED = "failed"


class Position(msgspec.Struct, frozen=True):
    """Where a device says it stands in one conversation."""

    epoch: str
    position: int


class Delivery:
    """Consecutive entries of one conversation, shared by all sessions they go to.

    `encoded` is the gateway's own: each distinct encoding made once, kept under its name.
    `first` and `last` bound the positions covered. A hidden range counts as an entry that covers
    it, so that what is delivered to one session never skips a position.
    """

    __slots__ = ("conversation", "encoded", "entries", "first", "last")

    def __init__(
        self, conversation: str, entries: tuple[Entry, ...], first: int, last: int
    ) -> None:
        self.conversation = conversation
        self.entries = entries
        self.first = first
        self.last = last
        self.encoded: dict[str, bytes] = {}


Missed: TypeAlias = tuple[int, int]
"""The first and the last of the positions that a cursor leaves out, as in `Cursor`; zeros where
there are none."""

NOTHING: Final[Missed] = (0, 0)


class SubscriptionStart(msgspec.Struct, frozen=True):
    """Where a session's subscription begins: the next entry is `position` + 1 or a hidden range
    that begins there."""

    conversation: str
    epoch: str
    position: int
    recovered: bool
    """False: the device's own position could not be used (another epoch, beyond the head, or too
    far behind the budget): it must reload what it keeps. `position` is then the head."""
    asked: bool
    """Whether the device gave a position of its own."""
    row: ConversationRow | None
    """What a list shows of it; None for the inbox."""
    missed: Missed = NOTHING
    """What of all up to `position` this device does not vouch for."""


class Coming(msgspec.Struct, frozen=True):
    """A device that has come to a group, or (`here` is false) has gone."""

    session: str
    user: str
    here: bool


class Comings:
    """Who came to one group and who went, in order, shared by all sessions that are told.

    `encoded` is the gateway's own, as it is of a `Delivery`.
    """

    __slots__ = ("comings", "conversation", "encoded")

    def __init__(self, conversation: str, comings: tuple[Coming, ...]) -> None:
        self.conversation = conversation
        self.comings = comings
        self.encoded: dict[str, bytes] = {}


class Sink(Protocol):
    """All calls are made on the loop, must return at once and must not raise.

    For one conversation they come as: `subscribed`, deliveries with rising positions and no gap,
    `unsubscribed`; nothing between the last and a new `subscribed`.
    """

    def subscribed(self, start: SubscriptionStart) -> None:
        """The user became a member of a conversation while connected."""
        ...

    def deliver(self, delivery: Delivery) -> None:
        """Entries for the device. The sink bounds what it holds unsent, and closes the session
        with `CloseReason.SLOW` where the bound is passed."""
        ...

    def unsubscribed(self, conversation: str, reason: str) -> None:
        """The user ceased to be a member (`left`, `removed`, `erased`, `dissolved`)."""
        ...

    def came(self, comings: Comings) -> None:
        """Who came and went in a group that the session follows and asked about."""
        ...

    def close(self, reason: CloseReason) -> None:
        """The session has ended; nothing follows."""
        ...

    async def drained(self) -> None:
        """Return once the device has proved that it took what was delivered before this call.
        Paces catching up; ends with `asyncio.CancelledError` when the session does."""
        ...
