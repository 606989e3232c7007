"""How often a receiver is asked: by a clock of our own, over hours and days."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

import pytest

from qunxin.gateways.webhooks.patience import PROBING_FAILURES, Patience

FIRST, LONGEST = 1.0, 300.0


def patience() -> Patience:
    return Patience(FIRST, LONGEST, lambda: 1.0)


def test_one_conversation_never_means_that_the_receiver_is_down() -> None:
    """However often it fails: its own pauses grow up to the longest, the others have none."""
    one = patience()
    now, pauses = 0.0, []
    for before in range(50):
        due = one.failed("group:毒", before, now)
        pauses.append(due - now)
        now = due
        assert not one.down
    assert pauses[:5] == [1.0, 2.0, 4.0, 8.0, 16.0]
    assert set(pauses[9:]) == {LONGEST}
    assert (one.quiet_until, one.others_from) == (0.0, 0.0)


def test_failures_of_several_conversations_mean_that_it_is_down() -> None:
    """After a few with nothing taken between them; what is taken ends it."""
    one = patience()
    one.failed("group:茶", 0, 0.0)
    states = []
    for number in range(PROBING_FAILURES):
        states.append(one.down)
        one.failed(f"private:安~u{number}", 0, 10.0)
    states.append(one.down)
    assert states == [False] * PROBING_FAILURES + [True]
    assert (one.retries_from, one.others_from) == (11.0, 14.0)
    one.taken()
    one.failed("group:茶", 1, 20.0)
    assert (one.down, one.others_from) == (False, 0.0)


def test_an_old_failure_makes_no_long_pause_for_a_new_one() -> None:
    """A conversation that failed for days, and another one that fails once: that one comes again
    after its first pause."""
    one = patience()
    for before in range(500):
        one.failed("group:毒", before, 0.0)
    due = one.failed("group:茶 🍵", 0, 9_000.0)
    assert (one.down, due) == (False, 9_001.0)


def test_a_pause_that_was_asked_for_is_never_shortened() -> None:
    one = patience()
    one.wait(60.0)
    one.wait(30.0)
    one.taken()
    assert one.quiet_until == 60.0


def test_jitter_shortens_pauses_by_no_more_than_half() -> None:
    one = Patience(FIRST, LONGEST)
    pauses = [one.failed("group:茶", 0, 5.0) - 5.0 for _ in range(200)]
    assert all(0.5 <= pause <= 1.0 for pause in pauses)
    assert len(set(pauses)) > 100


class Course:
    """Attempts at a receiver, as `Patience` allows them: one of those that failed and one of those
    that have not at a time, each over at once."""

    def __init__(self, takes: Callable[[str], bool]) -> None:
        self._chance = random.Random(11)
        self.patience = Patience(FIRST, LONGEST, lambda: self._chance.uniform(0.5, 1.0))
        self._takes = takes
        self._failures: dict[str, int] = {}
        self._due: dict[str, float] = {}
        self.attempts: list[tuple[float, str]] = []
        self.waits: dict[str, float] = {}

    def event(self, name: str, now: float) -> None:
        """A conversation has something to send."""
        if name not in self._due:
            self._due[name] = self.waits[name] = now

    def turn(self, now: float) -> None:
        while (name := next(self._allowed(now), None)) is not None:
            self.attempts.append((now, name))
            if self._takes(name):
                self.patience.taken()
                self._failures.pop(name, None)
                del self._due[name]
                self.waits[name] = now - self.waits[name]
            else:
                before = self._failures.get(name, 0)
                self._due[name] = self.patience.failed(name, before, now)
                self._failures[name] = before + 1

    def _allowed(self, now: float) -> Iterator[str]:
        one = self.patience
        for name, due in self._due.items():
            from_ = one.retries_from if name in self._failures else one.others_from
            if due <= now and (from_ <= now or not one.down):
                yield name


@pytest.mark.parametrize("conversations", [2, 5, 500])
def test_a_receiver_that_is_down_is_hardly_asked(conversations: int) -> None:
    """Though something is said in all conversations all the time: after the first minutes not more
    than two attempts in half the longest pause."""
    course = Course(lambda _: False)
    hours = 6
    for second in range(hours * 3_600):
        course.event(f"group:茶{second % conversations}", second)
        course.turn(second)
    late = [at for at, _ in course.attempts if at > 3_600]
    assert course.patience.down
    assert len(late) <= 2 * ((hours - 1) * 3_600 / (LONGEST / 2) + 1)
    assert len([at for at, _ in course.attempts if at <= 60]) <= 20
    assert all(at2 - at1 >= 0.5 * LONGEST for at1, at2 in zip(late, late[2:], strict=False))


@pytest.mark.parametrize("poisoned", [1, 2, 6])
def test_conversations_that_fail_do_not_hold_up_the_others(poisoned: int) -> None:
    """After hours in which nothing but poisoned events were tried, an event of a conversation that
    has not failed goes out at once."""
    course = Course(lambda name: name.startswith("private:"))
    waits = []
    for second in range(12 * 3_600):
        for number in range(poisoned):
            course.event(f"group:毒{number}", second)
        if second % 3_600 == 3_599:
            name = f"private:安~u{second}"
            course.event(name, second)
            course.turn(second)
            waits.append(course.waits[name])
        course.turn(second)
    assert waits == [0.0] * 12
