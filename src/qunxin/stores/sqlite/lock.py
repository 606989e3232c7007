"""One process owns a database at a time."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from qunxin.errors import QunxinError
from qunxin.stores.sqlite.files import open_private


class Lock:
    """A lock on a file beside the database. The kernel releases it when its holder dies, so a
    file that is left over locks nobody out. A second one in the same process is refused too."""

    def __init__(self, database: Path) -> None:
        """Take the lock. Refused with `store_unavailable` where another holds it."""
        self._descriptor = open_private(database.with_name(f"{database.name}.lock"))
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._descriptor)
            detail = "another process, or another part of this one, has this store open"
            raise QunxinError("store_unavailable", detail=detail) from None

    def release(self) -> None:
        """Give it back. The file stays: to remove it would race with the next holder."""
        os.close(self._descriptor)
