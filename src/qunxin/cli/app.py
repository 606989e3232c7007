"""All commands together."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Final

from cyclopts import App, CycloptsError

from qunxin.cli.exits import USAGE
from qunxin.cli.output import Output, preferred_language
from qunxin.errors import QunxinError
from qunxin.version import VERSION

app = App(
    name="qunxin",
    version=f"qunxin {VERSION}",
    help="""Qunxin 群信: group messaging that tells the truth about every message.

Start a node, then talk to it from another terminal:

    qunxin serve
    qunxin user create alice
    qunxin user create bob
    qunxin group create tea bob --owner alice
    qunxin send group tea --from alice "你好 🍵"

Commands work on the data folder (--data, qunxin-data by default), whether a server runs on it
or not. Only serve, import, restore, `user create` and `key create` make a folder that is missing.

Exit codes: 0 done, 1 refused or failed, 2 wrong usage or settings.""",
)
_COMMANDS: Final = (
    *("serve", "replay", "user", "group", "send", "history", "recall", "deliveries"),
    *("link", "token", "key", "webhook"),
    *("backup", "restore", "export", "import", "doctor", "systemd"),
)

for order, name in enumerate(_COMMANDS):
    # By name, so that a command imports only what it needs itself.
    module = "import_" if name == "import" else name
    app.command(f"qunxin.cli.{module}:app", name=name, sort_key=order)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command; its exit code. Wrong usage is told of as any error: with --json as JSON."""
    os.umask(0o077)  # whatever is written here is its owner's alone
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or given[0] in ("--help", "-h"):
        load_all()
    as_json = "--json" in given[: given.index("--") if "--" in given else None]
    try:
        app(given, result_action="return_none", exit_on_error=False, print_error=not as_json)
    except CycloptsError as error:
        if as_json:
            output = Output(as_json=True, language=preferred_language(None))
            output.error(QunxinError("invalid_request", detail=str(error)))
        return USAGE
    return 0


def load_all() -> None:
    """The overview shows the first line of each command's help."""
    for name in _COMMANDS:
        app[name]
