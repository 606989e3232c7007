"""Catching up, the pure part: where a subscription begins, and hidden ranges."""

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qunxin.engine.catchup import (
    fill_hidden,
    has_ended,
    joinings,
    last_readable,
    page_delivery,
    plan_start,
)
from qunxin.engine.sink import Position
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
