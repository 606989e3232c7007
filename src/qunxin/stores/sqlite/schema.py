"""The tables, as numbered migrations.

`PRAGMA user_version` holds the number of the last migration that ran; each runs in one
transaction together with its number. A file that a newer Qunxin wrote, or that is no store of
ours, is refused and left untouched.

Why the tables are as they are:

- `entries` is a rowid table that only grows at its end, and its rows only shrink (at a recall).
  SQLite then never moves a message from one page to another, so no stale copy of it is left in
  a page's unused part, where `secure_delete` would not reach it. That is also why where a
  message was recalled stands in a table of its own: the row must not grow.
- A conversation's head is its highest position, read from the index. Nothing has to be written
  to a conversation when something is said in it.
- An inbox has its user's key, a group's log the group's.
- `entries` declares no foreign keys: checking them would cost two look-ups for each message.
- The same table, in the order of its rows, is the outbox: with one writer, rows become visible in
  the order of their `id`, each only when it is on the disk.
- `keys` finds a message by its sender's key. Keys are random, so each would touch a page of its
  own; they are filed many at once, sorted, up to the entry `keys_filed`. Those of later entries
  the writer keeps in memory (`recent_keys`).
- `reaches` holds who could not be reached, once for each pair of versions, so that a repeated
  key gets its first outcome again at the cost of three small integers in each entry.
"""

from __future__ import annotations

from typing import Final

import apsw

from qunxin.errors import QunxinError

APPLICATION_ID: Final = 0x71757869
"""`quxi`: marks the file as ours."""

_V1: Final = """
CREATE TABLE state (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    epoch TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    last_key INTEGER NOT NULL,
    unreachable_version INTEGER NOT NULL,
    accounts INTEGER NOT NULL,
    keys_filed INTEGER NOT NULL
) STRICT;
INSERT INTO state VALUES (1, '', 0, 1, 0, 0, 0);

CREATE TABLE users (
    key INTEGER PRIMARY KEY,
    user TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    state TEXT NOT NULL,
    reason TEXT,
    created INTEGER NOT NULL,
    erased INTEGER,
    broadcast_first INTEGER NOT NULL,
    broadcast_last INTEGER
) STRICT;
CREATE INDEX users_unreachable ON users (key, reason, user) WHERE reason IS NOT NULL;
CREATE INDEX users_swept ON users (erased) WHERE reason = 'not_found';

CREATE TABLE blocks (
    user INTEGER NOT NULL REFERENCES users,
    blocked INTEGER NOT NULL REFERENCES users,
    PRIMARY KEY (user, blocked)
) STRICT, WITHOUT ROWID;

CREATE TABLE conversations (
    key INTEGER PRIMARY KEY,
    kind TEXT NOT NULL,
    name TEXT NOT NULL UNIQUE
) STRICT;
INSERT INTO conversations VALUES (1, 'broadcast', 'broadcast:all');

CREATE TABLE groups (
    key INTEGER PRIMARY KEY REFERENCES conversations,
    name TEXT NOT NULL,
    state TEXT NOT NULL,
    history TEXT NOT NULL,
    require TEXT NOT NULL,
    muted INTEGER NOT NULL,
    members INTEGER NOT NULL,
    membership_version INTEGER NOT NULL,
    created INTEGER NOT NULL
) STRICT;

CREATE TABLE stays (
    conversation INTEGER NOT NULL REFERENCES conversations,
    user INTEGER NOT NULL REFERENCES users,
    joined INTEGER NOT NULL,
    first INTEGER NOT NULL,
    last INTEGER,
    role INTEGER NOT NULL,
    muted INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (conversation, user, joined)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX stays_current ON stays (conversation, user) WHERE last IS NULL;
CREATE INDEX stays_of_user ON stays (user, role, conversation) WHERE last IS NULL;
CREATE INDEX stays_of_owners ON stays (conversation, role) WHERE last IS NULL AND role = 3;

CREATE TABLE entries (
    id INTEGER PRIMARY KEY,
    conversation INTEGER NOT NULL,
    position INTEGER NOT NULL,
    type INTEGER NOT NULL,
    time INTEGER NOT NULL,
    sender INTEGER,
    key TEXT,
    digest BLOB,
    members INTEGER,
    membership_version INTEGER,
    unreachable_version INTEGER,
    data BLOB
) STRICT;
CREATE UNIQUE INDEX entries_by_position ON entries (conversation, position);

CREATE TABLE keys (
    sender INTEGER NOT NULL,
    conversation INTEGER NOT NULL,
    key TEXT NOT NULL,
    position INTEGER NOT NULL,
    PRIMARY KEY (sender, conversation, key)
) STRICT, WITHOUT ROWID;

CREATE TABLE recalls (
    conversation INTEGER NOT NULL,
    target INTEGER NOT NULL,
    position INTEGER NOT NULL,
    PRIMARY KEY (conversation, target)
) STRICT, WITHOUT ROWID;

CREATE TABLE reaches (
    conversation INTEGER NOT NULL,
    membership_version INTEGER NOT NULL,
    unreachable_version INTEGER NOT NULL,
    members INTEGER NOT NULL,
    unreachable_count INTEGER NOT NULL,
    named BLOB NOT NULL,
    PRIMARY KEY (conversation, membership_version, unreachable_version, members)
) STRICT, WITHOUT ROWID;

CREATE TABLE cursors (
    conversation INTEGER NOT NULL,
    user INTEGER NOT NULL,
    delivered INTEGER NOT NULL,
    read INTEGER NOT NULL,
    PRIMARY KEY (conversation, user)
) STRICT, WITHOUT ROWID;
CREATE INDEX cursors_of_user ON cursors (user);

CREATE TABLE api_keys (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    digest BLOB NOT NULL,
    scopes TEXT NOT NULL,
    created INTEGER NOT NULL,
    revoked INTEGER
) STRICT, WITHOUT ROWID;
"""

