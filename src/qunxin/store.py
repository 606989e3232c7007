"""The store's contract: the one truth about users, groups, entries, memberships and cursors.

A store is one door for writing, `commit`, and a handful of snapshot reads. Commands are plain
values; a command carries the conditions under which it may happen, and the store judges them
inside its own transaction, where no cache can be stale. `qunxin.testing.store` holds the suite
that every store passes.

What a store does not promise: to answer within a time (the engine sets deadlines), to deliver
anything to anybody, to know who is connected.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, TypeAlias

import msgspec

from qunxin.errors import QunxinError
from qunxin.model import (
    ApiKey,
    Cursor,
    DeliveryState,
    Entry,
    Group,
    History,
    Interval,
    Member,
    MessageType,
    Reach,
    Reason,
    Require,
    Role,
    SignIn,
    User,
    UserState,
    Webhook,
    WebhookReport,
)
from qunxin.records import RecordStore

# --- commands ---------------------------------------------------------------------------------


class Fence(msgspec.Struct, frozen=True):
    """The condition that `actor` is a member of the group with at least `role`.

    Refused with `not_a_member` (fact `former`: whether they ever were one) or `forbidden`.
    `above_target`: the target's role must also be lower than the actor's, or the actor an owner.
    """

    actor: str
    role: Role = Role.MEMBER
    above_target: bool = False


class PutUser(msgspec.Struct, frozen=True):
    """Create or update; None leaves a field as it is. A new user is active, named by their id.

    Changing the state appends an `account` entry to the user's inbox. Result: `UserResult`.
    Refused: `user_erased`.
    """

    user: str
    name: str | None = None
    state: UserState | None = None


class EraseUser(msgspec.Struct, frozen=True):
    """Erase: name, blocks and cursors go; memberships stay, unreachable with `not_found`; the id
    answers `user_erased` for ever. Appends an `account` entry to the inbox. Result: `User`.
    Refused: `user_not_found`, `user_erased`."""

    user: str


class SetBlock(msgspec.Struct, frozen=True):
    """`user` blocks `blocked` (or no longer does): private messages from them are refused.
    Result: None. Refused: `user_not_found`, `user_erased`."""

    user: str
    blocked: str
    on: bool


class PutGroup(msgspec.Struct, frozen=True):
    """Create, with owner and members, or update the settings that are not None.

    Creation appends one `created` entry (position 1) that counts and names owner and members,
    and a `member` entry to each one's inbox. `owner` and `members` are ignored on an update.
    An update that changes something appends `changed`. `fence` is judged on updates only.
    Result: `GroupResult`. Refused: `group_dissolved`, `user_not_found` (the owner), `group_full`.
    """

    group: str
    name: str | None = None
    owner: str | None = None
    members: tuple[str, ...] = ()
    history: History | None = None
    require: Require | None = None
    muted: bool | None = None
    by: str | None = None
    fence: Fence | None = None
    limit: int = 1_000_000


class DissolveGroup(msgspec.Struct, frozen=True):
    """Append `dissolved`, end every membership there; `ceased` in each inbox. The id answers
    `group_dissolved` for ever. Result: `Group`. Refused: `group_not_found`, `group_dissolved`."""

    group: str
    by: str | None = None
    fence: Fence | None = None


class AddMembers(msgspec.Struct, frozen=True):
    """Add all of `users` that have an active or suspended account, as one `joined` entry with a
    count (no entry where nobody was added); `member` in each inbox. Result: `MembersResult`.
    Refused: `group_not_found`, `group_dissolved`, `group_full` (nobody is added)."""

    group: str
    users: tuple[str, ...]
    by: str | None = None
    fence: Fence | None = None
    limit: int = 1_000_000


class RemoveMember(msgspec.Struct, frozen=True):
    """Append `left` and end the membership at it; `ceased` in the inbox. Result:
    `MembersResult`. Refused: `group_not_found`, `group_dissolved`, `not_a_member`,
    `last_owner` (other members remain and no other owner; erased owners do not count, and one of
    them may always be removed)."""

    group: str
    user: str
    reason: str = "removed"
    """`left`, `removed` or `erased`."""
    by: str | None = None
    fence: Fence | None = None


class ChangeMember(msgspec.Struct, frozen=True):
    """Set role or mute of a member; None leaves it. A change appends `changed`. Result:
    `Member`. Refused: `group_not_found`, `group_dissolved`, `not_a_member`, `last_owner`."""

    group: str
    user: str
    role: Role | None = None
    muted: bool | None = None
    by: str | None = None
    fence: Fence | None = None


class Post(msgspec.Struct, frozen=True):
    """Append one message.

    Judged in this order: the key first (same digest, or the content was recalled: the first
    outcome again with `duplicate`; other digest: `idempotency_conflict`); the conversation
    (`group_not_found`, `group_dissolved`, `user_not_found`); the sender (`user_not_found`,
    `user_erased`, `user_suspended`, `not_a_member`, `member_muted`, `group_muted`, `blocked`);
    reach (`members_unreachable`: `require` is all and somebody cannot be reached, or there are
    others and none can). `require` None takes the group's own setting.

    The first message of a private conversation creates it, with `contact` in both inboxes.
    `hint` is used for reach only where both its versions are the current ones.
    Result: `Posted`.
    """

    type: MessageType
    conversation: str
    sender: str | None
    """None: a broadcast by the operator."""
    content: bytes
    """JSON text of the list of segments."""
    key: str | None = None
    digest: bytes | None = None
    require: Require | None = None
    hint: Reach | None = None


class Recall(msgspec.Struct, frozen=True):
    """Erase the content of a message, its digest too, and append `recalled` with the target's
    position, all in this transaction.

    `actor` None: no condition. Else the author within `window_ms`, or an owner or admin of the
    group at any time. Result: `Recalled`; a repeat gives the first outcome with `duplicate`.
    Refused: `entry_not_found`, `recall_window_over`, `forbidden`, `group_dissolved`.
    """

    conversation: str
    position: int
    actor: str | None = None
    window_ms: int | None = None


class MoveCursors(msgspec.Struct, frozen=True):
    """Raise cursors; a lower value changes nothing, one above the head counts as the head, and
    read raises delivered with it. Users and conversations that are unknown are passed over.
    Result: None."""

    cursors: tuple[Cursor, ...]


class EndSessions(msgspec.Struct, frozen=True):
    """Append `sessions_ended` to the user's inbox, which ends their live sessions. Result: None.
    Refused: `user_not_found`, `user_erased`."""

    user: str


class RevokeTokens(msgspec.Struct, frozen=True):
    """Refuse tokens of `user` from now on: the one with the id `token`, remembered until
    `keep_until_ms`, or with None all that were issued up to this command's time. Appends
    `sessions_ended` to the inbox, with the id as `token` where it is about one. Result: None.
    Refused: `user_not_found`, `user_erased`, `invalid_request` (too many are remembered)."""

    user: str
    token: str | None = None
    keep_until_ms: int = 0


class PutApiKey(msgspec.Struct, frozen=True):
    """Keep an API key's digest. Result: None."""

    key: ApiKey


