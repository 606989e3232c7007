"""Records back into rows: what an export gave, taken by a store that holds nothing yet."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import apsw
import msgspec

from qunxin.errors import QunxinError
from qunxin.model import Conversation, Cursor, MessageType, is_valid_id
from qunxin.records import (
    NOTHING,
    ApiKeyRecord,
    BlockRecord,
    CursorRecord,
    EndRecord,
    EntryRecord,
    GroupRecord,
    HeadRecord,
    PrivateRecord,
    ReachRecord,
    RecallRecord,
    Record,
    RevokedTokenRecord,
    StayRecord,
    UserRecord,
)
from qunxin.stores.sqlite.rows import OPERATOR, TYPE_CODES
from qunxin.stores.sqlite.transaction import Transaction

_USED: Final = (
    "SELECT EXISTS (SELECT 1 FROM users) OR EXISTS (SELECT 1 FROM entries)"
    " OR EXISTS (SELECT 1 FROM api_keys)"
)
_HIGHEST_KEY: Final = (
    "SELECT max((SELECT COALESCE(max(key), 0) FROM users), max(key)) FROM conversations"
)
_GAP: Final = """
    SELECT c.name FROM entries e JOIN conversations c ON c.key = e.conversation
    GROUP BY e.conversation HAVING max(e.position) <> count(*) LIMIT 1
"""
_CONVERSATION: Final = "INSERT INTO conversations (key, kind, name) VALUES (?, ?, ?)"
_STAY: Final = """
    INSERT INTO stays (conversation, user, joined, first, last, role, muted)
    SELECT c.key, u.key, ?3, ?4, ?5, ?6, ?7 FROM conversations c, users u
    WHERE c.name = ?1 AND u.user = ?2
"""
_ENTRY: Final = """
    INSERT INTO entries (conversation, position, type, time, sender, key, digest,
                         members, membership_version, unreachable_version, data)
    SELECT c.key, ?2, ?3, ?4, CASE WHEN ?5 IS NULL THEN ?6 ELSE u.key END,
           ?7, ?8, ?9, ?10, ?11, ?12
    FROM conversations c LEFT JOIN users u ON u.user = ?5
    WHERE c.name = ?1 AND (?5 IS NULL OR u.key IS NOT NULL)
