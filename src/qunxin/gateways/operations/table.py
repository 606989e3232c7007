"""The table's own words: what one operation is, and where its fields come from over HTTP."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from enum import StrEnum
from functools import cached_property
from string import Formatter
from typing import Any, NamedTuple, Protocol

import msgspec

from qunxin.engine import Engine
from qunxin.engine.access import Caller
from qunxin.errors import QunxinError
from qunxin.gateways.operations.requests import Request
from qunxin.gateways.operations.wording import in_words


class TokenIssuer(Protocol):
    """Makes tokens for users' devices."""

    def issue_token(self, user: str, ttl_seconds: int | None) -> tuple[str, int]:
        """A token for `user`, and when it expires (milliseconds since 1970). None: after the
        server's usual time."""
        ...


class Services(NamedTuple):
    """What handlers call."""

    engine: Engine
    tokens: TokenIssuer


Handler = Callable[[Services, Caller, Any], Awaitable[Any]]
"""Given services, caller and the operation's request struct: its response struct. Raises
`QunxinError` only."""


class Place(StrEnum):
    """Where a field stands in an HTTP request."""

    PATH = "path"
    QUERY = "query"
    BODY = "body"


class Field(NamedTuple):
    """One field of a request struct under its name on the wire."""

    name: str
    type: Any
    place: Place
    required: bool


_WITHOUT_BODY = frozenset({"GET", "DELETE"})


class Operation(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """One row: an operation's name, its place in HTTP, its structs, its handler.

    Fields named in `path` come from it; the others from the query where the method carries no
    body (GET, DELETE), else from the body.
    """

    name: str
    method: str
    path: str
    tag: str
    summary: str
    chinese: str
    """The summary in Chinese."""
    description: str
    request: type[Request]
    response: Any
    statuses: dict[int, str]
    """Every status of success and what it says."""
    errors: tuple[str, ...]
    """The codes of this operation's own refusals, beside those that any operation can give."""
    rules: tuple[str, ...]
    """The rows of the access table that it is judged by."""
    run: Handler
    status_of: Callable[[Any], int]
    """The status of success for a response."""

    @cached_property
    def fields(self) -> tuple[Field, ...]:
        in_path = {name for _, name, _, _ in Formatter().parse(self.path) if name}
        rest = Place.QUERY if self.method in _WITHOUT_BODY else Place.BODY
        return tuple(
            Field(
                field.encode_name,
                field.type,
                Place.PATH if field.encode_name in in_path else rest,
                field.required or field.encode_name in in_path,
            )
            for field in msgspec.structs.fields(self.request)
        )

    @property
    def has_body(self) -> bool:
        return any(field.place is Place.BODY for field in self.fields)

    def decode(self, data: object) -> Request:
        """The request struct from one plain object that holds all fields together, as `rpc`
        carries it. Raises `invalid_request`."""
        try:
            return msgspec.convert({} if data is None else data, self.request)
        except (msgspec.ValidationError, RecursionError) as error:
            raise QunxinError("invalid_request", detail=in_words(error)) from None


def acting_user(caller: Caller, acting: str | None) -> str | None:
    """Who acts: the user themself, or whom a key names (None: the key itself). Raises
    `forbidden` where a user names somebody else."""
    if caller.is_key:
        return acting
    if acting not in (None, caller.user):
        raise QunxinError("forbidden", detail="you may act for yourself only")
    return caller.user


def user_meant(caller: Caller, user: str | None) -> str:
    """The user an operation is about; left out, the caller themself."""
    meant = user if user is not None else caller.user
    if meant is None:
        raise QunxinError("invalid_request", detail="user: missing")
    return meant
