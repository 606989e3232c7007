"""The id of the request that a task works for. By itself, so that a short command can do without
the library of the logs."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Final

REQUEST_ID: Final[ContextVar[str]] = ContextVar("request_id", default="")
"""Whatever the task logs carries it; empty where no request is being answered."""
