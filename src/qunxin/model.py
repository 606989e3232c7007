"""The nouns: users, groups, conversations, entries, entitlements, reach.

Plain immutable values without I/O. Every other module speaks in these words; what each word
means stands in ``docs/glossary.md``.
"""

from __future__ import annotations

import re
from enum import IntEnum, StrEnum
from typing import Any, Final, TypeAlias

import msgspec

JsonObject: TypeAlias = dict[str, Any]

MAX_ID_LENGTH: Final = 64
MAX_INTEGER: Final = 2**53 - 1
"""Integers on the wire stay at or below this, the largest that JavaScript holds exactly."""

NAMED_LIMIT: Final = 100
"""Receipts and bulk entries name at most this many users; a count says how many there are."""

_ID = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_.@-]{0,62}[A-Za-z0-9])?")


def is_valid_id(value: object) -> bool:
    """Whether `value` can name a user or a group (1 to 64 of ``A-Z a-z 0-9 _ . @ -``)."""
    return isinstance(value, str) and ".." not in value and _ID.fullmatch(value) is not None


ID_RULE: Final = (
    f"1 to {MAX_ID_LENGTH} characters of A-Z a-z 0-9 _ . @ -, beginning and ending with a letter "
    "or digit, without two dots in a row"
)
NAME_RULE: Final = "no control characters, and no line breaks"
"""What people see is one line. Control characters (C0, C1) and separators of lines would act on the
terminal, the log or the page that shows the name."""

_NOT_IN_A_NAME = re.compile(r"[\u0000-\u001f\u007f-\u009f\u2028\u2029]")


def is_one_line(text: str) -> bool:
    """Whether `text` is as `NAME_RULE` says."""
    return _NOT_IN_A_NAME.search(text) is None


class ConversationKind(StrEnum):
    """The part of a conversation's name before the colon."""

    GROUP = "group"
    PRIVATE = "private"
    BROADCAST = "broadcast"
    INBOX = "inbox"


class Conversation(msgspec.Struct, frozen=True):
    """One ordered log, named; `str()` gives the name."""

    kind: ConversationKind
    parts: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.kind}:{'~'.join(self.parts)}"

    @classmethod
    def group(cls, group: str) -> Conversation:
        return cls(ConversationKind.GROUP, (group,))

    @classmethod
    def private(cls, one: str, other: str) -> Conversation:
        return cls(ConversationKind.PRIVATE, (min(one, other), max(one, other)))

    @classmethod
    def inbox(cls, user: str) -> Conversation:
        return cls(ConversationKind.INBOX, (user,))

    @classmethod
    def parse(cls, name: str) -> Conversation | None:
        """The conversation of that name, or None where no conversation can have it."""
        kind, colon, rest = name.partition(":")
        if not colon:
            return None
        if kind == ConversationKind.BROADCAST:
            return BROADCAST if rest == "all" else None
        if kind == ConversationKind.PRIVATE:
            one, tilde, other = rest.partition("~")
            valid = tilde and is_valid_id(one) and is_valid_id(other) and one < other
            return cls(ConversationKind.PRIVATE, (one, other)) if valid else None
        if kind in (ConversationKind.GROUP, ConversationKind.INBOX) and is_valid_id(rest):
            return cls(ConversationKind(kind), (rest,))
        return None


BROADCAST: Final = Conversation(ConversationKind.BROADCAST, ("all",))


class MessageType(StrEnum):
    """What a sender says a message is. Never guessed."""

    PRIVATE = "private"
    GROUP = "group"
    BROADCAST = "broadcast"


class EventType(StrEnum):
    """Entries that are not messages.

    The first block stands in the logs of groups (`RECALLED` in any log but an inbox), the
    second in inboxes. `HIDDEN` is never stored: it stands for positions that a reader may not
    see, so that a hole is never mistaken for a loss.
    """

    CREATED = "created"
    JOINED = "joined"
    LEFT = "left"
    CHANGED = "changed"
    DISSOLVED = "dissolved"
    RECALLED = "recalled"

    MEMBER = "member"
    CEASED = "ceased"
    CONTACT = "contact"
    ACCOUNT = "account"
    SESSIONS_ENDED = "sessions_ended"

    HIDDEN = "hidden"


