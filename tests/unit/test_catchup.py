"""Catching up, the pure part: where a subscription begins, and hidden ranges."""

from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qunxin.engine.catchup import (
    Place,
    fill_hidden,
    has_ended,
    joinings,
    last_readable,
    page_delivery,
    plan_gained,
    plan_start,
    reload_at,
    skips,
)
from qunxin.engine.sink import NOTHING, Missed, Position
from qunxin.model import Entry, EventType, Interval, Role
from qunxin.store.reads import ConversationRow, LogPage

TEA = "group:tea"


def row(*, head: int, start: int) -> ConversationRow:
    return ConversationRow(
        conversation=TEA,
        name="茶馆 🍵",
        head=head,
        time=1,
        joined=1,
        start=start,
        role=Role.MEMBER,
        delivered=start,
        read=0,
        unread=0,
    )


def entry(position: int) -> Entry:
    return Entry(TEA, position, "group", 1_000 + position, "alice")


@pytest.mark.parametrize(
    ("asked", "budget", "position", "recovered"),
    [
        (None, 100, 4, True),
        (None, 5, 10, False),
        (Position("e", 7), 100, 7, True),
        (Position("e", 10), 0, 10, True),
        (Position("e", 0), 100, 0, True),
        (Position("e", 0), 9, 10, False),
        (Position("e", 11), 100, 10, False),
        (Position("e", -1), 100, 10, False),
        (Position("older", 7), 100, 10, False),
        (Position("", 7), 100, 10, False),
    ],
)
def test_where_a_subscription_begins(
    asked: Position | None, budget: int, position: int, recovered: bool
) -> None:
    """From the device's own position or its user's cursor; at the head, with `recovered` false,
    where another epoch, a position beyond the head or the budget make that impossible."""
    start = plan_start(row(head=10, start=4), asked, "e", budget)
    assert (start.position, start.recovered) == (position, recovered)
    assert start.asked is (asked is not None)


def with_hole(*, head: int) -> ConversationRow:
    """Its user's devices have 1 to 4 and 8 to 20, and 21 is from when the user was out."""
    found = row(head=head, start=4)
    return msgspec.structs.replace(found, delivered=20, missed_from=5, missed_to=7, beyond=21)


@pytest.mark.parametrize(
    ("asked", "budget", "position", "missed"),
    [
        (None, 26, 4, NOTHING),
        (None, 25, 21, (5, 7)),
        (None, 9, 21, (5, 7)),
        (None, 8, 30, (1, 30)),
        (Position("e", 4), 30, 4, NOTHING),
        (Position("e", 6), 30, 6, (5, 6)),
        (Position("e", 12), 30, 12, (5, 7)),
        (Position("e", 28), 30, 28, (5, 7)),
        (Position("e", 12), 9, 30, (1, 30)),
        (Position("older", 28), 30, 30, (1, 30)),
    ],
)
def test_where_a_subscription_begins_where_something_was_missed(
    asked: Position | None, budget: int, position: int, missed: Missed
) -> None:
    """A device without a position begins before it where that is not too much, otherwise beyond
    it. No device vouches for what is missed and lies below where it stands, and one that is told
    to reload for nothing at all."""
    start = plan_start(with_hole(head=30), asked, "e", budget)
    assert (start.position, start.missed) == (position, missed)
    assert start.recovered is (missed != (1, 30))
    assert skips(start) is not start.recovered


def test_nobody_skips_what_another_device_has() -> None:
    """Told to reload at a head that is known already, the device makes nothing missed."""
    start = plan_start(with_hole(head=20), Position("older", 3), "e", 30)
    assert (start.recovered, start.position, skips(start)) == (False, 20, False)
    assert skips(reload_at(start, 21))
    assert reload_at(plan_start(row(head=0, start=0), None, "e", 5), 0).missed == NOTHING


