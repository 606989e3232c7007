"""A store's history as records, all of one snapshot, read part by part."""

from __future__ import annotations

from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from qunxin.records import (
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
from qunxin.stores.sqlite.readers import Reader
from qunxin.stores.sqlite.rows import LAST_MESSAGE_CODE, TYPES, Row

PART_RECORDS: Final = 500
PART_BYTES: Final = 1024 * 1024
"""A part ends at either: it passes through memory whole."""

_HEAD: Final = """
    SELECT epoch, last_key, unreachable_version,
           (SELECT count(*) FROM users) + (SELECT count(*) FROM revoked_tokens)
           + (SELECT count(*) FROM blocks)
           + (SELECT count(*) FROM groups)
           + (SELECT count(*) FROM conversations WHERE kind = 'private')
           + (SELECT count(*) FROM stays) + (SELECT count(*) FROM entries)
           + (SELECT count(*) FROM recalls) + (SELECT count(*) FROM reaches)
           + (SELECT count(*) FROM cursors) + (SELECT count(*) FROM api_keys)
    FROM state
"""


class _Part(NamedTuple):
    """One kind of record: the rows that it is made of, and how."""

    sql: str
    make: Callable[[Row], Record]


def _plain(kind: type[Record]) -> Callable[[Row], Record]:
    """The columns are the kind's fields, in their order."""
    names = kind.__struct_fields__

    def make(row: Row) -> Record:
        return msgspec.convert(dict(zip(names, row, strict=True)), kind, strict=False)

    return make


def _entry(row: Row) -> EntryRecord:
    conversation, position, code, time, *rest, data = row
    given: dict[str, Any] = {}
    if data is not None:
        given["content" if code <= LAST_MESSAGE_CODE else "body"] = msgspec.Raw(data)
    return EntryRecord(conversation, position, TYPES[code], time, *rest, **given)


def _reach(row: Row) -> ReachRecord:
    named = msgspec.msgpack.decode(row[-1])
    return msgspec.convert(
        dict(zip(ReachRecord.__struct_fields__, (*row[:-1], named), strict=True)), ReachRecord
    )


def _api_key(row: Row) -> ApiKeyRecord:
    id_, name, digest, scopes, created, revoked = row
    return ApiKeyRecord(id_, name, digest, tuple(msgspec.json.decode(scopes)), created, revoked)


PARTS: Final = (
    _Part(
        "SELECT user, key, name, state, created, broadcast_first, broadcast_last, erased, reason,"
        " tokens_from FROM users ORDER BY key",
        _plain(UserRecord),
    ),
    _Part(
        "SELECT u.user, r.token, r.keep_until FROM revoked_tokens r JOIN users u ON u.key = r.user",
        _plain(RevokedTokenRecord),
    ),
    _Part(
        "SELECT u.user, b.user FROM blocks k JOIN users u ON u.key = k.user"
        " JOIN users b ON b.key = k.blocked",
        _plain(BlockRecord),
    ),
    _Part(
        "SELECT substr(c.name, 7), g.key, g.name, g.state, g.history, g.require, g.muted,"
        " g.members, g.membership_version, g.created"
        " FROM groups g JOIN conversations c ON c.key = g.key ORDER BY g.key",
        _plain(GroupRecord),
    ),
    _Part(
        "SELECT name, key FROM conversations WHERE kind = 'private' ORDER BY key",
        _plain(PrivateRecord),
    ),
    _Part(
        "SELECT c.name, u.user, s.joined, s.first, s.role, s.last, s.muted FROM stays s"
        " JOIN conversations c ON c.key = s.conversation JOIN users u ON u.key = s.user",
        _plain(StayRecord),
    ),
    _Part(
        "SELECT c.name, e.position, e.type, e.time, u.user, e.key, e.digest, e.members,"
        " e.membership_version, e.unreachable_version, e.data FROM entries e"
        " JOIN conversations c ON c.key = e.conversation"
        " LEFT JOIN users u ON u.key = e.sender ORDER BY e.id",
        _entry,
    ),
    _Part(
        "SELECT c.name, r.target, r.position FROM recalls r"
        " JOIN conversations c ON c.key = r.conversation",
        _plain(RecallRecord),
    ),
    _Part(
        "SELECT c.name, r.membership_version, r.unreachable_version, r.members,"
        " r.unreachable_count, r.named FROM reaches r"
        " JOIN conversations c ON c.key = r.conversation",
        _reach,
    ),
    _Part(
        "SELECT c.name, u.user, k.delivered, k.read, k.missed_from, k.missed_to FROM cursors k"
        " JOIN conversations c ON c.key = k.conversation JOIN users u ON u.key = k.user",
        _plain(CursorRecord),
    ),
    _Part("SELECT id, name, digest, scopes, created, revoked FROM api_keys", _api_key),
)


class Export:
    """One export, on a thread of its own. Its snapshot keeps the write-ahead log from being begun
    anew until it is closed."""

    def __init__(self, path: Path, *, vfs: str | None = None) -> None:
        self._reader = Reader(path, vfs=vfs)
        self._reader.__enter__()
        self._records = self._all()

    def next_part(self) -> tuple[Record, ...]:
        """The next records; none when the last have been given."""
        part: list[Record] = []
        size = 0
        for record in self._records:
            part.append(record)
            if isinstance(record, EntryRecord):
                size += len(memoryview(record.content)) + len(memoryview(record.body))
            if len(part) >= PART_RECORDS or size >= PART_BYTES:
                break
        return tuple(part)

    def _all(self) -> Generator[Record]:
        epoch, last_key, version, records = self._reader.rows(_HEAD).get
        yield HeadRecord("qunxin-export-1", epoch, records + 2, last_key, version)
        for sql, make in PARTS:
            for row in self._reader.rows(sql):
                yield make(row)
        yield EndRecord()

    def rest(self) -> float | None:
        return None

    def close(self) -> None:
        self._records.close()
        self._reader.__exit__()
        self._reader.close()
