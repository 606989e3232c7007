"""All commands together."""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib.metadata import version

from cyclopts import App

from qunxin.cli import group, key, token, user
from qunxin.cli.backup import backup
from qunxin.cli.replay import replay
from qunxin.cli.send import send
from qunxin.cli.serve import serve

app = App(
    name="qunxin",
    version=f"qunxin {version('qunxin')}",
    help="""Qunxin 群信: group messaging that tells the truth about every message.

Start a node, then talk to it from another terminal:

    qunxin serve
    qunxin user create alice
    qunxin user create bob
    qunxin group create tea bob --owner alice
    qunxin send group tea --from alice "你好 🍵"

Commands work on the data folder (--data, qunxin-data by default), whether a server runs on it
or not.

Exit codes: 0 done, 1 refused or failed, 2 wrong usage or settings.""",
)
app.command(serve)
app.command(replay)
app.command(user.app)
app.command(group.app)
app.command(send)
app.command(token.app)
app.command(key.app)
app.command(backup)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command; its exit code."""
    os.umask(0o077)  # whatever is written here is its owner's alone
    app(arguments, result_action="return_none")
    return 0
