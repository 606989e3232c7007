"""Operations on API keys. A secret is shown once, at its making; only its digest is kept."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable

import msgspec

from qunxin.engine.access import DEFAULT_SCOPES, SYSTEM, Caller, Scope, check_access
from qunxin.engine.core import Core, check_name
from qunxin.errors import QunxinError
from qunxin.model import ApiKey
from qunxin.store.commands import PutApiKey, RevokeApiKey

MAX_NAME_LENGTH = 100
_PREFIX = "qx"


class NewApiKey(msgspec.Struct, frozen=True):
    """A key just made. `key` is the secret; it cannot be shown again."""

    id: str
    name: str
    scopes: tuple[str, ...]
    key: str


class KeyOperations(Core):
    """Keys for programs that act for users."""

    _keys: dict[str, tuple[ApiKey, Caller]] | None = None
    _key_changes = 0

    async def create_key(
        self, name: str, *, scopes: Iterable[str] | None = None, caller: Caller = SYSTEM
    ) -> NewApiKey:
        """Make a key with those scopes (`DEFAULT_SCOPES` unless told). On return it works here;
        nobody can give a scope that they do not have."""
        check_access(caller, "key.create")
        check_name(name, MAX_NAME_LENGTH)
        wanted = _check_scopes(scopes)
        beyond = wanted - caller.scopes
        if beyond:
            raise QunxinError("forbidden", detail=f"this key lacks {', '.join(sorted(beyond))}")
        identity, secret = secrets.token_hex(6), secrets.token_urlsafe(32)
        key = f"{_PREFIX}_{identity}_{secret}"
        names = tuple(sorted(wanted))
        row = ApiKey(identity, name, _digest(key), names, self.clock.now_ms())
        await self.commit(PutApiKey(row), caller)
        self._forget_keys()
        return NewApiKey(identity, name, names, key)

    async def list_keys(self, *, caller: Caller = SYSTEM) -> tuple[ApiKey, ...]:
        """Every key ever made, revoked ones too, oldest first."""
        check_access(caller, "key.list")
        return await self.store.read_api_keys()

    async def revoke_key(self, id: str, *, caller: Caller = SYSTEM) -> ApiKey:  # noqa: A002
        """End a key. On return it is refused here. Raises `not_found`."""
        check_access(caller, "key.revoke")
        result = await self.commit(RevokeApiKey(id), caller)
        self._forget_keys()
        if not isinstance(result, ApiKey):
            raise TypeError("the store answered a revocation with something else")
        return result

    async def find_key(self, secret: str) -> Caller:
        """Who the bearer of `secret` is. Raises `unauthenticated`.

        The digest of a random 256-bit secret needs no slow hash, and none that a guess could be
        timed against: it is looked up by its public part and compared in constant time.
        """
        keys = await self._known_keys()
        parts = secret.split("_", 2)
        found = keys.get(parts[1]) if len(parts) == 3 and parts[0] == _PREFIX else None
        if found is None or not secrets.compare_digest(found[0].digest, _digest(secret)):
            raise QunxinError("unauthenticated", detail="the API key is not known")
        key, caller = found
        if key.revoked is not None:
            raise QunxinError("unauthenticated", detail="the API key has been revoked")
        return caller

    def _forget_keys(self) -> None:
        self._keys = None
        self._key_changes += 1

    async def _known_keys(self) -> dict[str, tuple[ApiKey, Caller]]:
        """All keys by id, each with the caller it makes; kept where none changed while they
        were read."""
        while self._keys is None:
            changes = self._key_changes
            read = {key.id: (key, _caller(key)) for key in await self.store.read_api_keys()}
            if changes == self._key_changes:
                self._keys = read
        return self._keys


def _check_scopes(scopes: Iterable[str] | None) -> frozenset[Scope]:
    if scopes is None:
        return DEFAULT_SCOPES
    try:
        return frozenset(Scope(name) for name in scopes)
    except ValueError:
        known = ", ".join(Scope)
        raise QunxinError("invalid_request", detail=f"scopes: some of {known}") from None


def _caller(key: ApiKey) -> Caller:
    return Caller.as_key(frozenset(Scope(name) for name in key.scopes), key.id)


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "replace")).digest()
