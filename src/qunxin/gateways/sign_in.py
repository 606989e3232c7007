"""How people come to the page at ``/``: through links that work once, made by the node's owner.

A link is exchanged for a session, which the browser keeps in a cookie that no script can read;
the session is exchanged for the short-lived tokens that everything else asks for. They bear the
session's id, so they end with it. Nothing here lets anybody in without a link, whatever stands
between them and the node.
"""

from __future__ import annotations

import hashlib
import secrets
from typing import Final

import msgspec

from qunxin.clock import Clock, SystemClock
from qunxin.engine import Engine
from qunxin.engine.access import SYSTEM
from qunxin.engine.tokens import TokenMark
from qunxin.errors import QunxinError
from qunxin.gateways.auth import Authenticator, new_token_id

LINK_SECONDS: Final = 15 * 60
SESSION_SECONDS: Final = 14 * 24 * 3600
_NO_SESSION: Final = {"unauthenticated", "token_expired", "user_not_found", "user_erased"}
_SECRET_BYTES: Final = 32
_MAX_LINKS: Final = 1_000


class Link(msgspec.Struct, frozen=True):
    """One way in: as `user`, or where that is None, with a new account."""

    user: str | None
    expires_ms: int


class SignInLinks:
    """The links that are open. Only their digests are kept, in memory: they end with the process,
    by time, or by the first use. At most 1,000; beyond it the oldest goes."""

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._links: dict[bytes, Link] = {}

    def make(self, user: str | None, seconds: int = LINK_SECONDS) -> tuple[str, Link]:
        """A new link's secret, told this once, and what it opens."""
        secret = secrets.token_urlsafe(_SECRET_BYTES)
        link = Link(user, self._clock.now_ms() + seconds * 1000)
        self._links[_digest(secret)] = link
        while len(self._links) > _MAX_LINKS:
            del self._links[next(iter(self._links))]
        return secret, link

    def take(self, secret: str) -> Link:
        """Use a link up. Raises `unauthenticated` where there is none, or no longer."""
        link = self._links.pop(_digest(secret), None)
        if link is None or link.expires_ms <= self._clock.now_ms():
            raise QunxinError("unauthenticated", detail="this link is used up or too old")
        return link

    def put_back(self, secret: str, link: Link) -> None:
        """Undo `take`: what the link was taken for was refused, and can be mended."""
        self._links[_digest(secret)] = link


def session_audience(audience: str) -> str:
    """For whom sessions are signed where tokens are signed for `audience`: no door takes a session
    but `SignIn`, and this takes no token."""
    return f"{audience}:page"


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


class Session(msgspec.Struct, frozen=True):
    """One browser that is signed in: `secret` is for its cookie, `token` for everything else."""

    secret: str
    user: str
    token: str
    expires: int
    """Of the token, in milliseconds since 1970."""
    max_message_bytes: int
    """What the node takes for one message, so that a page can tell before it sends."""


class SignIn:
    """Exchanges links for sessions and sessions for tokens. A session is a signed token for this
    door only, so it outlasts a restart and nothing of it is stored until it is revoked; an account
    that may not act now gets nothing. A session keeps its id and its time of issue when its
    secret is replaced, and gives both to every token, so one revocation ends all of them: of all
    that the user has, too, even where the session is being renewed at that moment."""

    def __init__(
        self,
        engine: Engine,
        links: SignInLinks,
        tokens: Authenticator,
        sessions: Authenticator,
        clock: Clock | None = None,
    ) -> None:
        self._engine = engine
        self._clock = clock or SystemClock()
        self._links = links
        self._tokens = tokens
        self._sessions = sessions

    async def use_link(
        self, secret: str, user: str | None, name: str | None, former: str | None = None
    ) -> Session:
        """A session for a link. A link that makes an account needs `user`, and `name` if it is to
        have one; for any other `user`, where given, is whom the person expects to become. The
        session with the secret `former`, which the browser had until now, has ended on return.

        Raises `unauthenticated` for a link that is not good, `invalid_request` where the id that
        was chosen is taken, cannot be or is not the link's, and what is wrong with an account
        that may not act; the link can be used again after all but the first, for the account that
        it has made where it came so far.
        """
        link = self._links.take(secret)
        try:
            account = await self._account_of(link, user, name)
            link = Link(account, link.expires_ms)
            user = (await self._engine.sign_in(account, None)).user
            if former is not None:
                await self.end(former)
            return self._session(user, TokenMark(new_token_id(), self._clock.now_ms()))
        except QunxinError:
            self._links.put_back(secret, link)
            raise

    async def renew(self, secret: str) -> Session:
        """A fresh token for a session, whose secret is replaced when half of its time is over.
        Raises `unauthenticated`, `token_expired` or `token_revoked` for a secret that is not
        good, and what is wrong with the account."""
        identity = await self._sessions.verify_token(secret)
        user = (await self._engine.sign_in(identity.user, identity.token)).user
        left_seconds = (identity.expires_at_ms - self._clock.now_ms()) / 1000
        kept = secret if left_seconds > SESSION_SECONDS / 2 else None
        return self._session(user, identity.token, kept)

    async def end(self, secret: str) -> None:
        """Sign a browser out, durably: its session's secret is refused from now on, as are the
        tokens it was exchanged for, and the live sessions that came with them have ended. One
        that is none, or no longer, is at its end already. It is never refused for what was
        revoked before."""
        try:
            identity = await self._sessions.verify_token(secret)
            await self._engine.revoke_tokens(identity.user, identity.token.id)
        except QunxinError as error:
            if error.code not in _NO_SESSION:
                raise

    def _session(self, user: str, mark: TokenMark, secret: str | None = None) -> Session:
        token, expires = self._tokens.issue_token(user, mark=mark)
        if secret is None:
            secret, _ = self._sessions.issue_token(user, SESSION_SECONDS, mark)
        limit = self._engine.settings.max_message_bytes
        return Session(secret, user, token, expires, limit)

    async def _account_of(self, link: Link, user: str | None, name: str | None) -> str:
        if link.user is None:
            return await self._create(user, name)
        if user not in (None, link.user):
            raise QunxinError("invalid_request", detail=f"the link is not for {user}")
        return link.user

    async def _create(self, user: str | None, name: str | None) -> str:
        """A new account. An existing one is never opened this way: the link may have been read in
        a log, and must not be worth more than an account without history."""
        if user is None:
            raise QunxinError("invalid_request", detail="user: missing")
        put = await self._engine.put_user(user, name=name, only_new=True, caller=SYSTEM)
        if put.created:
            return put.user.user
        detail = f"the account {user} exists; for a link to it: qunxin link {user}"
        raise QunxinError("invalid_request", detail=detail, taken=True)
