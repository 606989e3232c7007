"""What the store's snapshot reads answer with."""

from __future__ import annotations

import msgspec

from qunxin.model import DeliveryState, Entry, Group, Interval, Member, Reason, Role, User


class LogPage(msgspec.Struct, frozen=True):
    """Part of one log as one reader may see it, in one snapshot.

    `entries` are those between the asked bounds that lie in an interval, ascending; recalled
    messages are tombstones. Every position from `after` + 1 to `through` is either in `entries`
    or not the reader's to see. `head` is the log's last position, 0 where it is empty.
    """

    entries: tuple[Entry, ...]
    through: int
    head: int
    intervals: tuple[Interval, ...]
    """Ascending; empty for one who was never entitled."""


class ConversationRow(msgspec.Struct, frozen=True):
    """One conversation as its user sees it in a list."""

    conversation: str
    name: str
    """The group's display name, or the other person's."""
    head: int
    time: int
    """Of the last entry."""
    joined: int
    start: int
    """The position before the first one at which the user was a member and which no device of
    theirs is known to have: from where a device without a position of its own is served."""
    role: Role | None
    delivered: int
    read: int
    unread: int
    """Messages of others above `read` in the current stay; counted up to 1,000."""
    missed_from: int = 0
    missed_to: int = 0
    """As in the `Cursor`."""
    beyond: int = 0
    """Where something is missed: what `start` would be without it, above `delivered`."""


class Delivery(msgspec.Struct, frozen=True):
    user: str
    state: DeliveryState
    reason: Reason | None = None


class LedgerPage(msgspec.Struct, frozen=True):
    """Counts over the whole audience but the sender, empty where it was not counted, and one page
    of it by integer key."""

    counts: dict[DeliveryState, int]
    deliveries: tuple[Delivery, ...]
    next_cursor: str | None
    recalled: int | None = None
    """Where set, the message was recalled there, and `delivered` and `read` mean that a device
    has passed the tombstone."""


class UsersPage(msgspec.Struct, frozen=True):
    users: tuple[User, ...]
    next_cursor: str | None


class GroupsPage(msgspec.Struct, frozen=True):
    groups: tuple[Group, ...]
    next_cursor: str | None


class MembersPage(msgspec.Struct, frozen=True):
    members: tuple[Member, ...]
    next_cursor: str | None
    membership_version: int


class MemberKeys(msgspec.Struct, frozen=True):
    """All current members of a group by integer key, as of `membership_version`."""

    membership_version: int
    keys: tuple[int, ...]


class UnreachableUser(msgspec.Struct, frozen=True):
    key: int
    user: str
    reason: Reason


class UnreachableSet(msgspec.Struct, frozen=True):
    """Everyone suspended, or erased and still listed somewhere; `version` rises with each
    change."""

    version: int
    users: tuple[UnreachableUser, ...]


class OutboxItem(msgspec.Struct, frozen=True):
    """An entry by its name, with its place in the outbox."""

    serial: int
    conversation: str
    position: int
    type: str
    time: int


class OutboxPage(msgspec.Struct, frozen=True):
    """Every entry above the asked serial up to `through`, but for inboxes, is in `items`."""

    items: tuple[OutboxItem, ...]
    through: int
    head: int
    """The last serial there is."""


class EventRead(msgspec.Struct, frozen=True):
    """One entry of the outbox as it is asked for."""

    conversation: str
    position: int
    without: tuple[str, ...] = ()
    """Users who are left out of `Queued`."""


class Queued(msgspec.Struct, frozen=True):
    """Of a message's ledger those who are queued, by integer key."""

    users: tuple[str, ...]
    count: int | None
    """All of them; None where they were not counted."""
    next_cursor: str | None
    """Where `Store.list_deliveries` goes on with them."""


class OutboxEvent(msgspec.Struct, frozen=True):
    """An entry, and what whoever is told of it would look up next."""

    entry: Entry
    group: Group | None = None
    """Of a group's conversation."""
    queued: Queued | None = None
    """Of a message that was not recalled."""
