"""The keys of the latest messages, kept in memory until they are filed in the table `keys`.

Random keys would dirty one page of an index each, which is most of what a small message costs.
Filed thousands at a time and in order they cost little. What is not filed yet is read again
from the entries when the store opens, so nothing rests on this memory.
"""

from __future__ import annotations

from typing import Final, TypeAlias

import apsw

KeyName: TypeAlias = tuple[int, int, str]
"""Sender, conversation, key."""

FILE_AT: Final = 4_096

_LOAD: Final = """
    SELECT sender, conversation, key, position FROM entries
    WHERE id > (SELECT keys_filed FROM state) AND key IS NOT NULL
"""
_FILE: Final = """
    INSERT INTO keys (sender, conversation, key, position)
    SELECT sender, conversation, key, position FROM entries
    WHERE id > (SELECT keys_filed FROM state) AND key IS NOT NULL
    ORDER BY sender, conversation, key
"""


class RecentKeys:
    """The positions of messages by key: `committed` since the last filing, and `pending` in the
    transaction that is open."""

    def __init__(self, db: apsw.Connection) -> None:
        self._db = db
        self._committed: dict[KeyName, int] = {}
        self._pending: dict[KeyName, int] = {}
        for sender, conversation, key, position in db.execute(_LOAD):
            self._committed[sender, conversation, key] = position

    def __len__(self) -> int:
        return len(self._committed)

    def find(self, name: KeyName) -> int | None:
        """The position of the message with this key, where it is not filed yet."""
        return self._pending.get(name) or self._committed.get(name)

    def add(self, name: KeyName, position: int) -> None:
        self._pending[name] = position

    def commit(self) -> None:
        """The transaction became durable."""
        self._committed.update(self._pending)
        self._pending.clear()

    def pending(self) -> dict[KeyName, int]:
        """A copy of what the open transaction added, for `restore`."""
        return dict(self._pending)

    def restore(self, pending: dict[KeyName, int]) -> None:
        """Take back what was added since `pending`."""
        self._pending = pending

    def abandon(self) -> None:
        """The transaction was rolled back."""
        self._pending.clear()

    def file(self) -> None:
        """File all of them, in a transaction of its own that nobody waits for."""
        with self._db:
            self._db.execute(_FILE).fetchall()
            self._db.execute(
                "UPDATE state SET keys_filed = (SELECT COALESCE(max(id), 0) FROM entries)"
            ).fetchall()
        self._committed.clear()