@pytest.mark.parametrize(
    ("left", "budget", "position", "missed"),
    [
        (None, 30, 4, NOTHING),
        (None, 9, 21, (5, 7)),
        (None, 8, 30, (1, 30)),
        (Place(0, NOTHING), 30, 4, NOTHING),
        (Place(25, NOTHING), 30, 25, NOTHING),
        (Place(25, (1, 22)), 30, 25, (1, 22)),
        (Place(25), 30, 25, (5, 7)),
        (Place(25), 4, 30, (1, 30)),
        (Place(31), 30, 30, (1, 30)),
    ],
)
def test_where_a_gained_subscription_begins(
    left: Place | None, budget: int, position: int, missed: Missed
) -> None:
    """Where the session left it, without what it did not vouch for then; by the device's word,
    without what is missed; otherwise as without a position."""
    start = plan_gained(with_hole(head=30), 29, left, "e", budget)
    assert (start.position, start.missed, start.asked) == (position, missed, False)
    assert start.recovered is (missed != (1, 30))


def test_a_gained_subscription_begins_before_the_joining() -> None:
    """Also where other devices have what came since: this one was there."""
    start = plan_gained(with_hole(head=30), 3, None, "e", 30)
    assert (start.position, start.missed) == (2, NOTHING)
    start = plan_gained(with_hole(head=30), 12, None, "e", 19)
    assert (start.position, start.missed) == (11, (5, 7))


@given(st.sets(st.integers(1, 60)), st.integers(0, 30), st.integers(0, 60))
def test_every_position_is_covered_once(seen: set[int], after: int, more: int) -> None:
    """Entries and hidden ranges together cover every position exactly once, in order."""
    positions = sorted(p for p in seen if p > after)
    through = max([after + more, *positions])
    covered: list[int] = []
    filled = fill_hidden(TEA, tuple(map(entry, positions)), after, through)
    for found in filled:
        if found.type == EventType.HIDDEN:
            assert found.body is not None
            assert found.position == found.body["last"]
            covered += range(found.body["first"], found.body["last"] + 1)
        else:
            covered.append(found.position)
    assert covered == list(range(after + 1, through + 1))
    runs = [f.type == EventType.HIDDEN for f in filled]
    assert not any(a and b for a, b in pairwise(runs))


def page(entries: list[int], through: int, head: int, *stays: tuple[int, int | None]) -> LogPage:
    intervals = tuple(Interval(first, last, first) for first, last in stays)
    return LogPage(tuple(map(entry, entries)), through, head, intervals)


def test_a_former_member_is_told_of_nothing_after_the_leaving() -> None:
    """Neither entries nor hidden ranges nor the head reach beyond the last stay."""
    found = page([3, 4], 9, 9, (3, 4))
    assert last_readable(found) == 4
    delivery = page_delivery(TEA, 2, found)
    assert delivery is not None
    assert (delivery.first, delivery.last) == (3, 4)
    assert has_ended(found, 4)
    assert not has_ended(found, 3)
    assert page_delivery(TEA, 4, found) is None


def test_a_rejoined_member_gets_a_hidden_range() -> None:
    """Positions between two stays come as one hidden range."""
    delivery = page_delivery(TEA, 2, page([3, 4, 8, 9], 9, 9, (3, 4), (8, None)))
    assert delivery is not None
    assert [(e.type, e.position) for e in delivery.entries] == [
        ("group", 3), ("group", 4), ("hidden", 7), ("group", 8), ("group", 9),
    ]  # fmt: skip


def test_a_stranger_has_nothing() -> None:
    """Without a stay there is no page and no head."""
    found = page([], 9, 9)
    assert last_readable(found) == 0
    assert page_delivery(TEA, 0, found) is None
    assert has_ended(found, 0)


def test_an_inbox_tells_of_joinings() -> None:
    """The first one of each conversation; a private one begins at its first position."""
    told: tuple[tuple[str, dict[str, Any]], ...] = (
        ("member", {"conversation_joined": TEA, "joined": 7}),
        ("ceased", {"conversation_left": TEA, "last": 9}),
        ("contact", {"conversation_joined": "private:ann~鲍勃"}),
        ("member", {"conversation_joined": TEA, "joined": 12}),
        ("account", {"state": "active"}),
    )
    entries = [Entry("inbox:鲍勃", n, kind, 1, body=body) for n, (kind, body) in enumerate(told, 1)]
    assert joinings(entries) == {TEA: 7, "private:ann~鲍勃": 1}
