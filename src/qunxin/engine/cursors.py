"""Delivered cursors on their way to the store: gathered in memory, flushed together."""

from __future__ import annotations

import asyncio
import logging

from qunxin.engine.commit import Committer
from qunxin.errors import QunxinError
from qunxin.model import Cursor
from qunxin.store.commands import MoveCursors

_log = logging.getLogger("qunxin.engine.cursors")
_PER_COMMAND = 1_000


class CursorBuffer:
    """The highest proven position of each user in each conversation since the last flush.

    What is lost with a crash is only the newest proofs: the ledger then claims less, never more.
    Holds one row for each pair that moved within a flush interval.
    """

    def __init__(self, committer: Committer, interval_seconds: float) -> None:
        self._committer = committer
        self._interval = interval_seconds
        self._proven: dict[tuple[str, str], int] = {}
        self._wake = asyncio.Event()

    def prove(self, user: str, conversation: str, position: int) -> None:
        """A device of `user` has everything up to `position`."""
        pair = (user, conversation)
        if position > self._proven.get(pair, 0):
            self._proven[pair] = position
            self._wake.set()

    async def run(self) -> None:
        """Flush once an interval while anything moves; for ever."""
        while True:
            await self._wake.wait()
            await asyncio.sleep(self._interval)
            self._wake.clear()
            await self.flush()

    async def flush(self) -> None:
        """Hand everything gathered to the store; on return it is durable, or it is kept for the
        next flush where the store could not take it."""
        proven, self._proven = self._proven, {}
        rows = [Cursor(user, name, delivered=at) for (user, name), at in proven.items()]
        for start in range(0, len(rows), _PER_COMMAND):
            part = rows[start : start + _PER_COMMAND]
            try:
                await self._committer.run(MoveCursors(tuple(part)))
            except QunxinError as error:
                _log.warning("cursors kept for the next flush: %s", error.code)
                for row in part:
                    self.prove(row.user, row.conversation, row.delivered)
