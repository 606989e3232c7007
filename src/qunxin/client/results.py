"""What operations answer, where a device sees it in another form than the engine's own values.

Fields that a newer server adds are passed over.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from qunxin.model import DeliveryState, Grade, Group, Interval, Reason
from qunxin.store.reads import Delivery
from qunxin.store.results import MemberResult


class RoleName(StrEnum):
    """A member's role, as the wire names it."""

    MEMBER = "member"
    ADMIN = "admin"
    OWNER = "owner"


class ConversationView(msgspec.Struct, frozen=True):
    """One conversation in the user's list. `head` is its last position and `time` that entry's
    (milliseconds since 1970); `unread` counts messages of others above `read`, up to 1,000 when
    it came from the server."""

    conversation: str
    name: str
    head: int
    time: int
    joined: int
    role: RoleName | None
    delivered: int
    read: int
    unread: int


class ConversationList(msgspec.Struct, frozen=True):
    """The most recent first; `next_cursor` is None on the last page."""

    conversations: tuple[ConversationView, ...]
    next_cursor: str | None


class EntryList(msgspec.Struct, frozen=True):
    """A page of a log, its entries still as JSON."""

    conversation: str
    epoch: str
    entries: tuple[msgspec.Raw, ...]
    through: int
    head: int
    next_after: int | None
    intervals: tuple[Interval, ...]


class Ledger(msgspec.Struct, frozen=True):
    """Who got a message: one page of the whole audience but the sender, and on the first page,
    the one without a cursor, `counts` of all; on the others they are empty. `recalled`: the message
    was recalled at that position, and the states are those of the tombstone."""

    counts: dict[DeliveryState, int]
    deliveries: tuple[Delivery, ...]
    next_cursor: str | None
    recalled: int | None


class MemberView(msgspec.Struct, frozen=True):
    """One current member; `since` is the first position they may read, `reason` why they cannot
    be reached, None where they can."""

    user: str
    key: int
    role: RoleName
    muted: bool
    since: int
    reason: Reason | None


class MemberList(msgspec.Struct, frozen=True):
    """A page of members; `next_cursor` is None on the last page."""

    members: tuple[MemberView, ...]
    next_cursor: str | None
    membership_version: int


class SavedGroup(Group, frozen=True, kw_only=True):
    """A group as it is now. `new`: this call created it, and `results` says what became of each
    first member."""

    new: bool
    grade: Grade
    results: tuple[MemberResult, ...]
