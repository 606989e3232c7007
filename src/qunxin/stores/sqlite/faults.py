"""What a fault of SQLite means to whoever asked: one place that turns it into the family."""

from __future__ import annotations

import logging

import apsw

from qunxin.errors import QunxinError

_log = logging.getLogger("qunxin.stores.sqlite")

SURELY_ROLLED_BACK = (apsw.FullError, apsw.BusyError, apsw.ReadOnlyError)
"""Faults of COMMIT after which the transaction is in no file: its last frame, without which
recovery takes none of the others, was never written."""


def unavailable(error: BaseException) -> QunxinError:
    """Nothing took effect; SQLite's own words go to the log, a short reason to the caller."""
    if isinstance(error, QunxinError):
        return error
    if isinstance(error, apsw.Error | OSError):
        _log.error("the store is unavailable: %s", error, exc_info=error)
        return QunxinError("store_unavailable", detail=type(error).__name__)
    _log.error("a defect in the store", exc_info=error)
    return QunxinError("internal")


def unknown(error: apsw.Error) -> QunxinError:
    """COMMIT failed in a way that leaves open whether its frames are in the file."""
    _log.error("the outcome of a commit is not known: %s", error, exc_info=error)
    return QunxinError("outcome_unknown", detail=type(error).__name__)
