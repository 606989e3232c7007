"""The network for `httpcore`, with no way to addresses that are not allowed."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterable

import httpcore

from qunxin.engine.addresses import is_public
from qunxin.errors import QunxinError


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
