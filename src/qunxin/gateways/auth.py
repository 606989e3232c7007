"""Who is asking: API keys and users' tokens.

A token is a JWT (RFC 7519): `sub` names the user, `exp` and `aud` are required. It is signed with
one of our own secrets (HS256), or with a key of the key set that the node was given (RS256,
ES256, EdDSA). Which algorithm a signature must have is a property of the key, never of the token.
An API key begins with ``qx_`` and is looked up by the engine, which keeps only its digest.
"""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeGuard

import msgspec

from qunxin.clock import Clock, SystemClock
from qunxin.engine import Engine
from qunxin.engine.access import Caller
from qunxin.engine.tokens import (
    LEEWAY_SECONDS,
    MAX_TOKEN_ID_LENGTH,
    MAX_TOKEN_SECONDS,
    TokenMark,
)
from qunxin.errors import QunxinError
from qunxin.gateways.keyring import TokenKeys
from qunxin.model import MAX_INTEGER, is_valid_id

if TYPE_CHECKING:
    from qunxin.gateways.jwks import KeySet  # with a library that few nodes need

DEFAULT_AUDIENCE: Final = "qunxin"
DEFAULT_TOKEN_SECONDS: Final = 3600
API_KEY_PREFIX: Final = "qx_"
_MAX_TOKEN_LENGTH: Final = 4096
_REQUIRED: Final = ("sub", "exp", "aud")
_VERIFIED_SECONDS: Final = 60
"""No longer, since others may take a key out of their set."""
_MAX_VERIFIED: Final = 10_000


class Identity(msgspec.Struct, frozen=True):
    """What a valid token says: who, and until when (milliseconds since 1970)."""

    user: str
    expires_at_ms: int
    token: TokenMark


class _Verified(NamedTuple):
    identity: Identity
    until_ms: int


class _VerifyingKey(NamedTuple):
    algorithm: str
    key: Any
    issuer: str | None
    """Whom a token with this key must name as its `iss`; None: anybody."""


