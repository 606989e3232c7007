"""The token of a client: one that was given, or fetched from the application when it is needed."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from qunxin.client.refusals import check_encodable
from qunxin.errors import QunxinError

TokenSource: TypeAlias = str | Callable[[], Awaitable[str]]
"""A token, or what gives a fresh one each time that it is called."""


class NoTokenError(QunxinError):
    """The application's own function failed in a way that no repeat can mend; what it raised is the
    cause."""

    def __init__(self, cause: BaseException) -> None:
        super().__init__("unauthenticated", detail=f"fetching a token failed: {cause!r}")
        self.__cause__ = cause


def may_pass(error: BaseException) -> bool:
    """Whether a failure to fetch a token may be over at the next try: the network's (`OSError`,
    which every time-out is), one made of such an error (``raise … from``, as HTTP libraries do), or
    one of ours that says so. Anything else is a mistake in the program, which would only be made
    again."""
    while True:
        if isinstance(error, OSError) or (isinstance(error, QunxinError) and error.retryable):
            return True
        if error.__cause__ is None:
            return False
        error = error.__cause__


class Tokens:
    """Keeps a fetched token until the server will not have it any more."""

    def __init__(self, source: TokenSource) -> None:
        """Raises `invalid_request` for what can be no source of tokens."""
        if not callable(source):
            _check_token(source)
        self._source = source
        self._token = source if isinstance(source, str) else ""
        self.renewable = not isinstance(source, str)
        self.fresh = False
        """Whether the token was fetched since a server last accepted one."""

    async def current(self) -> str:
        """Raises what the application's own function raises, or `invalid_request` where what it
        gives is no token."""
        return self._token or await self.fetch()

    async def fetch(self) -> str:
        """A new one, where there is where to get it."""
        if not isinstance(self._source, str):
            given: object = self._source()
            if not inspect.isawaitable(given):
                detail = f"token: the function gave {type(given).__name__}; it must be async"
                raise QunxinError("invalid_request", detail=detail)
            self._token = _check_token(await given)
            self.fresh = True
        return self._token

    def drop(self) -> None:
        """The server refused it: the next one is fetched."""
        if self.renewable:
            self._token = ""

    def accepted(self) -> None:
        self.fresh = False


def _check_token(token: object) -> str:
    if not isinstance(token, str):
        detail = f"token: {type(token).__name__} is neither a text nor a function that fetches one"
        raise QunxinError("invalid_request", detail=detail)
    if not token:
        raise QunxinError("invalid_request", detail="token: empty")
    check_encodable({"token": token})
    return token
