"""``qunxin export``: everything that a node holds, as JSON Lines."""

from __future__ import annotations

from pathlib import Path

import msgspec
from cyclopts import App

from qunxin.cli.common import Common, run_on_folder
from qunxin.cli.output import Output
from qunxin.control import Control
from qunxin.exports import write_export

app = App(name="export")


@app.default
def export(file: Path, /, *, common: Common | None = None) -> None:
    """Write everything that a node holds to FILE as JSON Lines, while the node works on.

    One object a line: users, groups, memberships, entries with their positions, recalls, cursors,
    and the digests of API keys; all of one moment. The format is for other programs, and for
    `qunxin import`. To keep a copy for a bad day, `qunxin backup` is faster.

    For example:

        qunxin export everything.jsonl
        qunxin export /mnt/archive/$(date +%F).jsonl --data /srv/qunxin --json

    Parameters
    ----------
    file
        Where to write it. A file that is there already is never overwritten.
    """
    target = file.absolute()

    async def work(control: Control, output: Output) -> None:
        with output.count_progress() as progress:
            task = progress.add_task("Exporting", total=None)

            def show(done: int, total: int) -> None:
                progress.update(task, completed=done, total=total)

            done = await write_export(control.export(), target, show)
        output.result(
            {"file": str(target), **msgspec.structs.asdict(done)},
            f"Wrote {file}: {done.records:,} records, {done.bytes:,} bytes.",
        )

    run_on_folder(common, work)
