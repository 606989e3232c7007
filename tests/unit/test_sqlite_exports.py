"""Nothing that the store keeps is forgotten by an export."""

from __future__ import annotations

import re

import apsw

from qunxin.stores.sqlite.exports import PARTS
from qunxin.stores.sqlite.schema import migrate

NOT_EXPORTED = {
    "state": "the head and the import make it anew",
    "keys": "found again in the entries",
    "webhooks": "no part of a history",
}
MADE_ANEW = {("entries", "id"), ("conversations", "kind"), ("conversations", "name")}
"""Columns that follow from others: order, and the conversation that a user or a group has."""


def test_every_column_is_exported() -> None:
    """A column that a migration adds has its place in a record, or a reason why not."""
    db = apsw.Connection(":memory:")
    migrate(db)
    tables = [name for (name,) in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
    missing = []
    for table in set(tables) - NOT_EXPORTED.keys():
        read = " ".join(part.sql for part in PARTS if re.search(rf"FROM {table}\b", part.sql))
        columns = {row[1] for row in db.execute(f"PRAGMA table_info({table})")}
        missing += [(table, column) for column in columns if not re.search(rf"\b{column}\b", read)]
    assert set(missing) <= MADE_ANEW
