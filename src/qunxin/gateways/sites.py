"""Which names this server answers to, and which web pages may talk to it.

The `Host` check stops DNS rebinding: a hostile page cannot make a browser talk to this server
under a name of its own. The `Origin` check stops other sites' pages; it is needed for WebSockets
above all, which browsers open across sites without asking. Pure; both gateways ask here.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final
from urllib.parse import urlsplit

from qunxin.errors import QunxinError

LOOPBACK_NAMES: Final = ("localhost", "127.0.0.1", "::1")
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_HOST = re.compile(
    r"(?:\[(?P<address>[0-9a-fA-F:.]+)\]|(?P<name>[^\s:@/?#\\\[\]]+))(?::[0-9]{0,5})?"
)
_BARE_ADDRESS = re.compile(r"[0-9a-fA-F.]*:[0-9a-fA-F:.]*:[0-9a-fA-F.:]*")


class SitePolicy:
    """The allowed names and origins.

    Always allowed as `Host`: the loopback names, and the very address that the connection came
    to (no name can be rebound to make those two agree). `hosts` adds names, without port; ``*``
    allows all. `origins` adds web origins (``https://chat.example``); ``*`` allows all. A page
    that was served under the same host is always allowed.
    """

    def __init__(self, hosts: Sequence[str] = (), origins: Sequence[str] = ()) -> None:
        self._hosts = {*LOOPBACK_NAMES, *map(_allowed_name, hosts)} - {""}
        self._any_host = "*" in hosts
        self._origins = {_normal_origin(origin) for origin in origins}
        self._any_origin = "*" in origins

    def check_host(self, host: str | None, local_address: str | None) -> None:
        """Refuse a `Host` header that does not name this server; `local_address` is the IP
        address that the connection came to. Raises `invalid_request`."""
        if not host:
            raise QunxinError("invalid_request", detail="the Host header is missing")
        name = _host_name(host)
        if self._any_host or name in self._hosts or (name and name == local_address):
            return
        raise QunxinError(
            "invalid_request", detail="this server does not answer to that Host; see allowed_hosts"
        )

    def check_origin(self, origin: str | None, host: str | None) -> bool:
        """Whether `origin` is another site that is allowed (and so needs CORS headers); False
        for no origin and for our own pages. Raises `forbidden`."""
        if origin is None or _same_site(origin, host):
            return False
        if self._any_origin or _normal_origin(origin) in self._origins:
            return True
        raise QunxinError(
            "forbidden", detail="pages of this origin may not use this server; see allowed_origins"
        )


def _allowed_name(host: str) -> str:
    """A name from the settings, where an IPv6 address may stand without its brackets."""
    return _host_name(f"[{host}]" if _BARE_ADDRESS.fullmatch(host) else host)


def _host_name(host: str) -> str:
    """The name in a `Host` value, lower case, without port, brackets and a final dot; empty
    where it is none."""
    match = _HOST.fullmatch(host.strip())
    if match is None:
        return ""
    return (match["address"] or match["name"]).lower().removesuffix(".")


def _normal_origin(origin: str) -> str:
    """Scheme, host and port of an origin, a default port left out; itself where it has none
    (``null``)."""
    try:
        parts = urlsplit(origin.strip().lower())
        port = parts.port
    except ValueError:
        return ""
    if not parts.hostname:
        return origin
    shown = "" if port is None or _DEFAULT_PORTS.get(parts.scheme) == port else f":{port}"
    return f"{parts.scheme}://{parts.hostname}{shown}"


def _same_site(origin: str, host: str | None) -> bool:
    """Whether `origin` is where the request itself went. The scheme is not compared: behind a
    proxy that ends TLS this server does not know its own."""
    normal = _normal_origin(origin)
    scheme = normal.partition("://")[0]
    if host is None or scheme not in _DEFAULT_PORTS:
        return False
    return normal == _normal_origin(f"{scheme}://{host}")
