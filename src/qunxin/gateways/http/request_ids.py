"""A name for each request, so that an answer, a line of the log and a proxy's record meet."""

from __future__ import annotations

import itertools
import re
import secrets
from typing import Final

_GIVEN: Final = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_HEADER: Final = b"x-request-id"
_PROCESS: Final = secrets.token_hex(4)
_numbers = itertools.count(1)


def request_id_of(headers: list[tuple[bytes, bytes]]) -> str:
    """What the client or a proxy calls the request (`X-Request-Id`); a name of our own, never
    given again, where they do not say or say what does not belong into a log."""
    for name, value in headers:
        if name == _HEADER and _GIVEN.fullmatch(value):
            return value.decode()
    return f"{_PROCESS}-{next(_numbers):x}"
