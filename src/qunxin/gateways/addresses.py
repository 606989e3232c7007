"""Which network addresses this server may itself connect to, where somebody else names the host.

A name that leads to this machine, or into the private network around it, would make the server
ask there on a stranger's behalf. The check is made on the very address that is connected to, after
the name was looked up, so that a name which answers differently the second time (DNS rebinding)
gains nothing.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Final

import httpcore

from qunxin.errors import QunxinError

_NAT64: Final = ip_network("64:ff9b::/96")


def is_public(address: str) -> bool:
    """Whether an IP address belongs to the public internet. An IPv4 address inside an IPv6 one
    is looked at by itself."""
    found = _innermost(ip_address(address.partition("%")[0]))
    return found.is_global and not found.is_multicast


def _innermost(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    if isinstance(address, IPv4Address):
        return address
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    teredo = None if address.teredo is None else address.teredo[1]
    return address.ipv4_mapped or address.sixtofour or teredo or address


class GuardedNetwork(httpcore.AsyncNetworkBackend):
    """Connections for `httpcore` to public addresses alone, or to any with `allow_private`."""

    def __init__(self, *, allow_private: bool = False) -> None:
        self._allow_private = allow_private
        self._network = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's own interface
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """To the first of the host's allowed addresses that answers. Raises `forbidden` where it
        has none, `OSError` where the name is not known, and httpcore's errors of connecting."""
        refused: httpcore.ConnectError | httpcore.ConnectTimeout | None = None
        for address in await self._addresses(host, port):
            try:
                return await self._network.connect_tcp(
                    address, port, timeout, local_address, socket_options
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                refused = error
        raise refused or httpcore.ConnectError("the host has no address")

    async def _addresses(self, host: str, port: int) -> list[str]:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        addresses = list(dict.fromkeys(str(row[4][0]) for row in found))
        allowed = [one for one in addresses if self._allow_private or is_public(one)]
        if addresses and not allowed:
            raise QunxinError("forbidden", detail=f"{host} has no public address")
        return allowed
