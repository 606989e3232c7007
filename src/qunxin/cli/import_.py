"""``qunxin import``: an export becomes the messages of a data folder."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
from cyclopts import App

from qunxin.cli.common import Common
from qunxin.cli.exits import errors_shown
from qunxin.cli.output import Output
from qunxin.exports import Imported, import_export

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
