"""Links that work once."""

from __future__ import annotations

import pytest

from qunxin.errors import QunxinError
from qunxin.gateways.sign_in import LINK_SECONDS, SignInLinks


class _Clock:
    def __init__(self) -> None:
        self.now = 1_764_000_000_000

    def now_ms(self) -> int:
        return self.now

    def monotonic(self) -> float:
        return self.now / 1000


def test_a_link_works_once() -> None:
    """The second time it is like one that never was."""
    links = SignInLinks(_Clock())
    secret, made = links.make("alice")
    assert links.take(secret) == made
    for gone in (secret, "别人的 secret", ""):
        with pytest.raises(QunxinError) as caught:
            links.take(gone)
        assert caught.value.code == "unauthenticated"


def test_a_link_does_not_work_for_long() -> None:
    """Up to its last millisecond, and not after it."""
    clock = _Clock()
    links = SignInLinks(clock)
    early, late = links.make(None)[0], links.make(None)[0]
    clock.now += LINK_SECONDS * 1000 - 1
    assert links.take(early).user is None
    clock.now += 1
    with pytest.raises(QunxinError):
        links.take(late)


def test_a_link_that_was_put_back_works_again() -> None:
    """With the time that it had."""
    links = SignInLinks(_Clock())
    secret, made = links.make("爱丽丝".encode().hex())
    links.put_back(secret, links.take(secret))
    assert links.take(secret) == made


def test_links_are_kept_as_digests_and_bounded() -> None:
    """Whoever reads the memory finds no link; the oldest of more than 1,000 goes."""
    links = SignInLinks(_Clock())
    secrets = [links.make("alice")[0] for _ in range(1_001)]
    assert len(set(secrets)) == len(secrets)
    assert not {secret.encode() for secret in secrets} & links._links.keys()
    assert links.take(secrets[1]).user == "alice"
    with pytest.raises(QunxinError):
        links.take(secrets[0])
