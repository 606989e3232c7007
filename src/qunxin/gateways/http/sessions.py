"""``/session``: how the page signs in, gets its tokens, and signs out.

The cookie is for these paths alone, unreadable to scripts and never sent across sites. Requests
must come from a page of this very origin and carry JSON, which no form can send.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from http import HTTPStatus
from typing import Annotated, Final

import msgspec
from msgspec import Meta
from starlette.routing import Route

from qunxin.errors import QunxinError
from qunxin.gateways.http.binding import check_json_type
from qunxin.gateways.http.endpoints import Action, Endpoint
from qunxin.gateways.http.exchange import Exchange, Header
from qunxin.gateways.http.settings import HttpSettings
from qunxin.gateways.operations.requests import DisplayName, UserId
from qunxin.gateways.operations.wording import in_words
from qunxin.gateways.sign_in import SESSION_SECONDS, Session, SignIn

PATH: Final = "/session"
COOKIE: Final = "qunxin_session"
_HEADERS: Final[tuple[Header, ...]] = (
    (b"content-type", b"application/json"),
    (b"cache-control", b"no-store"),
)


class UseLink(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is sent for a session: a link's secret, and the account for one that makes it."""

    link: Annotated[str, Meta(min_length=1, max_length=200)]
    user: UserId | None = None
    name: DisplayName | None = None


class Signed(msgspec.Struct, frozen=True):
    """Who is signed in, with a token that expires (milliseconds since 1970), and how large a
    message may be."""

    user: str
    token: str
    expires: int
    max_message_bytes: int


_decoder: Final = msgspec.json.Decoder(UseLink)
_encode = msgspec.json.Encoder().encode


class SessionActions:
    """The actions of the page's own door."""

    def __init__(self, sign_in: SignIn, settings: HttpSettings) -> None:
        self._sign_in = sign_in
        self._seconds = settings.request_deadline_seconds

    async def open(self, exchange: Exchange) -> None:
        """A link for a session. The one that the browser had ends: nobody has its cookie now."""
        _check_own_page(exchange)
        check_json_type(exchange.headers.get("content-type"))
        asked = _decode(await self._in_time(exchange.read_body))
        former = _cookie(exchange)
        session = await self._sign_in.use_link(asked.link, asked.user, asked.name, former)
        await _reply(exchange, HTTPStatus.CREATED, session)

    async def token(self, exchange: Exchange) -> None:
        """A session for a token; the session is renewed. Without one there is no content: whoever
        comes for the first time makes no mistake, and browsers log every refusal as one."""
        _check_own_page(exchange)
        secret = _cookie(exchange)
        if secret is None:
            await exchange.reply(HTTPStatus.NO_CONTENT, [(b"cache-control", b"no-store")], b"")
            return
        await _reply(exchange, HTTPStatus.OK, await self._sign_in.renew(secret))

    async def close(self, exchange: Exchange) -> None:
        """The browser's session ends, and the browser forgets it."""
        _check_own_page(exchange)
        secret = _cookie(exchange)
        if secret is not None:
            await self._sign_in.end(secret)
        headers = [*_HEADERS, _set_cookie(exchange, "", 0)]
        await exchange.reply(HTTPStatus.OK, headers, b"{}")

    async def _in_time(self, read: Callable[[], Awaitable[bytes]]) -> bytes:
        try:
            return await asyncio.wait_for(read(), self._seconds)
        except TimeoutError:
            detail = "the body did not arrive in time"
            raise QunxinError("invalid_request", detail=detail) from None


def session_routes(sign_in: SignIn, settings: HttpSettings) -> Iterator[Route]:
    """The paths that the page signs in by."""
    actions = SessionActions(sign_in, settings)
    door: dict[str, Action] = {"POST": actions.open, "DELETE": actions.close}
    yield Route(PATH, Endpoint(door))
    yield Route(f"{PATH}/token", Endpoint({"POST": actions.token}))


def _check_own_page(exchange: Exchange) -> None:
    """Refuse whatever a page of this very origin did not send. Other origins that may use the
    API (`allowed_origins`) may not use its users' cookies."""
    from_here = exchange.headers.get("sec-fetch-site", "same-origin") == "same-origin"
    if "origin" not in exchange.headers or exchange.extra or not from_here:
        raise QunxinError("forbidden", detail="only this node's own page may sign in")


def _decode(body: bytes) -> UseLink:
    try:
        return _decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise QunxinError("invalid_request", detail=in_words(error)) from None


def _cookie(exchange: Exchange) -> str | None:
    """The session's, whatever stands beside it. Python's own parser ends at the first pair that is
    not as it should be, and those of others on this host often are not. Of two with this name the
    first has the longer path (RFC 6265, 5.4)."""
    for pair in exchange.headers.get("cookie", "").split(";"):
        name, _, value = pair.partition("=")
        if name.strip() == COOKIE:
            return value.strip()
    return None


def _set_cookie(exchange: Exchange, value: str, seconds: int) -> Header:
    """The session's cookie. `Secure` where the page came over TLS: behind a proxy the node knows
    that from the page's own origin only, and a page can lower nobody's safety but its own."""
    secure = exchange.headers["origin"].startswith("https://")
    text = f"{COOKIE}={value}; Path={PATH}; Max-Age={seconds}; HttpOnly; SameSite=Strict"
    return b"set-cookie", (text + ("; Secure" if secure else "")).encode()


async def _reply(exchange: Exchange, status: HTTPStatus, session: Session) -> None:
    headers = [*_HEADERS, _set_cookie(exchange, session.secret, SESSION_SECONDS)]
    signed = Signed(session.user, session.token, session.expires, session.max_message_bytes)
    await exchange.reply(status, headers, _encode(signed))
