"""Between commit and fan-out: durable entries on their way to the broker.

Serving an audience of thousands costs far more than the transaction did. Where the transaction
that comes next holds more for the same large audience, its push waits for that one, once, and
both leave together: one frame for each session in place of two.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from qunxin.broker import Batch
from qunxin.model import Entry

LARGE_AUDIENCE_SESSIONS: Final = 100
"""From so many sessions on, a push waits for a next transaction that adds to it."""


class _Held:
    """The entries of one conversation that are not published yet, consecutive."""

    __slots__ = ("entries", "waited")

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.waited = False


class Publisher:
    """Publishes each conversation's entries in order, none later than with the transaction after
    its own. `audience` tells how many sessions here are subscribed to a conversation."""

    def __init__(self, publish: Callable[[Batch], None], audience: Callable[[str], int]) -> None:
        self._publish = publish
        self._audience = audience
        self._held: dict[str, _Held] = {}

    def add(self, entries: Iterable[Entry]) -> None:
        """Take the durable entries of one transaction, which follow on what was added before.

        Messages to a large audience are kept until `release`. All else is published at once: a
        recall must not wait, nor what changes who is there.
        """
        logs: dict[str, list[Entry]] = {}
        for entry in entries:
            logs.setdefault(entry.conversation, []).append(entry)
        for name, log in logs.items():
            if self._is_large(name) and all(entry.is_message for entry in log):
                self._held.setdefault(name, _Held()).entries += log
            else:
                before = self._held.pop(name, _Held()).entries
                self._publish(Batch(name, (*before, *log)))

    def release(self, coming: Iterable[str]) -> None:
        """Publish what was kept. `coming`: the conversations that the transaction beginning now
        will append to; what was kept for these waits for its end, unless it has waited."""
        if not self._held:
            return
        expected, kept = frozenset(coming), dict[str, _Held]()
        for name, held in self._held.items():
            if name in expected and not held.waited:
                held.waited = True
                kept[name] = held
            else:
                self._publish(Batch(name, tuple(held.entries)))
        self._held = kept

    def _is_large(self, name: str) -> bool:
        return self._audience(name) >= LARGE_AUDIENCE_SESSIONS
