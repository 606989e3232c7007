"""Buckets, quotas of callers, and who a client is behind proxies: the pure parts."""

from __future__ import annotations

from typing import Any

import pytest

from qunxin.engine import EngineSettings
from qunxin.engine.access import SYSTEM, Caller
from qunxin.engine.buckets import Buckets, TokenBucket
from qunxin.engine.quotas import Quota, Quotas
from qunxin.errors import QunxinError
from qunxin.gateways.client_limits import AddressSettings, ClientLimits
from qunxin.testing.clock import ManualClock


def test_a_bucket_fills_with_time() -> None:
    """The burst at once, then one at a time; a refusal costs nothing and says how long."""
    buckets = Buckets(per_second=2, burst=3)
    assert [buckets.take("爱丽丝", 1, 0.0) for _ in range(3)] == [0.0, 0.0, 0.0]
    assert buckets.take("爱丽丝", 1, 0.0) == 0.5
    assert buckets.take("爱丽丝", 1, 0.25) == 0.25
    assert buckets.take("בוב", 1, 0.25) == 0.0
    assert buckets.take("爱丽丝", 1, 0.5) == 0.0
    assert buckets.take("爱丽丝", 3, 100.0) == 0.0


def test_more_than_the_burst_is_given_to_a_full_bucket() -> None:
    """And owed: no amount is refused for ever."""
    buckets = Buckets(per_second=1, burst=10)
    assert buckets.take("a", 30, 0.0) == 0.0
    assert buckets.take("a", 1, 0.0) == 21.0
    assert buckets.take("a", 1, 21.0) == 0.0


def test_nothing_is_given_to_whoever_owes() -> None:
    """What costs nothing is not refused, and pays nothing back."""
    buckets = Buckets(per_second=1, burst=10)
    assert buckets.take("爱丽丝", 30, 0.0) == 0.0
    assert buckets.take("爱丽丝", 0, 0.0) == 0.0
    assert buckets.take("爱丽丝", 1, 0.0) == 21.0


def test_what_is_charged_is_owed() -> None:
    """Refusals cost too, and who owes more than a burst has gone too far."""
    bucket = TokenBucket(per_second=2, burst=3, now=0.0)
    assert [bucket.charge(0.0) for _ in range(5)] == [True, True, True, False, False]
    assert (bucket.seconds_to_next, bucket.is_abused) == (1.5, False)
    assert not bucket.charge(0.0)
    assert not bucket.charge(0.0)
    assert bucket.is_abused
    assert not bucket.charge(2.0)
    assert bucket.charge(4.0)


def test_no_burst_is_no_limit() -> None:
    """And nothing is remembered for it."""
    buckets = Buckets(0, 0)
    assert all(buckets.take("a", 1_000, 0.0) == 0.0 for _ in range(100))
    assert len(buckets) == 0


def test_names_are_bounded() -> None:
    """However many there are; who was busy lately is remembered."""
    buckets = Buckets(per_second=0.001, burst=1, max_names=10)
    for n in range(1_000):
        buckets.take(f"用户{n}", 1, float(n))
    assert len(buckets) == 10
    assert buckets.take("用户999", 1, 1_000.0) > 0
    assert buckets.take("用户0", 1, 1_000.0) == 0.0


def _quotas(clock: ManualClock, **settings: Any) -> Quotas:
    return Quotas(EngineSettings(**settings), clock)


def _code(quotas: Quotas, caller: Caller, quota: Quota, amount: int = 1) -> Any:
    try:
        quotas.take(caller, quota, amount)
    except QunxinError as error:
        return error.code, error.retry_after, error.facts
    return None


def test_users_and_keys_have_quotas_of_their_own() -> None:
    """By user, by key, by kind; the program itself has none."""
    clock = ManualClock()
    quotas = _quotas(clock, user_sends_per_minute=2, key_sends_per_minute=3)
    alice, bob = Caller.as_user("alice"), Caller.as_user("bob")
    key = Caller.as_key(frozenset(), "k1")
    outcomes = [_code(quotas, alice, Quota.SENDS) for _ in range(3)]
    assert outcomes == [None, None, ("rate_limited", 30.0, {"quota": "user_sends_per_minute"})]
    assert _code(quotas, bob, Quota.SENDS) is None
    assert [_code(quotas, key, Quota.SENDS) for _ in range(3)] == [None] * 3
    assert _code(quotas, key, Quota.SENDS)[2] == {"quota": "key_sends_per_minute"}
    assert _code(quotas, Caller.as_key(frozenset(), "k2"), Quota.SENDS) is None
    assert _code(quotas, SYSTEM, Quota.SENDS, 1_000_000) is None
    assert _code(quotas, alice, Quota.GROUPS) is None
    clock.advance(30_000)
    assert _code(quotas, alice, Quota.SENDS) is None


