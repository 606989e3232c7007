"""Public keys of others who sign tokens for our users: a JSON Web Key Set (RFC 7517), in a file
or behind a URL.

The set is kept, and read again when a token comes and it has aged: beside that, or first where no
token came for so long that it is too old. It is read again, too, when a token names a key that is
not in it; that at a bounded rate, since anybody can make up key ids. Where it cannot be read, the
last good one stays in use.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

import httpcore
import jwt
import msgspec

from qunxin.clock import Clock, SystemClock
from qunxin.errors import QunxinError
from qunxin.gateways.guarded_network import GuardedNetwork
from qunxin.tasks import TaskSet

_log = logging.getLogger("qunxin.auth")

ALGORITHMS: Final = {("RSA", None): "RS256", ("EC", "P-256"): "ES256", ("OKP", "Ed25519"): "EdDSA"}
"""By type and curve of a key: the one algorithm that it is used with."""
MAX_SET_BYTES: Final = 256 * 1024
MAX_KEYS: Final = 100
MIN_RSA_BITS: Final = 2048
MAX_AGE_SECONDS: Final = 300.0
"""After so long the set is read again, so that a key taken out of it comes out of use."""
TOO_OLD_SECONDS: Final = 2 * MAX_AGE_SECONDS
"""After so long it is read again before it is used."""
RETRY_SECONDS: Final = 10.0
"""Between two readings, whatever key ids are asked for."""
FETCH_SECONDS: Final = 5.0

Fetch = Callable[[], Awaitable[bytes]]


class PublicKey(NamedTuple):
    """One key of a set. Its algorithm belongs to it: a token cannot choose another."""

    id: str
    algorithm: str
    key: Any


class KeySet:
    """The keys of one source. `close` ends what is being read."""

    def __init__(self, fetch: Fetch, clock: Clock | None = None) -> None:
        self._fetch = fetch
        self._clock = clock or SystemClock()
        self._tasks = TaskSet()
        self._keys: dict[str, PublicKey] = {}
        self._reading: asyncio.Task[None] | None = None
        self._asked_at = -float("inf")
        self._read_at = -float("inf")
        """When the last reading that has ended was begun, whatever came of it."""
        self._failed = False

    async def close(self) -> None:
        await self._tasks.close()

    async def find(self, key_id: str) -> PublicKey:
        """The key of that id. An aged set is read again beside that; one that is too old, or was
        not read yet, before it, at most `FETCH_SECONDS`, by one reading for all who wait.

        Raises `KeyError` where the set that was just read has none. Raises
        `token_keys_unavailable` where the set cannot be read, or was read so lately that it is
        not read again yet: the key may be a new one.
        """
        if self._clock.monotonic() - self._read_at > TOO_OLD_SECONDS:
            await asyncio.shield(self._read_again())
            key = self._keys.get(key_id)
        elif (key := self._keys.get(key_id)) is None:
            await self._read_for_unknown()
            key = self._keys.get(key_id)
        elif self._age() > MAX_AGE_SECONDS:
            self._read_again()
        if key is None and self._failed:
            raise QunxinError("token_keys_unavailable")
        return self._keys[key_id] if key is None else key

    def _age(self) -> float:
        return self._clock.monotonic() - self._asked_at

    async def _read_for_unknown(self) -> None:
        if self._reading is None and self._age() < RETRY_SECONDS:
            left = RETRY_SECONDS - self._age()
            raise QunxinError("token_keys_unavailable", retry_after=round(left, 1))
        await asyncio.shield(self._read_again())

    def _read_again(self) -> asyncio.Task[None]:
        """The one reading under way, begun where there is none."""
        if self._reading is None:
            self._asked_at = self._clock.monotonic()
            self._reading = self._tasks.start("token keys", self._read())
        return self._reading

    async def _read(self) -> None:
        try:
            async with asyncio.timeout(FETCH_SECONDS):
                self._keys = parse_key_set(await self._fetch())
            self._failed = False
        except (OSError, UnicodeError, QunxinError, *_HTTP_ERRORS) as error:
            self._failed = True
            _log.warning("the token keys cannot be read, the last good ones stay: %r", error)
        finally:
            self._reading = None
            self._read_at = self._asked_at


_HTTP_ERRORS: Final = (
    httpcore.NetworkError,
    httpcore.TimeoutException,
    httpcore.ProtocolError,
    httpcore.UnsupportedProtocol,
)


def parse_key_set(text: bytes) -> dict[str, PublicKey]:
    """The usable keys of a set by their ids. Keys of other kinds, or for other uses, are passed
    over. Raises `invalid_request` where it is no set, or none of it can be used."""
    try:
        rows = msgspec.json.decode(text, type=_Set).keys[:MAX_KEYS]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise QunxinError("invalid_request", detail=f"no JSON Web Key Set: {error}") from None
    found = [key for key in map(_parse_key, rows) if key is not None]
    keys = {key.id: key for key in found}
    if not keys or len(keys) < len(found):
        raise QunxinError(
            "invalid_request",
            detail="a key set needs a key with an id of its own, for RS256, ES256 or EdDSA",
        )
    return keys


class _Set(msgspec.Struct):
    keys: list[dict[str, Any]]


def _parse_key(row: dict[str, Any]) -> PublicKey | None:
    """A public key that verifies signatures; None for any other."""
    key_id, kind, use = row.get("kid"), row.get("kty"), row.get("use", "sig")
    curve = None if kind == "RSA" else row.get("crv")
    algorithm = _algorithm_of(kind, curve)
    if algorithm is None or use != "sig" or row.get("alg", algorithm) != algorithm:
        return None
    if not isinstance(key_id, str) or not key_id:
        return None
    public = {name: value for name, value in row.items() if name in _PUBLIC_FIELDS}
    try:
        key = jwt.PyJWK(public, algorithm).key
    except (jwt.InvalidKeyError, ValueError, TypeError) as error:
        _log.warning("a token key cannot be used: %s", error)
        return None
    if algorithm == "RS256" and key.key_size < MIN_RSA_BITS:
        _log.warning("a token key has fewer than %d bits and is not used", MIN_RSA_BITS)
        return None
    return PublicKey(key_id, algorithm, key)


_PUBLIC_FIELDS: Final = frozenset({"kty", "crv", "n", "e", "x", "y"})


def _algorithm_of(kind: object, curve: object) -> str | None:
    known = isinstance(kind, str) and (curve is None or isinstance(curve, str))
    return ALGORITHMS.get((str(kind), None if curve is None else str(curve))) if known else None


# --- sources ----------------------------------------------------------------------------------


def open_key_set(source: str, *, allow_private: bool = False, clock: Clock | None = None) -> KeySet:
    """The keys at `source`: an ``https://`` URL, or a file. With `allow_private` the URL may lead
    to private addresses, and may be ``http://``. Nothing is read yet."""
    return KeySet(_fetch_of(source, allow_private=allow_private), clock)


