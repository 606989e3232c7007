"""Operations on messages: send, recall, read, ledger, cursors."""

from __future__ import annotations

import logging
from typing import Any

import msgspec

from qunxin.engine.access import SYSTEM, Caller, acting_user, check_access
from qunxin.engine.catchup import fill_hidden, last_readable
from qunxin.engine.content import check_content, check_key, content_digest
from qunxin.engine.core import (
    Core,
    check_conversation,
    check_id,
    check_limit,
    group_of,
    veiled,
    veiled_all,
)
from qunxin.engine.gate import ReadGate
from qunxin.engine.membership import MemberCache
from qunxin.engine.message_types import check_message_type
from qunxin.engine.quotas import Quota
from qunxin.engine.results import EntriesPage, RecallReceipt, Receipt
from qunxin.errors import QunxinError
from qunxin.model import (
    MAX_INTEGER,
    Conversation,
    ConversationKind,
    Cursor,
    DeliveryState,
    Grade,
    MessageType,
    Require,
    Role,
    Unreachable,
)
from qunxin.store.commands import MoveCursors, Post, Recall
from qunxin.store.reads import ConversationRow, LedgerPage, LogPage
from qunxin.store.results import Posted
from qunxin.store.results import Recalled as RecallResult

_log = logging.getLogger("qunxin.engine")

MAX_PAGE = 1_000


