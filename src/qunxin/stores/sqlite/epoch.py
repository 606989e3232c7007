"""The epoch: how a store notices that it is not the continuation of what it once answered.

Beside the database lies a small file that holds the number of the last transaction that was
answered for. It is written after each commit and not synced: that costs next to nothing,
survives a kill of the process, and is on disk some time later. At opening a new epoch begins
where

- the database is behind the file: a tail that was answered for is lost;
- the file is missing, or belongs to another epoch, database file or place, while the database
  has a history: it was restored or copied.

After a power failure the file itself may be behind; that proves nothing and changes nothing.
"""

from __future__ import annotations

import logging
import os
import secrets
import struct
from pathlib import Path
from typing import Final

from qunxin.stores.sqlite.files import open_private

_LAYOUT: Final = struct.Struct("=8s32sQQQ")
"""Magic, epoch, the database's inode, this file's own inode, the sequence."""
_MAGIC: Final = b"qunxin01"
_SEQUENCE: Final = struct.Struct("=Q")
_SEQUENCE_OFFSET: Final = _LAYOUT.size - _SEQUENCE.size

_log = logging.getLogger("qunxin.stores.sqlite")


def new_epoch() -> str:
    return secrets.token_urlsafe(12)


class Answered:
    """The file. All calls are made on the writer thread.

    Written with `pwrite`, not through a mapping: on a full disk a mapping can end the process,
    while a write that fails only leaves the file behind, which is always safe.
    """

    def __init__(self, database: Path) -> None:
        self._database = database
        self._file = open_private(database.with_name(f"{database.name}.answered"))
        self._inode = os.fstat(self._file).st_ino

    def continues(self, epoch: str, sequence: int) -> bool:
        """Whether a database of this epoch, at this sequence, has all that was answered for."""
        content = os.pread(self._file, _LAYOUT.size, 0)
        if len(content) < _LAYOUT.size:
            return False
        magic, known, database, own, answered = _LAYOUT.unpack(content)
        return bool(
            magic == _MAGIC
            and known.rstrip(b"\0") == epoch.encode()
            and database == self._database.stat().st_ino
            and own == self._inode
            and sequence >= answered
        )

    def begin(self, epoch: str, sequence: int) -> None:
        """Bind the file to this epoch and to the database where it lies now; on disk when this
        returns."""
        database = self._database.stat().st_ino
        content = _LAYOUT.pack(_MAGIC, epoch.encode(), database, self._inode, sequence)
        os.pwrite(self._file, content, 0)
        os.fsync(self._file)

    def set(self, sequence: int) -> None:
        """From now on `sequence` counts as answered for, also after a kill of the process."""
        try:
            os.pwrite(self._file, _SEQUENCE.pack(sequence), _SEQUENCE_OFFSET)
        except OSError as error:
            _log.warning("the sequence answered for could not be noted: %s", error)

    def close(self) -> None:
        os.close(self._file)
