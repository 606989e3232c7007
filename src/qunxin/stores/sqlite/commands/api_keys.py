"""API keys: only their digests are ever kept."""

from __future__ import annotations

import msgspec

from qunxin.errors import QunxinError
from qunxin.model import ApiKey
from qunxin.store.commands import PutApiKey, RevokeApiKey
from qunxin.store.results import Done
from qunxin.stores.sqlite.rows import Row
from qunxin.stores.sqlite.transaction import Transaction

API_KEY_SQL = "SELECT id, name, digest, scopes, created, revoked FROM api_keys"


def api_key_from_row(row: Row) -> ApiKey:
    """The key of a row of `API_KEY_SQL`."""
    id_, name, digest, scopes, created, revoked = row
    return ApiKey(id_, name, digest, tuple(msgspec.json.decode(scopes)), created, revoked)


def put_api_key(tx: Transaction, command: PutApiKey) -> Done:
    key = command.key
    scopes = msgspec.json.encode(key.scopes).decode()
    tx.run(
        "INSERT OR REPLACE INTO api_keys VALUES (?, ?, ?, ?, ?, ?)",
        (key.id, key.name, key.digest, scopes, key.created, key.revoked),
    )
    return Done(None)


def revoke_api_key(tx: Transaction, command: RevokeApiKey) -> Done:
    tx.run(
        "UPDATE api_keys SET revoked = ? WHERE id = ? AND revoked IS NULL", (tx.time, command.id)
    )
    row = tx.row(f"{API_KEY_SQL} WHERE id = ?", (command.id,))
    if row is None:
        raise QunxinError("not_found", detail=f"no API key {command.id}")
    return Done(api_key_from_row(row))
