"""A whole, consistent copy of a running store."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from qunxin.errors import QunxinError
from qunxin.stores.sqlite.connection import connect, connect_reader
from qunxin.stores.sqlite.files import make_private_folder, partial_file, publish

PAGES_PER_STEP: Final = 500


def _unwatched(_done: int, _all: int) -> None:
    """Nobody looks."""


def write_backup(
    source: Path,
    target: Path,
    stopped: threading.Event | None = None,
    progress: Callable[[int, int], Any] = _unwatched,
) -> None:
    """Copy `source` as it is now to the new file `target`, in steps between which `stopped` can
    end it; after each, `progress` is told the bytes copied, and all. The file appears under its
    name only when it is whole and on disk, and never in place of another. Any process that may
    read `source` can do that, beside the one that writes to it.

    One snapshot is held throughout: without it each commit would make SQLite begin anew.
    """
    if target.exists():
        raise _taken(target)
    make_private_folder(target.parent)
    try:
        with partial_file(target) as partial:
            _copy(source, partial, stopped or threading.Event(), progress)
            publish(partial, target)
    except FileExistsError as error:
        raise _taken(target) from error


def _taken(target: Path) -> QunxinError:
    return QunxinError("invalid_request", detail=f"{target.name} exists already")


def _copy(
    source: Path, partial: Path, stopped: threading.Event, progress: Callable[[int, int], Any]
) -> None:
    reader, copy = connect_reader(source), connect(partial)
    try:
        page_bytes = reader.pragma("page_size")
        reader.execute("BEGIN; SELECT epoch FROM state").fetchall()
        with copy.backup("main", reader, "main") as backup:
            while not backup.done:
                if stopped.is_set():
                    raise QunxinError("shutting_down")
                backup.step(PAGES_PER_STEP)
                pages = backup.page_count
                progress((pages - backup.remaining) * page_bytes, pages * page_bytes)
    finally:
        copy.close(True)
        reader.close(True)
