"""Which network addresses this server may itself connect to, where somebody else names the host.

A name that leads to this machine, or into the private network around it, would make the server
ask there on a stranger's behalf. The check is made on the very address that is connected to, after
the name was looked up, so that a name which answers differently the second time (DNS rebinding)
gains nothing.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Final

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
