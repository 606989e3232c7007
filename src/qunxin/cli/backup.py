"""``qunxin backup``: a whole, checked copy of the messages, while everything goes on."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
from cyclopts import App

from qunxin.backups import manifest_path, seal_backup
from qunxin.cli.common import Common, run_on_folder
from qunxin.cli.output import Output
from qunxin.control import Control
from qunxin.errors import QunxinError

app = App(name="backup")


@app.default
def backup(file: Path, /, *, common: Common | None = None) -> None:
    """Write a whole, consistent copy of a node's messages to FILE, while the node works on.

    The copy is checked, and what it must be is written beside it (FILE.json): keep both. `qunxin
    restore` puts it into a data folder. Accounts and the digests of API keys are in the copy; the
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
        manifest = manifest_path(target)
        if manifest.exists():
            detail = f"{manifest} is there already and is not overwritten"
            raise QunxinError("invalid_request", detail=detail)
        with output.bytes_progress() as progress:
            task = progress.add_task("Backing up", total=None)
            async for done in control.backup(target):
                progress.update(task, completed=done["bytes"], total=done["total_bytes"])
        async with output.patience("Checking the copy …"):
            sealed = await asyncio.to_thread(seal_backup, target)
        facts = {"file": str(target), "manifest": str(manifest)}
        output.result(
            facts | msgspec.to_builtins(sealed),
            f"Wrote {file} ({sealed.bytes:,} bytes) and {manifest.name}.",
            f"Checked: {sealed.facts.users:,} users, {sealed.facts.groups:,} groups, "
            f"{sealed.facts.messages:,} messages.",
        )

    run_on_folder(common, work)
