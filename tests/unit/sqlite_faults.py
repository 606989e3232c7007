"""A file layer for SQLite whose disk can be full, or fail to sync, when a test says so."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import apsw


class FaultyFile(apsw.VFSFile):
    def __init__(self, name: str | apsw.URIFilename | None, flags: list[int], disk: Disk) -> None:
        super().__init__("", name, flags)
        self._disk = disk

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802
        if self._disk.full:
            raise apsw.FullError("no space left")
        super().xWrite(data, offset)

    def xSync(self, flags: int) -> None:  # noqa: N802
        self._disk.syncs += 1
        if self._disk.sync_fails:
            raise apsw.IOError("sync failed")
        super().xSync(flags)


class Disk(apsw.VFS):
    """Behaves as the machine's own until `full` or `sync_fails` is set."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.full = False
        self.sync_fails = False
        self.syncs = 0
        super().__init__(name, "")

    def xOpen(  # noqa: N802
        self, name: str | apsw.URIFilename | None, flags: list[int]
    ) -> apsw.VFSFile:
        return FaultyFile(name, flags, self)


@contextmanager
def faulty_disk(name: str) -> Iterator[Disk]:
    disk = Disk(name)
    try:
        yield disk
    finally:
        disk.unregister()
