"""Tokens as far as the engine knows them: whether a valid one still lets its user in.

Making and verifying them is the gateways' matter. What is revoked stands in the store, and is
read with the account, so that a revocation holds on every node from the moment it is accepted.
"""

from __future__ import annotations

import msgspec

from qunxin.errors import QunxinError
from qunxin.model import SignIn, User, UserState
from qunxin.store import Store
from qunxin.store.commands import RevokeTokens

MAX_TOKEN_SECONDS = 30 * 24 * 3600
"""No token is accepted whose end is further away, so a revoked one need not be remembered
longer."""
LEEWAY_SECONDS = 5
"""How far clocks may differ between who signs and who verifies."""
MAX_TOKEN_ID_LENGTH = 128


class TokenMark(msgspec.Struct, frozen=True):
    """What a token can be revoked by: its id (`jti`), and when it was issued (`iat`, in
    milliseconds since 1970; 0 where the token does not say)."""

    id: str | None = None
    issued_at_ms: int = 0


def plan_revocation(user: str, token: str | None) -> RevokeTokens:
    """What refuses one token of `user` by its id, or all that were issued until now. One that is
    good now can be so for `MAX_TOKEN_SECONDS`, and by another clock at either end of that."""
    if token is not None and not 1 <= len(token) <= MAX_TOKEN_ID_LENGTH:
        detail = f"id: 1 to {MAX_TOKEN_ID_LENGTH} characters"
        raise QunxinError("invalid_request", detail=detail)
    valid_seconds = MAX_TOKEN_SECONDS + 2 * LEEWAY_SECONDS
    return RevokeTokens(user, token, valid_seconds * 1000, LEEWAY_SECONDS * 1000)


async def sign_in(store: Store, user: str, token: TokenMark | None) -> User:
    """The account, where it may act and `token` is not revoked. Raises `user_not_found`,
    `user_erased`, `user_suspended`, `token_revoked`."""
    found = await store.read_sign_in(user, token.id if token else None)
    if found is None:
        raise QunxinError("user_not_found", user=user)
    if found.user.state is not UserState.ACTIVE:
        raise QunxinError(f"user_{found.user.state}", user=user)
    if token is not None and _is_revoked(found, token):
        raise QunxinError("token_revoked")
    return found.user


def _is_revoked(found: SignIn, token: TokenMark) -> bool:
    return found.revoked or token.issued_at_ms < found.tokens_from
