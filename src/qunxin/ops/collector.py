"""Python's collector of reference cycles, in a process of ours.

What a start makes stays, and looking it through again and again takes a tenth of its time. While a
node serves, a full collection looks at every object there is, and nothing else runs meanwhile: with
1,000 connections a tenth of a second, which every message under way waits for. What ends here is
freed by its reference count alone, so collections may be rare.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_THRESHOLDS: Final = (10_000, 20, 50)
"""Objects more than at the last collection of the youngest, then collections of the younger
generation for each of the next one: a full one for some ten million new objects, instead of the
seventy thousand that Python is set to."""


def collect_rarely() -> None:
    """For the rest of this process, which must be ours."""
    gc.set_threshold(*_THRESHOLDS)


@contextmanager
def rare_collections() -> Iterator[None]:
    """Within it full collections are rare, and what was there before it (modules, classes, the
    opened node, the little garbage of a start) is never looked at."""
    thresholds = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(*_THRESHOLDS)
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)
        gc.unfreeze()
