"""Fan-out: step 5. From a committed batch to every local session of its audience.

An index from conversation to subscriptions; one `Delivery` shared by all that are in step; very
large audiences in slices, so that one huge group delays nobody else. A subscription that is not
in step (catching up, or a batch was lost on the way) is never given a gap or a repeat: it is
sent to read the log.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from time import perf_counter

from qunxin.broker import Batch, Broker
from qunxin.engine.results import Presence, PresentClient
from qunxin.engine.sink import NOTHING, Delivery
from qunxin.model import Entry, EventType
from qunxin.observe import NULL_TRACER, Observer, Tracer

_ENDINGS = frozenset({EventType.LEFT, EventType.DISSOLVED})


class Subscription:
    """One session's place in one conversation: everything up to `position` has been handed over.

    `live`: the next batch follows on. Otherwise a catch-up is under way, and `head_seen` is the
    highest position that passed by meanwhile.
    """

    __slots__ = (
        "arrived",
        "begun",
        "behind",
        "closed",
        "conversation",
        "deliver",
        "ended",
        "head_seen",
        "live",
        "marked",
        "missed",
        "position",
        "session",
        "user",
    )

    def __init__(
        self,
        conversation: str,
        user: str,
        position: int,
        deliver: Callable[[Delivery], None],
        behind: Callable[[Subscription], None],
        ended: Callable[[Subscription, str], None],
        session: str = "",
    ) -> None:
        self.conversation = conversation
        self.user = user
        self.position = position
        self.begun = position
        """Where it started: nothing has been handed over while `position` is that."""
        self.deliver = deliver
        self.behind = behind
        """Called once when the subscription falls out of step."""
        self.ended = ended
        """Called when the user ceased to be a member, with the reason."""
        self.session = session
        """The id of the session that it belongs to."""
        self.live = False
        self.arrived = False
        """Has been in step: present until it is closed."""
        self.closed = False
        self.head_seen = 0
        self.marked = position
        self.missed = NOTHING
        """What of all up to `position` it does not vouch for."""


class _Job:
    """A delivery on its way to its audience: `done` of them have had their turn, and `taken` have
    it."""

    __slots__ = ("delivery", "done", "started", "subscriptions", "taken")

    def __init__(self, delivery: Delivery, subscriptions: list[Subscription]) -> None:
        self.delivery = delivery
        self.subscriptions = subscriptions
        self.done = 0
        self.taken = 0
        self.started = perf_counter()


class Fanout:
    """The index and the delivery. All calls on one loop; none of them waits."""

    def __init__(
        self,
        broker: Broker,
        observer: Observer,
        slice_sessions: int,
        tracer: Tracer = NULL_TRACER,
    ) -> None:
        self._broker = broker
        self._observer = observer
        self._tracer = tracer
        self._slice = slice_sessions
        self._index: dict[str, dict[Subscription, None]] = {}
        self._lists: dict[str, list[Subscription]] = {}
        self._jobs: dict[str, deque[_Job]] = {}
        self._scheduled = False
        self._recalls: dict[str, int] = {}

    def add(self, subscription: Subscription) -> None:
        """From now on batches of its conversation reach `subscription`, or its `head_seen`."""
        name = subscription.conversation
        members = self._index.get(name)
        if members is None:
            members = self._index[name] = {}
            self._broker.subscribe(name)
        members[subscription] = None
        self._lists.pop(name, None)

    def remove(self, subscription: Subscription) -> None:
        """Nothing is handed to it any more, what waits in slices included. May be repeated."""
        subscription.closed = True
        subscription.live = False
        name = subscription.conversation
        members = self._index.get(name)
        if members is None or members.pop(subscription, self) is self:
            return
        self._lists.pop(name, None)
        if not members:
            del self._index[name]
            self._recalls.pop(name, None)
            self._broker.unsubscribe(name)

    def audience(self, conversation: str) -> int:
        """How many subscriptions it has here."""
        return len(self._index.get(conversation, ()))

    def presence(self, conversation: str, limit: int) -> Presence:
        """Whose subscriptions there have come in step, the oldest first: one that has not yet may
        turn out to be nobody's who is entitled."""
        present = [one for one in self._index.get(conversation, ()) if one.arrived]
        return Presence(
            clients=len(present),
            users=len({one.user for one in present}),
            present=tuple(PresentClient(one.session, one.user) for one in present[:limit]),
        )

    def present(self, conversation: str) -> dict[str, str]:
        """The users of the same subscriptions, by session."""
        found = self._index.get(conversation, ())
        return {one.session: one.user for one in found if one.arrived}

    def holders(self, conversation: str, position: int) -> tuple[str, ...]:
        """The users of the subscriptions there that are in step, or stand at `position` or
        above, each once."""
        found = self._index.get(conversation, ())
        return tuple({s.user: None for s in found if s.live or s.position >= position})

    def recalls_seen(self, conversation: str) -> int:
        """Rises with each recall there. A page read from the log before it rose may hold content
        that must not be sent any more."""
        return self._recalls.get(conversation, 0)

    def handle(self, batch: Batch) -> None:
        """Hand a batch to every subscription of its conversation: the broker's handler."""
        name = batch.conversation
        if name not in self._index:
            return
        recalls = {e.body["target"]: e.position for e in batch.entries
                   if e.type == EventType.RECALLED and e.body}  # fmt: skip
        if recalls:
            self._cancel_recalled(name, recalls)
            batch = Batch(name, _erased(batch.entries, recalls))
        for delivery, ending in _parts(batch):
            self._deliver(delivery)
            if ending is not None:
                self._end(name, ending)

    def _deliver(self, delivery: Delivery) -> None:
        name = delivery.conversation
        subscriptions = self._list(name)
        job = _Job(delivery, subscriptions)
        if len(subscriptions) <= self._slice and name not in self._jobs:
            job.taken = push(delivery, subscriptions)
            self._report(job)
            return
        self._jobs.setdefault(name, deque()).append(job)
        self._schedule()

    def _list(self, name: str) -> list[Subscription]:
        """The audience now. A new list after each change, so that a job keeps its own."""
        found = self._lists.get(name)
        if found is None:
            found = self._lists[name] = list(self._index.get(name, ()))
        return found

    def _end(self, name: str, ending: Entry) -> None:
        """Those whom `ending` takes out of the conversation get it and nothing after it.

        Whoever is in step stands exactly at `ending` now. Who stands above it has read of it in
        the log and has come back since; the others are reading the log.
        """
        body = ending.body or {}
        whole = ending.type == EventType.DISSOLVED
        users = frozenset(body.get("users", ()))
        leaving = [s for s in self._list(name) if whole or s.user in users]
        if not leaving:
            return
        if name in self._jobs:
            self._finish(name, leaving)
        reason = end_reason(ending)
        for subscription in leaving:
            if subscription.live and subscription.position == ending.position:
                self.remove(subscription)
                subscription.ended(subscription, reason)

    def _finish(self, name: str, subscriptions: list[Subscription]) -> None:
        """Give `subscriptions` now what still waits for them in slices."""
        for job in self._jobs[name]:
            job.taken += push(job.delivery, subscriptions)

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._run_slice)

    def _run_slice(self) -> None:
        """One slice of the conversation whose turn it is; then the others have theirs."""
        self._scheduled = False
        name = next(iter(self._jobs))
        jobs = self._jobs.pop(name)
        job = jobs[0]
        job.taken += push(job.delivery, job.subscriptions[job.done : job.done + self._slice])
        job.done += self._slice
        if job.done >= len(job.subscriptions):
            jobs.popleft()
            self._report(job)
        if jobs:
            self._jobs[name] = jobs
        if self._jobs:
            self._schedule()

    def _report(self, job: _Job) -> None:
        seconds = perf_counter() - job.started
        delivery, sessions = job.delivery, job.taken
        self._observer.fanned_out(len(delivery.entries), sessions, seconds)
        name, first, last = delivery.conversation, delivery.first, delivery.last
        self._tracer.fanned_out(name, first, last, sessions, seconds)

    def _cancel_recalled(self, name: str, recalls: dict[int, int]) -> None:
        """Take the content of the recalled messages out of what still waits in slices."""
        self._recalls[name] = self._recalls.get(name, 0) + 1
        for job in self._jobs.get(name, ()):
            old = job.delivery
            if any(old.first <= target <= old.last for target in recalls):
                job.delivery = Delivery(name, _erased(old.entries, recalls), old.first, old.last)


