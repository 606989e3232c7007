"""Which events of one webhook may be sent now: pure, without I/O.

Events of one conversation go out one after the other: while the first is under way, or waits to
be tried again, those behind it wait. Conversations do not wait for each other, up to the window's
size.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Iterable
from itertools import islice

from qunxin.store.reads import OutboxItem, OutboxPage


class Window:
    """The part of the outbox that one webhook works on."""

    def __init__(self, serial: int, max_events: int) -> None:
        self._max_events = max_events
        self.through = serial
        """The outbox has been read up to here."""
        self.version = 0
        """Rises with each change of what waits."""
        self._waiting: dict[int, OutboxItem] = {}
        self._lanes: dict[str, deque[OutboxItem]] = {}
        self._ready: deque[str] = deque()
        self._later: list[tuple[float, str]] = []
        self._failures: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def room(self) -> int:
        """How many more events it takes."""
        return self._max_events - len(self._waiting)

    @property
    def serials(self) -> tuple[int, ...]:
        """What waits or is under way, ascending: everything else up to `through` has been dealt
        with. At most so many as the window takes, but for what was restored."""
        return tuple(self._waiting)

    @property
    def oldest(self) -> OutboxItem | None:
        """The first that has not been dealt with."""
        return next(iter(self._waiting.values()), None)

    @property
    def next_due(self) -> float | None:
        """When the next one that was put off may be tried again."""
        return self._later[0][0] if self._later else None

    def restore(self, items: Iterable[OutboxItem]) -> None:
        """Take over events that were left waiting below `through`, ascending; before any page."""
        self.version += 1
        for item in items:
            self._enter(item)

    def add(self, page: OutboxPage, wanted: Callable[[OutboxItem], bool]) -> None:
        """Take over the `wanted` events of the page that follows on `through`."""
        self.through = page.through
        for item in filter(wanted, page.items):
            self.version += 1
            self._enter(item)

    def _enter(self, item: OutboxItem) -> None:
        self._waiting[item.serial] = item
        lane = self._lanes.get(item.conversation)
        if lane is None:
            self._lanes[item.conversation] = deque((item,))
            self._ready.append(item.conversation)
        else:
            lane.append(item)

    def upcoming(self, now: float, limit: int) -> list[OutboxItem]:
        """What is worth reading together: what may be sent now, then what comes behind it and
        behind what is under way. Nothing that was put off."""
        self._call_back(now)
        found = [self._lanes[name][0] for name in islice(self._ready, limit)]
        put_off = {name for _, name in self._later}
        behind = (
            item
            for item in self._waiting.values()
            if item.conversation not in put_off and self._lanes[item.conversation][0] is not item
        )
        return found + list(islice(behind, limit - len(found)))

    def next(self, now: float, *, failed: bool | None = None) -> OutboxItem | None:
        """The next that may be sent, where `failed` is given of those that have failed before or
        of those that have not."""
        self._call_back(now)
        for name in self._ready:
            if failed is None or (name in self._failures) == failed:
                return self._lanes[name][0]
        return None

    def take(self, item: OutboxItem) -> None:
        """One that `next` gave is under way; until `done`, `put_off` or `again` its conversation
        waits."""
        self._ready.remove(item.conversation)

    def _call_back(self, now: float) -> None:
        while self._later and self._later[0][0] <= now:
            self._ready.append(heapq.heappop(self._later)[1])

    def done(self, item: OutboxItem) -> None:
        """It was taken by the receiver."""
        name = item.conversation
        del self._waiting[item.serial]
        self.version += 1
        self._failures.pop(name, None)
        lane = self._lanes[name]
        lane.popleft()
        if lane:
            self._ready.append(name)
        else:
            del self._lanes[name]

    def failures(self, item: OutboxItem) -> int:
        """How often in a row it has been put off."""
        return self._failures.get(item.conversation, 0)

    def put_off(self, item: OutboxItem, due: float) -> None:
        """It failed and may be tried again at `due`."""
        self._failures[item.conversation] = self.failures(item) + 1
        heapq.heappush(self._later, (due, item.conversation))

    def again(self, item: OutboxItem) -> None:
        """It must be sent anew, at once: what was under way is void."""
        self._ready.appendleft(item.conversation)
