"""Messages: the one hot path of the store.

A run of posts is judged in order with what the cache knows, and only then written, in few
statements of many rows. Judging changes nothing that a refusal would have to take back.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import msgspec

from qunxin.errors import QunxinError
from qunxin.model import (
    Conversation,
    ConversationKind,
    Entry,
    EventType,
    GroupState,
    MessageType,
    Reach,
    Require,
    UserState,
)
from qunxin.store.commands import Post
from qunxin.store.results import Done, Outcome, Posted
from qunxin.stores.sqlite.batches import insert_rows, select_rows
from qunxin.stores.sqlite.cache import CachedConversation, CachedGroup, CachedUser
from qunxin.stores.sqlite.commands.lookups import not_a_member
from qunxin.stores.sqlite.commands.reaches import (
    broadcast_reach,
    group_reach,
    keep_reach,
    kept_reach,
    private_reach,
)
from qunxin.stores.sqlite.commands.warm import (
    find_cached_conversation,
    find_cached_stay,
    find_cached_user,
    has_blocked,
)
from qunxin.stores.sqlite.recent_keys import KeyName
from qunxin.stores.sqlite.rows import OPERATOR, TYPE_CODES
from qunxin.stores.sqlite.transaction import Transaction

_INSERT: Final = """
    INSERT INTO entries (conversation, position, type, time, sender, key, digest,
                         members, membership_version, unreachable_version, data)
    VALUES $VALUES
"""
_FIND_KEYS: Final = """
    SELECT k.sender, k.conversation, k.key, k.position
    FROM (VALUES $VALUES) v
    CROSS JOIN keys k
        ON k.sender = v.column1 AND k.conversation = v.column2 AND k.key = v.column3
"""
_FIND_FIRST: Final = """
    SELECT time, digest, data IS NULL, members, membership_version, unreachable_version
    FROM entries WHERE conversation = ? AND position = ?
