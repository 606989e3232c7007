"""``qunxin backup``: a whole, checked copy of the messages, while everything goes on."""

from __future__ import annotations

from pathlib import Path

import msgspec
from cyclopts import App

from qunxin.backups import make_backup, manifest_path
from qunxin.cli.common import Common
from qunxin.cli.exits import errors_shown
from qunxin.folder import check_has_node

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
    common = common or Common()
    with errors_shown(common.output) as output:
        folder = common.settings().data_folder
        check_has_node(folder)
        target = file.absolute()
        with output.bytes_progress() as progress:
            task = progress.add_task("Backing up", total=None)

            def show(done: int, total: int) -> None:
                progress.update(task, completed=done, total=total)

            sealed = make_backup(folder, target, show)
        manifest = manifest_path(target)
        output.result(
            {"file": str(target), "manifest": str(manifest)} | msgspec.to_builtins(sealed),
            f"Wrote {file} ({sealed.bytes:,} bytes) and {manifest.name}.",
            f"Checked: {sealed.facts.users:,} users, {sealed.facts.groups:,} groups, "
            f"{sealed.facts.messages:,} messages.",
        )