class RevokeApiKey(msgspec.Struct, frozen=True):
    """Mark a key as revoked. Result: `ApiKey`. Refused: `not_found`."""

    id: str


class PutWebhook(msgspec.Struct, frozen=True):
    """Create a webhook (`url` and `secret` given) or change what is not None; the revision rises.

    A new one begins at the end of the outbox. A new secret puts the present one in
    `Webhook.old_secret`. Result: `Webhook`. Refused: `not_found`.
    """

    id: str
    url: str | None = None
    events: tuple[str, ...] | None = None
    secret: str | None = None
    old_secret_until: int | None = None
    paused: str | None = None
    """Why nothing is to be sent; empty: it is sent again."""
    serial: int | None = None
    """From where on events are to be sent, again or not at all."""


class MoveWebhook(msgspec.Struct, frozen=True):
    """Note that the outbox has been dealt with up to `serial`, and how it went; `paused` ends the
    sending. Changes nothing where the webhook is gone or is at another revision: what was
    decided about it since then holds. Result: None."""

    id: str
    revision: int
    serial: int
    report: WebhookReport
    paused: str | None = None


class DeleteWebhook(msgspec.Struct, frozen=True):
    """Forget a webhook, its secrets too. Result: None. Refused: `not_found`."""

    id: str


class SweepErased(msgspec.Struct, frozen=True):
    """Remove up to `limit` memberships of users erased before `before_ms`, with `left` entries.
    Result: int, how many were removed."""

    before_ms: int
    limit: int = 100


