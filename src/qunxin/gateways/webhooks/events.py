"""What a webhook is told: one event for one entry, as it is when it is read."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final
from urllib.parse import quote

import msgspec

from qunxin.engine import Engine
from qunxin.engine.webhooks import EVENT_OF
from qunxin.model import NAMED_LIMIT, Conversation, ConversationKind, Entry
from qunxin.store.reads import EventRead, OutboxEvent, OutboxItem
from qunxin.wire.entries import encode_entry

COUNTED_MEMBERS: Final = 10_000
"""In larger groups `offline` is not counted: that would read every cursor for every event. Events
that are together about more members are not read at once. One alone may be: of a larger group so
many are read as it takes to name the first, and a broadcast is counted over all accounts."""
CONNECTED_MEMBERS: Final = 1_000
"""No page goes on above so many who are connected, over all its events."""

_encode: Final = msgspec.json.Encoder().encode


class ConversationFacts(msgspec.Struct, frozen=True, omit_defaults=True):
    """The conversation of an event: its name, and what an application would look up next."""

    conversation: str
    kind: str
    group: str | None = None
    name: str | None = None
    """The group's display name."""
    members: int | None = None
    users: tuple[str, ...] = ()
    """The two of a private conversation."""


class Offline(msgspec.Struct, frozen=True):
    """Who has not got a message and has no connected device that is being given it."""

    count: int
    """In groups above `COUNTED_MEMBERS` an estimate from the members there are now."""
    users: tuple[str, ...]
    """The first 100."""
    next: str | None
    """The path of the ledger's page that goes on from there."""


class EventData(msgspec.Struct, frozen=True, omit_defaults=True):
    """What an event carries."""

    epoch: str
    conversation: ConversationFacts
    entry: msgspec.Raw
    offline: Offline | None = None
    """Of a message that was not recalled."""


class Event(msgspec.Struct, frozen=True):
    """The body of one request."""

    type: str
    timestamp: str
    data: EventData


def event_id(epoch: str, item: OutboxItem) -> str:
    """The event's name, the same at each attempt and each replay. A full stop would end it in
    what is signed, so it is written as in an address."""
    return f"{epoch}:{item.conversation.replace('.', '%2E')}:{item.position}"


class EventReader:
    """Reads events from the engine's store, for all webhooks of a node. Pages are read one at a
    time, so that ledgers of large groups never take all readers of the store from the users."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._one_page = asyncio.Semaphore(1)

    async def read(self, items: Sequence[OutboxItem]) -> list[bytes]:
        """The events of the first of those entries as they are now, at least one, as JSON text.
        Raises what the store raises."""
        async with self._one_page:
            asked = self._asked(items)
            found = await self._engine.store.read_events(
                asked, named=NAMED_LIMIT, audience=COUNTED_MEMBERS
            )
        epoch = self._engine.epoch
        return [_event(epoch, event, one.without) for event, one in zip(found, asked, strict=False)]

    def _asked(self, items: Sequence[OutboxItem]) -> list[EventRead]:
        """Fewer where many are connected, who are looked up for each message."""
        asked: list[EventRead] = []
        connected = 0
        for item in items:
            without: tuple[str, ...] = ()
            if EVENT_OF[item.type] == "message.created":
                without = self._engine.connected_to(item.conversation, item.position)
            asked.append(EventRead(item.conversation, item.position, without))
            connected += len(without)
            if connected > CONNECTED_MEMBERS:
                break
        return asked


def _event(epoch: str, event: OutboxEvent, connected: tuple[str, ...]) -> bytes:
    entry = event.entry
    moment = datetime.fromtimestamp(entry.time / 1000, UTC)
    stamp = moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    body = msgspec.Raw(encode_entry(entry))
    data = EventData(epoch, _facts(event), body, _offline(event, connected))
    return _encode(Event(EVENT_OF[entry.type], stamp, data))


def _facts(event: OutboxEvent) -> ConversationFacts:
    name = event.entry.conversation
    conversation = Conversation.parse(name)
    if conversation is None:
        raise ValueError(f"the outbox names no conversation: {name}")
    kind = str(conversation.kind)
    if conversation.kind is ConversationKind.PRIVATE:
        return ConversationFacts(name, kind, users=conversation.parts)
    if conversation.kind is not ConversationKind.GROUP:
        return ConversationFacts(name, kind)
    (group,) = conversation.parts
    if event.group is None:
        return ConversationFacts(name, kind, group)
    return ConversationFacts(name, kind, group, event.group.name, event.group.members)


def _offline(event: OutboxEvent, connected: tuple[str, ...]) -> Offline | None:
    queued, entry = event.queued, event.entry
    if queued is None:
        return None
    count = queued.count
    if count is None:
        members = 0 if event.group is None else event.group.members
        count = max(len(queued.users), members - len({*connected, entry.sender}))
    return Offline(count, queued.users, _next(entry, queued.next_cursor))


def _next(entry: Entry, cursor: str | None) -> str | None:
    if cursor is None:
        return None
    name = quote(entry.conversation, safe="")
    path = f"/v1/conversations/{name}/entries/{entry.position}/deliveries"
    return f"{path}?state=queued&cursor={quote(cursor, safe='')}"
