"""What each operation answers: plain structs, the same over HTTP and realtime `rpc`.

Most answers are the engine's own values. Those here differ where the wire does: roles by their
names, entries as one flat object each, no digest of a key.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, TypeAlias

import msgspec
from msgspec import Meta

from qunxin.engine.results import SessionInfo
from qunxin.engine.webhooks import WebhookStatus
from qunxin.model import ApiKey, DeliveryState, Grade, Group, Interval, Member, Reason, Role, User
from qunxin.store.reads import ConversationRow, Delivery
from qunxin.store.results import MemberResult


class RoleName(StrEnum):
    """A role's name on the wire."""

    MEMBER = "member"
    ADMIN = "admin"
    OWNER = "owner"

    @classmethod
    def of(cls, role: Role) -> RoleName:
        return cls[role.name]


class SavedUser(User, frozen=True, kw_only=True):
    """A user as it is now. `new`: this call created the account."""

    new: bool


class SavedGroup(Group, frozen=True, kw_only=True):
    """A group as it is now. `new`: this call created it, and `results` names what became of each
    first member; `grade` is partial where some of them have no account."""

    new: bool
    grade: Grade
    results: tuple[MemberResult, ...]


class UserBlock(msgspec.Struct, frozen=True):
    """Whether `user` blocks `blocked` now."""

    user: str
    blocked: str
    on: bool


class BlockList(msgspec.Struct, frozen=True):
    """Whom `user` blocks."""

    user: str
    blocked: tuple[str, ...]


class MemberView(msgspec.Struct, frozen=True):
    """One current member. `since` is the first position they may read; `reason` why they cannot
    be reached, null where they can."""

    user: str
    key: int
    role: RoleName
    muted: bool
    since: int
    reason: Reason | None

    @classmethod
    def of(cls, member: Member) -> MemberView:
        return cls(
            user=member.user,
            key=member.key,
            role=RoleName.of(member.role),
            muted=member.muted,
            since=member.since,
            reason=member.reason,
        )


class MemberList(msgspec.Struct, frozen=True):
    """A page of members by integer key; `next_cursor` is null on the last page."""

    members: tuple[MemberView, ...]
    next_cursor: str | None
    membership_version: int


class ConversationView(msgspec.Struct, frozen=True):
    """One conversation as its user sees it. `head` is its last position and `time` that entry's;
    `unread` counts messages of others above `read`, up to 1,000. `delivered` is how far a device of
    theirs has got; something below it may have been missed."""

    conversation: str
    name: str
    head: int
    time: int
    joined: int
    role: RoleName | None
    delivered: int
    read: int
    unread: int

    @classmethod
    def of(cls, row: ConversationRow) -> ConversationView:
        return cls(
            conversation=row.conversation,
            name=row.name,
            head=row.head,
            time=row.time,
            joined=row.joined,
            role=None if row.role is None else RoleName.of(row.role),
            delivered=row.delivered,
            read=row.read,
            unread=row.unread,
        )


class ConversationList(msgspec.Struct, frozen=True):
    """The most recent first; `next_cursor` is null on the last page."""

    conversations: tuple[ConversationView, ...]
    next_cursor: str | None


EntryJson: TypeAlias = Annotated[
    msgspec.Raw, Meta(extra_json_schema={"$ref": "#/components/schemas/Entry"})
]
"""An entry's JSON text, as `encode_entry` makes it."""


class EntryList(msgspec.Struct, frozen=True):
    """Entries in ascending order; what the reader may not see stands as `hidden` ranges, so
    that together they cover every position up to `through`.

    `head` is the last position that this reader may know of. `next_after` is the `after` of the
    following page, null at the head and, where both `after` and `before` were given, at the last
    position below `before`.
    """

    conversation: str
    epoch: str
    entries: tuple[EntryJson, ...]
    through: int
    head: int
    next_after: int | None
    intervals: tuple[Interval, ...]


class Ledger(msgspec.Struct, frozen=True):
    """Who got a message. `counts` covers the whole audience but the sender, whatever state was
    asked for; on the pages after the first, those with a `cursor`, it is empty. `recalled`: the
    message was recalled at that position, and `delivered` and `read` mean that a device has passed
    the tombstone."""

    counts: dict[DeliveryState, int]
    deliveries: tuple[Delivery, ...]
    next_cursor: str | None
    recalled: int | None


class SessionList(msgspec.Struct, frozen=True):
    sessions: tuple[SessionInfo, ...]


class SessionsEnded(msgspec.Struct, frozen=True):
    """The user's devices are being disconnected; they may come back with a valid token."""

    user: str


class SessionEnded(msgspec.Struct, frozen=True):
    """`ended` is false where no such session was connected."""

    user: str
    session: str
    ended: bool


class Token(msgspec.Struct, frozen=True):
    """A token for a user's devices; `expires` in milliseconds since 1970."""

    token: str
    user: str
    expires: int


class TokensRevoked(msgspec.Struct, frozen=True):
    """Refused from now on: the token of that id, or (null) all issued until now."""

    user: str
    id: str | None


class KeyView(msgspec.Struct, frozen=True):
    """An API key without its secret. Times in milliseconds since 1970; `revoked` is null while
    it is valid."""

    id: str
    name: str
    scopes: tuple[str, ...]
    created: int
    revoked: int | None

    @classmethod
    def of(cls, key: ApiKey) -> KeyView:
        return cls(
            id=key.id,
            name=key.name,
            scopes=key.scopes,
            created=key.created,
            revoked=key.revoked,
        )


class KeyList(msgspec.Struct, frozen=True):
    keys: tuple[KeyView, ...]


class NewKey(msgspec.Struct, frozen=True):
    """A new API key. `key` is the secret, shown this once."""

    id: str
    name: str
    scopes: tuple[str, ...]
    key: str


class WebhookList(msgspec.Struct, frozen=True):
    """The oldest first."""

    webhooks: tuple[WebhookStatus, ...]


class WebhookDeleted(msgspec.Struct, frozen=True):
    """Nothing more is sent to it; its secrets are gone."""

    id: str