Command: TypeAlias = (
    PutUser
    | EraseUser
    | SetBlock
    | PutGroup
    | DissolveGroup
    | AddMembers
    | RemoveMember
    | ChangeMember
    | Post
    | Recall
    | MoveCursors
    | EndSessions
    | RevokeTokens
    | PutApiKey
    | RevokeApiKey
    | PutWebhook
    | MoveWebhook
    | DeleteWebhook
    | SweepErased
)

# --- results ----------------------------------------------------------------------------------


class UserResult(msgspec.Struct, frozen=True):
    user: User
    created: bool


class MemberResult(msgspec.Struct, frozen=True):
    """What became of one named user: `added`, `removed`, `already_member`, `user_not_found`."""

    user: str
    result: str


class GroupResult(msgspec.Struct, frozen=True):
    group: Group
    created: bool
    results: tuple[MemberResult, ...] = ()


class MembersResult(msgspec.Struct, frozen=True):
    membership_version: int
    results: tuple[MemberResult, ...]


class Posted(msgspec.Struct, frozen=True):
    """A message's final place. `reach.members` counts the audience, the sender included (for a
    broadcast: every account that is not erased)."""

    position: int
    time: int
    reach: Reach
    duplicate: bool = False


class Recalled(msgspec.Struct, frozen=True):
    position: int
    """Of the recall entry."""
    time: int
    duplicate: bool = False


Result: TypeAlias = (
    UserResult
    | User
    | GroupResult
    | Group
    | MembersResult
    | Member
    | Posted
    | Recalled
    | ApiKey
    | Webhook
    | int
    | None
)


class Done(msgspec.Struct, frozen=True):
    """A command that happened: its result, and what it appended, of each conversation in order
    of position."""

    result: Result
    entries: tuple[Entry, ...] = ()


Outcome: TypeAlias = Done | QunxinError

# --- reads ------------------------------------------------------------------------------------


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
    """The position before the first one above `delivered` at which the user was a member: from
    where a device without a position of its own is served."""
    role: Role | None
    delivered: int
    read: int
    unread: int
    """Messages of others above `read` in the current stay; counted up to 1,000."""


class Delivery(msgspec.Struct, frozen=True):
    user: str
    state: DeliveryState
    reason: Reason | None = None


class LedgerPage(msgspec.Struct, frozen=True):
    """Counts over the whole audience but the sender, and one page of it by integer key."""

    counts: dict[DeliveryState, int]
    deliveries: tuple[Delivery, ...]
    next_cursor: str | None
    recalled: int | None = None
    """Where set, the message was recalled there, and `delivered` and `read` mean that a device
    has passed the tombstone."""


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