class Authenticator:
    """Makes and checks credentials. Whether an account may act now is the engine's knowledge:
    `authenticate_http` asks it, `verify_token` does not."""

    def __init__(
        self,
        engine: Engine,
        keys: TokenKeys,
        *,
        audience: str = DEFAULT_AUDIENCE,
        token_ttl_seconds: int = DEFAULT_TOKEN_SECONDS,
        others: KeySet | None = None,
        others_issuer: str = "",
        clock: Clock | None = None,
    ) -> None:
        """`others` holds the keys of others who sign; with `others_issuer` their tokens must name
        that one as `iss`."""
        self._engine = engine
        self._keys = keys
        self._audience = audience
        self._token_ttl_seconds = token_ttl_seconds
        self._others = others
        self._others_issuer = others_issuer or None
        self._clock = clock or SystemClock()
        self._verified: OrderedDict[str, _Verified] = OrderedDict()

    def use_keys(self, keys: TokenKeys) -> None:
        """Sign and verify with `keys` from now on."""
        self._keys = keys
        self._verified.clear()

    def issue_token(
        self, user: str, ttl_seconds: int | None = None, mark: TokenMark | None = None
    ) -> tuple[str, int]:
        """A token for `user`, and when it expires (milliseconds since 1970): `ttl_seconds` from
        now, by default `token_ttl_seconds`. Tokens with the same `mark` are revoked together; by
        default it is a new one, issued now. Raises `invalid_request` for an id that cannot be, or
        a time outside 1 second to 30 days."""
        ttl_seconds = self._token_ttl_seconds if ttl_seconds is None else ttl_seconds
        if not is_valid_id(user):
            raise QunxinError("invalid_request", detail="user: not a valid id")
        if not 1 <= ttl_seconds <= MAX_TOKEN_SECONDS:
            raise QunxinError("invalid_request", detail=f"ttl_seconds: 1 to {MAX_TOKEN_SECONDS}")
        import jwt  # noqa: PLC0415 - what it stands on takes long, and most commands need no token

        now_ms = self._clock.now_ms()
        mark = mark or TokenMark(new_token_id(), now_ms)
        expires = now_ms // 1000 + ttl_seconds
        claims = {
            "sub": user,
            "aud": self._audience,
            "jti": mark.id,
            "iat": mark.issued_at_ms / 1000,
            "exp": expires,
        }
        key = self._keys.signing
        token = jwt.encode(claims, key.secret, key.algorithm, headers={"kid": key.id})
        return token, expires * 1000

    async def verify_token(self, token: str) -> Identity:
        """Whom a token is for. Raises `token_expired`, or `unauthenticated` for everything else
        that is wrong with it; `token_keys_unavailable` where its key cannot be looked up now.
        Whether it was revoked is not looked at. A token found good is not verified again for
        `_VERIFIED_SECONDS`, as long as it is valid and our keys stay what they are."""
        known = self._verified.get(token)
        if known is not None and self._clock.now_ms() < known.until_ms:
            return known.identity
        identity = await self._verify(token)
        now_ms, expires_ms = self._clock.now_ms(), identity.expires_at_ms + LEEWAY_SECONDS * 1000
        self._verified[token] = _Verified(
            identity, min(now_ms + _VERIFIED_SECONDS * 1000, expires_ms)
        )
        self._verified.move_to_end(token)
        if len(self._verified) > _MAX_VERIFIED:
            self._verified.popitem(last=False)
        return identity

    async def _verify(self, token: str) -> Identity:
        if len(token) > _MAX_TOKEN_LENGTH:
            raise QunxinError("unauthenticated", detail="the token is too long")
        claims = self._verified_claims(token, await self._key_of(token))
        user, expires = claims["sub"], claims["exp"]
        if not is_valid_id(user):
            raise QunxinError("unauthenticated", detail="the token's sub is not a user id")
        if not _is_time(expires):
            raise QunxinError("unauthenticated", detail="the token's exp is not a time")
        if (expires + LEEWAY_SECONDS) * 1000 <= self._clock.now_ms():
            raise QunxinError("token_expired")
        if expires - MAX_TOKEN_SECONDS - LEEWAY_SECONDS > self._clock.now_ms() / 1000:
            raise QunxinError("unauthenticated", detail="the token is valid for over 30 days")
        self._check_begun(claims.get("nbf", 0), "nbf")
        issued = claims.get("iat", 0)
        self._check_begun(issued, "iat")
        token_id = _token_id(claims.get("jti"))
        return Identity(user, int(expires * 1000), TokenMark(token_id, round(issued * 1000)))

    async def authenticate_http(self, headers: Mapping[str, str]) -> Caller:
        """The caller whom the `Authorization` header names (header names in lower case).

        Raises `unauthenticated`, `token_expired`, and for a token of an account that may not act
        `user_not_found`, `user_erased`, `user_suspended` or `token_revoked`.
        """
        scheme, _, credential = headers.get("authorization", "").partition(" ")
        credential = credential.strip()
        if scheme.lower() != "bearer" or not credential:
            raise QunxinError(
                "unauthenticated", detail="send Authorization: Bearer with an API key or a token"
            )
        if credential.startswith(API_KEY_PREFIX):
            return await self._engine.find_key(credential)
        identity = await self.verify_token(credential)
        user = await self._engine.sign_in(identity.user, identity.token)
        return Caller.as_user(user.user)

    def _check_begun(self, not_before: Any, claim: str) -> None:
        """The optional claims `nbf` and `iat`: not to be accepted before them (RFC 7519, 4.1.5).
        One that claims to be issued later than now would outlive the revocation of all."""
        if not _is_time(not_before):
            raise QunxinError("unauthenticated", detail=f"the token's {claim} is not a time")
        if (not_before - LEEWAY_SECONDS) * 1000 > self._clock.now_ms():
            raise QunxinError("unauthenticated", detail="the token is not valid yet")

    async def _key_of(self, token: str) -> _VerifyingKey:
        """The key a token names by its id, ours before others'; our active one where it names
        none."""
        import jwt  # noqa: PLC0415 - see `issue_token`

        try:
            key_id = jwt.get_unverified_header(token).get("kid", self._keys.active)
            if self._others is None or self._keys.has(key_id):
                own = self._keys.find(key_id)
                return _VerifyingKey(own.algorithm, own.secret, None)
            other = await self._others.find(key_id)
            return _VerifyingKey(other.algorithm, other.key, self._others_issuer)
        except (jwt.InvalidTokenError, KeyError, ValueError):
            raise QunxinError("unauthenticated", detail="the token is not valid") from None

    def _verified_claims(self, token: str, key: _VerifyingKey) -> dict[str, Any]:
        """The claims of a token with the key's signature and our audience. Times are checked by the
        caller, against a clock that tests can replace."""
        import jwt  # noqa: PLC0415 - see `issue_token`

        try:
            return jwt.decode(
                token,
                key.key,
                algorithms=[key.algorithm],
                audience=self._audience,
                issuer=key.issuer,
                options={
                    "require": list(_REQUIRED),
                    "verify_exp": False,
                    "verify_iat": False,
                    "verify_nbf": False,
                    "verify_jti": False,
                    "verify_iss": key.issuer is not None,
                },
            )
        except jwt.MissingRequiredClaimError as error:
            detail = f"the token lacks the claim {error.claim}"
        except jwt.InvalidAudienceError:
            detail = f"the token's aud is not {self._audience}"
        except jwt.InvalidIssuerError:
            detail = f"the token's iss is not {key.issuer}"
        except (jwt.InvalidTokenError, ValueError):
            detail = "the token is not valid"
        raise QunxinError("unauthenticated", detail=detail)


def new_token_id() -> str:
    """One that no other token has."""
    return secrets.token_hex(8)


def _is_time(value: Any) -> TypeGuard[float]:
    """Whether `value` can be a NumericDate (RFC 7519, 2); a fraction is allowed."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return 0 <= value <= MAX_INTEGER // 1000


def _token_id(value: Any) -> str | None:
    """The optional claim `jti` (RFC 7519, 4.1.7), by which one token can be revoked."""
    if value is None or (isinstance(value, str) and 1 <= len(value) <= MAX_TOKEN_ID_LENGTH):
        return value
    raise QunxinError("unauthenticated", detail="the token's jti is not an id")
