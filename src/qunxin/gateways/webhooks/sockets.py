"""Sockets for requests to addresses that others chose.

A name can mean another address each time it is looked up, so the check is made on the address
that a socket is about to be connected to, and nowhere else.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable, Iterable
from ipaddress import ip_address, ip_network
from typing import Any

from qunxin.engine.addresses import is_public

SocketFactory = Callable[[tuple[Any, ...]], socket.socket]


class RefusedAddressError(OSError):
    """The address is not one that may be connected to."""


def guarded_sockets(networks: Iterable[str], *, public: bool) -> SocketFactory:
    """Makes sockets for addresses in `networks`, and for public ones where `public`; for any other
    raises `RefusedAddressError`."""
    allowed = tuple(ip_network(network) for network in networks)

    def make(address_info: tuple[Any, ...]) -> socket.socket:
        family, kind, protocol, _, place = address_info
        address = ip_address(place[0])
        if not any(address in network for network in allowed):
            _check_public(place[0], public=public)
        return socket.socket(family, kind, protocol)

    return make


def _check_public(address: str, *, public: bool) -> None:
    if not is_public(address):
        raise _refused(f"{address} is not a public address; see webhook_networks")
    if not public:
        raise _refused("http:// is for webhook_networks only; use https://")


def _refused(reason: str) -> RefusedAddressError:
    return RefusedAddressError(errno.EACCES, reason)
