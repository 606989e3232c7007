"""Which hosts and origins are admitted."""

from __future__ import annotations

import pytest

from qunxin.errors import QunxinError
from qunxin.gateways.sites import SitePolicy


@pytest.mark.parametrize(
    "host",
    ["localhost", "LOCALHOST:8000", "127.0.0.1:1", "[::1]:8000", "[::1]", "localhost.", "10.1.2.3"],
)
def test_loopback_names_and_the_own_address_are_admitted(host: str) -> None:
    """By default; with any port, since a proxy may have another."""
    SitePolicy().check_host(host, "10.1.2.3")


@pytest.mark.parametrize(
    "host",
    [
        None,
        "",
        " ",
        "evil.example",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "10.1.2.4",
        "evil.example@localhost",
        "[::1",
        "群信.example",
        ":8000",
        "*",
    ],
)
def test_other_hosts_are_refused(host: str | None) -> None:
    """A page that rebinds its own name to this address sends that name."""
    with pytest.raises(QunxinError, match="invalid_request"):
        SitePolicy().check_host(host, "10.1.2.3")


def test_hosts_can_be_added() -> None:
    """By name, whatever the case and port; all of them with a star."""
    policy = SitePolicy(hosts=("Chat.Example",))
    policy.check_host("chat.example:443", None)
    with pytest.raises(QunxinError):
        policy.check_host("www.chat.example", None)
    SitePolicy(hosts=("*",)).check_host("anything.example", None)
    SitePolicy(hosts=("fe80::2", "[fe80::3]")).check_host("[fe80::2]:8000", None)
    with pytest.raises(QunxinError):
        SitePolicy(hosts=("", "不 行", "::")).check_host(":8000", None)


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        (None, "localhost:8000"),
        ("http://localhost:8000", "localhost:8000"),
        ("https://chat.example", "chat.example"),
        ("https://chat.example:443", "chat.example"),
        ("https://Chat.Example", "chat.example:443"),
        ("http://[::1]:8000", "[::1]:8000"),
    ],
)
def test_own_pages_need_no_permission(origin: str | None, host: str) -> None:
    """No origin, or the very host asked: admitted, without CORS."""
    assert SitePolicy().check_origin(origin, host) is False


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "http://localhost:8001",
        "null",
        "",
        "file://",
        "localhost:8000",
        "http://localhost:8000.evil.example",
        "http://localhost:8000@evil.example",
        "chrome-extension://abc",
        "http://[",
        "http://localhost:99999999",
        "网站",
    ],
)
def test_other_sites_are_refused(origin: str) -> None:
    """Another port is another site, too."""
    with pytest.raises(QunxinError, match="forbidden"):
        SitePolicy().check_origin(origin, "localhost:8000")


def test_origins_can_be_added() -> None:
    """They are admitted and told so by CORS."""
    policy = SitePolicy(origins=("https://App.example", "https://eins.example:8443"))
    assert policy.check_origin("https://app.example", "chat.example") is True
    assert policy.check_origin("https://eins.example:8443", "chat.example") is True
    with pytest.raises(QunxinError):
        policy.check_origin("http://app.example", "chat.example")
    assert SitePolicy(origins=("*",)).check_origin("null", "chat.example") is True