def _erased(entries: tuple[Entry, ...], recalls: dict[int, int]) -> tuple[Entry, ...]:
    """`entries` with tombstones in place of the recalled messages: position to its recall's."""
    return tuple(tombstone(e, recalls[e.position]) if e.position in recalls else e for e in entries)


def end_reason(ending: Entry) -> str:
    """Why a membership ended: `left`, `removed`, `erased` or `dissolved`."""
    if ending.type == EventType.DISSOLVED:
        return "dissolved"
    return str((ending.body or {}).get("reason", "left"))


def tombstone(entry: Entry, recalled: int) -> Entry:
    """What stands in place of a recalled message: everything but its content."""
    return Entry(
        conversation=entry.conversation,
        position=entry.position,
        type=entry.type,
        time=entry.time,
        sender=entry.sender,
        key=entry.key,
        recalled=recalled,
    )


def push(delivery: Delivery, subscriptions: Sequence[Subscription]) -> int:
    """Hand `delivery` to those in step with it; the others are told of its last position. How many
    took it, or what they lacked of it."""
    before, last = delivery.first - 1, delivery.last
    passed_over = 0
    """Counted in place of the others, as it is seldom: this is the path of every delivery."""
    for subscription in subscriptions:
        if subscription.live and subscription.position == before:
            subscription.position = last
            subscription.deliver(delivery)
        elif subscription.closed or not _uneven(delivery, subscription):
            passed_over += 1
    return len(subscriptions) - passed_over


def _uneven(delivery: Delivery, subscription: Subscription) -> bool:
    """A subscription out of step: repeat, overlap or gap. Whether it took anything."""
    subscription.head_seen = max(subscription.head_seen, delivery.last)
    if not subscription.live or subscription.position >= delivery.last:
        return False
    if subscription.position < delivery.first - 1:
        subscription.live = False
        subscription.behind(subscription)
        return False
    first = subscription.position + 1
    rest = tuple(e for e in delivery.entries if e.position >= first)
    subscription.position = delivery.last
    subscription.deliver(Delivery(delivery.conversation, rest, first, delivery.last))
    return True


def _parts(batch: Batch) -> list[tuple[Delivery, Entry | None]]:
    """The batch cut after every entry that ends somebody's membership."""
    entries = batch.entries
    cuts = [i for i, e in enumerate(entries) if e.type in _ENDINGS]
    if not cuts:
        return [(Delivery(batch.conversation, entries, batch.first, batch.last), None)]
    parts: list[tuple[Delivery, Entry | None]] = []
    start = 0
    for cut in cuts:
        part = entries[start : cut + 1]
        parts.append((_delivery(batch.conversation, part), entries[cut]))
        start = cut + 1
    if start < len(entries):
        parts.append((_delivery(batch.conversation, entries[start:]), None))
    return parts


def _delivery(conversation: str, entries: tuple[Entry, ...]) -> Delivery:
    return Delivery(conversation, entries, entries[0].position, entries[-1].position)
