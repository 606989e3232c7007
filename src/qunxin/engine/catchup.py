"""Catching up: from a position in the log to the live stream, without a gap and without a repeat.

The pure part: where a subscription begins, and how a page of the log becomes a delivery in which
every position is either an entry or inside an explicit hidden range.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from qunxin.engine.sink import NOTHING, Delivery, Missed, Position, SubscriptionStart
from qunxin.model import Entry, EventType
from qunxin.store.reads import ConversationRow, LogPage


def plan_start(
    row: ConversationRow, asked: Position | None, epoch: str, budget: int
) -> SubscriptionStart:
    """Where a session's subscription begins.

    A device that says where it stands goes on from there; one that does not is served from what
    none of its user's devices is known to have, or where that is too much, from beyond what they
    missed. All only where the log still fits what the device says and `budget` entries are
    enough; otherwise `recovered` is false and the subscription begins at the head.
    """
    if asked is None:
        return _first_within(_unasked(row), row, epoch, budget)
    places = [Place(asked.position)] if asked.epoch == epoch else []
    start = _first_within(places, row, epoch, budget)
    return msgspec.structs.replace(start, asked=True)


class Place(NamedTuple):
    """Where a device stands in a conversation, and what below that it does not vouch for.

    A device's own word says nothing of that (None): since it keeps the position where it was told
    to reload, it may never have been given what the store holds as missed.
    """

    position: int
    missed: Missed | None = None


def plan_gained(
    row: ConversationRow, joined: int, left: Place | None, epoch: str, budget: int
) -> SubscriptionStart:
    """Where the subscription begins of a session whose user came into a conversation.

    On from what the session was given of it before, so that the time outside is a hidden range
    like any other; else as without a position, and no later than `joined`, the first joining that
    the device was not told of before: it has nothing of what came after. Beyond `budget` entries
    at the head, as in `plan_start`.
    """
    if left is not None and left.position > 0:
        return _first_within([left], row, epoch, budget)
    before = max(0, joined - 1)
    places = [place._replace(position=min(place.position, before)) for place in _unasked(row)]
    return _first_within(places, row, epoch, budget)


def reload_at(start: SubscriptionStart, position: int) -> SubscriptionStart:
    """The same, but beginning at `position` and not recovered: of what is below nothing is
    known."""
    missed = (1, position) if position else NOTHING
    return msgspec.structs.replace(start, position=position, recovered=False, missed=missed)


def skips(start: SubscriptionStart) -> bool:
    """Whether the device is told to keep a position below which it was not given something that
    no other is known to have. The store must know that first."""
    return not start.recovered and (start.row is None or start.position > start.row.delivered)


def _unasked(row: ConversationRow) -> list[Place]:
    first = Place(row.start, NOTHING)
    return [first, Place(row.beyond)] if row.missed_to else [first]


def _first_within(
    places: Iterable[Place], row: ConversationRow, epoch: str, budget: int
) -> SubscriptionStart:
    start = SubscriptionStart(row.conversation, epoch, 0, recovered=True, asked=False, row=row)
    for position, missed in places:
        if 0 <= position <= row.head and row.head - position <= budget:
            found = _missed_below(row, position) if missed is None else missed
            return msgspec.structs.replace(start, position=position, missed=found)
    return reload_at(start, row.head)


def _missed_below(row: ConversationRow, position: int) -> Missed:
    if 0 < row.missed_from <= position:
        return row.missed_from, min(row.missed_to, position)
    return NOTHING


def joinings(entries: Iterable[Entry]) -> dict[str, int]:
    """What entries of an inbox tell of conversations that its user came into: the position of the
    first joining, by conversation."""
    first: dict[str, int] = {}
    for entry in entries:
        if entry.type in (EventType.MEMBER, EventType.CONTACT):
            body = entry.body or {}
            first.setdefault(str(body["conversation_joined"]), int(body.get("joined", 1)))
    return first


def fill_hidden(
    conversation: str, entries: tuple[Entry, ...], after: int, through: int
) -> tuple[Entry, ...]:
    """`entries` with a hidden range for every run of positions between `after` and `through`
    that they leave out."""
    filled: list[Entry] = []
    position = after
    for entry in entries:
        if entry.position > position + 1:
            filled.append(hidden(conversation, position + 1, entry.position - 1, entry.time))
        filled.append(entry)
        position = entry.position
    if through > position:
        filled.append(hidden(conversation, position + 1, through, 0))
    return tuple(filled)


def hidden(conversation: str, first: int, last: int, time: int) -> Entry:
    """The range `first` to `last`, which its reader may not see; it stands at `last`. Its time
    is that of the next visible entry, 0 where there is none."""
    return Entry(
        conversation=conversation,
        position=last,
        type=EventType.HIDDEN,
        time=time,
        body={"first": first, "last": last},
    )


def last_readable(page: LogPage) -> int:
    """The last position that the page's reader may know of: the head while they are in the
    conversation, the end of their last stay afterwards, 0 for one who never was."""
    if not page.intervals:
        return 0
    end = page.intervals[-1].last
    return page.head if end is None else min(end, page.head)


def page_delivery(conversation: str, after: int, page: LogPage) -> Delivery | None:
    """What a page read from `after` hands to a session; None where it holds nothing new."""
    through = min(page.through, last_readable(page))
    if through <= after:
        return None
    visible = tuple(entry for entry in page.entries if entry.position <= through)
    entries = fill_hidden(conversation, visible, after, through)
    return Delivery(conversation, entries, after + 1, through)


def has_ended(page: LogPage, position: int) -> bool:
    """Whether a reader who has been given everything to `position` is no longer in the
    conversation and has had all that was theirs."""
    if not page.intervals:
        return True
    end = page.intervals[-1].last
    return end is not None and position >= min(end, page.head)
