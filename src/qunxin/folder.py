"""The data folder: private to its owner, and owned by one process at a time."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from qunxin.errors import QunxinError

DATABASE_NAME: Final = "messages.db"
LOCK_NAME: Final = "lock"

HISTORY_NAMES: Final = tuple(f"{DATABASE_NAME}{end}" for end in ("", "-wal", "-shm", ".answered"))
"""The files of one history: the database, and what is kept beside it."""


def prepare_folder(folder: Path) -> None:
    """Make `folder` where it is missing; a new or empty one gets mode 0700. Raises `cannot_start`
    where that fails or where something else has the name."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not any(folder.iterdir()):
            folder.chmod(0o700)
    except FileExistsError as error:
        raise QunxinError("cannot_start", detail=f"{folder} is not a folder") from error
    except OSError as error:
        raise _cannot_use(folder, error) from error


def check_has_node(folder: Path) -> None:
    """Refuse with `not_found` a folder in which no node has ever been opened. Raises
    `cannot_start` where it may not be looked into."""
    try:
        found = (folder / DATABASE_NAME).exists()
    except OSError as error:
        raise _cannot_use(folder, error) from error
    if not found:
        detail = f"there is no node in {folder.absolute()}; see --data"
        raise QunxinError("not_found", detail=detail)


def check_no_history(folder: Path, advice: str) -> None:
    """Refuse with `invalid_request` a folder that holds messages."""
    if any((folder / name).exists() for name in HISTORY_NAMES):
        detail = f"{folder} holds messages already; {advice}"
        raise QunxinError("invalid_request", detail=detail)


@contextmanager
def owned_folder(folder: Path) -> Iterator[None]:
    """Own `folder` until the end. The kernel lets go of it when this process dies, however.

    Raises `cannot_start`, with the fact `in_use` where another process owns it.
    """
    try:
        descriptor = os.open(folder / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise _cannot_use(folder, error) from error
    try:
        _lock(folder, descriptor)
        yield
    finally:
        os.close(descriptor)


def _lock(folder: Path, descriptor: int) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        detail = f"another process uses the data folder {folder}"
        raise QunxinError("cannot_start", detail=detail, in_use=True) from error


def _cannot_use(folder: Path, error: OSError) -> QunxinError:
    detail = f"the data folder {folder} cannot be used ({error.strerror})"
    return QunxinError("cannot_start", detail=detail)
