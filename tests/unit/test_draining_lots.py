"""In which lots a node that goes down ends its connections."""

from __future__ import annotations

import itertools

import pytest

from qunxin.gateways.draining import LOT_SECONDS, SMALL_LOT, plan_lots

SECONDS = 2.25
"""What half of the default `shutdown_timeout_seconds` leaves."""
ROOM = 45


@pytest.mark.parametrize("count", [1, 25, 26, 250, 1_125, 1_126, 20_000, 100_000])
@pytest.mark.parametrize("seconds", [0.5, SECONDS, 30.0])
def test_all_are_ended_in_equal_lots_evenly_and_in_time(count: int, seconds: float) -> None:
    """Whatever the count: nobody is left over, no lot is larger than the others by more than one,
    the same time lies between them, and the last comes within the time."""
    lots = plan_lots(count, seconds)
    sizes = [lot.size for lot in lots]
    assert sum(sizes) == count
    assert 0 <= max(sizes) - min(sizes) <= 1
    assert lots[0].after_seconds == 0
    for one, following in itertools.pairwise(lots):
        assert following.after_seconds - one.after_seconds == pytest.approx(LOT_SECONDS)
    assert lots[-1].after_seconds <= seconds


@pytest.mark.parametrize(
    ("count", "lots"), [(0, 0), (1, 1), (250, 10), (1_125, ROOM), (20_000, ROOM), (100_000, ROOM)]
)
def test_a_small_node_is_quick_and_a_large_one_takes_all_the_time(count: int, lots: int) -> None:
    """As many lots as it needs at the pace of a small node, and never fewer than there is room
    for where they are many."""
    assert len(plan_lots(count, SECONDS)) == lots


@pytest.mark.parametrize("count", [20_000, 100_000])
def test_no_tenth_of_the_time_ends_much_more_than_a_tenth(count: int) -> None:
    """The load on whoever takes them next is even, up to the largest count."""
    lots = plan_lots(count, SECONDS)
    for tenth in range(10):
        begin, end = tenth * SECONDS / 10, (tenth + 1) * SECONDS / 10
        within = sum(lot.size for lot in lots if begin <= lot.after_seconds < end)
        assert count * 0.08 <= within <= count * 0.12


@pytest.mark.parametrize("seconds", [-1.0, 0.0, 0.01])
def test_without_time_all_are_ended_at_once(seconds: float) -> None:
    (lot,) = plan_lots(7 * SMALL_LOT, seconds)
    assert lot == (7 * SMALL_LOT, 0.0)
