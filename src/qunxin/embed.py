"""Embedding: the engine over SQLite and the local broker, with one call."""

from __future__ import annotations

import os
from pathlib import Path

from qunxin.brokers.local import LocalBroker
from qunxin.clock import Clock, SystemClock
from qunxin.engine import Engine, EngineSettings
from qunxin.stores.sqlite import SqliteStore


def open(  # noqa: A001 - read as qunxin.open
    path: str | os.PathLike[str],
    *,
    settings: EngineSettings | None = None,
    clock: Clock | None = None,
) -> Engine:
    """The engine over the database at `path`, made where there is none; use it with
    ``async with``. One process owns a database at a time."""
    chosen = clock or SystemClock()
    store = SqliteStore(Path(path), chosen)
    return Engine(store, LocalBroker(), settings=settings, clock=chosen)
