"""A whole, consistent copy of a running store."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Final

from qunxin.errors import QunxinError
from qunxin.stores.sqlite.connection import connect, connect_reader
from qunxin.stores.sqlite.files import make_private, sync

PAGES_PER_STEP: Final = 500


def write_backup(source: Path, target: Path, stopped: threading.Event) -> None:
    """Copy `source` as it is now to the new file `target`, in steps between which `stopped` can
    end it. The file appears under its name only when it is whole and on disk.

    One snapshot is held throughout: without it each commit would make SQLite begin anew.
    """
    if target.exists():
        raise QunxinError("invalid_request", detail=f"{target.name} exists already")
    partial = target.with_name(f"{target.name}.partial")
    partial.unlink(missing_ok=True)
    make_private(partial)
    try:
        _copy(source, partial, stopped)
        sync(partial)
        partial.rename(target)
        sync(target.parent)
    finally:
        partial.unlink(missing_ok=True)


def _copy(source: Path, partial: Path, stopped: threading.Event) -> None:
    reader, copy = connect_reader(source), connect(partial)
    try:
        reader.execute("BEGIN; SELECT epoch FROM state").fetchall()
        with copy.backup("main", reader, "main") as backup:
            while not backup.done:
                if stopped.is_set():
                    raise QunxinError("shutting_down")
                backup.step(PAGES_PER_STEP)
    finally:
        copy.close(True)
        reader.close(True)
