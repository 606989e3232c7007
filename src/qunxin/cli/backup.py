"""``qunxin backup``: a whole copy of the messages, while everything goes on."""

from __future__ import annotations

from pathlib import Path

from cyclopts import App
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

from qunxin.cli.common import Common, run_on_folder
from qunxin.cli.output import Output
from qunxin.control import Control

app = App(name="backup")


@app.default
def backup(file: Path, /, *, common: Common | None = None) -> None:
    """Write a whole, consistent copy of a node's messages to FILE, while the node works on.

    To restore, put the copy into an empty data folder as messages.db and start a server there:
    clients that know the old history are told to reload. Keys and accounts are in the copy; the
    secret that signs tokens is not, so devices need new tokens.

    For example:

        qunxin backup monday.db
        qunxin backup /mnt/backup/$(date +%F).db --data /srv/qunxin --json

    Parameters
    ----------
    file
        Where to write it. A file that is there already is never overwritten.
    """

    target = file.absolute()

    async def work(control: Control, output: Output) -> None:
        with _progress(output) as progress:
            task = progress.add_task("Backing up", total=None)
            size = 0
            async for done in control.backup(target):
                size = done["bytes"]
                progress.update(task, completed=size, total=done["total_bytes"])
        output.result({"file": str(target), "bytes": size}, f"Wrote {file} ({size:,} bytes).")

    run_on_folder(common, work)


def _progress(output: Output) -> Progress:
    hidden = output.as_json or not output.errors.is_terminal
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    return Progress(*columns, console=output.errors, transient=True, disable=hidden)
