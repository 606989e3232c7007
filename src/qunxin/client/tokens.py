"""The token of a client: one that was given, or fetched from the application when it is needed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeAlias

TokenSource: TypeAlias = str | Callable[[], Awaitable[str]]
"""A token, or what gives a fresh one each time that it is called."""


class Tokens:
    """Keeps a fetched token until the server will not have it any more."""

    def __init__(self, source: TokenSource) -> None:
        self._source = source
        self._token = source if isinstance(source, str) else ""
        self.renewable = not isinstance(source, str)
        self.fresh = False
        """Whether the token was fetched since a server last accepted one."""

    async def current(self) -> str:
        """Raises what the application's own function raises."""
        return self._token or await self.fetch()

    async def fetch(self) -> str:
        """A new one, where there is where to get it."""
        if not isinstance(self._source, str):
            self._token = await self._source()
            self.fresh = True
        return self._token

    def drop(self) -> None:
        """The server refused it: the next one is fetched."""
        if self.renewable:
            self._token = ""

    def accepted(self) -> None:
        self.fresh = False
