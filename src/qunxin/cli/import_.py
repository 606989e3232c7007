"""``qunxin import``: an export becomes the messages of a data folder."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
from cyclopts import App

from qunxin.cli.common import Common
from qunxin.cli.exits import errors_shown
from qunxin.cli.output import Output
from qunxin.errors import QunxinError
from qunxin.exports import Imported, import_export
from qunxin.folder import LOCK_NAME, owned_folder

app = App(name="import")


@app.default
def import_(file: Path, /, *, common: Common | None = None) -> None:
    """Fill a data folder that holds no messages from FILE, which `qunxin export` wrote.

    Positions, ids and keys stay as they were; the history has a new epoch, so clients reload once.
    Everything in FILE is checked; where something is wrong nothing is imported.

    For example:

        qunxin import everything.jsonl --data /srv/new

    Parameters
    ----------
    file
        The export.
    """
    common = common or Common()
    with errors_shown(common.output) as output:
        folder = common.settings().data_folder.absolute()
        with _taken_away_on_failure(folder):
            done = asyncio.run(_import(file.absolute(), folder, output))
        output.result(
            {"data": str(folder), **msgspec.structs.asdict(done)},
            f"Imported {done.records:,} records into {folder}.",
            f"The new epoch is {done.epoch}: clients reload once.",
        )


async def _import(file: Path, folder: Path, output: Output) -> Imported:
    with output.count_progress() as progress:
        task = progress.add_task("Importing", total=None)

        def show(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total)

        return await import_export(file, folder, show)


@contextmanager
def _taken_away_on_failure(folder: Path) -> Iterator[None]:
    """What is made of `folder` and its parents meanwhile goes again if the work fails, as far as
    nothing is in it."""
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        yield
    except BaseException:
        if folder in made and folder.exists():
            _remove_lock(folder)
        for path in made:
            if path.exists() and not any(path.iterdir()):
                path.rmdir()
        raise


def _remove_lock(folder: Path) -> None:
    """Where nothing but the lock is left, and nobody else has begun something in the folder."""
    try:
        with owned_folder(folder):
            if {path.name for path in folder.iterdir()} == {LOCK_NAME}:
                (folder / LOCK_NAME).unlink()
    except QunxinError as error:
        if not error.facts.get("in_use"):
            raise
