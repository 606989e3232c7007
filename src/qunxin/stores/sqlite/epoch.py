"""The epoch: how a store notices that it is not the continuation of what it once answered.

Beside the database lies a small file that holds the number of the last transaction that was
answered for. It is written to mapped memory after each commit, so it costs nothing, survives
a kill of the process, and is on disk some time later. At opening a new epoch begins where

- the database is behind the file: a tail that was answered for is lost;
- the file is missing, or belongs to another epoch, database file or place, while the database
  has a history: it was restored or copied.

After a power failure the file itself may be behind; that proves nothing and changes nothing.
"""

from __future__ import annotations

import mmap
import os
import secrets
import struct
from pathlib import Path
from typing import Final

from qunxin.stores.sqlite.files import open_private

_LAYOUT: Final = struct.Struct("=8s32sQQQ")
"""Magic, epoch, the database's inode, this file's own inode, the sequence."""
_MAGIC: Final = b"qunxin01"
_SEQUENCE_OFFSET: Final = _LAYOUT.size - 8


def new_epoch() -> str:
    return secrets.token_urlsafe(12)


class Answered:
    """The mapped file. All calls are made on the writer thread."""

    def __init__(self, database: Path) -> None:
        self._database = database
        descriptor = open_private(database.with_name(f"{database.name}.answered"))
        try:
            self._inode = os.fstat(descriptor).st_ino
            if os.fstat(descriptor).st_size < _LAYOUT.size:
                os.ftruncate(descriptor, _LAYOUT.size)
            self._map = mmap.mmap(descriptor, _LAYOUT.size)
        finally:
            os.close(descriptor)

    def continues(self, epoch: str, sequence: int) -> bool:
        """Whether a database of this epoch, at this sequence, has all that was answered for."""
        magic, known, database, own, answered = _LAYOUT.unpack(self._map[:])
        return bool(
            magic == _MAGIC
            and known.rstrip(b"\0") == epoch.encode()
            and database == self._database.stat().st_ino
            and own == self._inode
            and sequence >= answered
        )

    def begin(self, epoch: str, sequence: int) -> None:
        """Bind the file to this epoch and to the database where it lies now."""
        inode = self._database.stat().st_ino
        self._map[:] = _LAYOUT.pack(_MAGIC, epoch.encode(), inode, self._inode, sequence)
        self._map.flush()

    def set(self, sequence: int) -> None:
        """From now on `sequence` counts as answered for."""
        struct.pack_into("=Q", self._map, _SEQUENCE_OFFSET, sequence)

    def close(self) -> None:
        self._map.close()
