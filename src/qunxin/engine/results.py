"""What the engine's operations answer: plain values, the same at every door."""

from __future__ import annotations

import msgspec

from qunxin.model import Entry, Grade, Group, Interval, Unreachable, User, UserState
from qunxin.store.results import MemberResult


class Receipt(msgspec.Struct, frozen=True):
    """An accepted message: durable, numbered, and on its way to everybody entitled."""

    conversation: str
    position: int
    epoch: str
    time: int
    grade: Grade
    membership_version: int
    members: int
    """The audience, the sender included."""
    unreachable_count: int
    unreachable: tuple[Unreachable, ...]
    """The first 100."""
    duplicate: bool = False
    """True: the first outcome of this key again."""


class RecallReceipt(msgspec.Struct, frozen=True):
    """An accepted recall. `position` is the recall's own entry, `recalled` the message's."""

    conversation: str
    position: int
    recalled: int
    epoch: str
    time: int
    duplicate: bool = False


class EntriesPage(msgspec.Struct, frozen=True):
    """Entries in ascending order, ranges that the reader may not see as `hidden` entries.

    Together they cover every position from the first to `through`. `next_after` is what to ask
    with for the following page, None at the head (or, for a former member, at their leaving) and,
    where both `after` and `before` were asked for, at the last position below `before`.
    """

    conversation: str
    epoch: str
    entries: tuple[Entry, ...]
    through: int
    head: int
    """The last position that this reader may know of."""
    next_after: int | None
    intervals: tuple[Interval, ...] = ()


class PresentClient(msgspec.Struct, frozen=True):
    """One connected device that follows a group."""

    session: str
    user: str


class Presence(msgspec.Struct, frozen=True):
    """Who follows a group on this node now: counts of all, and as many as were asked for."""

    clients: int
    users: int
    present: tuple[PresentClient, ...]
    """Connected longest first."""


class SeenUser(msgspec.Struct, frozen=True):
    """An account as somebody may see it. `state` is left out where a user's own token asks about
    somebody else: who is suspended is for keys."""

    user: str
    key: int
    name: str
    created: int
    """Milliseconds since 1970 (UTC)."""
    state: UserState | msgspec.UnsetType = msgspec.UNSET


class UserPut(msgspec.Struct, frozen=True):
    user: User
    created: bool


class GroupPut(msgspec.Struct, frozen=True):
    """A group as it is now; `results` names the members of a creation one by one."""

    group: Group
    created: bool
    grade: Grade = Grade.COMPLETE
    results: tuple[MemberResult, ...] = ()


class MembersChange(msgspec.Struct, frozen=True):
    """`grade` is partial where some of the users have no account."""

    group: str
    membership_version: int
    grade: Grade
    results: tuple[MemberResult, ...]


class SessionInfo(msgspec.Struct, frozen=True):
    """One connected device. Times in milliseconds since 1970."""

    session: str
    user: str
    connected: int
    client: str
    """What the device calls itself, for example ``js 5.8.0``; may be empty."""
    conversations: int
