"""How many requests may be under way: in all, and of one user, so that nobody who sends bodies
drop by drop or asks a thousand things at once keeps the others out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from qunxin.engine.access import Caller
from qunxin.errors import QunxinError


class Admission:
    """Counts requests in one part of their way. API keys are the operator's own and count in all
    only."""

    def __init__(self, max_requests: int, max_requests_per_user: int) -> None:
        self._max_requests = max_requests
        self._max_requests_per_user = max_requests_per_user
        self._requests = 0
        self._by_user: Counter[str] = Counter()

    @contextmanager
    def held(self, caller: Caller) -> Iterator[None]:
        """Count one in, and out at the block's end. Raises `overloaded`, or `rate_limited` where
        it is this user who has too many."""
        user = caller.user
        if user is not None and self._by_user.get(user, 0) >= self._max_requests_per_user:
            raise QunxinError("rate_limited")
        if self._requests >= self._max_requests:
            raise QunxinError("overloaded")
        self._requests += 1
        if user is not None:
            self._by_user[user] += 1
        try:
            yield
        finally:
            self._leave(caller)

    def _leave(self, caller: Caller) -> None:
        self._requests -= 1
        if caller.user is None:
            return
        self._by_user[caller.user] -= 1
        if not self._by_user[caller.user]:
            del self._by_user[caller.user]


class Gates(NamedTuple):
    """What a request passes once its caller is known. They are apart so that bodies which do not
    come take no place from requests that are whole."""

    reading: Admission
    running: Admission
