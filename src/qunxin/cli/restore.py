"""``qunxin restore``: a backup becomes the messages of a data folder."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import msgspec
from cyclopts import App, Parameter

from qunxin.backups import Restored, restore_backup
from qunxin.cli.common import Common
from qunxin.cli.exits import errors_shown
from qunxin.cli.output import Output, counted

app = App(name="restore")


@app.default
def restore(
    file: Path,
    /,
    *,
    replace: Annotated[bool, Parameter(negative="", show_default=False)] = False,
    common: Common | None = None,
) -> None:
    """Put the backup FILE into a data folder on which no server runs.

    The file must be what its manifest (FILE.json) says, byte for byte, and is checked as a
    database. The restored history has a new epoch: every client is told to reload once and goes
    on. Settings and secrets in the folder stay as they are.

    For example:

        qunxin restore monday.db --data /srv/restored
        qunxin restore monday.db --data /srv/qunxin --replace

    Parameters
    ----------
    file
        A backup that `qunxin backup` wrote, its manifest beside it.
    replace
        Put messages that the folder holds aside, into a folder inside it, and take the backup in
        their place. Without it such a folder is refused.
    """
    common = common or Common()
    with errors_shown(common.output) as output:
        folder = common.settings().data_folder.absolute()
        restored = asyncio.run(_restore(file.absolute(), folder, output, replace=replace))
        _tell(output, folder, restored)


async def _restore(file: Path, folder: Path, output: Output, *, replace: bool) -> Restored:
    with output.bytes_progress() as progress:
        task = progress.add_task("Restoring", total=None)

        def show(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total)

        return await restore_backup(file, folder, replace=replace, progress=show)


def _tell(output: Output, folder: Path, restored: Restored) -> None:
    facts = restored.manifest.facts
    counts = ", ".join(
        counted(number, noun)
        for number, noun in (
            (facts.users, "user"),
            (facts.groups, "group"),
            (facts.messages, "message"),
        )
    )
    lines = [
        f"Restored into {folder}: {counts}.",
        f"The new epoch is {restored.epoch}: clients reload once.",
    ]
    if restored.replaced is not None:
        lines.append(f"What was there before is in {restored.replaced}: remove it when you can.")
    output.result({"data": str(folder), **msgspec.to_builtins(restored)}, *lines)
