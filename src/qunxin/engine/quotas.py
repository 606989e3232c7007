"""How much one user, or one API key, may do in a time: messages, new groups, invitations.

The limits are far above what people and well-made programs do; they are there so that one stolen
token or one loop gone wild does not use up what all share. Counted on each node by itself, in
memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final, NamedTuple

from qunxin.clock import Clock
from qunxin.engine.access import SYSTEM, Caller
from qunxin.engine.buckets import Buckets
from qunxin.engine.settings import EngineSettings
from qunxin.errors import QunxinError


class Quota(StrEnum):
    """What is counted. Invitations are members added, one by one."""

    SENDS = "sends_per_minute"
    GROUPS = "groups_per_hour"
    INVITATIONS = "invitations_per_hour"


_SECONDS: Final = {Quota.SENDS: 60, Quota.GROUPS: 3_600, Quota.INVITATIONS: 3_600}


class _Counters(NamedTuple):
    of_users: Buckets
    of_keys: Buckets


class Quotas:
    """The counters of one engine. The embedding program and the folder's owner have none."""

    def __init__(self, settings: EngineSettings, clock: Clock) -> None:
        self._clock = clock
        self._counters = {
            quota: _Counters(
                _buckets(getattr(settings, f"user_{quota}"), _SECONDS[quota]),
                _buckets(getattr(settings, f"key_{quota}"), _SECONDS[quota]),
            )
            for quota in Quota
        }

    def take(self, caller: Caller, quota: Quota, amount: int = 1) -> None:
        """Count `amount`; as `take_all`."""
        self.take_all(caller, {quota: amount})

    def take_all(self, caller: Caller, amounts: Mapping[Quota, int]) -> None:
        """Count all of `amounts`. Raises `rate_limited`, having counted nothing of any, with the
        time after which the first that is refused will pass and the setting that says so."""
        if caller.key_id == SYSTEM.key_id:
            return
        name = caller.user or caller.key_id or ""
        now = self._clock.monotonic()
        for quota, amount in amounts.items():
            seconds = self._buckets(caller, quota).wait(name, amount, now)
            if seconds:
                kind = "key" if caller.is_key else "user"
                after = max(0.1, round(seconds, 1))
                raise QunxinError("rate_limited", retry_after=after, quota=f"{kind}_{quota}")
        for quota, amount in amounts.items():
            self._buckets(caller, quota).take(name, amount, now)

    def _buckets(self, caller: Caller, quota: Quota) -> Buckets:
        counters = self._counters[quota]
        return counters.of_keys if caller.is_key else counters.of_users


def _buckets(limit: int, seconds: int) -> Buckets:
    return Buckets(limit / seconds, limit)
