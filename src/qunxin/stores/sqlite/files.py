"""Files that only their owner may read."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

OWNER_ONLY: Final = 0o600


def open_private(path: Path) -> int:
    """Open `path` for reading and writing, made where it is missing; a descriptor. Whatever its
    rights were, only the owner has any when this returns."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, OWNER_ONLY)
    if os.fstat(descriptor).st_mode & 0o077:
        os.fchmod(descriptor, OWNER_ONLY)
    return descriptor


def make_private(path: Path) -> None:
    """See that `path` is a file that only its owner may read, and its folder exists. SQLite
    gives the same rights to the files that it keeps beside its database."""
    if not path.parent.is_dir():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        sync(path.parent.parent)
    new = not path.exists()
    os.close(open_private(path))
    if new:
        sync(path.parent)


def sync(path: Path) -> None:
    """See that a file's content, or a folder's list of names, is on disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
