"""How a command ends: its exit code, and an error in words."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from qunxin.cli.output import Output
from qunxin.errors import QunxinError

REFUSED: Final = 1
USAGE: Final = 2
INTERRUPTED: Final = 130


@contextmanager
def errors_shown(output: Output) -> Iterator[Output]:
    """Turn an error into words and an exit code; an interruption into the shell's own code."""
    try:
        yield output
    except QunxinError as error:
        output.error(error)
        sys.exit(USAGE if error.code == "invalid_settings" else REFUSED)
    except UnicodeEncodeError as error:
        if error.reason != "surrogates not allowed":
            raise  # not what was given, but where it is printed
        near = error.object[max(0, error.start - 20) : error.start + 1]
        output.error(QunxinError("invalid_request", detail=f"not UTF-8: {near}"))
        sys.exit(REFUSED)
    except PermissionError as error:
        detail = f"{error.filename}: permission denied; run commands as the user of the server"
        output.error(QunxinError("cannot_start", detail=detail))
        sys.exit(REFUSED)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