def test_several_quotas_are_counted_together_or_not_at_all() -> None:
    """Whichever of them is used up, of the others nothing is gone."""
    clock = ManualClock()
    quotas = _quotas(clock, user_groups_per_hour=2, user_invitations_per_hour=3)
    alice = Caller.as_user("爱丽丝")

    def both(invited: int) -> Any:
        try:
            quotas.take_all(alice, {Quota.GROUPS: 1, Quota.INVITATIONS: invited})
        except QunxinError as error:
            return error.facts["quota"]
        return None

    assert both(2) is None
    assert [both(2) for _ in range(5)] == ["user_invitations_per_hour"] * 5
    assert both(0) is None
    assert both(1) == "user_groups_per_hour"
    assert _code(quotas, alice, Quota.INVITATIONS) is None
    assert _code(quotas, alice, Quota.INVITATIONS)[2] == {"quota": "user_invitations_per_hour"}


def limits(**settings: Any) -> ClientLimits:
    return ClientLimits(AddressSettings(**settings), lambda: 0.0)


PROXIES = ("10.0.0.0/8", "2001:db8:ffff::/48", "127.0.0.1")


@pytest.mark.parametrize(
    ("peer", "header", "client"),
    [
        ("203.0.113.9", "198.51.100.1", "203.0.113.9"),
        ("203.0.113.9", "", "203.0.113.9"),
        ("10.1.2.3", "", None),
        ("10.1.2.3", "198.51.100.1", "198.51.100.1"),
        ("10.1.2.3", "1.2.3.4, 198.51.100.1", "198.51.100.1"),
        ("10.1.2.3", "1.2.3.4,198.51.100.1 , 10.9.9.9", "198.51.100.1"),
        ("10.1.2.3", "198.51.100.1:4711", "198.51.100.1"),
        ("10.1.2.3", "伪造, 198.51.100.1", "198.51.100.1"),
        ("10.1.2.3", "198.51.100.1, 伪造", None),
        ("127.0.0.1", "[2001:db8:1:2:3::4]:4711", "2001:db8:1:2::/64"),
        ("127.0.0.1", "2001:db8:1:2:ffff::", "2001:db8:1:2::/64"),
        ("::ffff:10.1.2.3", "::ffff:198.51.100.1", "198.51.100.1"),
        ("2001:db8:ffff::1", "198.51.100.1", "198.51.100.1"),
        ("127.0.0.1", "127.0.0.5", None),
        ("::1", "198.51.100.1", None),
        (None, "198.51.100.1", None),
        ("", "198.51.100.1", None),
    ],
)
def test_the_client_is_the_last_who_is_no_trusted_proxy(
    peer: str | None, header: str, client: str | None
) -> None:
    """What an untrusted peer says of others is not believed; what a client wrote itself stands
    before what the proxy added, and is not reached."""
    headers = {"x-forwarded-for": header, "forwarded": "for=192.0.2.77"}
    assert limits(trusted_proxies=PROXIES).client(peer, headers) == client


@pytest.mark.parametrize(
    ("header", "client"),
    [
        ("for=198.51.100.1", "198.51.100.1"),
        ('for="[2001:db8:1:2::9]:80";proto=https', "2001:db8:1:2::/64"),
        ("for=1.2.3.4, FOR=198.51.100.1;by=10.0.0.1", "198.51.100.1"),
        ("proto=https", None),
        ("for=_hidden", None),
    ],
)
def test_forwarded_is_read_where_it_is_chosen(header: str, client: str | None) -> None:
    """And the other header is not."""
    chosen = limits(trusted_proxies=PROXIES, forwarded_header="forwarded")
    headers = {"forwarded": header, "x-forwarded-for": "192.0.2.77"}
    assert chosen.client("10.0.0.1", headers) == client


def test_connections_are_counted_by_address() -> None:
    """In and out; beyond the limit a client is told when to try again."""
    counted = limits(address_connections=2)
    for _ in range(2):
        counted.enter("a")
    with pytest.raises(QunxinError, match="rate_limited"):
        counted.enter("a")
    counted.enter("b")
    counted.enter(None)
    counted.leave("a")
    counted.enter("a")


def test_a_proxy_that_is_no_address_stops_the_start() -> None:
    """A name could be anybody's tomorrow."""
    with pytest.raises(QunxinError) as refused:
        limits(trusted_proxies=("代理.example",))
    assert refused.value.code == "invalid_settings"
