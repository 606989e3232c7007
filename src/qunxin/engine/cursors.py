"""Delivered cursors on their way to the store: gathered in memory, flushed together."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable

from qunxin.engine.commit import Committer
from qunxin.errors import QunxinError
from qunxin.model import Cursor
from qunxin.store.commands import MoveCursors

_log = logging.getLogger("qunxin.engine.cursors")
_PER_COMMAND = 1_000


class CursorBuffer:
    """What devices of each user proved in each conversation since the last flush.

    What is lost with a crash is only the newest proofs: the ledger then claims less, never more.
    Holds one row for each pair that moved within a flush interval.
    """

    def __init__(self, committer: Committer, interval_seconds: float) -> None:
        self._committer = committer
        self._interval = interval_seconds
        self._proven: dict[tuple[str, str], Cursor] = {}
        self._wake = asyncio.Event()

    def prove(self, cursor: Cursor) -> None:
        """A device of its user has everything that `cursor` says."""
        pair = (cursor.user, cursor.conversation)
        known = self._proven.get(pair)
        self._proven[pair] = cursor if known is None else known.merged(cursor)
        self._wake.set()

    async def record(self, cursors: Iterable[Cursor]) -> None:
        """Hand `cursors` to the store at once; on return it is durable. Raises as
        `Committer.run`."""
        await self._committer.run(MoveCursors(tuple(cursors)))

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
        rows = list(proven.values())
        for start in range(0, len(rows), _PER_COMMAND):
            part = rows[start : start + _PER_COMMAND]
            try:
                await self.record(part)
            except QunxinError as error:
                _log.warning("cursors kept for the next flush: %s", error.code)
                for row in part:
                    self.prove(row)