"""
_MESSAGES: Final = frozenset(str(kind) for kind in MessageType)


class Import:
    """One import, over as many transactions as it has parts. `finished` once the end came."""

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx
        self._head: HeadRecord | None = None
        self._taken = 0
        self.finished = False

    def take(self, records: Sequence[Record]) -> None:
        """Write the next `records`. Raises `invalid_request` for one that cannot be; the store is
        to be thrown away then."""
        for record in records:
            self._taken += 1
            try:
                self._take(record)
            except apsw.ConstraintError as error:
                raise self._refusal(f"{error}") from error

    def _take(self, record: Record) -> None:
        if self.finished:
            raise self._refusal("it comes after the end")
        if isinstance(record, HeadRecord):
            self._begin(record)
        elif self._head is None:
            raise self._refusal("an export begins with its head")
        elif isinstance(record, EndRecord):
            self._finish(self._head)
        else:
            _WRITERS[type(record)](self, record)

    def _begin(self, head: HeadRecord) -> None:
        if self._head is not None:
            raise self._refusal("there is a second head")
        if self._tx.value(_USED):
            raise QunxinError("invalid_request", detail="the store is not empty")
        self._head = head
        self._tx.state.last_key = head.last_key
        self._tx.state.unreachable_version = head.unreachable_version

    def _finish(self, head: HeadRecord) -> None:
        if self._taken != head.records:
            raise self._refusal(f"{head.records} records were promised, {self._taken} came")
        if self._tx.value(_HIGHEST_KEY) > head.last_key:
            raise self._refusal("a key is above the highest that was given out")
        gap = self._tx.value(_GAP)
        if gap is not None:
            raise self._refusal(f"positions are missing in {gap}")
        state = self._tx.state
        state.accounts = self._tx.value("SELECT count(*) FROM users WHERE state <> 'erased'")
        self.finished = True

    def write(self, sql: str, *bindings: Any) -> None:
        """Write one row, or refuse the record that it is of."""
        if self._tx.run(sql, bindings) != 1:
            raise self._refusal("it names somebody or something that did not come before it")

    def check_id(self, value: str) -> None:
        if not is_valid_id(value):
            raise self._refusal(f"{value!r} is not a valid id")

    def _refusal(self, why: str) -> QunxinError:
        return QunxinError("invalid_request", detail=f"record {self._taken}: {why}")


def _user(to: Import, one: UserRecord) -> None:
    to.check_id(one.user)
    to.write(
        "INSERT INTO users (key, user, name, state, reason, created, erased, broadcast_first,"
        " broadcast_last, tokens_from) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        *(one.key, one.user, one.name, one.state, one.reason),
        *(one.created, one.erased, one.broadcast_first, one.broadcast_last, one.tokens_from),
    )
    to.write(_CONVERSATION, one.key, "inbox", f"inbox:{one.user}")


def _revoked_token(to: Import, one: RevokedTokenRecord) -> None:
    to.write(
        "INSERT INTO revoked_tokens (user, token, keep_until)"
        " SELECT key, ?2, ?3 FROM users WHERE user = ?1",
        *(one.user, one.token, one.keep_until),
    )


def _block(to: Import, one: BlockRecord) -> None:
    to.write(
        "INSERT INTO blocks (user, blocked) SELECT u.key, b.key FROM users u, users b"
        " WHERE u.user = ? AND b.user = ?",
        *(one.user, one.blocked),
    )


def _group(to: Import, one: GroupRecord) -> None:
    to.check_id(one.group)
    to.write(_CONVERSATION, one.key, "group", f"group:{one.group}")
    to.write(
        "INSERT INTO groups (key, name, state, history, require, muted, members,"
        " membership_version, created) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        *(one.key, one.name, one.state, one.history, one.require),
        *(one.muted, one.members, one.membership_version, one.created),
    )


def _private(to: Import, one: PrivateRecord) -> None:
    parsed = Conversation.parse(one.conversation)
    for part in ("",) if parsed is None else parsed.parts:
        to.check_id(part)
    to.write(_CONVERSATION, one.key, "private", one.conversation)


def _stay(to: Import, one: StayRecord) -> None:
    to.write(
        _STAY,
        *(one.conversation, one.user, one.joined, one.first, one.last, one.role, one.muted),
    )


def _entry(to: Import, one: EntryRecord) -> None:
    code = TYPE_CODES.get(one.type)
    message = one.type in _MESSAGES
    data = one.content if message else one.body
    to.write(
        _ENTRY,
        *(one.conversation, one.position, code, one.time),
        *(one.sender, OPERATOR if message else None, one.key, one.digest),
        *(one.members, one.membership_version, one.unreachable_version),
        None if data == NOTHING else bytes(data),
    )


def _recall(to: Import, one: RecallRecord) -> None:
    to.write(
        "INSERT INTO recalls (conversation, target, position)"
        " SELECT key, ?2, ?3 FROM conversations WHERE name = ?1",
        *(one.conversation, one.target, one.position),
    )


def _reach(to: Import, one: ReachRecord) -> None:
    to.write(
        "INSERT INTO reaches SELECT key, ?2, ?3, ?4, ?5, ?6 FROM conversations WHERE name = ?1",
        *(one.conversation, one.membership_version, one.unreachable_version),
        *(one.members, one.unreachable_count, msgspec.msgpack.encode(one.named)),
    )


def _cursor(to: Import, one: CursorRecord) -> None:
    cursor = Cursor(
        *(one.user, one.conversation, one.delivered, one.read, one.missed_from, one.missed_to)
    ).settled()
    to.write(
        "INSERT INTO cursors (conversation, user, delivered, read, missed_from, missed_to)"
        " SELECT c.key, u.key, ?3, ?4, ?5, ?6 FROM conversations c, users u"
        " WHERE c.name = ?1 AND u.user = ?2",
        *(cursor.conversation, cursor.user, cursor.delivered, cursor.read),
        *(cursor.missed_from, cursor.missed_to),
    )


def _api_key(to: Import, one: ApiKeyRecord) -> None:
    scopes = msgspec.json.encode(one.scopes).decode()
    to.write(
        "INSERT INTO api_keys (id, name, digest, scopes, created, revoked)"
        " VALUES (?, ?, ?, ?, ?, ?)",
        *(one.id, one.name, one.digest, scopes, one.created, one.revoked),
    )


_WRITERS: Final[dict[type[Any], Callable[[Import, Any], None]]] = {
    UserRecord: _user,
    RevokedTokenRecord: _revoked_token,
    BlockRecord: _block,
    GroupRecord: _group,
    PrivateRecord: _private,
    StayRecord: _stay,
    EntryRecord: _entry,
    RecallRecord: _recall,
    ReachRecord: _reach,
    CursorRecord: _cursor,
    ApiKeyRecord: _api_key,
}
