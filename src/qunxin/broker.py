"""The broker's contract: tells nodes quickly what the store already holds.

Nothing that is kept rests on a broker. It may lose, delay or repeat a batch, and it may deliver
batches of one conversation out of order; the fan-out sees every jump in positions and reads the gap
from the store. A lost batch that no later one of its conversation betrays is found when its readers
connect again: the local broker loses none. A broker promises only that it never invents a batch and
never delivers one of a conversation that the node did not ask for.

`qunxin.testing.broker` holds the suite that every broker passes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import msgspec

from qunxin.model import Entry


class Batch(msgspec.Struct, frozen=True):
    """Consecutive entries of one conversation, rising by one, at least one."""

    conversation: str
    entries: tuple[Entry, ...]

    @property
    def first(self) -> int:
        return self.entries[0].position

    @property
    def last(self) -> int:
        return self.entries[-1].position


BatchHandler = Callable[[Batch], None]
"""Called on the event loop, never from inside `publish`; must not block and must not raise."""


class Broker(Protocol):
    """Four calls. All run on the loop that opened the broker."""

    async def open(self, handler: BatchHandler) -> None:
        """Start; batches of subscribed conversations go to `handler`, this node's own too."""
        ...

    def subscribe(self, conversation: str) -> None:
        """From some moment soon, receive batches of `conversation`. Repeats change nothing."""
        ...

    def unsubscribe(self, conversation: str) -> None:
        """Stop receiving them, some moment soon. Unknown names change nothing."""
        ...

    def publish(self, batch: Batch) -> None:
        """Hand `batch` over for every node that subscribed. Never waits: where the broker is
        slow or gone the batch is dropped, within bounded memory."""
        ...

    async def close(self) -> None:
        """Stop; nothing reaches the handler afterwards."""
        ...
