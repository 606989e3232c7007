"""Catching up: from a position in the log to the live stream, without a gap and without a repeat.

The pure part: where a subscription begins, and how a page of the log becomes a delivery in which
every position is either an entry or inside an explicit hidden range.
"""

from __future__ import annotations

from collections.abc import Iterable

from qunxin.engine.sink import Delivery, Position, SubscriptionStart
from qunxin.model import Entry, EventType
from qunxin.store.reads import ConversationRow, LogPage


def plan_start(
    row: ConversationRow, asked: Position | None, epoch: str, budget: int
) -> SubscriptionStart:
    """Where a session's subscription begins.

    A device that says where it stands goes on from there; one that does not is served from what
    none of its user's devices has proved to have. Both only where the log still fits what the
    device says and `budget` entries are enough; otherwise `recovered` is false and the
    subscription begins at the head.
    """
    position = row.start if asked is None else asked.position
    possible = asked is None or asked.epoch == epoch
    recovered = possible and 0 <= position <= row.head and row.head - position <= budget
    return SubscriptionStart(
        conversation=row.conversation,
        epoch=epoch,
        position=position if recovered else row.head,
        recovered=recovered,
        asked=asked is not None,
        row=row,
    )


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