_V2: Final = """
CREATE TABLE webhooks (
    id TEXT PRIMARY KEY,
    url TEXT NOT NULL,
    secret TEXT NOT NULL,
    events TEXT NOT NULL,
    created INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    serial INTEGER NOT NULL,
    old_secret TEXT,
    old_secret_until INTEGER,
    paused TEXT,
    report TEXT NOT NULL
) STRICT, WITHOUT ROWID;
"""

_V3: Final = """
ALTER TABLE users ADD COLUMN tokens_from INTEGER NOT NULL DEFAULT 0;

CREATE TABLE revoked_tokens (
    user INTEGER NOT NULL REFERENCES users,
    token TEXT NOT NULL,
    keep_until INTEGER NOT NULL,
    PRIMARY KEY (user, token)
) STRICT, WITHOUT ROWID;
"""

_V4: Final = """
ALTER TABLE webhooks ADD COLUMN waiting TEXT NOT NULL DEFAULT '[]';
ALTER TABLE webhooks ADD COLUMN placed INTEGER NOT NULL DEFAULT 1;
"""

_V5: Final = """
ALTER TABLE cursors ADD COLUMN missed_from INTEGER NOT NULL DEFAULT 0;
ALTER TABLE cursors ADD COLUMN missed_to INTEGER NOT NULL DEFAULT 0;
"""

MIGRATIONS: Final[tuple[str, ...]] = (_V1, _V2, _V3, _V4, _V5)
"""Migration n stands at index n - 1. Rows are only ever added."""

BROADCAST_KEY: Final = 1
"""The key of `broadcast:all`, made by migration 1."""


def migrate(db: apsw.Connection, migrations: tuple[str, ...] = MIGRATIONS) -> None:
    """Bring the schema up to the last of `migrations`, one transaction each. Refused as
    `check_schema` says."""
    version = check_schema(db, len(migrations))
    for number in range(version + 1, len(migrations) + 1):
        with db:
            db.execute(migrations[number - 1]).fetchall()
            db.execute(f"PRAGMA user_version = {number}").fetchall()
            db.execute(f"PRAGMA application_id = {APPLICATION_ID}").fetchall()


def check_schema(db: apsw.Connection, newest: int = len(MIGRATIONS)) -> int:
    """The number of the last migration that ran, 0 in an empty file. Writes nothing.

    Refused with `store_unavailable`: a newer schema, or a database that is not ours.
    """
    version = int(db.pragma("user_version"))
    application = int(db.pragma("application_id"))
    empty = db.execute("SELECT NOT EXISTS (SELECT 1 FROM sqlite_schema)").get
    if application != APPLICATION_ID and not (empty and version == 0 and application == 0):
        raise QunxinError("store_unavailable", detail="this file is not a Qunxin store")
    if version > newest:
        detail = f"the store has schema {version}, this version knows up to {newest}"
        raise QunxinError("store_unavailable", detail=detail)
    return version
