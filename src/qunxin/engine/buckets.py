"""Token buckets by name: how often one caller may do one thing."""

from __future__ import annotations

from collections import OrderedDict


class Buckets:
    """`per_second` on average and `burst` at once for each name; a `burst` of 0 is no limit.

    At most `max_names` are remembered; beyond that the one whose turn is longest ago is forgotten,
    and begins with a full bucket when it comes again.
    """

    __slots__ = ("_burst", "_levels", "_max_names", "_per_second")

    def __init__(self, per_second: float, burst: float, max_names: int = 100_000) -> None:
        self._per_second = per_second
        self._burst = burst
        self._max_names = max_names
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._levels)

    def take(self, name: str, amount: float, now: float) -> float:
        """Take `amount` and give 0.0, or take nothing and give the seconds until it can be
        taken. More than the burst is given to a full bucket, and owed."""
        if self._burst <= 0:
            return 0.0
        level, since = self._levels.get(name, (self._burst, now))
        level = min(self._burst, level + (now - since) * self._per_second)
        wanted = min(amount, self._burst)
        if level < wanted:
            return (wanted - level) / self._per_second
        self._levels[name] = (level - amount, now)
        self._levels.move_to_end(name)
        if len(self._levels) > self._max_names:
            self._levels.popitem(last=False)
        return 0.0
