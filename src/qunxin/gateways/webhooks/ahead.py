"""Events read a page at a time, shortly before they are sent.

A recall voids what was read of its message before it, and what is just being read: so what goes
out after it is read after it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final, TypeAlias

from qunxin.gateways.webhooks.events import EventReader
from qunxin.store.reads import OutboxItem

MAX_AHEAD: Final = 16
"""Events kept of one webhook; a content has at most 64 KB."""
FRESH_SECONDS: Final = 1.0
"""What is older is read again: `offline` and the group's name are of the last second or so."""

_Name: TypeAlias = tuple[str, int]


class ReadAhead:
    """The events of one webhook that are ready to be sent, each given out once. For one task;
    `recalled` may be called while it reads.

    Pages grow while they are used up in time and shrink when they are not, so that a slow
    receiver has nothing read in vain.
    """

    def __init__(self, reader: EventReader) -> None:
        self._reader = reader
        self._bodies: dict[_Name, tuple[float, bytes]] = {}
        self._recalled: set[_Name] | None = None
        """While a page is being read: what was recalled since it began."""
        self.size = 1
        """How many the next page should have."""

    def has(self, item: OutboxItem) -> bool:
        return (item.conversation, item.position) in self._bodies

    def take(self, item: OutboxItem, now: float) -> bytes | None:
        """The event, if it was read a short time ago."""
        for name in [name for name, (until, _) in self._bodies.items() if until <= now]:
            del self._bodies[name]
            self.size = 1
        found = self._bodies.pop((item.conversation, item.position), None)
        return None if found is None else found[1]

    async def read(self, items: Sequence[OutboxItem]) -> None:
        """Read the first of `items`, and as many of the others as one page holds. Raises what the
        store raises; then the next page is of one event, so that it is known which cannot be
        read."""
        recalled: set[_Name] = set()
        self._recalled = recalled
        try:
            bodies = await self._reader.read(items)
        except BaseException:
            self.size = 1
            raise
        finally:
            self._recalled = None
        until = asyncio.get_running_loop().time() + FRESH_SECONDS
        for item, body in zip(items, bodies, strict=False):
            name = (item.conversation, item.position)
            if name not in recalled:
                self._bodies[name] = (until, body)
        self.size = min(2 * self.size, MAX_AHEAD)

    def recalled(self, conversation: str, position: int) -> None:
        """What was read of that message is void."""
        self._bodies.pop((conversation, position), None)
        if self._recalled is not None:
            self._recalled.add((conversation, position))
