"""Logs: for people on a terminal, one JSON object a line otherwise. Always on standard error.

Modules log through the standard `logging`; this makes lines of it. Message content and
credentials never belong in a log: fields that would hold them are dropped, and whatever looks
like a key or a token is blotted out of the finished line, tracebacks included.
"""

from __future__ import annotations

import logging
import re
import sys
from typing import Final, TextIO

import structlog
from structlog.types import EventDict, Processor, WrappedLogger

from qunxin.ops.request_id import REQUEST_ID

_DROPPED: Final = frozenset({"authorization", "content", "secret", "text", "token"})
_CREDENTIAL: Final = re.compile(
    r"qx_[A-Za-z0-9_-]{8,}|eyJ[A-Za-z0-9_-]{4,}\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*"
)
_QUIET: Final = ("uvicorn", "httpx", "httpcore", "asyncio")
"""Libraries whose chatter below a warning says nothing about Qunxin."""


def configure_logs(format_: str, level: str, stream: TextIO | None = None) -> None:
    """Send everything that is logged in this process to `stream` (standard error).

    `format_` is `console`, `json` or `auto` (by whether the stream is a terminal); `level` the
    least serious one shown. A repeat replaces what the last call set up.
    """
    stream = stream or sys.stderr
    console = stream.isatty() if format_ == "auto" else format_ == "console"
    handler = logging.StreamHandler(stream)
    handler.setFormatter(_formatter(console=console, colors=stream.isatty()))
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level.upper())
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))


def _formatter(*, console: bool, colors: bool) -> logging.Formatter:
    renderer: list[Processor] = (
        [
            structlog.dev.ConsoleRenderer(
                colors=colors, exception_formatter=structlog.dev.plain_traceback
            )
        ]
        if console
        else [
            structlog.processors.format_exc_info,  # plain: local variables may hold content
            structlog.processors.JSONRenderer(ensure_ascii=False),
        ]
    )
    remove = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=_shared(), processors=[remove, *renderer, _blot]
    )


def _shared() -> list[Processor]:
    return [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        _add_request,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _drop_private,
    ]


def _add_request(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    request = REQUEST_ID.get()
    if request:
        event["request_id"] = request
    return event


def _drop_private(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    for name in _DROPPED & event.keys():
        del event[name]
    return event


def _blot(_logger: WrappedLogger, _method: str, line: EventDict) -> str:
    """Runs last, on the finished line (which structlog types as an event)."""
    return _CREDENTIAL.sub("[credential]", str(line))
