"""Which addresses a fetch may lead to."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from qunxin.errors import QunxinError
from qunxin.gateways.addresses import is_public
from qunxin.gateways.guarded_network import GuardedNetwork


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.255.0.9",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",  # noqa: S104
        "224.0.0.1",
        "255.255.255.255",
        "192.0.2.1",
        "::",
        "::1",
        "fe80::1",
        "fe80::1%eth0",
        "fc00::1",
        "ff02::1",
        "2001:db8::1",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "2002:7f00:1::",
        "64:ff9b::7f00:1",
        "64:ff9b::a9fe:a9fe",
    ],
)
def test_addresses_that_are_not_public(address: str) -> None:
    """This machine, its network, what is reserved, and each of them inside an IPv6 address."""
    assert not is_public(address)


@pytest.mark.parametrize("address", ["1.1.1.1", "2606:4700::1111", "::ffff:1.1.1.1"])
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
