"""When each action of a lane is due, from the minutes in its log. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Final

from qunxin.replay.plan import Action

_DAY_MINUTES: Final = 24 * 60


def due_times(actions: Sequence[Action], speed: float | None) -> list[float]:
    """Seconds from the beginning at which each action may happen; all 0 where `speed` is None.

    The logs tell minutes only: what happened within one is spread over it evenly. A minute
    earlier than the one before is of the next day.
    """
    if speed is None or not actions:
        return [0.0] * len(actions)
    times: list[float] = []
    first = previous = actions[0].minute
    days = 0
    for minute, group in groupby(actions, key=lambda action: action.minute):
        days += minute < previous
        previous = minute
        start = (minute + days * _DAY_MINUTES - first) * 60.0
        count = len(list(group))
        times.extend((start + 60.0 * place / count) / speed for place in range(count))
    return times
