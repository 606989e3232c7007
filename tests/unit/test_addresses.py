"""Which addresses a fetch may lead to."""

from __future__ import annotations

import socket
from ipaddress import IPv4Address, IPv6Address, ip_network
from typing import Any

import pytest

from qunxin.engine.addresses import IPV4_SPECIAL, IPV6_SPECIAL, is_public
from qunxin.errors import QunxinError
from qunxin.gateways.guarded_network import GuardedNetwork

IPV4_BLOCKS = {
    "0.0.0.0/8": (None, "1.0.0.0"),
    "10.0.0.0/8": ("9.255.255.255", "11.0.0.0"),
    "100.64.0.0/10": ("100.63.255.255", "100.128.0.0"),
    "127.0.0.0/8": ("126.255.255.255", "128.0.0.0"),
    "169.254.0.0/16": ("169.253.255.255", "169.255.0.0"),
    "172.16.0.0/12": ("172.15.255.255", "172.32.0.0"),
    "192.0.0.0/24": ("191.255.255.255", "192.0.1.0"),
    "192.0.2.0/24": ("192.0.1.255", "192.0.3.0"),
    "192.31.196.0/24": ("192.31.195.255", "192.31.197.0"),
    "192.52.193.0/24": ("192.52.192.255", "192.52.194.0"),
    "192.88.99.0/24": ("192.88.98.255", "192.88.100.0"),
    "192.168.0.0/16": ("192.167.255.255", "192.169.0.0"),
    "192.175.48.0/24": ("192.175.47.255", "192.175.49.0"),
    "198.18.0.0/15": ("198.17.255.255", "198.20.0.0"),
    "198.51.100.0/24": ("198.51.99.255", "198.51.101.0"),
    "203.0.113.0/24": ("203.0.112.255", "203.0.114.0"),
    "224.0.0.0/4": ("223.255.255.255", None),
    "240.0.0.0/4": (None, None),
}
"""Every block of the IPv4 registry, and its public neighbours."""

