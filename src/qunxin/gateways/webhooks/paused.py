"""Webhooks that are paused: since when events wait for them, told to the observer."""

from __future__ import annotations

from collections.abc import Sequence

from qunxin.engine import Engine
from qunxin.engine.webhooks import EVENT_OF, first_waiting, wants
from qunxin.model import Entry, Webhook
from qunxin.observe import Observer


class PausedWebhooks:
    """For one task; `committed` may be called while it reads."""

    def __init__(self, engine: Engine, observer: Observer) -> None:
        self._engine = engine
        self._observer = observer
        self._told: dict[str, tuple[int, int]] = {}
        """Revision and serial of those whose place was looked at."""
        self._idle: dict[str, frozenset[str]] = {}
        """Those that nothing waits for, each with the types of entries that it is told of."""

    async def look(self, webhooks: Sequence[Webhook]) -> None:
        """These are paused and no others. Each is looked at once in each of its states. Raises
        what the store raises, and may be called again."""
        names = {webhook.id for webhook in webhooks}
        for name in [name for name in self._told.keys() | self._idle.keys() if name not in names]:
            self._told.pop(name, None)
            self._idle.pop(name, None)
        for webhook in webhooks:
            if self._told.get(webhook.id) != (webhook.revision, webhook.serial):
                await self._look_at(webhook)
                self._told[webhook.id] = (webhook.revision, webhook.serial)

    async def _look_at(self, webhook: Webhook) -> None:
        # Before the reading: what is committed meanwhile is seen by `committed`, or read.
        self._idle[webhook.id] = frozenset(kind for kind in EVENT_OF if wants(webhook, kind))
        first = await first_waiting(self._engine.store, webhook)
        if first is not None:
            self._idle.pop(webhook.id, None)
            self._observer.webhook_waiting(webhook.id, first.time)
        elif webhook.id in self._idle:
            self._observer.webhook_waiting(webhook.id, None)

    def committed(self, entries: Sequence[Entry]) -> None:
        """These are in the outbox now, in this order."""
        for name, wanted in list(self._idle.items()):
            time = next((entry.time for entry in entries if entry.type in wanted), None)
            if time is not None:
                del self._idle[name]
                self._observer.webhook_waiting(name, time)
