"""The command line: ``qunxin serve | replay | user | group | send | token | key | webhook |
backup``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.util import find_spec

from qunxin.ops.collector import collect_rarely
from qunxin.version import VERSION


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and leave with its exit code: 0, 1 refused or failed, 2 wrong usage."""
    if find_spec("cyclopts") is None:
        sys.exit("qunxin: the command line needs more parts: pip install 'qunxin[server]'")
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given == ["--version"]:  # asked by programs, again and again
        sys.stdout.write(f"qunxin {VERSION}\n")
        sys.exit()
    collect_rarely()
    from qunxin.cli.app import run  # noqa: PLC0415  only now is it sure to import

    sys.exit(run(given))
