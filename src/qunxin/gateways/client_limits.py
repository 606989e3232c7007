"""Where a client comes from, what is for some addresses only, and how much one may ask for.

Behind a proxy every connection comes from the proxy; whose it really is stands in a header, which
is believed from proxies that the settings name and from nobody else. The last address in it that
is not itself such a proxy's is the client's: what stands before it, the client may have written.

Connections from this machine itself are not limited, so that a proxy beside the node which nobody
has named in the settings is not taken for one greedy client.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)
from typing import Final, Literal

import msgspec

from qunxin.engine.buckets import Buckets
from qunxin.errors import QunxinError

BURST_SECONDS: Final = 10
"""So many seconds' worth may come at once: a page opens several connections, an office comes
back after a restart."""
_BUSY_SECONDS: Final = 10.0
_SITE_BITS: Final = 64
"""An IPv6 client has a whole network of this size for itself."""


class AddressSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Limits for one address; 0 is no limit."""

    trusted_proxies: tuple[str, ...] = ()
    """Addresses or networks (`10.0.0.0/8`) whose word on who the client is is taken."""
    forwarded_header: Literal["x-forwarded-for", "forwarded"] = "x-forwarded-for"
    """The one header in which they give it; the other is the client's own."""
    address_connections: int = 2_000
    address_requests_per_second: int = 200
    address_handshakes_per_second: int = 50
    metrics_networks: tuple[str, ...] = ("127.0.0.0/8", "::1/128")
    """Networks whose clients may read the metrics."""


Address = IPv4Address | IPv6Address


class ClientLimits:
    """The counters of one node. `now` tells seconds that never step back."""

    def __init__(self, settings: AddressSettings, now: Callable[[], float]) -> None:
        """Raises `invalid_settings` where a proxy or a network is no address."""
        self._settings = settings
        self._now = now
        self._proxies = networks_of("trusted_proxies", settings.trusted_proxies)
        self._for_metrics = networks_of("metrics_networks", settings.metrics_networks)
        self._open: Counter[str] = Counter()
        self._requests = _buckets(settings.address_requests_per_second)
        self._handshakes = _buckets(settings.address_handshakes_per_second)

    def peer(self, peer: object) -> str | None:
        """Under which name a socket's other end is counted; None where it is not: this machine,
        a proxy, no address at all."""
        address = _address(peer)
        return None if address is None or self._is_proxy(address) else _name(address)

    def client(self, peer: object, headers: Mapping[str, str]) -> str | None:
        """Under which name a request's client is counted, by the socket's other end and the
        headers (names in lower case, of a repeated one the values joined by commas)."""
        address = self._client_address(peer, headers)
        return None if address is None or self._is_proxy(address) else _name(address)

    def check_metrics(self, peer: object, headers: Mapping[str, str]) -> None:
        """Refuse with `forbidden` a client that may not read the metrics."""
        address = self._client_address(peer, headers)
        if address is None or not any(address in network for network in self._for_metrics):
            detail = "the metrics are for clients in metrics_networks, a setting of this node"
            raise QunxinError("forbidden", detail=detail)

    def check_request(self, client: str | None) -> None:
        """Count one request. Raises `rate_limited`."""
        _take(self._requests, client, self._now())

    def check_handshake(self, client: str | None) -> None:
        """Count one upgrade. Raises `rate_limited`."""
        _take(self._handshakes, client, self._now())

    def enter(self, client: str | None) -> None:
        """Count one connection in; `leave` follows. Raises `rate_limited`."""
        limit = self._settings.address_connections
        if client is None:
            return
        if limit and self._open[client] >= limit:
            raise QunxinError("rate_limited", retry_after=_BUSY_SECONDS)
        self._open[client] += 1

    def leave(self, client: str | None) -> None:
        """Count one connection out."""
        if client is None:
            return
        self._open[client] -= 1
        if self._open[client] <= 0:
            del self._open[client]

    def _client_address(self, peer: object, headers: Mapping[str, str]) -> Address | None:
        """The address that a request comes from: a proxy's own where no other is told, None where
        what is told is no address."""
        address = _address(peer)
        if address is None or not self._is_proxy(address):
            return address
        for text in self._forwarded(headers):
            address = _address(text)
            if address is None or not self._is_proxy(address):
                break
        return address

    def _is_proxy(self, address: Address) -> bool:
        return any(address in network for network in self._proxies)

    def _forwarded(self, headers: Mapping[str, str]) -> Iterator[str]:
        """The addresses in the header, the last first."""
        header = self._settings.forwarded_header
        if header not in headers:
            return
        for part in reversed(headers[header].split(",")):
            yield part.strip() if header == "x-forwarded-for" else _forwarded_for(part)


def _forwarded_for(element: str) -> str:
    """The `for` of one element of `Forwarded` (RFC 7239, 4); empty where it has none."""
    for pair in element.split(";"):
        name, _, value = pair.partition("=")
        if name.strip().lower() == "for":
            return value.strip().strip('"')
    return ""


def _address(value: object) -> Address | None:
    """The address of `value`, which may carry a port; None where it is none."""
    text = str(value or "")
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        found = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = found.ipv4_mapped if isinstance(found, IPv6Address) else None
    return mapped or found


def _name(address: Address) -> str | None:
    if address.is_loopback:
        return None
    if isinstance(address, IPv4Address):
        return str(address)
    return str(IPv6Network((int(address) >> _SITE_BITS << _SITE_BITS, _SITE_BITS)))


def networks_of(setting: str, texts: Iterable[str]) -> list[IPv4Network | IPv6Network]:
    """The networks that a setting names. Raises `invalid_settings`."""
    return [_network(setting, text) for text in texts]


def _network(setting: str, text: str) -> IPv4Network | IPv6Network:
    try:
        return ip_network(text, strict=False)
    except ValueError:
        detail = f"{setting}: {text!r} is no address and no network"
        raise QunxinError("invalid_settings", detail=detail) from None


def _buckets(per_second: int) -> Buckets:
    return Buckets(per_second, per_second * BURST_SECONDS)


def _take(buckets: Buckets, client: str | None, now: float) -> None:
    seconds = 0.0 if client is None else buckets.take(client, 1, now)
    if seconds:
        raise QunxinError("rate_limited", retry_after=max(0.1, round(seconds, 1)))
