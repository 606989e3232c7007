"""The secrets that tokens are signed with: made at first start, kept for their owner only.

One JSON file in the data folder holds them by key id. The active one signs; all of them verify,
so that a new one can take over while tokens of the old one run out. There is no default secret:
a folder without the file gets a fresh one, and a file that others could read is refused.
"""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from qunxin.clock import SystemClock
from qunxin.errors import QunxinError

FILE_NAME: Final = "token-keys.json"
ALGORITHM: Final = "HS256"
MAX_KEYS: Final = 100
SECRET_BYTES: Final = 32
"""As many as the digest has (RFC 7518, 3.2)."""


class TokenKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One signing key. Its algorithm belongs to it: a token cannot choose another."""

    id: str
    algorithm: str
    secret: bytes
    created: int | None = None
    """Milliseconds since 1970; None in files of the first version."""

    def __repr__(self) -> str:
        return f"TokenKey(id={self.id!r}, algorithm={self.algorithm!r}, secret=…)"


class TokenKeys(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The keys by id, the newest last; `active` signs new tokens."""

    active: str
    keys: tuple[TokenKey, ...]

    @property
    def signing(self) -> TokenKey:
        return self.find(self.active)

    def has(self, key_id: object) -> bool:
        return any(key.id == key_id for key in self.keys)

    def find(self, key_id: str) -> TokenKey:
        """Raises `KeyError` where there is none of that id."""
        for key in self.keys:
            if key.id == key_id:
                return key
        raise KeyError(key_id)

    def rotated(self) -> TokenKeys:
        """These keys and a new one that signs from now on."""
        key = new_key()
        return TokenKeys(active=key.id, keys=(*self.keys, key))

    def without(self, key_id: str) -> TokenKeys:
        """These keys but one: its tokens are refused from now on. The active key stays."""
        kept = tuple(key for key in self.keys if key.id != key_id or key.id == self.active)
        return TokenKeys(active=self.active, keys=kept)


def new_key() -> TokenKey:
    """A key with a fresh random secret."""
    return TokenKey(
        id=secrets.token_hex(8),
        algorithm=ALGORITHM,
        secret=secrets.token_bytes(SECRET_BYTES),
        created=SystemClock().now_ms(),
    )


class KeyRotation:
    """The keys of a data folder as they are now, and whoever follows their changes."""

    def __init__(self, folder: Path) -> None:
        """Opens the folder's keys; raises as `open_keys`."""
        self._folder = folder
        self._followers: list[Callable[[TokenKeys], None]] = []
        self.current = open_keys(folder)

    def follow(self, use: Callable[[TokenKeys], None]) -> None:
        """Have `use` called with the keys after every change."""
        self._followers.append(use)

    def rotate(self) -> TokenKey:
        """A new key, which signs from now on; the others still verify. Durable on return."""
        self._change(self.current.rotated())
        return self.current.signing

    def retire(self, key_id: str) -> None:
        """Drop a key: tokens signed with it are refused from now on. Durable on return. Raises
        `not_found`, and `invalid_request` for the key that signs."""
        if key_id == self.current.active:
            raise QunxinError("invalid_request", detail="this key signs; rotate first")
        kept = self.current.without(key_id)
        if kept == self.current:
            raise QunxinError("not_found", detail=f"no token key {key_id}")
        self._change(kept)

    def _change(self, keys: TokenKeys) -> None:
        if len(keys.keys) > MAX_KEYS:
            raise QunxinError("invalid_request", detail=f"at most {MAX_KEYS} keys; retire some")
        save_keys(self._folder, keys)
        self.current = keys
        for use in self._followers:
            use(keys)


def open_keys(folder: Path) -> TokenKeys:
    """The keys of a data folder, made (durably) where there are none yet.

    The folder is made with mode 0700 where it is missing. Raises `forbidden` where the file or
    its folder belongs to somebody else or could be read or replaced by others, and
    `invalid_request` where the file is damaged.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    _check_folder(folder)
    path = folder / FILE_NAME
    if not path.exists():
        key = new_key()
        _create(path, TokenKeys(active=key.id, keys=(key,)))
    return _read(path)


def save_keys(folder: Path, keys: TokenKeys) -> None:
    """Replace the folder's keys, durably and at once."""
    path = folder / FILE_NAME
    temporary = _write_temporary(path, keys)
    temporary.replace(path)
    _sync_folder(folder)


def _create(path: Path, keys: TokenKeys) -> None:
    """Another process may be making the file at the same moment: the first one wins."""
    temporary = _write_temporary(path, keys)
    try:
        os.link(temporary, path)
    except FileExistsError:
        pass
    finally:
        temporary.unlink()
    _sync_folder(path.parent)


def _write_temporary(path: Path, keys: TokenKeys) -> Path:
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(msgspec.json.format(msgspec.json.encode(keys)) + b"\n")
        file.flush()
        os.fsync(file.fileno())
    return temporary


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read(path: Path) -> TokenKeys:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError as error:
        detail = f"{path.name} cannot be read: {error.strerror}"
        raise QunxinError("forbidden", detail=detail) from None
    with os.fdopen(descriptor, "rb") as file:
        _check_private(path, os.fstat(file.fileno()))
        text = file.read()
    try:
        keys = msgspec.json.decode(text, type=TokenKeys)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise QunxinError("invalid_request", detail=f"{path.name} is damaged: {error}") from None
    _check_keys(path, keys)
    return keys


def _check_keys(path: Path, keys: TokenKeys) -> None:
    ids = {key.id for key in keys.keys}
    weak = any(len(key.secret) < SECRET_BYTES or key.algorithm != ALGORITHM for key in keys.keys)
    if weak or keys.active not in ids or len(ids) != len(keys.keys):
        raise QunxinError(
            "invalid_request",
            detail=f"{path.name}: every key needs an id of its own, {ALGORITHM} and at least "
            f"{SECRET_BYTES} bytes, and `active` names one of them",
        )


def _check_private(path: Path, status: os.stat_result) -> None:
    if status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) & 0o077:
        raise QunxinError(
            "forbidden", detail=f"{path.name} must belong to this user and be closed to others: "
            f"chmod 600"
        )  # fmt: skip


def _check_folder(folder: Path) -> None:
    status = folder.stat()
    if status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) & 0o022:
        raise QunxinError(
            "forbidden", detail=f"the folder {folder.name} must belong to this user and let nobody "
            f"else write: chmod 700"
        )  # fmt: skip
