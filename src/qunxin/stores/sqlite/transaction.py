"""One transaction as the commands see it: the connection, its time, keys, logs, lasting counters.

All of it belongs to the writer thread.
"""

from __future__ import annotations

from typing import Any

import apsw
import msgspec

from qunxin.model import Entry, EventType, JsonObject, UserState
from qunxin.stores.sqlite.cache import Cache
from qunxin.stores.sqlite.recent_keys import RecentKeys
from qunxin.stores.sqlite.rows import TYPE_CODES, Row

_INSERT_EVENT = """
    INSERT INTO entries (conversation, position, type, time, data)
    SELECT ?1, 1 + COALESCE((SELECT max(position) FROM entries WHERE conversation = ?1), 0),
           ?2, ?3, ?4
    RETURNING position
"""

_INSERT_INBOX_EVENTS = """
    INSERT INTO entries (conversation, position, type, time, data)
    SELECT j.value,
           1 + COALESCE((SELECT max(position) FROM entries WHERE conversation = j.value), 0),
           ?2, ?3, ?4
    FROM json_each(?1) j WHERE true
"""

_READ_INBOX_EVENTS = """
    SELECT json_group_array(json_array(u.user, e.position))
    FROM entries e JOIN users u ON u.key = e.conversation
    WHERE e.id > ?
"""


class State(msgspec.Struct):
    """The store's one row of counters."""

    epoch: str
    sequence: int
    """How many transactions wrote something, in this store's whole life."""
    last_key: int
    """The highest integer key that was given out."""
    unreachable_version: int
    accounts: int
    """Accounts that are not erased."""


class Transaction:
    """The open transaction. `time` is its moment in milliseconds, the same for all commands."""

    def __init__(self, db: apsw.Connection) -> None:
        self.db = db
        self.cache = Cache()
        self.keys = RecentKeys(db)
        self.time = 0
        self.state = self.load_state()
        self.erased_content = False
        """Whether this transaction erased content, so that a checkpoint must follow."""

    def load_state(self) -> State:
        row = self.db.execute(
            "SELECT epoch, sequence, last_key, unreachable_version, accounts FROM state"
        ).get
        return State(*row)

    def save_state(self) -> None:
        state = self.state
        self.db.execute(
            "UPDATE state SET epoch = ?, sequence = ?, last_key = ?, unreachable_version = ?,"
            " accounts = ?",
            msgspec.structs.astuple(state),
        )

    def row(self, sql: str, bindings: tuple[Any, ...] = ()) -> Row | None:
        """The first row, or None."""
        return self.db.execute(sql, bindings).fetchone()

    def value(self, sql: str, bindings: tuple[Any, ...] = ()) -> Any:
        """The first column of the first row, or None."""
        row = self.db.execute(sql, bindings).fetchone()
        return None if row is None else row[0]

    def run(self, sql: str, bindings: tuple[Any, ...] = ()) -> int:
        """Execute one statement; how many rows it changed."""
        self.db.execute(sql, bindings).fetchall()
        return self.db.changes()

    def next_key(self) -> int:
        self.state.last_key += 1
        return self.state.last_key

    def append(self, key: int, name: str, event: EventType, body: JsonObject) -> Entry:
        """Append one event to the log with this key and name."""
        self.cache.drop_conversation(name)
        bindings = (key, TYPE_CODES[event], self.time, msgspec.json.encode(body))
        position = self.value(_INSERT_EVENT, bindings)
        return Entry(name, position, str(event), self.time, body=body)

    def append_to_inboxes(
        self, keys: list[int], event: EventType, body: JsonObject
    ) -> tuple[Entry, ...]:
        """Append the same event to the inbox of each user, by integer key, as one statement."""
        if not keys:
            return ()
        before = self.value("SELECT max(id) FROM entries") or 0
        wanted = msgspec.json.encode(keys).decode()
        data = msgspec.json.encode(body)
        self.run(_INSERT_INBOX_EVENTS, (wanted, TYPE_CODES[event], self.time, data))
        placed = msgspec.json.decode(self.value(_READ_INBOX_EVENTS, (before,)))
        return tuple(
            Entry(f"inbox:{user}", position, str(event), self.time, body=body)
            for user, position in placed
        )

    def change_unreachable(self, key: int, state: UserState) -> None:
        """Bring the set of unreachable users in line with the account's `state`: in it are the
        suspended, and the erased as long as a group lists them."""
        changed = self.run(
            "UPDATE users SET reason = ?2 WHERE key = ?1 AND reason IS NOT ?2",
            (key, self._unreachable_reason(key, state)),
        )
        if changed:
            self.state.unreachable_version += 1

    def _unreachable_reason(self, key: int, state: UserState) -> str | None:
        if state is UserState.SUSPENDED:
            return "suspended"
        if state is UserState.ERASED:
            return "not_found" if self.is_listed(key) else None
        return None

    def is_listed(self, key: int) -> bool:
        """Whether some group lists the user as a member."""
        return bool(
            self.value(
                "SELECT EXISTS (SELECT 1 FROM stays INDEXED BY stays_of_user"
                " WHERE user = ? AND role > 0 AND last IS NULL)",
                (key,),
            )
        )
