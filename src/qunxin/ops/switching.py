"""How long one thread of ours keeps the interpreter while others want it.

The loop gives it up whenever it looks for news, and a thread of the store that reads or commits
has it then. Python lets that thread go on for 5 ms; a message takes several such turns, and each of
them would wait for as long.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_SECONDS: Final = 0.001


@contextmanager
def quick_switches() -> Iterator[None]:
    """Within it a thread that wants the interpreter waits a millisecond for it at most, as long as
    the other runs Python and not C."""
    seconds = sys.getswitchinterval()
    sys.setswitchinterval(_SECONDS)
    try:
        yield
    finally:
        sys.setswitchinterval(seconds)