class Role(IntEnum):
    """A member's role in a group; a higher number may do all that a lower one may."""

    MEMBER = 1
    ADMIN = 2
    OWNER = 3


class UserState(StrEnum):
    ACTIVE = "active"
    SUSPENDED = "suspended"
    ERASED = "erased"


class GroupState(StrEnum):
    ACTIVE = "active"
    DISSOLVED = "dissolved"


class History(StrEnum):
    """From where a new member may read: from their joining, or from position 1."""

    JOINED = "joined"
    FULL = "full"


class Require(StrEnum):
    """Whether a message may be accepted while some members cannot be reached."""

    REACHABLE = "reachable"
    ALL = "all"


class Grade(StrEnum):
    """How whole an accepted operation is: for everybody named or entitled, or for some."""

    COMPLETE = "complete"
    PARTIAL = "partial"


class Reason(StrEnum):
    """Why a member cannot be reached. `UNAVAILABLE` is what plain members are shown in place of
    `SUSPENDED` and `BLOCKED`."""

    NOT_FOUND = "not_found"
    SUSPENDED = "suspended"
    BLOCKED = "blocked"
    UNAVAILABLE = "unavailable"


class DeliveryState(StrEnum):
    """A member's place in the ledger of one message; each claims no more than was proven."""

    QUEUED = "queued"
    DELIVERED = "delivered"
    READ = "read"
    UNREACHABLE = "unreachable"


class User(msgspec.Struct, frozen=True):
    """An account. `key` is its integer name, unique among users, groups and conversations."""

    user: str
    key: int
    name: str
    state: UserState
    created: int
    """Milliseconds since 1970 (UTC), as every time here."""


class Group(msgspec.Struct, frozen=True):
    """A group. `members` counts all members, reachable or not."""

    group: str
    key: int
    name: str
    state: GroupState
    history: History
    require: Require
    muted: bool
    members: int
    membership_version: int
    """The position of the last membership entry."""
    created: int


class Member(msgspec.Struct, frozen=True):
    """One current member of a group; `since` is the first position they may read."""

    user: str
    key: int
    role: Role
    muted: bool
    since: int
    reason: Reason | None = None
    """Why the member cannot be reached; None where they can."""


class Unreachable(msgspec.Struct, frozen=True):
    """A user whom a message cannot reach, and why."""

    user: str
    reason: Reason


class Reach(msgspec.Struct, frozen=True):
    """Which members of a group cannot be reached, as of two versions.

    Used as a hint (what a cache believes) and as a result (what held at the commit). `members`
    counts all current members; `named` holds the first `NAMED_LIMIT` by integer key.
    """

    membership_version: int
    unreachable_version: int
    members: int
    unreachable_count: int = 0
    named: tuple[Unreachable, ...] = ()


class Entry(msgspec.Struct, frozen=True):
    """One thing in one log: a message or an event. Its name is conversation and position.

    A message has `sender` and `content`, or `recalled` (the position of the recall) and no
    content once it was recalled. An event has its facts in `body`.
    """

    conversation: str
    position: int
    type: str
    """A `MessageType` or an `EventType`."""
    time: int
    sender: str | None = None
    key: str | None = None
    """The sender's idempotency key. No secret: it lets the sender's devices know their own."""
    content: msgspec.Raw | None = None
    """The list of segments, as the JSON text that was committed."""
    recalled: int | None = None
    body: JsonObject | None = None

    @property
    def is_message(self) -> bool:
        return self.type in _MESSAGE_TYPES

    @property
    def segments(self) -> tuple[JsonObject, ...]:
        """The content's segments as plain objects; none for an event or a recalled message."""
        return () if self.content is None else msgspec.json.decode(self.content, type=_SEGMENTS)

    @property
    def text(self) -> str:
        """The text segments joined; empty where there are none."""
        return "".join(part["text"] for part in self.segments if part["type"] == "text")