async def read_key_set(source: str, *, allow_private: bool = False) -> dict[str, PublicKey]:
    """What `source` holds now, by key id. Raises `cannot_start`, in words, where it cannot be read
    or none of it can be used."""
    try:
        async with asyncio.timeout(FETCH_SECONDS):
            return parse_key_set(await _fetch_of(source, allow_private=allow_private)())
    except TimeoutError:
        reason = f"no answer within {FETCH_SECONDS:g} seconds"
    except QunxinError as error:
        reason = error.facts.get("detail", error.text())
    except (OSError, UnicodeError, *_HTTP_ERRORS) as error:
        reason = str(error) or type(error).__name__
    raise QunxinError("cannot_start", detail=f"the token keys in {source}: {reason}")


def is_url(source: str) -> bool:
    """Whether keys are fetched from there; else it is a file."""
    return source.startswith(("https://", "http://"))


def _fetch_of(source: str, *, allow_private: bool) -> Fetch:
    if is_url(source):
        return lambda: fetch_bounded(source, allow_private=allow_private)
    path = Path(source).expanduser()
    return lambda: asyncio.to_thread(_read_file, path)


def _read_file(path: Path) -> bytes:
    with path.open("rb") as file:
        text = file.read(MAX_SET_BYTES + 1)
    return _check_size(text)


async def fetch_bounded(url: str, *, allow_private: bool = False) -> bytes:
    """What a GET of `url` answers with 200; redirects are not followed. Raises `forbidden` for an
    address that is not allowed, `invalid_request` for another status or too long an answer,
    `OSError` and httpcore's errors. How long it may take is the caller's to bound."""
    if not (allow_private or url.startswith("https://")):
        raise QunxinError("forbidden", detail="token keys are fetched over https only")
    network = GuardedNetwork(allow_private=allow_private)
    async with (
        httpcore.AsyncConnectionPool(network_backend=network) as pool,
        pool.stream("GET", url, headers={"accept": "application/json"}) as response,
    ):
        if response.status != 200:
            raise QunxinError("invalid_request", detail=f"the answer is {response.status}")
        text = b""
        async for part in response.aiter_stream():
            text = _check_size(text + part)
        return text


def _check_size(text: bytes) -> bytes:
    if len(text) > MAX_SET_BYTES:
        raise QunxinError("invalid_request", detail=f"more than {MAX_SET_BYTES} bytes")
    return text