"""


class _First(NamedTuple):
    """The first outcome of a key."""

    time: int
    digest: bytes | None
    erased: bool
    members: int
    membership_version: int
    unreachable_version: int


class _Place(NamedTuple):
    """A message that may be accepted: where it goes, from whom, and whom it reaches."""

    conversation: CachedConversation
    sender: CachedUser
    reach: Reach


_NOBODY: Final = CachedUser("", OPERATOR, UserState.ACTIVE)


class PostRun:
    """Consecutive posts of one transaction."""

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx
        self._rows: list[tuple[Any, ...]] = []
        self._filed: dict[KeyName, int] = {}

    def run(self, posts: Sequence[Post]) -> list[Outcome]:
        """Carry out `posts` in order; everything is written when it returns."""
        self._find_keys(posts)
        outcomes: list[Outcome] = []
        for post in posts:
            try:
                outcomes.append(self._post(post))
            except QunxinError as refusal:
                outcomes.append(refusal)
        self._write()
        return outcomes

    def _find_keys(self, posts: Sequence[Post]) -> None:
        wanted = []
        for post in posts:
            if post.key is None:
                continue
            conversation = find_cached_conversation(self._tx, post.conversation)
            sender = self._sender(post)
            if conversation is not None and sender is not None:
                wanted.append((sender.key, conversation.key, post.key))
        if wanted:
            for row in select_rows(self._tx.db, _FIND_KEYS, wanted):
                self._filed[row[:3]] = row[3]

    def _sender(self, post: Post) -> CachedUser | None:
        return _NOBODY if post.sender is None else find_cached_user(self._tx, post.sender)

    def _post(self, post: Post) -> Done:
        conversation = find_cached_conversation(self._tx, post.conversation)
        sender = self._sender(post)
        if post.key is not None and conversation is not None and sender is not None:
            name = (sender.key, conversation.key, post.key)
            position = self._tx.keys.find(name) or self._filed.get(name)
            if position is not None:
                return self._repeat(post, conversation, position)
        if post.repeat_only:
            raise QunxinError("rate_limited")
        if post.type is MessageType.GROUP:
            place = self._judge_group(post, conversation, sender)
        elif post.type is MessageType.PRIVATE:
            return self._post_private(post, conversation, sender)
        else:
            place = self._judge_broadcast(post, conversation, sender)
        return self._append(post, place)

    def _repeat(self, post: Post, conversation: CachedConversation, position: int) -> Done:
        """The first outcome again; it may stand among the rows that are still to be written."""
        self._write()
        row = self._tx.row(_FIND_FIRST, (conversation.key, position))
        first = _First(*row or ())
        if not first.erased and first.digest != post.digest:
            raise QunxinError("idempotency_conflict")
        reach = kept_reach(
            self._tx,
            conversation,
            first.members,
            first.membership_version,
            first.unreachable_version,
        )
        return Done(Posted(position, first.time, reach, duplicate=True))

    def _judge_group(
        self, post: Post, conversation: CachedConversation | None, sender: CachedUser | None
    ) -> _Place:
        if conversation is None or conversation.group is None:
            raise QunxinError("group_not_found", group=post.conversation.partition(":")[2])
        group = conversation.group
        if group.state is GroupState.DISSOLVED:
            raise QunxinError("group_dissolved", group=post.conversation.partition(":")[2])
        known = _check_sender(post, sender)
        self._check_member(conversation, group, known)
        reach = group_reach(self._tx, conversation, group, post.hint)
        _check_reach(reach, post.require or group.require, others=reach.members - 1)
        return _Place(conversation, known, reach)

    def _check_member(
        self, conversation: CachedConversation, group: CachedGroup, sender: CachedUser
    ) -> None:
        stay = find_cached_stay(self._tx, conversation, sender)
        if stay is None:
            raise not_a_member(self._tx, conversation.key, sender.user)
        if stay.muted:
            raise QunxinError("member_muted")
        if group.muted and stay.role == 1:
            raise QunxinError("group_muted")

    def _post_private(
        self, post: Post, conversation: CachedConversation | None, sender: CachedUser | None
    ) -> Done:
        recipient = self._recipient(post)
        known = _check_sender(post, sender)
        if has_blocked(self._tx, conversation, recipient, known):
            raise QunxinError("blocked", user=recipient.user)
        reach = private_reach(self._tx, recipient)
        _check_reach(reach, post.require or Require.REACHABLE, others=1)
        if conversation is not None:
            return self._append(post, _Place(conversation, known, reach))
        return self._begin_private(post, known, recipient, reach)

    def _recipient(self, post: Post) -> CachedUser:
        """The other person of a private conversation, who has or once had an account."""
        parsed = Conversation.parse(post.conversation)
        if parsed is None or parsed.kind is not ConversationKind.PRIVATE:
            raise QunxinError("user_not_found", user=post.conversation.partition(":")[2])
        if post.sender not in parsed.parts:
            raise QunxinError("not_a_member", user=post.sender, former=False)
        other = parsed.parts[1] if post.sender == parsed.parts[0] else parsed.parts[0]
        recipient = find_cached_user(self._tx, other)
        if recipient is None:
            raise QunxinError("user_not_found", user=other)
        return recipient

    def _begin_private(
        self, post: Post, sender: CachedUser, recipient: CachedUser, reach: Reach
    ) -> Done:
        """The first message: the conversation, both stays, word to both inboxes."""
        tx = self._tx
        key, name = tx.next_key(), post.conversation
        tx.run("INSERT INTO conversations (key, kind, name) VALUES (?, 'private', ?)", (key, name))
        for user in (sender, recipient):
            tx.run(
                "INSERT INTO stays (conversation, user, joined, first, role)"
                " VALUES (?, ?, 1, 1, 0)",
                (key, user.key),
            )
        conversation = find_cached_conversation(tx, name)
        if conversation is None:
            raise LookupError(name)
        done = self._append(post, _Place(conversation, sender, reach))
        told = tx.append_to_inboxes(
            [sender.key, recipient.key], EventType.CONTACT, {"conversation_joined": name}
        )
        return Done(done.result, done.entries + told)

    def _judge_broadcast(
        self, post: Post, conversation: CachedConversation | None, sender: CachedUser | None
    ) -> _Place:
        if conversation is None or not post.conversation.startswith("broadcast:"):
            raise QunxinError("conversation_not_found")
        known = _check_sender(post, sender)
        reach = broadcast_reach(self._tx, conversation)
        others = reach.members - (post.sender is not None)
        _check_reach(reach, post.require or Require.REACHABLE, others=others)
        return _Place(conversation, known, reach)

    def _append(self, post: Post, place: _Place) -> Done:
        """Number the message and put its row with the others of this run."""
        conversation, sender, reach = place
        time = self._tx.time
        conversation.head += 1
        position = conversation.head
        kept: tuple[int, int, int] | tuple[None, None, None] = (None, None, None)
        if post.key is not None:
            keep_reach(self._tx, conversation, reach)
            kept = (reach.members, reach.membership_version, reach.unreachable_version)
            self._tx.keys.add((sender.key, conversation.key, post.key), position)
        row = (conversation.key, position, TYPE_CODES[post.type], time, sender.key, post.key)
        self._rows.append((*row, post.digest if post.key else None, *kept, post.content))
        content = msgspec.Raw(post.content)
        entry = Entry(
            conversation.name, position, str(post.type), time, post.sender, post.key, content
        )
        return Done(Posted(position, time, reach), (entry,))

    def _write(self) -> None:
        if self._rows:
            insert_rows(self._tx.db, _INSERT, self._rows)
            self._rows = []


def _check_sender(post: Post, sender: CachedUser | None) -> CachedUser:
    if sender is None:
        raise QunxinError("user_not_found", user=post.sender)
    if sender.state is UserState.ERASED:
        raise QunxinError("user_erased", user=post.sender)
    if sender.state is UserState.SUSPENDED:
        raise QunxinError("user_suspended", user=post.sender)
    return sender


def _check_reach(reach: Reach, require: Require, *, others: int) -> None:
    """Refuse where somebody is missing and all are required, or all `others` are missing."""
    missing = reach.unreachable_count
    if missing == 0 or (require is Require.REACHABLE and missing < others):
        return
    raise QunxinError(
        "members_unreachable",
        members=reach.members,
        unreachable_count=missing,
        unreachable=[{"user": one.user, "reason": str(one.reason)} for one in reach.named],
    )
