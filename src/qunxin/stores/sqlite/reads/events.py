"""Entries of the outbox, and what whoever is told of them would look up next, in one snapshot."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from qunxin.model import Entry, Group, MessageType
from qunxin.store.reads import EventRead, OutboxEvent
from qunxin.stores.sqlite.readers import Reader
from qunxin.stores.sqlite.reads.directory import read_group
from qunxin.stores.sqlite.reads.ledger import QueuedRead, read_queued
from qunxin.stores.sqlite.rows import ENTRY_COLUMNS, ENTRY_TABLES, entry_from_row

_KEY: Final = "SELECT key FROM conversations WHERE name = ?"
_ENTRY: Final = f"""
    SELECT e.sender, {ENTRY_COLUMNS} FROM {ENTRY_TABLES}
    WHERE e.conversation = ? AND e.position = ?
"""  # noqa: S608


class EventLimits(NamedTuple):
    """The meaning of each stands at `Store.read_events`."""

    named: int
    audience: int
    max_bytes: int


class _Place(NamedTuple):
    """A conversation, looked up once for all of its entries."""

    key: int
    group: Group | None


def read_events(
    reader: Reader, asked: Sequence[EventRead], limits: EventLimits
) -> tuple[OutboxEvent, ...]:
    events: list[OutboxEvent] = []
    places: dict[str, _Place] = {}
    audience = size = 0
    with reader:
        for one in asked:
            place = places.get(one.conversation)
            if place is None:
                place = places[one.conversation] = _place(reader, one.conversation)
            sender, entry = _entry(reader, place.key, one)
            audience += _audience(entry, place, limits)
            size += len(entry.content or b"")
            if events and (audience > limits.audience or size > limits.max_bytes):
                break
            events.append(_event(reader, one, place, sender, entry, limits))
    return tuple(events)


def _place(reader: Reader, name: str) -> _Place:
    kind, _, rest = name.partition(":")
    group = read_group(reader, rest) if kind == "group" else None
    return _Place(reader.value(_KEY, (name,)) if group is None else group.key, group)


def _audience(entry: Entry, place: _Place, limits: EventLimits) -> int:
    """Whom the ledger of the entry is about; everybody, for a broadcast."""
    if not entry.is_message:
        return 0
    if entry.type == MessageType.BROADCAST:
        return limits.audience
    return 2 if place.group is None else place.group.members


def _entry(reader: Reader, key: int, one: EventRead) -> tuple[int | None, Entry]:
    row = reader.row(_ENTRY, (key, one.position))
    if row is None:
        raise LookupError(f"no entry {one.conversation} {one.position}")
    sender, *columns = row
    return sender, entry_from_row(one.conversation, tuple(columns))


def _event(
    reader: Reader,
    one: EventRead,
    place: _Place,
    sender: int | None,
    entry: Entry,
    limits: EventLimits,
) -> OutboxEvent:
    if not entry.is_message or entry.recalled is not None:
        return OutboxEvent(entry, place.group)
    counted = place.group is None or place.group.members <= limits.audience
    asked = QueuedRead(place.key, one.position, sender, one.without, limits.named, counted)
    return OutboxEvent(entry, place.group, read_queued(reader, asked))
