"""A node's history as a file of JSON Lines, and back: whole, or not at all.

The file begins with a head that says how many records there are, and ends with an end record.
Both ways pass it through memory a part at a time. An import goes into a database of its own name,
which takes its place in the data folder once everything in it has been checked.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import BinaryIO, Final

import msgspec

from qunxin.control import error_of_line
from qunxin.errors import QunxinError
from qunxin.folder import DATABASE_NAME, check_no_history, owned_folder, prepare_folder
from qunxin.records import EndRecord, HeadRecord, Record, decode_record
from qunxin.stores.sqlite import SqliteStore
from qunxin.stores.sqlite.files import partial_file, publish, sync

_MAX_LINE_BYTES: Final = 64 * 1024 * 1024
_PART_RECORDS: Final = 1_000
_PART_BYTES: Final = 1024 * 1024
_IMPORTING: Final = f"{DATABASE_NAME}.importing"

Progress = Callable[[int, int], None]
"""Called now and then with the records done, and all."""


class Exported(msgspec.Struct, frozen=True):
    epoch: str
    records: int
    bytes: int


class Imported(msgspec.Struct, frozen=True):
    """`epoch` is the new one."""

    epoch: str
    records: int


async def write_export(
    parts: AsyncGenerator[bytes, None], target: Path, progress: Progress
) -> Exported:
    """Write an export to the new file `target`, for its owner only. The file appears under its
    name only when it is whole and on disk, and never in place of another; of several exports to
    one name at once, the first to be whole has it. Raises what the export failed with."""
    _check_new(target)
    try:
        async with aclosing(parts):
            with partial_file(target) as partial:
                with partial.open("wb") as file:
                    written = await _write(parts, file, progress)
                publish(partial, target)
    except FileExistsError as error:
        raise _taken(target) from error
    except OSError as error:
        detail = f"{target} cannot be written ({error.strerror})"
        raise QunxinError("invalid_request", detail=detail) from error
    return written


def _check_new(target: Path) -> None:
    if target.exists():
        raise _taken(target)


def _taken(target: Path) -> QunxinError:
    detail = f"{target} is there already and is not overwritten"
    return QunxinError("invalid_request", detail=detail)


async def _write(parts: AsyncIterator[bytes], file: BinaryIO, progress: Progress) -> Exported:
    head: HeadRecord | None = None
    size = lines = 0
    begun = b""
    """The line that the last part ended in."""
    async for part in parts:
        whole, _, begun = (begun + part).rpartition(b"\n")
        if whole:
            last = whole.rpartition(b"\n")[2]
            head = head or _head_of(whole.partition(b"\n")[0])
            error = error_of_line(last)
            if error is not None:
                raise error
            lines += whole.count(b"\n") + 1
            file.write(whole + b"\n")
            size += len(whole) + 1
            progress(lines, head.records)
    if head is None or lines != head.records:
        raise QunxinError("outcome_unknown", detail="the export was cut off")
    return Exported(head.epoch, lines, size)


def _head_of(line: bytes) -> HeadRecord:
    error = error_of_line(line)
    if error is not None:
        raise error
    head = decode_record(line)
    if not isinstance(head, HeadRecord):
        raise QunxinError("invalid_request", detail="an export begins with its head")
    return head


async def import_export(source: Path, folder: Path, progress: Progress) -> Imported:
    """Make the export in `source` the history of the data folder, under a new epoch; durable on
    return. Raises `invalid_request` where the folder holds messages or the export is not whole
    and in order, `cannot_start` where a process uses the folder; nothing has changed then."""
    prepare_folder(folder)
    with owned_folder(folder):
        check_no_history(folder, "an import needs a folder without")
        _remove(folder)
        try:
            records = await _import(source, folder / _IMPORTING, progress)
            (folder / _IMPORTING).rename(folder / DATABASE_NAME)
        except OSError as error:
            detail = f"{source} cannot be imported into {folder} ({error.strerror})"
            raise QunxinError("invalid_request", detail=detail) from error
        finally:
            _remove(folder)
        sync(folder)
        store = SqliteStore(folder / DATABASE_NAME)
        await store.open()
        epoch = store.epoch
        await store.close()
    return Imported(epoch, records)


async def _import(source: Path, database: Path, progress: Progress) -> int:
    """Fill a new database; how many records it took."""
    store = SqliteStore(database)
    await store.open()
    try:
        done = total = 0
        last: Record | None = None
        for part in _parts_of(source):
            await store.import_records(part)
            done += len(part)
            last = part[-1]
            if isinstance(part[0], HeadRecord):
                total = part[0].records
            progress(done, total)
    finally:
        await store.close()
    if not isinstance(last, EndRecord):
        raise QunxinError("invalid_request", detail=f"{source} ends before its end: it was cut off")
    return done


def _parts_of(source: Path) -> Iterator[list[Record]]:
    with source.open("rb") as file:
        part: list[Record] = []
        size = 0
        for number, line in enumerate(iter(lambda: file.readline(_MAX_LINE_BYTES), b""), 1):
            part.append(_decode(line, number))
            size += len(line)
            if len(part) >= _PART_RECORDS or size >= _PART_BYTES:
                yield part
                part, size = [], 0
        if part:
            yield part


def _decode(line: bytes, number: int) -> Record:
    try:
        return decode_record(line)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise QunxinError("invalid_request", detail=f"line {number}: {error}") from error


def _remove(folder: Path) -> None:
    """Nothing of an import that did not come to its end stays."""
    for path in folder.glob(f"{_IMPORTING}*"):
        path.unlink()
