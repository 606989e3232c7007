"""Tokens that are refused before their time."""

from __future__ import annotations

from qunxin.errors import QunxinError
from qunxin.model import MAX_REVOKED_TOKENS, EventType, User
from qunxin.store.commands import RevokeTokens
from qunxin.store.results import Done
from qunxin.stores.sqlite.commands.lookups import existing_user
from qunxin.stores.sqlite.transaction import Transaction


def revoke_tokens(tx: Transaction, command: RevokeTokens) -> Done:
    user = existing_user(tx, command.user)
    if command.token is None:
        _revoke_all(tx, user)
        return Done(None, tx.append_to_inboxes([user.key], EventType.SESSIONS_ENDED, {}))
    _revoke_one(tx, user, command.token, command.keep_until_ms)
    body = {"token": command.token}
    return Done(None, tx.append_to_inboxes([user.key], EventType.SESSIONS_ENDED, body))


def forget_revocations(tx: Transaction, key: int) -> None:
    """Of a user without an account no token is looked at."""
    tx.run("DELETE FROM revoked_tokens WHERE user = ?", (key,))


def _revoke_all(tx: Transaction, user: User) -> None:
    """Whatever was issued within this very millisecond counts as issued before."""
    tx.run("UPDATE users SET tokens_from = ? WHERE key = ?", (tx.time + 1, user.key))
    forget_revocations(tx, user.key)


def _revoke_one(tx: Transaction, user: User, token: str, keep_until_ms: int) -> None:
    known = tx.value(
        "SELECT count(*) FROM revoked_tokens WHERE user = ? AND token != ? AND keep_until > ?",
        (user.key, token, tx.time),
    )
    if known >= MAX_REVOKED_TOKENS:
        detail = f"{MAX_REVOKED_TOKENS} tokens of this user are revoked already; revoke all of them"
        raise QunxinError("invalid_request", detail=detail)
    tx.run("DELETE FROM revoked_tokens WHERE user = ? AND keep_until <= ?", (user.key, tx.time))
    tx.run(
        "INSERT OR REPLACE INTO revoked_tokens VALUES (?, ?, ?)", (user.key, token, keep_until_ms)
    )
