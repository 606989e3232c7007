"""Token buckets: how often one caller may do one thing."""

from __future__ import annotations

from collections import OrderedDict


class TokenBucket:
    """`per_second` on average and `burst` at once. It is full at first."""

    __slots__ = ("_burst", "_filled_at", "_per_second", "_tokens")

    def __init__(self, per_second: float, burst: float, now: float) -> None:
        self._per_second = per_second
        self._burst = burst
        self._tokens = burst
        self._filled_at = now

    def take(self, amount: float, now: float) -> float:
        """Take `amount` and give 0.0, or take nothing and give the seconds until it can be
        taken. More than the burst is given by a full bucket, and owed; nothing is always given."""
        seconds = self.wait(amount, now)
        if not seconds:
            self._tokens -= amount
        return seconds

    def wait(self, amount: float, now: float) -> float:
        """The seconds until `take` would give `amount`, 0.0 where it would now."""
        self._fill(now)
        wanted = min(amount, self._burst)
        if wanted <= 0 or self._tokens >= wanted:
            return 0.0
        return (wanted - self._tokens) / self._per_second

    def charge(self, now: float) -> bool:
        """Take one, even if it is not there: then it is owed, and False."""
        self._fill(now)
        self._tokens -= 1.0
        return self._tokens >= 0.0

    @property
    def is_abused(self) -> bool:
        """Whether more than a whole burst is owed: so much was asked for in spite of refusals."""
        return self._tokens < -self._burst

    @property
    def seconds_to_next(self) -> float:
        """Until one more may be taken."""
        return max(0.0, (1.0 - self._tokens) / self._per_second)

    def _fill(self, now: float) -> None:
        filled = self._tokens + (now - self._filled_at) * self._per_second
        self._tokens = min(self._burst, filled)
        self._filled_at = now


class Buckets:
    """A bucket for each name; a `burst` of 0 is no limit.

    At most `max_names` are remembered; beyond that the one whose turn is longest ago is forgotten,
    and begins with a full bucket when it comes again.
    """

    __slots__ = ("_buckets", "_burst", "_max_names", "_per_second")

    def __init__(self, per_second: float, burst: float, max_names: int = 100_000) -> None:
        self._per_second = per_second
        self._burst = burst
        self._max_names = max_names
        self._buckets: OrderedDict[str, TokenBucket] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def of(self, name: str, now: float) -> TokenBucket:
        """The name's bucket, a full one where none is remembered."""
        bucket = self._buckets.get(name)
        if bucket is None:
            bucket = self._buckets[name] = TokenBucket(self._per_second, self._burst, now)
        self._buckets.move_to_end(name)
        if len(self._buckets) > self._max_names:
            self._buckets.popitem(last=False)
        return bucket

    def take(self, name: str, amount: float, now: float) -> float:
        """As a bucket's `take`; always 0.0 where there is no limit."""
        return 0.0 if self._burst <= 0 else self.of(name, now).take(amount, now)

    def wait(self, name: str, amount: float, now: float) -> float:
        """As a bucket's `wait`; always 0.0 where there is no limit."""
        return 0.0 if self._burst <= 0 else self.of(name, now).wait(amount, now)
