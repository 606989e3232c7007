"""What a store's history is written out as: one plain record for each thing that it holds.

A contract of its own, and a part of the store's: `export_records` gives them in the order of this
file, `import_records` takes them in that order, and as JSON Lines (`encode_record`,
`decode_record`) they are the format of ``qunxin export``. Things are named by their ids; integer
keys are kept too, so that whatever was made with them stays right.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Annotated, Final, Literal, Protocol, TypeAlias

import msgspec
from msgspec import Meta

from qunxin.model import GroupState, History, Reason, Require, Unreachable, UserState

NOTHING: Final = msgspec.Raw()
"""Stands for content or body that is not there."""

_Number: TypeAlias = Annotated[int, Meta(ge=0)]
_Place: TypeAlias = Annotated[int, Meta(ge=1)]


class _Record(
    msgspec.Struct,
    frozen=True,
    tag_field="record",
    omit_defaults=True,
    forbid_unknown_fields=True,  # an older version would lose what a later one adds
):
    """One line of an export."""


class HeadRecord(_Record, frozen=True, tag="head"):
    """The first. `records` counts all, this one and the last included; `epoch` is that of the
    store which wrote them; `last_key` the highest integer key that it gave out."""

    format: Literal["qunxin-export-1"]
    epoch: str
    records: _Number
    last_key: _Number
    unreachable_version: _Number


class UserRecord(_Record, frozen=True, tag="user"):
    """An account, erased ones included. Broadcasts from `broadcast_first` on are theirs to read.
    `reason` says why they count as unreachable; tokens made before `tokens_from` are revoked."""

    user: str
    key: _Place
    name: str
    state: UserState
    created: _Number
    broadcast_first: _Place
    broadcast_last: _Number | None = None
    erased: _Number | None = None
    reason: Reason | None = None
    tokens_from: _Number = 0


class RevokedTokenRecord(_Record, frozen=True, tag="revoked_token"):
    """One token that is refused, by its id; forgotten after `keep_until`, when it has expired."""

    user: str
    token: str
    keep_until: _Number


class BlockRecord(_Record, frozen=True, tag="block"):
    user: str
    blocked: str


class GroupRecord(_Record, frozen=True, tag="group"):
    """A group, dissolved ones included."""

    group: str
    key: _Place
    name: str
    state: GroupState
    history: History
    require: Require
    muted: bool
    members: _Number
    membership_version: _Number
    created: _Number


class PrivateRecord(_Record, frozen=True, tag="private"):
    """A private conversation."""

    conversation: str
    key: _Place


class StayRecord(_Record, frozen=True, tag="stay"):
    """One membership from `joined` to `last` (still going on where that is missing), which
    entitles to read from `first` on. `role` is 0 in private conversations."""

    conversation: str
    user: str
    joined: _Place
    first: _Place
    role: Annotated[int, Meta(ge=0, le=3)]
    last: _Number | None = None
    muted: bool = False


class EntryRecord(_Record, frozen=True, tag="entry"):
    """One entry, in the order in which they were appended. A message has `content`, unless it
    was recalled; an event has `body`. The rest is what a repeat of its key is answered from."""

    conversation: str
    position: _Place
    type: str
    time: int
    sender: str | None = None
    key: str | None = None
    digest: bytes | None = None
    members: _Number | None = None
    membership_version: _Number | None = None
    unreachable_version: _Number | None = None
    content: msgspec.Raw = NOTHING
    body: msgspec.Raw = NOTHING


class RecallRecord(_Record, frozen=True, tag="recall"):
    """The message at `target` was recalled by the entry at `position`."""

    conversation: str
    target: _Place
    position: _Place


class ReachRecord(_Record, frozen=True, tag="reach"):
    """Who could not be reached by the keyed messages of these versions."""

    conversation: str
    membership_version: _Number
    unreachable_version: _Number
    members: _Number
    unreachable_count: _Number
    named: tuple[Unreachable, ...]


class CursorRecord(_Record, frozen=True, tag="cursor"):
    """A `Cursor`; nothing is missed where the last two are missing."""

    conversation: str
    user: str
    delivered: _Number
    read: _Number
    missed_from: _Number = 0
    missed_to: _Number = 0


class ApiKeyRecord(_Record, frozen=True, tag="api_key"):
    """An API key's digest, never the key."""

    id: str
    name: str
    digest: bytes
    scopes: tuple[str, ...]
    created: _Number
    revoked: _Number | None = None


class EndRecord(_Record, frozen=True, tag="end"):
    """The last. An export without it was cut off."""


Record: TypeAlias = (
    HeadRecord
    | UserRecord
    | RevokedTokenRecord
    | BlockRecord
    | GroupRecord
    | PrivateRecord
    | StayRecord
    | EntryRecord
    | RecallRecord
    | ReachRecord
    | CursorRecord
    | ApiKeyRecord
    | EndRecord
)

_encoder: Final = msgspec.json.Encoder()
_decoder: Final = msgspec.json.Decoder[Record](Record)


def encode_record(record: Record) -> bytes:
    """One line, its end included."""
    return _encoder.encode(record) + b"\n"


def decode_record(line: bytes) -> Record:
    """The record of one line. Raises `msgspec.ValidationError` or `msgspec.DecodeError`."""
    record: Record = _decoder.decode(line)
    return record


class RecordStore(Protocol):
    """The part of a store that moves whole histories. Webhooks, with their secrets and what still
    waits for them, are no part of a history."""

    def export_records(self) -> AsyncGenerator[Sequence[Record], None]:
        """The whole history as records, part by part, all of one snapshot, while commits go on.
        Closing the iterator releases it. Raises `store_unavailable` where the store is closed
        before the end."""
        ...

    async def import_records(self, records: Sequence[Record]) -> None:
        """Take the next part of an export, durable on return, into a store that held nothing when
        the first part came. With the last part the history is whole: positions, ids and keys as
        they were, under this store's own epoch.

        Parts are to come one after the other. Until the last one, and after a refusal
        (`invalid_request`: the store held something, a record is not in its place, names what did
        not come before it, or is missing), the store is of no other use and is to be deleted.
        """
        ...