IPV6_BLOCKS = {
    "::/3": (None, "2000::"),
    "2001::/23": ("2000:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "2001:200::"),
    "2001:db8::/32": ("2001:db7:ffff:ffff:ffff:ffff:ffff:ffff", "2001:db9::"),
    "2002::/16": ("2001:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "2003::"),
    "2620:4f:8000::/48": ("2620:4f:7fff:ffff:ffff:ffff:ffff:ffff", "2620:4f:8001::"),
    "3fff::/20": ("3ffe:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "3fff:1000::"),
    "4000::/2": ("3fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", None),
    "8000::/1": (None, None),
}
"""Everything in IPv6 that is not public, and its public neighbours."""


def _edges(blocks: dict[str, tuple[str | None, str | None]]) -> list[str]:
    found = [ip_network(block) for block in blocks]
    return [str(edge) for block in found for edge in (block[0], block[-1])]


def _neighbours(blocks: dict[str, tuple[str | None, str | None]]) -> list[str]:
    return [one for pair in blocks.values() for one in pair if one is not None]


def _inside(form: str, address: str) -> str:
    """An IPv4 address as the last 32 bits of an IPv6 block."""
    return str(IPv6Address(int(IPv6Address(form)) | int(IPv4Address(address))))


@pytest.mark.parametrize("address", _edges(IPV4_BLOCKS) + _edges(IPV6_BLOCKS))
def test_every_special_block_is_refused_to_its_edges(address: str) -> None:
    """The first and the last address of each."""
    assert not is_public(address)


@pytest.mark.parametrize("address", _neighbours(IPV4_BLOCKS) + _neighbours(IPV6_BLOCKS))
def test_what_lies_beside_a_special_block_is_public(address: str) -> None:
    """No block is wider than it is in the registry."""
    assert is_public(address)


def test_the_tables_tested_are_the_tables_used() -> None:
    """A block that is added or widened comes with its edges here."""
    assert [str(block) for block in IPV4_SPECIAL] == list(IPV4_BLOCKS)
    assert {str(block) for block in IPV6_SPECIAL} == set(IPV6_BLOCKS) - {
        "::/3",
        "4000::/2",
        "8000::/1",
    }


@pytest.mark.parametrize("form", ["::ffff:0:0", "64:ff9b::"])
@pytest.mark.parametrize("address", _edges(IPV4_BLOCKS))
def test_a_special_block_is_refused_inside_an_ipv6_address(form: str, address: str) -> None:
    """As the system writes it, and as a network without IPv4 does."""
    assert not is_public(_inside(form, address))


@pytest.mark.parametrize("form", ["::ffff:0:0", "64:ff9b::"])
@pytest.mark.parametrize("address", _neighbours(IPV4_BLOCKS))
def test_a_public_address_is_public_inside_an_ipv6_address(form: str, address: str) -> None:
    assert is_public(_inside(form, address))


@pytest.mark.parametrize(
    "form",
    [
        "::",  # compatible, RFC 4291
        "::ffff:0:0:0",  # translated, RFC 2765
        "64:ff9b:1::",  # NAT64 of a network's own, RFC 8215
        "2002::",
        "fe80::5efe:0:0",  # ISATAP, RFC 5214
    ],
)
@pytest.mark.parametrize("address", ["127.0.0.1", "10.0.0.1", "169.254.169.254", "1.1.1.1"])
def test_the_other_ways_to_hide_an_ipv4_address_are_refused(form: str, address: str) -> None:
    """Whatever stands inside."""
    assert not is_public(_inside(form, address))


@pytest.mark.parametrize(
    "address",
    [
        "::",
        "::1",
        "fe80::1",
        "fe80::1%eth0",
        "fc00::1",
        "fdff::1",
        "fec0::1",
        "ff02::1",
        "100::1",
        "5f00::1",
        "3fff::1",
        "64:ff9b:1::a00:1",
        "::127.0.0.1",
        "::ffff:0:127.0.0.1",
        "2002:7f00:1::",
        "2002:101:101::",
        "2001:0:101:101:0:0:fefe:fefe",
        "192.0.0.8",
        "192.0.0.9",
        "192.0.0.170",
        "169.254.169.254",
        "255.255.255.255",
    ],
)
def test_addresses_that_are_not_public(address: str) -> None:
    """This machine, its network, what is reserved, and each of them in its other forms."""
    assert not is_public(address)


@pytest.mark.parametrize(
    "address", ["1.1.1.1", "2606:4700::1111", "2a00:1450:4001::200e", "240e::1", "::ffff:1.1.1.1"]
)
def test_addresses_that_are(address: str) -> None:
    """The internet at large."""
    assert is_public(address)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "2130706433", "0x7f.1", "::1"])
async def test_a_private_host_is_refused_however_it_is_written(host: str) -> None:
    """The system's resolver decides what a name means, and its answer is looked at."""
    with pytest.raises(QunxinError) as refused:
        await GuardedNetwork().connect_tcp(host, 443)
    assert refused.value.code == "forbidden"


async def test_what_was_checked_is_what_is_connected_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name is looked up once for each connection: a second answer, from a name that changes
    its mind, is never asked for."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        answers = ["127.0.0.1", "127.0.0.2"]
        asked: list[str] = []

        def look_up(host: str, port: int, *_: Any, **__: Any) -> list[Any]:
            asked.append(host)
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (answers.pop(0), port))]

        monkeypatch.setattr(socket, "getaddrinfo", look_up)
        monkeypatch.setattr(
            "qunxin.gateways.guarded_network.is_public", lambda one: one == "127.0.0.1"
        )
        stream = await GuardedNetwork().connect_tcp("rebinding.example", port)
        assert stream.get_extra_info("server_addr") == ("127.0.0.1", port)
        assert asked == ["rebinding.example"]
        await stream.aclose()
        with pytest.raises(QunxinError, match="forbidden"):
            await GuardedNetwork().connect_tcp("rebinding.example", port)
