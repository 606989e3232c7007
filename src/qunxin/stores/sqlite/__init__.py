"""The store on SQLite: one file, one writer thread, a few readers."""

from qunxin.stores.sqlite.store import SqliteStore

__all__ = ["SqliteStore"]
