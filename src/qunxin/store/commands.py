"""The store's commands: what `Store.commit` carries out.

A command is a plain value with the conditions under which it may happen. Each names its result
(`qunxin.store.results`) and its refusals; refused, it changes nothing.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from qunxin.model import (
    ApiKey,
    Cursor,
    History,
    MessageType,
    Reach,
    Require,
    Role,
    UserState,
    WebhookReport,
)


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
    With `only_new` an account that exists is left as it is.

    Changing the state appends an `account` entry to the user's inbox. Result: `UserResult`.
    Refused: `user_erased`.
    """

    user: str
    name: str | None = None
    state: UserState | None = None
    only_new: bool = False


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
    outcome again with `duplicate`; other digest: `idempotency_conflict`); `repeat_only`
    (`rate_limited`: the sender may send nothing new now); the conversation
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
    repeat_only: bool = False


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
    """Add to what is known of cursors, each as `Cursor.merged` says: what is known by the store or
    by the command. A lower value changes nothing, and one above the head counts as the head.
    Users and conversations that are unknown are passed over. Result: None."""

    cursors: tuple[Cursor, ...]


class EndSessions(msgspec.Struct, frozen=True):
    """Append `sessions_ended` to the user's inbox, which ends their live sessions. Result: None.
    Refused: `user_not_found`, `user_erased`."""

    user: str


class RevokeTokens(msgspec.Struct, frozen=True):
    """Refuse tokens of `user` from now on: those with the id `token`, or with None all that were
    issued up to this command's time. Appends `sessions_ended` to the inbox, with the id as `token`
    where it is about one, and not where that one is revoked already. Result: None. Refused:
    `user_not_found`, `user_erased`.

    An id is remembered for as long as a token of it can be good: until it has run out, or
    everything issued so early is refused. Of a user at most `MAX_REVOKED_TOKENS` are remembered.
    One more, and the oldest is forgotten: all that was issued up to its revocation is refused in
    its place.
    """

    user: str
    token: str | None
    valid_ms: int
    """How long a token can be valid: always the same, since it is also told by this when an id
    that is remembered was revoked."""
    ahead_ms: int
    """How far a token's time of issue may be ahead of the store's time."""


class PutApiKey(msgspec.Struct, frozen=True):
    """Keep an API key's digest. Result: None."""

    key: ApiKey


class RevokeApiKey(msgspec.Struct, frozen=True):
    """Mark a key as revoked. Result: `ApiKey`. Refused: `not_found`."""

    id: str


class PutWebhook(msgspec.Struct, frozen=True):
    """Create a webhook (`url` and `secret` given) or change what is not None; the revision rises.

    A new one begins at the end of the outbox. A new secret puts the present one in
    `Webhook.old_secret`; `serial` ends the waiting of what was left below it. Result: `Webhook`.
    Refused: `not_found`.
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
    """Note that the outbox has been dealt with up to `serial`, but for what is `waiting`, and how
    it went; `paused` ends the sending. What was decided about the webhook since `revision` holds:
    nothing changes where it is gone, or where its `serial` or its `events` were set since then,
    and `paused` counts for nothing after any change. Result: None."""

    id: str
    revision: int
    serial: int
    report: WebhookReport
    waiting: tuple[int, ...] | None = None
    """Serials up to `serial`, ascending; None: those that were noted last."""
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
