"""Which network addresses this server may itself connect to, where somebody else names the host.

A name that leads to this machine, or into the private network around it, would make the server
ask there on a stranger's behalf. The check is made on the very address that is connected to, after
the name was looked up, so that a name which answers differently the second time (DNS rebinding)
gains nothing.

The tables are our own, since what Python's `is_global` says changes from version to version. Their
source are IANA's registries of special-purpose addresses for IPv4 and IPv6, "IPv6 Address Space"
and "IPv6 Global Unicast Address Assignments", as of 2025. Blocks that the registries call globally
reachable, but that belong to no host which could be meant here (anycast of AS112, AMT, PCP and
TURN), are refused with the block around them: nobody's API or webhook is there.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final

IPV4_SPECIAL: Final = tuple(
    IPv4Network(block)
    for block in (
        "0.0.0.0/8",  # "this network", RFC 791
        "10.0.0.0/8",  # private use, RFC 1918
        "100.64.0.0/10",  # shared address space of carriers, RFC 6598
        "127.0.0.0/8",  # loopback, RFC 1122
        "169.254.0.0/16",  # link local, RFC 3927
        "172.16.0.0/12",  # private use, RFC 1918
        "192.0.0.0/24",  # IETF protocol assignments, RFC 6890
        "192.0.2.0/24",  # documentation, RFC 5737
        "192.31.196.0/24",  # AS112, RFC 7535
        "192.52.193.0/24",  # AMT, RFC 7450
        "192.88.99.0/24",  # anycast of 6to4 relays, RFC 7526
        "192.168.0.0/16",  # private use, RFC 1918
        "192.175.48.0/24",  # AS112, RFC 7534
        "198.18.0.0/15",  # benchmarking, RFC 2544
        "198.51.100.0/24",  # documentation, RFC 5737
        "203.0.113.0/24",  # documentation, RFC 5737
        "224.0.0.0/4",  # multicast, RFC 5771
        "240.0.0.0/4",  # reserved, RFC 1112, and limited broadcast, RFC 919
    )
)
"""What is no public host in IPv4."""

IPV6_UNICAST: Final = IPv6Network("2000::/3")
"""The only part of IPv6 that is given to public hosts, RFC 4291; outside it lie loopback, unique
and link-local, the old site-local addresses, multicast, segment routing and most ways to write an
IPv4 address."""

IPV6_SPECIAL: Final = tuple(
    IPv6Network(block)
    for block in (
        "2001::/23",  # IETF protocol assignments, RFC 2928: Teredo, benchmarking, ORCHID and more
        "2001:db8::/32",  # documentation, RFC 3849
        "2002::/16",  # 6to4, RFC 3056
        "2620:4f:8000::/48",  # AS112, RFC 7534
        "3fff::/20",  # documentation, RFC 9637
    )
)
"""What is no public host within `IPV6_UNICAST`. Of the transition mechanisms in it, Teredo and 6to4
are refused whole: both lead to an IPv4 address through a relay, and no server is reached so."""

IPV4_MAPPED: Final = IPv6Network("::ffff:0:0/96")
NAT64: Final = IPv6Network("64:ff9b::/96")
"""The two forms in which an IPv6 address means an IPv4 one, which is then judged: what the system
writes for it (RFC 4291), and what a network without IPv4 makes of it (RFC 6052)."""


def is_public(address: str) -> bool:
    """Whether an IP address belongs to the public internet. One in IPv6 that stands for one in
    IPv4 is judged as that."""
    found = _meant(ip_address(address.partition("%")[0]))
    if isinstance(found, IPv4Address):
        return not any(found in block for block in IPV4_SPECIAL)
    return found in IPV6_UNICAST and not any(found in block for block in IPV6_SPECIAL)


def _meant(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    if isinstance(address, IPv6Address) and (address in IPV4_MAPPED or address in NAT64):
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    return address
