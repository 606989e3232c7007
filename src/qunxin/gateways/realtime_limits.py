"""How many commands a user's connections may give: a bucket of tokens, filled with time."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

_MAX_USERS: Final = 20_000


class CommandBudget:
    """`per_second` on average, `burst` at once. What is taken beyond that is owed."""

    __slots__ = ("_burst", "_filled_at", "_per_second", "_tokens")

    def __init__(self, per_second: float, burst: float, now: float) -> None:
        self._per_second = per_second
        self._burst = burst
        self._tokens = burst
        self._filled_at = now

    def take(self, now: float) -> bool:
        """Take one; False where there was none left."""
        filled = self._tokens + (now - self._filled_at) * self._per_second
        self._filled_at = now
        self._tokens = min(filled, self._burst) - 1.0
        return self._tokens >= 0.0

    @property
    def is_abused(self) -> bool:
        """Whether as much again as the burst was taken in spite of refusals."""
        return self._tokens < -self._burst

    @property
    def seconds_to_next(self) -> float:
        """Until one more may be taken."""
        return max(0.0, (1.0 - self._tokens) / self._per_second)


class UserBudgets:
    """One budget for each user, whichever connection spends it, so that who was thrown out for
    too many commands owes them still when they come back.

    Those of the users who connected last are remembered, `_MAX_USERS` at most.
    """

    def __init__(self, per_second: float, burst: float) -> None:
        self._per_second = per_second
        self._burst = burst
        self._budgets: OrderedDict[str, CommandBudget] = OrderedDict()

    def of(self, user: str, now: float) -> CommandBudget:
        """The user's budget, a full one where none is remembered."""
        budget = self._budgets.get(user)
        if budget is None:
            budget = self._budgets[user] = CommandBudget(self._per_second, self._burst, now)
        self._budgets.move_to_end(user)
        if len(self._budgets) > _MAX_USERS:
            self._budgets.popitem(last=False)
        return budget