class MessageOperations(Core):
    """What is said, taken back, read and accounted for."""

    member_cache: MemberCache
    gate: ReadGate

    async def send(
        self,
        type: MessageType | str | None,  # noqa: A002 - the field's own word
        to: str | None,
        *,
        sender: str | None,
        text: str | None = None,
        content: list[Any] | None = None,
        key: str | None = None,
        require: Require | str | None = None,
        caller: Caller = SYSTEM,
    ) -> Receipt:
        """Send one message.

        On return it is durable, has its final position, and everybody entitled will be able to
        get it; nobody has been waited for. Repeated with the same `key` and content it answers
        the first outcome again. Whatever is raised other than `outcome_unknown` and
        `store_unavailable` means that nobody ever gets it; after those, repeat with the same
        key. `text` is short for one text segment.
        """
        with self.tracer.operation("message.send") as trace:
            trace.step("type")
            spec = check_message_type(type)
            if caller.user is not None and sender is None:
                sender = caller.user
            check_access(caller, spec.operation, about=sender)
            trace.tell("type", spec.type)
            trace.step("routing")
            conversation = spec.strategy.plan(to, sender)
            trace.tell("conversation.kind", conversation.kind)
            encoded = check_content(text, content, self.settings.max_message_bytes)
            _check_key(key, sender)
            wanted = _check_require(require)
            limited = self._over_quota(caller)
            if limited is not None and key is None:
                raise limited
            trace.step("membership")
            group = group_of(conversation)
            command = Post(
                type=spec.type,
                conversation=str(conversation),
                sender=sender,
                content=encoded,
                key=key,
                digest=None if key is None else content_digest(encoded),
                require=wanted,
                hint=None if group is None else self.member_cache.hint(group),
                repeat_only=limited is not None,
            )
            trace.step("commit")
            result = await self._post(command, caller, group, limited)
            trace.placed(command.conversation, result.position)
            receipt = await self._receipt(conversation, result, caller, group)
            trace.tell("grade", receipt.grade)
            return receipt

    def _over_quota(self, caller: Caller) -> QunxinError | None:
        """The refusal of whoever has sent enough. What they repeat has its outcome already, and is
        to be told that."""
        try:
            self.quotas.take(caller, Quota.SENDS)
        except QunxinError as limited:
            return limited
        return None

    async def _post(
        self, command: Post, caller: Caller, group: str | None, limited: QunxinError | None
    ) -> Posted:
        try:
            result = await self.commit(command, caller, group)
        except QunxinError as error:
            if limited is not None and error.code == "rate_limited":
                raise limited from None  # it says when one more may be sent
            raise
        if not isinstance(result, Posted):
            raise TypeError("the store answered a post with something else")
        return result

    async def _receipt(
        self, conversation: Conversation, result: Posted, caller: Caller, group: str | None
    ) -> Receipt:
        reach = result.reach
        if group is not None:
            self.member_cache.compare(group, reach)
        return Receipt(
            conversation=str(conversation),
            position=result.position,
            epoch=self.store.epoch,
            time=result.time,
            grade=Grade.PARTIAL if reach.unreachable_count else Grade.COMPLETE,
            membership_version=reach.membership_version,
            members=reach.members,
            unreachable_count=reach.unreachable_count,
            unreachable=await self._reasons(reach.named, caller, group),
            duplicate=result.duplicate,
        )

    async def _reasons(
        self, named: tuple[Unreachable, ...], caller: Caller, group: str | None
    ) -> tuple[Unreachable, ...]:
        """The reasons as `caller` may see them. The message stands, so nothing that fails here may
        be told as its outcome: then the reasons stay veiled."""
        try:
            return await self.shown_reasons(named, caller, group)
        except QunxinError as error:
            _log.warning("the reasons of a receipt stay veiled: %s", error.code)
        except Exception:  # noqa: BLE001  a defect: logged whole, and the outcome is told
            _log.exception("the reasons of a receipt stay veiled")
        return veiled_all(named)

    async def recall(
        self,
        conversation: str,
        position: int,
        *,
        acting: str | None = None,
        caller: Caller = SYSTEM,
    ) -> RecallReceipt:
        """Take a message back. On return its content is out of the store's log and is not
        delivered to anybody any more; a tombstone reaches every device. Raises
        `entry_not_found`, `recall_window_over`, `forbidden`."""
        check_access(caller, "message.recall", about=acting)
        found = check_conversation(conversation)
        actor = acting_user(caller, acting)
        if caller.user is not None:
            await self._check_readable(found, position, caller.user)
        command = Recall(
            conversation=conversation,
            position=_check_position(position),
            actor=actor,
            window_ms=self.settings.recall_window_seconds * 1000,
        )
        result = await self.commit(command, caller, group_of(found))
        if not isinstance(result, RecallResult):
            raise TypeError("the store answered a recall with something else")
        return RecallReceipt(
            conversation=conversation,
            position=result.position,
            recalled=position,
            epoch=self.store.epoch,
            time=result.time,
            duplicate=result.duplicate,
        )

    async def entries(
        self,
        conversation: str,
        *,
        after: int | None = None,
        before: int | None = None,
        limit: int = 100,
        reader: str | None = None,
        caller: Caller = SYSTEM,
    ) -> EntriesPage:
        """A page of a log as `reader` may see it (a key without one sees all), ascending, hidden
        ranges explicit. With `after` the first entries above it, and with both only those below
        `before`, which must be the higher; else the last ones below `before`, or below the end.
        Raises `conversation_not_found`; to keys `group_not_found` and `not_a_member`."""
        check_access(caller, "conversation.entries", about=reader)
        found = check_conversation(conversation)
        check_limit(limit, MAX_PAGE)
        _check_range(after, before)
        reading = caller.user if caller.user is not None else reader
        page = await self.store.read_log(
            conversation,
            reading,
            after=after or 0,
            before=before,
            limit=limit,
            newest=after is None,
        )
        if reading is not None and not page.intervals:
            await self._refuse_stranger(found, reading, caller)
        elif page.head == 0 and found.kind is ConversationKind.GROUP:
            raise QunxinError("group_not_found")
        return self._entries_page(conversation, page, after, before, reading is None)

    def _entries_page(
        self, conversation: str, page: LogPage, after: int | None, before: int | None, all_: bool
    ) -> EntriesPage:
        end = page.head if all_ else last_readable(page)
        bound = end if before is None else min(end, before - 1)
        if after is None:
            through, last = bound, end
            start = page.entries[0].position - 1 if page.entries else through
        else:
            through, last = min(page.through, bound), bound
            start = after
        visible = tuple(e for e in page.entries if e.position <= through)
        filled = fill_hidden(conversation, visible, start, through) if through > start else ()
        return EntriesPage(
            conversation=conversation,
            epoch=self.store.epoch,
            entries=filled,
            through=max(through, start if after is not None else 0),
            head=end,
            next_after=through if through < last else None,
            intervals=page.intervals,
        )

    async def deliveries(
        self,
        conversation: str,
        position: int,
        *,
        state: DeliveryState | str | None = None,
        cursor: str | None = None,
        limit: int = 100,
        acting: str | None = None,
        caller: Caller = SYSTEM,
    ) -> LedgerPage:
        """The ledger of one message: a page of its audience by integer key and, without a
        `cursor`, counts over all of it; with one they are empty. It never claims a delivery that
        did not happen; it may lag by a few seconds. Of each caller one is read at a time; raises
        `overloaded` where too many wait."""
        check_access(caller, "message.deliveries", about=acting)
        found = check_conversation(conversation)
        check_limit(limit, MAX_PAGE)
        _check_position(position)
        wanted = _check_state(state)
        actor = acting_user(caller, acting)
        full = actor is None or await self._check_ledger(found, position, actor)
        page = await self.gate.run(
            caller,
            lambda: self.store.list_deliveries(
                conversation,
                position,
                state=wanted,
                cursor=cursor,
                limit=limit,
                counted=cursor is None,
            ),
        )
        if page is None:
            raise QunxinError("entry_not_found")
        if full or caller.is_key:
            return page
        rows = tuple(
            msgspec.structs.replace(row, reason=veiled(row.reason)) if row.reason else row
            for row in page.deliveries
        )
        return msgspec.structs.replace(page, deliveries=rows)

    async def _check_ledger(self, found: Conversation, position: int, actor: str) -> bool:
        """Refuse who is neither the author nor an owner or admin; True for the latter."""
        sender = await self._check_readable(found, position, actor)
        group = group_of(found)
        member = await self.store.read_member(group, actor) if group else None
        if member is not None and member.role >= Role.ADMIN:
            return True
        if sender != actor:
            raise QunxinError("forbidden", detail="the ledger is for the author and for admins")
        return False

    async def _check_readable(self, found: Conversation, position: int, user: str) -> str | None:
        """The sender of the message at `position`, which `user` must be able to read."""
        page = await self.store.read_log(
            str(found), user, after=_check_position(position) - 1, limit=1
        )
        if not page.intervals:
            raise QunxinError("conversation_not_found")
        if not page.entries or page.entries[0].position != position:
            raise QunxinError("entry_not_found")
        return page.entries[0].sender

    async def _refuse_stranger(self, found: Conversation, reading: str, caller: Caller) -> None:
        """Refuse whoever has no part in the conversation; the two of a private conversation that
        has not begun read an empty one."""
        if found.kind is ConversationKind.PRIVATE and reading in found.parts:
            return
        group = group_of(found)
        if caller.is_key and group is not None:
            state = await self.store.read_group(group)
            raise QunxinError("group_not_found" if state is None else "not_a_member", user=reading)
        raise QunxinError("conversation_not_found")

    async def conversations(
        self,
        user: str,
        *,
        cursor: str | None = None,
        limit: int = 200,
        caller: Caller = SYSTEM,
    ) -> tuple[tuple[ConversationRow, ...], str | None]:
        """The user's conversations, most recent entry first, and the cursor of the next page."""
        check_access(caller, "user.conversations", about=user)
        await self._check_user(check_id("user", user))
        return await self.store.list_conversations(
            user, cursor=cursor, limit=check_limit(limit, MAX_PAGE)
        )

    async def mark_read(
        self, user: str, conversation: str, position: int, *, caller: Caller = SYSTEM
    ) -> Cursor:
        """The user has read up to `position`, and so received it. On return it is durable; a
        lower position changes nothing, one above the head counts as the head."""
        check_access(caller, "cursor.read", about=user)
        check_conversation(conversation)
        await self._check_user(check_id("user", user))
        if not await self.store.read_conversations(user, [conversation]):
            raise QunxinError("conversation_not_found")
        moved = Cursor(user, conversation, read=_check_position(position, lowest=0))
        await self.commit(MoveCursors((moved,)), caller)
        return await self.store.read_cursor(user, conversation)

    async def _check_user(self, user: str) -> None:
        found = await self.store.read_user(user)
        if found is None:
            raise QunxinError("user_not_found", user=user)
        if found.state == "erased":
            raise QunxinError("user_erased", user=user)


def _check_key(key: str | None, sender: str | None) -> None:
    check_key(key)
    if key is not None and sender is None:
        raise QunxinError("invalid_request", detail="key: needs a sender (from)")


def _check_position(value: Any, lowest: int = 1) -> int:
    valid = isinstance(value, int) and lowest <= value <= MAX_INTEGER
    if not valid:
        raise QunxinError("invalid_request", detail=f"position: {lowest} to {MAX_INTEGER}")
    return int(value)


def _check_range(after: int | None, before: int | None) -> None:
    if after is not None:
        _check_position(after, lowest=0)
    if before is not None:
        _check_position(before)
    if after is not None and before is not None and before <= after:
        raise QunxinError("invalid_request", detail="before: above after")


def _check_require(value: Require | str | None) -> Require | None:
    if value is None:
        return None
    try:
        return Require(value)
    except ValueError:
        raise QunxinError("invalid_request", detail="require: reachable or all") from None


def _check_state(value: DeliveryState | str | None) -> DeliveryState | None:
    if value is None:
        return None
    try:
        return DeliveryState(value)
    except ValueError:
        raise QunxinError(
            "invalid_request", detail="state: queued, delivered, read or unreachable"
        ) from None
