"""Comings and goings: telling devices that asked who comes to a group and who goes.

What happens is gathered for a moment and told together, as the difference between whom a device
was told of last and who is there now. So nothing is lost by waiting, by a device's being out of
step, or by a group's being over the limit for a while: what has been told adds up to who is
there. Conversations that nobody asked about cost one look into an empty index.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from typing import Final, TypeAlias

from qunxin.engine.fanout import Fanout, Subscription
from qunxin.engine.settings import EngineSettings
from qunxin.engine.sink import Coming, Comings
from qunxin.model import Conversation, ConversationKind
from qunxin.tasks import TaskSet

_COMINGS_A_TURN: Final = 20_000
"""Told in one turn of the loop, over all who are told."""

Present: TypeAlias = Mapping[str, str]
"""Users by session. Never changed once made, since several watchers stand on it."""


class _Watcher:
    """One device that asked, and whom it was told of."""

    __slots__ = ("known", "tell")

    def __init__(self, tell: Callable[[Comings], None], known: Present) -> None:
        self.tell = tell
        self.known = known


class _Watch:
    """What is kept of a group that somebody asked about."""

    __slots__ = ("changed", "known", "passing", "telling", "watchers")

    def __init__(self, known: Present) -> None:
        self.known = known
        """Whom those who are in step were told of."""
        self.passing: dict[str, str] = {}
        """Who has come since, although they may have gone again."""
        self.watchers: dict[Subscription, _Watcher] = {}
        self.changed = False
        self.telling = False


class ComingsIndex:
    """Who asked about which group. All calls on one loop; none of them waits.

    `came` and `went` are called with every subscription, asked about or not. A device is told
    while its own subscription is in step, so a member who was removed is told nothing more. In a
    group that more than `join_leave_clients` devices follow nobody is told, until it is fewer.
    """

    def __init__(self, fanout: Fanout, tasks: TaskSet, settings: EngineSettings) -> None:
        self._fanout = fanout
        self._tasks = tasks
        self._limit = settings.join_leave_clients
        self._seconds = settings.join_leave_seconds
        self._index: dict[str, _Watch] = {}

    def watch(self, subscription: Subscription, tell: Callable[[Comings], None]) -> None:
        """Tell the device of `subscription` from its own coming on, which it is told too; of
        conversations that are no groups, or after its end, it is told nothing. Ends with
        `went`."""
        name = subscription.conversation
        if subscription.closed or not self._limit or not _is_group(name):
            return
        watch = self._index.get(name)
        if watch is None:
            known = {} if self._is_crowded(name) else self._fanout.present(name)
            watch = self._index[name] = _Watch(known)
        watch.watchers[subscription] = _Watcher(tell, watch.known)

    def came(self, subscription: Subscription) -> None:
        """The subscription is in step, for the first time or again."""
        first, subscription.arrived = not subscription.arrived, True
        watch = self._index.get(subscription.conversation)
        if watch is None:
            return
        watcher = watch.watchers.get(subscription)
        if first and len(watch.passing) < self._limit:
            watch.passing[subscription.session] = subscription.user
        if first and watcher is not None:
            watcher.known = watch.known
        if first or watcher is not None:
            self._plan(subscription.conversation, watch)

    def went(self, subscription: Subscription) -> None:
        """The subscription has left the fan-out's index. May be repeated."""
        name = subscription.conversation
        watch = self._index.get(name)
        if watch is None:
            return
        watch.watchers.pop(subscription, None)
        if watch.watchers:
            self._plan(name, watch)
        else:
            del self._index[name]

    def _is_crowded(self, name: str) -> bool:
        return self._fanout.audience(name) > self._limit

    def _plan(self, name: str, watch: _Watch) -> None:
        watch.changed = True
        if not watch.telling:
            watch.telling = True
            self._tasks.start(f"comings to {name}", self._run(name, watch))

    async def _run(self, name: str, watch: _Watch) -> None:
        """Gather and tell, until nothing changes or nobody is left who asked."""
        while watch.changed and watch.watchers:
            await asyncio.sleep(self._seconds)
            watch.changed = False
            passing, watch.passing = watch.passing, {}
            if not self._is_crowded(name):
                await self._tell(name, watch, passing)
        watch.telling = False

    async def _tell(self, name: str, watch: _Watch, passing: Present) -> None:
        """Tell everybody, some in each turn of the loop. Who is out of step is told when in step
        again, of all that has changed since."""
        before, now = watch.known, self._fanout.present(name)
        shared = Comings(name, tuple(compare(before, now, passing)))
        watch.known = now
        a_turn = max(1, _COMINGS_A_TURN // max(1, len(shared.comings)))
        for index, (subscription, watcher) in enumerate(list(watch.watchers.items()), 1):
            if subscription.live and watcher.known is not now:
                told = shared
                if watcher.known is not before:
                    told = Comings(name, tuple(compare(watcher.known, now, {})))
                watcher.known = now
                if told.comings:
                    watcher.tell(told)
            if index % a_turn == 0:
                await asyncio.sleep(0)


def compare(before: Present, now: Present, passing: Present) -> Iterator[Coming]:
    """What makes `now` of `before`: first who went, then who came. Of those in `passing`, who came
    in between, one who was there before has gone and come back, and one who is not there now
    has come and gone."""
    for session, user in before.items():
        if session not in now or session in passing:
            yield Coming(session, user, here=False)
    for session, user in now.items():
        if session not in before or session in passing:
            yield Coming(session, user, here=True)
    for session, user in passing.items():
        if session not in before and session not in now:
            yield Coming(session, user, here=True)
            yield Coming(session, user, here=False)


def _is_group(name: str) -> bool:
    conversation = Conversation.parse(name)
    return conversation is not None and conversation.kind is ConversationKind.GROUP
