"""What commands read from standard input."""

from __future__ import annotations

import sys

from qunxin.errors import QunxinError


def read_input() -> str:
    """All of standard input, whatever the locale; lines end with a line feed. Raises
    `invalid_request` where it is not UTF-8."""
    try:
        return sys.stdin.buffer.read().decode("utf-8").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        detail = f"standard input is not UTF-8 (at byte {error.start})"
        raise QunxinError("invalid_request", detail=detail) from error
