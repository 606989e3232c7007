"""What a webhook is told: one event for one entry, read at the moment of sending.

So a message that was recalled before an attempt goes out as its tombstone, however long it has
waited.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Final
from urllib.parse import quote

import msgspec

from qunxin.engine import Engine
from qunxin.engine.webhooks import EVENT_OF
from qunxin.model import (
    NAMED_LIMIT,
    Conversation,
    ConversationKind,
    DeliveryState,
    Entry,
)
from qunxin.store.reads import OutboxItem
from qunxin.wire.entries import encode_entry

COUNTED_MEMBERS: Final = 10_000
"""In larger groups `offline` is not counted: that would read every cursor for every event."""

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
    """Reads events from the engine's store. Ledgers are read one at a time, so that large groups
    never take all readers of the store from the users."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._one_ledger = asyncio.Semaphore(1)

    async def read(self, item: OutboxItem) -> bytes:
        """The event of that entry as it is now, as JSON text. Raises what the store raises."""
        page = await self._engine.store.read_log(
            item.conversation, None, after=item.position - 1, limit=1
        )
        entry = page.entries[0]
        body = msgspec.Raw(encode_entry(entry))
        facts = await self._facts(item.conversation)
        offline = await self._offline(entry, facts.members or 0)
        moment = datetime.fromtimestamp(entry.time / 1000, UTC)
        stamp = moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        data = EventData(self._engine.epoch, facts, body, offline)
        return _encode(Event(EVENT_OF[entry.type], stamp, data))

    async def _facts(self, name: str) -> ConversationFacts:
        conversation = Conversation.parse(name)
        if conversation is None:
            raise ValueError(f"the outbox names no conversation: {name}")
        kind = str(conversation.kind)
        if conversation.kind is ConversationKind.PRIVATE:
            return ConversationFacts(name, kind, users=conversation.parts)
        if conversation.kind is not ConversationKind.GROUP:
            return ConversationFacts(name, kind)
        (group,) = conversation.parts
        found = await self._engine.store.read_group(group)
        if found is None:
            return ConversationFacts(name, kind, group)
        return ConversationFacts(name, kind, group, found.name, found.members)

    async def _offline(self, entry: Entry, members: int) -> Offline | None:
        if not entry.is_message or entry.recalled is not None:
            return None
        name, position = entry.conversation, entry.position
        connected = self._engine.connected_to(name, position)
        counted = members <= COUNTED_MEMBERS
        async with self._one_ledger:
            page = await self._engine.store.list_deliveries(
                name,
                position,
                state=DeliveryState.QUEUED,
                limit=NAMED_LIMIT,
                without=connected,
                counted=counted,
            )
        if page is None:
            return None
        users = tuple(one.user for one in page.deliveries)
        most = max(len(users), members - len({*connected, entry.sender}))
        count = page.counts[DeliveryState.QUEUED] if counted else most
        return Offline(count, users, _next(entry, page.next_cursor))


def _next(entry: Entry, cursor: str | None) -> str | None:
    if cursor is None:
        return None
    name = quote(entry.conversation, safe="")
    path = f"/v1/conversations/{name}/entries/{entry.position}/deliveries"
    return f"{path}?state=queued&cursor={quote(cursor, safe='')}"
