"""A session: one connected device, and the conversations it is live in.

It begins in the user's inbox, the broadcasts and the most recent conversations; the inbox tells
it of those gained later. Each subscription catches up from its position and then follows the
live stream.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Mapping
from typing import Final, Protocol

from qunxin.engine.catchup import (
    Place,
    has_ended,
    joinings,
    page_delivery,
    plan_gained,
    plan_start,
    reload_at,
)
from qunxin.engine.comings import ComingsIndex
from qunxin.engine.cursors import CursorBuffer
from qunxin.engine.fanout import Fanout, Subscription, end_reason
from qunxin.engine.proofs import Mark, Proofs
from qunxin.engine.settings import EngineSettings
from qunxin.engine.sink import CloseReason, Delivery, Position, Sink, SubscriptionStart
from qunxin.engine.tokens import TokenMark, sign_in
from qunxin.errors import QunxinError
from qunxin.model import BROADCAST, Conversation, Entry, EventType, UserState
from qunxin.observe import Observer
from qunxin.store import Store
from qunxin.store.reads import ConversationRow, LogPage
from qunxin.tasks import TaskSet

_log = logging.getLogger("qunxin.engine.session")

GAINS_AT_ONCE: Final = 4
"""Sessions of one node that read at the same time what their users have come into; the others
wait, in their order. A thousand members who are added together would otherwise stand before every
other reading of the store."""

LOOKED_BACK_ENTRIES: Final = 100
"""Of the inbox of a device that came back without a position where it should have one."""

_ACCOUNT_ENDS = {
    UserState.SUSPENDED: CloseReason.SUSPENDED,
    UserState.ERASED: CloseReason.ERASED,
}


class SessionContext(Protocol):
    """What a session needs of the engine."""

    @property
    def store(self) -> Store: ...
    @property
    def fanout(self) -> Fanout: ...
    @property
    def comings(self) -> ComingsIndex: ...
    @property
    def cursors(self) -> CursorBuffer: ...
    @property
    def settings(self) -> EngineSettings: ...
    @property
    def observer(self) -> Observer: ...
    @property
    def tasks(self) -> TaskSet: ...
    @property
    def gains(self) -> asyncio.Semaphore: ...

    def session_closed(self, session: Session) -> None: ...


class Session:
    """One device's live subscriptions. Made by `Engine.connect`.

    All methods on the engine's loop. Nothing reaches the sink before `start`; the sink is called
    as its contract says, and never after `close` has returned.
    """

    def __init__(
        self,
        context: SessionContext,
        session: str,
        user: str,
        sink: Sink,
        client: str,
        now: int,
        token: TokenMark | None = None,
    ) -> None:
        self.id = session
        self.user = user
        self.client = client
        self.token = token
        """What the device came with; None where no token was needed."""
        self.connected = now
        self.starts: tuple[SubscriptionStart, ...] = ()
        """Inbox, broadcasts, then the most recent conversations: what the device is told at
        first."""
        self._context = context
        self._sink = sink
        self._subscriptions: dict[str, Subscription] = {}
        self._inbox = str(Conversation.inbox(user))
        self._inbox_known = 0
        self._left: dict[str, Place] = {}
        """By conversation that the user is not in now: how far this device was given it."""
        self._missed: dict[str, int] = {}
        """By conversation that the user came into while this device was away, as long as it is not
        subscribed to: the position of the first joining."""
        self._noted: dict[str, int] = {}
        """By conversation: the position of the latest joining that the inbox told of."""
        self._asked: bool | Collection[str] = False
        """Whether the device wants to be told who comes and goes: of all groups, or of those."""
        self._proofs = Proofs(user, context.cursors)
        self._waiting: dict[Subscription, None] = {}
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    # --- beginning ---------------------------------------------------------------------------

    async def prepare(self, positions: Mapping[str, Position]) -> None:
        """Check the account and plan every subscription; the engine calls it once. A device that
        says how far it has the inbox is given whole what its user came into since.

        Raises `user_not_found`, `user_erased`, `user_suspended`, `token_revoked`, what committing
        raises, or `shutting_down` where the session was ended meanwhile. The inbox is watched from
        before the conversations are read, so that none gained meanwhile is missed; the account is
        checked after them, so that a change above the inbox's start is in what follows.
        """
        inbox = self._add(self._inbox, 0)
        store, settings = self._context.store, self._context.settings
        self._inbox_known = (await store.read_heads([self._inbox]))[self._inbox]
        fixed = await store.read_conversations(self.user, [self._inbox, str(BROADCAST)])
        recent, _ = await store.list_conversations(self.user, limit=settings.recent_conversations)
        await self.check_sign_in()
        rows = {row.conversation: row for row in (*fixed, *recent)}
        budget = settings.recovery_budget_entries
        starts = []
        for row in sorted(rows.values(), key=lambda row: row.conversation != self._inbox):
            start = self._plan_row(row, positions.get(row.conversation), budget)
            budget -= row.head - start.position
            starts.append(start)
            if row.conversation == self._inbox:
                self._begin(inbox, start)
                if start.asked and start.recovered:
                    back = any(self._may_skip(row, positions) for row in rows.values())
                    await self._read_missed(inbox, row.head, positions, back=back)
            else:
                self._begin(self._add(row.conversation, 0), start)
        self.starts = tuple(starts)
        self._left.update(
            (name, Place(at.position))
            for name, at in positions.items()
            if name not in rows and at.epoch == store.epoch and at.position > 0
        )
        await self._proofs.record(*starts)
        if self._closed:
            raise QunxinError("shutting_down")

    def _may_skip(self, row: ConversationRow, positions: Mapping[str, Position]) -> bool:
        """Whether a device without a position in a conversation would begin beyond the joining,
        because another device of the user has proved more."""
        name = row.conversation
        told = name in positions or name in (self._inbox, str(BROADCAST))
        return not told and max(row.start, row.beyond) >= row.joined

    async def _read_missed(
        self, inbox: Subscription, head: int, positions: Mapping[str, Position], *, back: bool
    ) -> None:
        """Read what the inbox has told since the device was here: of each conversation gained
        meanwhile it has nothing, whatever the user's other devices have proved. With `back` also of
        the last ones before: its connection may have ended between the inbox's entry and the
        beginning of the subscription. Otherwise nothing is read where it has the whole inbox."""
        after = max(0, inbox.position - LOOKED_BACK_ENTRIES) if back else inbox.position
        head = max(head, inbox.head_seen)
        while after < head:
            page = await self._read_page(self._inbox, after)
            for name, joined in joinings(page.entries).items():
                if name not in positions:
                    self._missed.setdefault(name, joined)
            after, head = page.through, page.head

    async def check_sign_in(self) -> None:
        """Raises where account or token do not let the device in (any more)."""
        await sign_in(self._context.store, self.user, self.token)

    async def renew(self, token: TokenMark) -> None:
        """The device has brought another token. Raises `token_revoked`, and leaves the session
        with its former one, where it is not good.

        It counts from before it is looked up, so that a revocation meanwhile ends the session.
        """
        former, self.token = self.token, token
        try:
            await self.check_sign_in()
        except QunxinError:
            self.token = former
            raise

    def start(self) -> None:
        """From now on entries flow: what was missed, then live."""
        if self._closed or self._task is not None:
            return
        self._waiting.update(dict.fromkeys(self._subscriptions.values()))
        self._wake.set()
        self._task = self._context.tasks.start(f"session {self.id}", self._run())

    def _add(self, conversation: str, position: int) -> Subscription:
        deliver = self._deliver_inbox if conversation == self._inbox else self._sink.deliver
        subscription = Subscription(
            conversation,
            self.user,
            position,
            deliver,
            self._fell_behind,
            self._membership_ended,
            self.id,
        )
        self._subscriptions[conversation] = subscription
        self._context.fanout.add(subscription)
        return subscription

    def _begin(self, subscription: Subscription, start: SubscriptionStart) -> None:
        self._proofs.begin(subscription, start)
        self._missed.pop(start.conversation, None)

    # --- subscriptions on demand -------------------------------------------------------------

    def subscribed(self, conversation: str) -> bool:
        return conversation in self._subscriptions

    def is_inbox(self, conversation: str) -> bool:
        """Whether that is the user's inbox, which is always subscribed and never given up."""
        return conversation == self._inbox

    async def subscribe(
        self, conversation: str, position: Position | None = None, *, comings: bool = False
    ) -> SubscriptionStart:
        """Add a conversation that the user is in; entries flow after `resume`. With `comings` the
        device is told who comes and goes there, where it is a group. It has the recovery budget
        for itself, whatever the session was given before.

        Raises `conversation_not_found`, `invalid_request` (subscribed already),
        `too_many_subscriptions`, what committing raises, or `shutting_down` where the session has
        ended, also meanwhile.
        """
        if conversation in self._subscriptions:
            raise QunxinError("invalid_request", detail="already subscribed")
        limit = self._context.settings.max_subscriptions
        if len(self._subscriptions) >= limit:
            raise QunxinError("too_many_subscriptions", limit=limit)
        subscription = self._add(conversation, 0)
        try:
            start = await self._plan(conversation, position)
        except BaseException:
            self._drop(subscription)
            raise
        if self._closed or subscription.closed:
            self._drop(subscription)
            raise QunxinError("shutting_down")
        if start is None:
            self._drop(subscription)
            if conversation in self._noted:
                self._start_gain(conversation)
            raise QunxinError("conversation_not_found")
        self._begin(subscription, start)
        if comings:
            self._watch(subscription)
        return start

    async def take_over(
        self, conversation: str, position: Position, *, comings: bool = False
    ) -> SubscriptionStart:
        """`subscribe` to what is subscribed already, from where the device stands: SDKs ask again
        for what they followed on demand, which may by then be one of the most recent ones. The
        former subscription, which says nothing of what was missed before it, is replaced.

        Where it has handed over entries, the device may have shown them or dropped them: then
        the start is beyond them, and not `recovered` unless the device stands there.

        Raises `conversation_not_found` where the user is out of it by now, whose end is told by
        the former subscription, or what committing raises; where that was given up already, the
        session ends.
        """
        start = await self._plan(conversation, position)
        former = self._subscriptions.get(conversation)
        if start is None or former is None:
            raise QunxinError("conversation_not_found")
        self._give_up(former)
        subscription = self._add(conversation, 0)
        if start.position < former.position and former.position > former.begun:
            start = reload_at(start, former.position)
            try:
                await self._proofs.record(start)
            except BaseException:
                self._end(CloseReason.FAILED)
                raise
            if subscription.closed:
                raise QunxinError("shutting_down")
        self._begin(subscription, start)
        if comings or self._is_asked(conversation):
            self._watch(subscription)
        return start

    def resume(self, conversation: str) -> None:
        """Let the entries of a conversation just subscribed flow."""
        subscription = self._subscriptions.get(conversation)
        if subscription is not None:
            self._fell_behind(subscription)

    def unsubscribe(self, conversation: str) -> bool:
        """Stop one conversation; False where it was not subscribed. The inbox goes on: its
        entries tell the session of everything else."""
        subscription = self._subscriptions.get(conversation)
        if subscription is None or conversation == self._inbox:
            return False
        self._give_up(subscription)
        return True

    async def _plan(self, conversation: str, position: Position | None) -> SubscriptionStart | None:
        row = await self._row(conversation)
        if row is None:
            return None
        start = self._plan_row(row, position, self._context.settings.recovery_budget_entries)
        await self._proofs.record(start)
        return start

    def _plan_row(
        self, row: ConversationRow, position: Position | None, budget: int
    ) -> SubscriptionStart:
        if position is None and row.conversation in self._missed:
            return self._plan_gained(row, budget)
        return plan_start(row, position, self._context.store.epoch, budget)

    async def _row(self, conversation: str) -> ConversationRow | None:
        rows = await self._context.store.read_conversations(self.user, [conversation])
        return rows[0] if rows else None

    def _drop(self, subscription: Subscription) -> None:
        self._context.fanout.remove(subscription)
        self._context.comings.went(subscription)
        self._waiting.pop(subscription, None)
        if self._subscriptions.get(subscription.conversation) is subscription:
            del self._subscriptions[subscription.conversation]

    # --- who comes and goes ------------------------------------------------------------------

    def ask_comings(self, asked: bool | Collection[str]) -> None:
        """Have the device told who comes to the groups that it is subscribed to without asking,
        now or later, and who goes: all of them, or those named."""
        self._asked = asked
        for subscription in self._subscriptions.values():
            if self._is_asked(subscription.conversation):
                self._watch(subscription)

    def _is_asked(self, conversation: str) -> bool:
        asked = self._asked
        return asked if isinstance(asked, bool) else conversation in asked

    def _watch(self, subscription: Subscription) -> None:
        self._context.comings.watch(subscription, self._sink.came)

    # --- catching up -------------------------------------------------------------------------

    def _fell_behind(self, subscription: Subscription) -> None:
        self._waiting[subscription] = None
        self._wake.set()

    async def _run(self) -> None:
        """One subscription after another, until the session ends."""
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                await self._let_through()
                while self._waiting:
                    subscription = next(iter(self._waiting))
                    del self._waiting[subscription]
                    await self._catch_up(subscription)
        except QunxinError as error:
            _log.warning("session %s cannot catch up: %s", self.id, error.code)
            self._end(CloseReason.FAILED)
        except Exception:
            self._end(CloseReason.FAILED)
            raise

    async def _let_through(self) -> None:
        """Have those come in step that have everything: one look at the heads in place of one into
        each log, most of which hold nothing new.

        A subscription is planned at or below the head of a log that its user may read. Where the
        head still is its position, nothing was written since, the end of a membership neither.
        """
        waiting = list(self._waiting)
        if len(waiting) < 2:
            return
        heads = await self._context.store.read_heads([one.conversation for one in waiting])
        for subscription in waiting:
            head = max(heads.get(subscription.conversation, 0), subscription.head_seen)
            if self._holds(subscription) and head == subscription.position:
                self._waiting.pop(subscription, None)
                self._come_in_step(subscription)

    def _come_in_step(self, subscription: Subscription) -> None:
        subscription.live = True
        self._context.comings.came(subscription)

    async def _catch_up(self, subscription: Subscription) -> None:
        """Read the log until the subscription is in step with the live stream.

        A page is taken over in the same turn of the loop in which its reading ends, so nothing
        can pass between the last page and the first live batch: whatever was fanned out while
        the page was read is below the page's head or has raised `head_seen`.
        """
        context, name = self._context, subscription.conversation
        last: Entry | None = None
        while self._holds(subscription):
            recalls = context.fanout.recalls_seen(name)
            page = await self._read_page(name, subscription.position)
            if not self._holds(subscription):
                return
            if context.fanout.recalls_seen(name) != recalls:
                continue
            delivery = page_delivery(name, subscription.position, page)
            if delivery is not None:
                context.observer.caught_up(len(delivery.entries))
                subscription.position = delivery.last
                last = delivery.entries[-1]
                subscription.deliver(delivery)
                if not self._holds(subscription):
                    return
            newest = max(page.head, subscription.head_seen)
            if newest == page.head and has_ended(page, subscription.position):
                self._membership_ended(subscription, "left" if last is None else end_reason(last))
                return
            if subscription.position >= newest:
                self._come_in_step(subscription)
                return
            await self._sink.drained()

    async def _read_page(self, conversation: str, after: int) -> LogPage:
        settings = self._context.settings
        return await self._context.store.read_log(
            conversation,
            self.user,
            after=after,
            limit=settings.catchup_page_entries,
            max_bytes=settings.catchup_page_bytes,
        )

    def _holds(self, subscription: Subscription) -> bool:
        return not subscription.closed

    # --- membership --------------------------------------------------------------------------

    def _membership_ended(self, subscription: Subscription, reason: str) -> None:
        name = subscription.conversation
        self._give_up(subscription)
        self._sink.unsubscribed(name, reason)
        if self._noted.get(name, 0) > subscription.position:
            self._start_gain(name)

    def _give_up(self, subscription: Subscription) -> None:
        """Drop a subscription, and remember what it was given."""
        name, position = subscription.conversation, subscription.position
        self._drop(subscription)
        former = self._left.get(name)
        if former is None or position >= former.position:
            self._left[name] = Place(position, subscription.missed)
        self._proofs.give_up(subscription)

    def _deliver_inbox(self, delivery: Delivery) -> None:
        """Inbox entries go to the device like any others, and tell the session what changed."""
        self._sink.deliver(delivery)
        for entry in delivery.entries:
            if entry.position > self._inbox_known:
                self._take_note(entry)

    def _take_note(self, entry: Entry) -> None:
        body = entry.body or {}
        if entry.type in (EventType.MEMBER, EventType.CONTACT):
            name = str(body["conversation_joined"])
            self._noted[name] = body.get("joined", 0)
            self._start_gain(name)
        elif entry.type == EventType.ACCOUNT:
            reason = _ACCOUNT_ENDS.get(body["state"])
            if reason is not None:
                self._end(reason)
        elif entry.type == EventType.SESSIONS_ENDED and self.came_with(body.get("token")):
            self._end(CloseReason.SESSIONS_ENDED)

    def came_with(self, token: str | None) -> bool:
        """Whether the end of `token` is this session's end; None means every token."""
        return token is None or (self.token is not None and self.token.id == token)

    def _start_gain(self, conversation: str) -> None:
        self._context.tasks.start(f"gain {conversation}", self._gain(conversation))

    async def _gain(self, conversation: str) -> None:
        """Subscribe to a conversation that the user has just come into, when it is its turn among
        the node's sessions.

        Removed and added again while this reads, the user is a member by the end: the later note
        finds this under way, so it is this one that looks again. A note that finds the
        subscription of the former stay is looked at when that ends.
        """
        limit = self._context.settings.max_subscriptions
        while not self._closed and conversation not in self._subscriptions:
            if len(self._subscriptions) >= limit:
                return
            noted = self._noted.get(conversation)
            subscription = self._add(conversation, 0)
            try:
                async with self._context.gains:
                    row = None if subscription.closed else await self._row(conversation)
                start = None if row is None else await self._gained(row)
            except QunxinError as error:
                _log.warning("session %s cannot follow its inbox: %s", self.id, error.code)
                self._end(CloseReason.FAILED)
                return
            if start is not None:
                self._begin_gained(subscription, start)
                return
            self._drop(subscription)
            if self._noted.get(conversation) == noted:
                return

    def _begin_gained(self, subscription: Subscription, start: SubscriptionStart) -> None:
        if subscription.closed:
            return
        self._begin(subscription, start)
        if self._is_asked(start.conversation):
            self._watch(subscription)
        self._sink.subscribed(start)
        self._fell_behind(subscription)

    async def _gained(self, row: ConversationRow) -> SubscriptionStart:
        start = self._plan_gained(row, self._context.settings.recovery_budget_entries)
        await self._proofs.record(start)
        return start

    def _plan_gained(self, row: ConversationRow, budget: int) -> SubscriptionStart:
        joined = min(row.joined, self._missed.get(row.conversation, row.joined))
        left = self._left.get(row.conversation)
        return plan_gained(row, joined, left, self._context.store.epoch, budget)

    # --- delivered ---------------------------------------------------------------------------

    def mark(self) -> Mark | None:
        """What has been handed to the sink and was not marked before; None where nothing was.
        Taken when a ping is written behind it."""
        return self._proofs.mark(self._subscriptions.values())

    def prove(self, mark: Mark) -> None:
        """The device has answered the ping: it has everything in `mark`."""
        self._proofs.prove(mark)

    # --- end ---------------------------------------------------------------------------------

    @property
    def conversations(self) -> int:
        return len(self._subscriptions)

    def _end(self, reason: CloseReason) -> None:
        """End from the engine's side: the sink is told."""
        if self._release():
            self._sink.close(reason)
            if self._task is not None:
                self._task.cancel()

    def end(self, reason: CloseReason) -> None:
        """End the session; the device is told why."""
        self._end(reason)

    async def close(self) -> None:
        """The device is gone. May be repeated."""
        self._release()
        task, self._task = self._task, None
        if task is not None and task is not asyncio.current_task():
            task.cancel()
            await asyncio.wait([task])

    def _release(self) -> bool:
        """Leave the index; True the first time."""
        for subscription in list(self._subscriptions.values()):
            self._drop(subscription)
        if self._closed:
            return False
        self._closed = True
        self._context.session_closed(self)
        return True
