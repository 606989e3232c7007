"""Backups that can be trusted: each has a manifest, and is restored only where it keeps to it.

A backup is one database file and beside it ``FILE.json``, which is written last: a file without
one was never finished. Restoring copies it into a data folder, compares every byte with the
manifest's digest, checks the copy as a database, and begins a new epoch, so that no client takes
its old positions for the restored history's.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Literal

import msgspec

from qunxin.errors import QunxinError
from qunxin.folder import (
    DATABASE_NAME,
    HISTORY_NAMES,
    check_no_history,
    owned_folder,
    prepare_folder,
)
from qunxin.stores.sqlite import SqliteStore
from qunxin.stores.sqlite.backup import write_backup
from qunxin.stores.sqlite.faults import unavailable
from qunxin.stores.sqlite.files import make_private, partial_file, publish, sync
from qunxin.stores.sqlite.inspection import DatabaseFacts, inspect_copy
from qunxin.version import VERSION

_STEP_BYTES: Final = 1024 * 1024
Progress = Callable[[int, int], None]
"""Called now and then with the bytes done, and all."""


class Manifest(msgspec.Struct, frozen=True):
    """What a backup must be. `made` is in milliseconds since 1970 (UTC)."""

    format: Literal["qunxin-backup-1"]
    qunxin: str
    made: int
    bytes: int
    sha256: str
    facts: DatabaseFacts


class Restored(msgspec.Struct, frozen=True):
    """A restored folder. `replaced` names the folder that holds what was there before."""

    epoch: str
    manifest: Manifest
    replaced: str | None


def manifest_path(backup: Path) -> Path:
    return backup.with_name(f"{backup.name}.json")


def make_backup(folder: Path, backup: Path, progress: Progress) -> Manifest:
    """Copy the history of the data folder `folder` as it is now to the new file `backup`, check
    the copy and write its manifest; all is on disk when this returns. The node may go on, in
    another process too. Raises `invalid_request`, `store_unavailable`; no copy is left then, or one
    that was found damaged, without a manifest."""
    for path in (backup, manifest_path(backup)):
        if path.exists():
            detail = f"{path} is there already and is not overwritten"
            raise QunxinError("invalid_request", detail=detail)
    if not os.access(backup.parent, os.W_OK | os.X_OK):
        detail = f"{backup} cannot be written: {backup.parent} is no folder that is open to writing"
        raise QunxinError("invalid_request", detail=detail)
    try:
        write_backup(folder / DATABASE_NAME, backup, progress=progress)
    except OSError as error:
        detail = f"{backup} cannot be written ({error.strerror})"
        raise QunxinError("invalid_request", detail=detail) from error
    except Exception as error:
        raise unavailable(error) from error
    return seal_backup(backup)


def seal_backup(backup: Path) -> Manifest:
    """Check the finished copy `backup` whole and write its manifest, on disk when this returns.
    Raises `invalid_request` where the copy is damaged; there is no manifest then."""
    facts = inspect_copy(backup)
    digest = hashlib.sha256()
    for part in _read_parts(backup):
        digest.update(part)
    size = backup.stat().st_size
    made = time.time_ns() // 1_000_000
    sealed = Manifest("qunxin-backup-1", VERSION, made, size, digest.hexdigest(), facts)
    _write_private(manifest_path(backup), msgspec.json.format(msgspec.json.encode(sealed)))
    return sealed


def read_manifest(backup: Path) -> Manifest:
    """Raises `invalid_request` where there is none, or none that can be read."""
    if not backup.is_file():
        raise QunxinError("invalid_request", detail=f"there is no file {backup}")
    path = manifest_path(backup)
    try:
        return msgspec.json.decode(path.read_bytes(), type=Manifest)
    except FileNotFoundError as error:
        detail = f"{path} is missing: the backup was not finished, or its manifest not kept"
        raise QunxinError("invalid_request", detail=detail) from error
    except (OSError, msgspec.DecodeError) as error:
        detail = f"{path} is no manifest that can be read ({error})"
        raise QunxinError("invalid_request", detail=detail) from error


async def restore_backup(
    backup: Path, folder: Path, *, replace: bool, progress: Progress
) -> Restored:
    """Make `backup` the history of the data folder, under a new epoch; durable on return.

    What the folder's history was before goes, with `replace`, into a folder of its own inside;
    without it a folder that has one is refused. Raises `invalid_request` where the backup is not
    what its manifest says, `cannot_start` where a process uses the folder; nothing has changed
    then. Other files of the folder (settings, secrets) stay as they are.
    """
    manifest = read_manifest(backup)
    prepare_folder(folder)
    with owned_folder(folder):
        if not replace:
            check_no_history(folder, "say --replace to put them aside")
        with _checked_copy(backup, manifest, folder, progress) as copy:
            replaced = _move_aside(folder)
            copy.rename(folder / DATABASE_NAME)
            sync(folder)
        store = SqliteStore(folder / DATABASE_NAME)
        await store.open()
        epoch = store.epoch
        await store.close()
    return Restored(epoch, manifest, None if replaced is None else str(replaced))


@contextmanager
def _checked_copy(
    backup: Path, manifest: Manifest, folder: Path, progress: Progress
) -> Iterator[Path]:
    """A private copy of `backup` in `folder`, found to be what the manifest says."""
    copy = folder / f"{DATABASE_NAME}.restoring"
    copy.unlink(missing_ok=True)
    try:
        make_private(copy)
        if _copy(backup, copy, manifest.bytes, progress) != manifest.sha256:
            detail = f"{backup} is not the file that its manifest describes"
            raise QunxinError("invalid_request", detail=detail)
        if inspect_copy(copy) != manifest.facts:
            detail = f"{backup} does not hold what its manifest says"
            raise QunxinError("invalid_request", detail=detail)
        yield copy
    except OSError as error:
        detail = f"{backup} cannot be restored into {folder} ({error.strerror})"
        raise QunxinError("invalid_request", detail=detail) from error
    finally:
        copy.unlink(missing_ok=True)


def _copy(source: Path, target: Path, size: int, progress: Progress) -> str:
    """Copy and see to it that the copy is on disk; the digest of what was read."""
    digest = hashlib.sha256()
    done = 0
    with target.open("wb") as file:
        for part in _read_parts(source):
            digest.update(part)
            file.write(part)
            done += len(part)
            progress(done, size)
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest()


def _read_parts(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while part := file.read(_STEP_BYTES):
            yield part


def _move_aside(folder: Path) -> Path | None:
    """Put the history that is in `folder` into a folder of its own; None where there is none."""
    names = [name for name in HISTORY_NAMES if (folder / name).exists()]
    if not names:
        return None
    moment = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    place = folder / f"replaced-{moment}-{os.getpid()}"
    place.mkdir(mode=0o700)
    for name in names:
        (folder / name).rename(place / name)
    sync(place)
    return place


def _write_private(path: Path, content: bytes) -> None:
    """Raises `invalid_request` where it cannot be written, or another is there."""
    try:
        with partial_file(path) as partial:
            partial.write_bytes(content + b"\n")
            publish(partial, path)
    except OSError as error:
        detail = f"{path} cannot be written ({error.strerror})"
        raise QunxinError("invalid_request", detail=detail) from error
