"""All commands together."""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib.metadata import version

from cyclopts import App

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
_COMMANDS = (
    ("serve", "qunxin.cli.serve:serve", "Run a node: HTTP and WebSocket on one port."),
    ("replay", "qunxin.cli.replay:replay", "Play logs of real group chats and judge the result."),
    ("user", "qunxin.cli.user:app", "Create, show, suspend and erase accounts."),
    ("group", "qunxin.cli.group:app", "Create and dissolve groups, change who is in them."),
    ("send", "qunxin.cli.send:send", "Send one message and say who cannot get it."),
    ("token", "qunxin.cli.token:app", "Make tokens with which users' devices connect."),
    ("key", "qunxin.cli.key:app", "Make, list and revoke API keys."),
    ("backup", "qunxin.cli.backup:backup", "Write a whole copy of a node's messages."),
)
"""Found by name, so that a command imports only what it needs itself."""

for order, (name, place, text) in enumerate(_COMMANDS):
    app.command(place, name=name, help=text, sort_key=order)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command; its exit code."""
    os.umask(0o077)  # whatever is written here is its owner's alone
    app(arguments, result_action="return_none")
    return 0
