"""Tokens that are refused before their time.

All that were issued before a user's `tokens_from` are. A single one stands in `revoked_tokens`, by
its id: it was revoked at `keep_until` less the time that tokens can be valid for, and none of it
was issued later than that, but for the difference of clocks.
"""

from __future__ import annotations

from qunxin.model import MAX_REVOKED_TOKENS, EventType, User
from qunxin.store.commands import RevokeTokens
from qunxin.store.results import Done
from qunxin.stores.sqlite.commands.lookups import existing_user
from qunxin.stores.sqlite.transaction import Transaction


def revoke_tokens(tx: Transaction, command: RevokeTokens) -> Done:
    user = existing_user(tx, command.user)
    if command.token is None:
        # Whatever was issued within this very millisecond counts as issued before.
        _refuse_before(tx, user, tx.time + 1, command)
        return Done(None, tx.append_to_inboxes([user.key], EventType.SESSIONS_ENDED, {}))
    if _revoke_one(tx, user, command.token, command):
        return Done(None)
    body = {"token": command.token}
    return Done(None, tx.append_to_inboxes([user.key], EventType.SESSIONS_ENDED, body))


def forget_revocations(tx: Transaction, key: int) -> None:
    """Of a user without an account no token is looked at."""
    tx.run("DELETE FROM revoked_tokens WHERE user = ?", (key,))


def _refuse_before(tx: Transaction, user: User, time: int, command: RevokeTokens) -> None:
    """Refuse what was issued before `time`, and forget the ids of which nothing is left to refuse.
    A clock that was set back lowers nothing."""
    floor = tx.value(
        "UPDATE users SET tokens_from = max(tokens_from, ?) WHERE key = ? RETURNING tokens_from",
        (time, user.key),
    )
    tx.run(
        "DELETE FROM revoked_tokens WHERE user = ? AND keep_until < ?",
        (user.key, floor - command.ahead_ms + command.valid_ms),
    )


def _revoke_one(tx: Transaction, user: User, token: str, command: RevokeTokens) -> bool:
    """Remember `token`, from now on for as long as it can be valid; whether it was remembered
    already."""
    tx.run("DELETE FROM revoked_tokens WHERE user = ? AND keep_until <= ?", (user.key, tx.time))
    known = tx.value(
        "SELECT EXISTS (SELECT 1 FROM revoked_tokens WHERE user = ? AND token = ?)",
        (user.key, token),
    )
    tx.run(
        "INSERT INTO revoked_tokens VALUES (?, ?, ?) ON CONFLICT"
        " DO UPDATE SET keep_until = max(keep_until, excluded.keep_until)",
        (user.key, token, tx.time + command.valid_ms),
    )
    _keep_to_the_bound(tx, user, command)
    return bool(known)


def _keep_to_the_bound(tx: Transaction, user: User, command: RevokeTokens) -> None:
    """Refusing a revocation would be worse than forgetting the oldest: it would keep a session
    that somebody wants to end, and whoever holds a token of the user could bring it about."""
    beyond = tx.value(
        "SELECT keep_until FROM revoked_tokens WHERE user = ?"
        " ORDER BY keep_until DESC LIMIT 1 OFFSET ?",
        (user.key, MAX_REVOKED_TOKENS),
    )
    if beyond is not None:
        revoked = beyond - command.valid_ms
        _refuse_before(tx, user, revoked + command.ahead_ms + 1, command)