class Store(RecordStore, Protocol):
    """Calls may run side by side from tasks of one loop. A call that is cancelled may still take
    effect. A store that cannot work raises `store_unavailable` (nothing took effect) or
    `outcome_unknown` (it may have)."""

    @property
    def epoch(self) -> str:
        """Names this history: another one after a restore, and wherever a tail that was once
        answered for may have been lost. Known once open."""
        ...

    async def open(self) -> None:
        """Bring the schema up to date and be ready. Refused where another process owns it."""
        ...

    async def close(self) -> None:
        """Finish what was handed in, release everything. Recalled content is in no file."""
        ...

    async def commit(self, commands: Sequence[Command]) -> Sequence[Outcome]:
        """Carry out `commands` in order as one durable transaction; one outcome each, in order.

        On return everything that was `Done` has been fsynced. A refused command changes nothing
        and disturbs no neighbour; each sees what those before it did.
        """
        ...

    async def read_log(
        self,
        conversation: str,
        reader: str | None,
        *,
        after: int = 0,
        before: int | None = None,
        limit: int = 100,
        max_bytes: int = 256 * 1024,
        newest: bool = False,
    ) -> LogPage:
        """Entries with `after` < position < `before`: the first `limit` of them, or with
        `newest` the last. `reader` None sees all. Stops at `max_bytes` of content (never
        without at least one entry). An unknown conversation is an empty page."""
        ...

    async def read_heads(self, conversations: Sequence[str]) -> dict[str, int]:
        """The last position of each; 0 where it is unknown or empty."""
        ...

    async def read_user(self, user: str) -> User | None: ...

    async def read_sign_in(self, user: str) -> SignIn | None: ...

    async def read_group(self, group: str) -> Group | None: ...

    async def read_member(self, group: str, user: str) -> Member | None:
        """The current membership, or None."""
        ...

    async def list_members(
        self, group: str, *, cursor: str | None = None, limit: int = 100
    ) -> MembersPage:
        """Current members by integer key, `limit` at most, from the opaque `cursor`."""
        ...

    async def read_member_keys(self, group: str) -> MemberKeys: ...

    async def read_unreachable(self) -> UnreachableSet: ...

    async def list_blocked(self, user: str) -> tuple[str, ...]: ...

    async def list_conversations(
        self, user: str, *, cursor: str | None = None, limit: int = 200
    ) -> tuple[tuple[ConversationRow, ...], str | None]:
        """Groups the user is in, private conversations and the broadcasts (never the inbox),
        most recent entry first, with the cursor of the next page."""
        ...

    async def read_conversations(
        self, user: str, conversations: Sequence[str]
    ) -> tuple[ConversationRow, ...]:
        """The rows of those among `conversations` that the user is in now (inbox included)."""
        ...

    async def read_cursor(self, user: str, conversation: str) -> Cursor:
        """Zeros where nothing is known."""
        ...

    async def list_deliveries(
        self,
        conversation: str,
        position: int,
        *,
        state: DeliveryState | None = None,
        cursor: str | None = None,
        limit: int = 100,
        without: Sequence[str] = (),
        counted: bool = True,
    ) -> LedgerPage | None:
        """The ledger of one message; None where there is no such message. Counts cover the whole
        audience whatever `state` is asked for, the users in `without` left out everywhere; they
        are left empty where not `counted`, which spares reading all. An event has no ledger."""
        ...

    async def read_api_keys(self) -> tuple[ApiKey, ...]: ...

    async def read_webhooks(self) -> tuple[Webhook, ...]:
        """Oldest first, with their secrets."""
        ...

    async def read_outbox(self, after: int, *, limit: int = 500) -> OutboxPage:
        """The entries of all conversations in the order of their commits, `limit` at most; a page
        may be empty while `through` is below `head`.

        The log itself is the outbox, so a send pays nothing for it. Serials rise, within a
        conversation with the positions, and once a page reached `through` no entry ever appears
        at or below it. One writer whose rows grow at the end gives that by itself. A store with
        several writers must read only below its oldest open transaction (on PostgreSQL: rows
        ordered by transaction id, then number, with an id below `pg_snapshot_xmin`).
        """
        ...

    async def find_serial(self, time: int) -> int:
        """The serial below the first entry whose time is `time` or later; the last serial where
        there is none. May read the whole log."""
        ...

    async def backup(self, path: Path) -> None:
        """Write a whole, consistent copy to `path` while commits go on. A store opened from it
        has a new epoch."""
        ...
