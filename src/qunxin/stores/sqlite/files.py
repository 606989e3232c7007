"""Files that only their owner may read."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

OWNER_ONLY: Final = 0o600
_NO_HARD_LINKS: Final = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS})
"""What a file system says that has none: FAT, some network and user-space file systems."""
_NAME_CHARACTERS: Final = 48
"""So much of a target's name is in that of its partial file, which must not become too long."""


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
    make_private_folder(path.parent)
    new = not path.exists()
    os.close(open_private(path))
    if new:
        sync(path.parent)


def make_private_folder(path: Path) -> None:
    """See that `path` is a folder; one that was missing is for its owner only."""
    if not path.is_dir():
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        sync(path.parent)


@contextmanager
def partial_file(target: Path) -> Iterator[Path]:
    """An empty file in the folder of `target`, for its owner only and with a name that nobody else
    has, to be written and then given to `publish`. It is gone when the block ends."""
    prefix = f"{target.name[:_NAME_CHARACTERS]}."
    descriptor, name = tempfile.mkstemp(".partial", prefix, target.parent)
    os.close(descriptor)
    partial = Path(name)
    try:
        yield partial
    finally:
        partial.unlink(missing_ok=True)


def publish(partial: Path, target: Path) -> None:
    """Let the finished file `partial` appear as `target`, on disk when this returns. A file that is
    there is never overwritten, whoever put it there meanwhile: `FileExistsError`."""
    sync(partial)
    try:
        target.hardlink_to(partial)
    except OSError as error:
        if error.errno not in _NO_HARD_LINKS:
            raise
        _take_name(target)
        try:
            partial.rename(target)
        except BaseException:
            target.unlink()
            raise
    else:
        partial.unlink()
    sync(target.parent)


def _take_name(target: Path) -> None:
    """Make `target` an empty file, which only one of several can do: for the moment until it is
    replaced it stands for what is coming. A crash in that moment leaves it behind, empty."""
    os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, OWNER_ONLY))


def sync(path: Path) -> None:
    """See that a file's content, or a folder's list of names, is on disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
