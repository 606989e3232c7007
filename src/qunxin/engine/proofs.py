"""What one session proves of its user's cursors.

By the device's word when it comes back, by its pongs for what it was handed since; and before it is
told to reload something, what it will not have: it keeps the position that it is told, and its next
word is from there.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeAlias

from qunxin.engine.catchup import skips
from qunxin.engine.cursors import CursorBuffer
from qunxin.engine.fanout import Subscription
from qunxin.engine.sink import SubscriptionStart
from qunxin.model import Cursor

Mark: TypeAlias = Sequence[tuple[Subscription, int]]
"""What had been handed to the sink at one moment, of the subscriptions that moved since the last
mark."""


class Proofs:
    """Of one session's subscriptions, those included that were given up since the last mark."""

    def __init__(self, user: str, cursors: CursorBuffer) -> None:
        self._user = user
        self._cursors = cursors
        self._unmarked: dict[str, Subscription] = {}
        """Given up, with entries handed over since the last mark."""

    def begin(self, subscription: Subscription, start: SubscriptionStart) -> None:
        """It begins at `start`. A position of the device's own that is good is its word."""
        subscription.position = subscription.begun = subscription.marked = start.position
        subscription.missed = start.missed
        if start.recovered and start.asked:
            self._cursors.prove(self._cursor(start, start.position))

    def give_up(self, subscription: Subscription) -> None:
        """It has ended; the next mark holds what it handed over."""
        if subscription.position > subscription.marked:
            self._unmarked[subscription.conversation] = subscription

    async def record(self, *starts: SubscriptionStart) -> None:
        """On return the store holds as missed what the device is not given where it begins so;
        only then may it be told. Raises what committing raises, if there is anything to commit."""
        skipped = [self._cursor(start, start.position) for start in starts if skips(start)]
        if skipped:
            await self._cursors.record(skipped)

    def mark(self, subscriptions: Iterable[Subscription]) -> Mark | None:
        """What has been handed to the sink and was not marked before; None where nothing was."""
        moved = []
        ended, self._unmarked = self._unmarked, {}
        for subscription in (*ended.values(), *subscriptions):
            if subscription.position > subscription.marked:
                subscription.marked = subscription.position
                moved.append((subscription, subscription.position))
        return moved or None

    def prove(self, mark: Mark) -> None:
        """The device has everything in `mark`."""
        for subscription, position in mark:
            self._cursors.prove(self._cursor(subscription, position))

    def _cursor(self, of: SubscriptionStart | Subscription, position: int) -> Cursor:
        """What is known of the user once the device has what it was handed up to `position`."""
        first, last = of.missed
        return Cursor(self._user, of.conversation, position, missed_from=first, missed_to=last)