_MESSAGE_TYPES: Final = frozenset(str(kind) for kind in MessageType)
_SEGMENTS: Final = tuple[JsonObject, ...]


class Interval(msgspec.Struct, frozen=True):
    """One stay in a conversation: its reader may read `first` to `last`, both included.

    `last` None: the stay goes on. `joined` is the position of the entry that began it; it is
    above `first` where the group shows new members its history. The audience of a message is
    whoever's stay holds it between `joined` and `last`.
    """

    first: int
    last: int | None
    joined: int

    def allows(self, position: int) -> bool:
        return self.first <= position and (self.last is None or position <= self.last)


class Cursor(msgspec.Struct, frozen=True):
    """How far one user has got in one conversation: which positions a device of theirs is known
    to have. These are all up to `delivered`, but for those from `missed_from` to `missed_to`, which
    are none where both are 0; and all up to `read`, which a device says. `delivered` and `read`
    only ever rise.
    """

    user: str
    conversation: str
    delivered: int = 0
    read: int = 0
    missed_from: int = 0
    missed_to: int = 0

    def settled(self) -> Cursor:
        """The same positions, with `read` at most `delivered` and what is missed between them."""
        if not (self.missed_from or self.missed_to) and self.read <= self.delivered:
            return self
        delivered = max(self.delivered, self.read)
        first, last = max(self.missed_from, self.read + 1), min(self.missed_to, delivered)
        if first > last:
            first = last = 0
        return Cursor(self.user, self.conversation, delivered, self.read, first, last)

    def merged(self, other: Cursor) -> Cursor:
        """What is known by either of the two, which are of one user in one conversation.

        Where the positions that neither knows would be two ranges, they are one, from the first
        to the last of them: then less is claimed than is known, never more.
        """
        low, high = sorted((self.settled(), other.settled()), key=lambda one: one.delivered)
        first = max(low.missed_from, high.missed_from)
        last = min(low.missed_to, high.missed_to)
        if first > last:
            first = last = 0
        if high.missed_to > low.delivered:
            first = first or max(high.missed_from, low.delivered + 1)
            last = high.missed_to
        read = max(low.read, high.read)
        return Cursor(self.user, self.conversation, high.delivered, read, first, last)


MAX_REVOKED_TOKENS: Final = 1_000
"""Of one user, each by its id. Beyond it the oldest gives way: see `RevokeTokens`."""


class SignIn(msgspec.Struct, frozen=True):
    """What decides whether one valid token still lets its user in, in one snapshot."""

    user: User
    tokens_from: int
    """Tokens issued before it (milliseconds since 1970) are revoked."""
    revoked: bool = False
    """Whether the token is revoked by its id."""


class ApiKey(msgspec.Struct, frozen=True):
    """An API key as it is kept: never the secret, only its digest."""

    id: str
    name: str
    digest: bytes
    scopes: tuple[str, ...]
    created: int
    revoked: int | None = None


class WebhookReport(msgspec.Struct, frozen=True):
    """How the sending to one webhook goes."""

    failures: int = 0
    """Attempts that failed since the last one that succeeded."""
    error: str | None = None
    """The last failure, in words, also after a success."""
    failed: int | None = None
    """When that was."""
    succeeded: int | None = None
    """When an event was last taken."""


class Webhook(msgspec.Struct, frozen=True):
    """Where an application is told of entries, and how far that has got."""

    id: str
    url: str
    secret: str
    """What signs: ``whsec_`` and base64."""
    events: tuple[str, ...]
    """The event types that are wanted; empty: all."""
    created: int
    revision: int
    """Rises with every change but progress."""
    serial: int
    """The outbox has been dealt with up to here, but for what is `waiting`."""
    old_secret: str | None = None
    """Signs beside `secret` until `old_secret_until`."""
    old_secret_until: int | None = None
    paused: str | None = None
    """Why nothing is sent; None while it is."""
    report: WebhookReport = WebhookReport()
    waiting: tuple[int, ...] = ()
    """Serials up to `serial` that have not been dealt with, ascending."""
    placed: int = 1
    """The last revision that said anew from where on, or of what, events are to be sent."""
