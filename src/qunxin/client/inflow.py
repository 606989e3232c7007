"""What has arrived and was not handed to the program yet, in order.

Behind the entries of a frame may stand a ping. It is answered when the program is done with
everything before it, so that what the ledger calls delivered has reached the program, not only
this process.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from qunxin.client.events import Handed, Unsent
from qunxin.client.streams import recall_in
from qunxin.engine.fanout import tombstone
from qunxin.model import Entry

Pong: TypeAlias = Callable[[], Awaitable[None]]


class Inflow:
    """A queue in which a recall finds what it recalls. Bounded by the server, which sends so much
    and no more before a ping is answered, and by the owner, who looks at `len`."""

    def __init__(self) -> None:
        self._items: deque[Handed | Pong] = deque()
        self._unsent: deque[Handed] = deque()

    def __len__(self) -> int:
        return len(self._items)

    def put(self, handed: Handed) -> None:
        """Add an event; a recall takes away the content that it recalls."""
        if isinstance(handed.event, Unsent):
            self._unsent.append(handed)
            return
        if isinstance(handed.event, Entry):
            self.erase(handed.event)
        self._items.append(handed)

    def put_pong(self, pong: Pong) -> None:
        self._items.append(pong)

    def take(self) -> Handed | Pong | None:
        """The next one; None where there is none."""
        if self._unsent:
            return self._unsent.popleft()
        return self._items.popleft() if self._items else None

    def clear(self) -> None:
        """The connection is gone. What the outbox has to tell stays."""
        self._items.clear()

    def erase(self, recall: Entry) -> None:
        """Take away the content that `recall` recalls, where it is one and that waits here."""
        name = recall_in(recall)
        if name is None:
            return
        for item in self._items:
            if isinstance(item, Handed) and isinstance(item.event, Entry):
                entry = item.event
                if (entry.conversation, entry.position) == name and entry.content is not None:
                    item.event = tombstone(entry, recall.position)
