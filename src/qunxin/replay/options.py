"""What a replay can be told."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from qunxin.errors import QunxinError

Speak = Callable[[str, int, int], None]
"""Told of progress: the phase, how much of it is done, and how much there is."""


@dataclass(frozen=True, kw_only=True)
class ReplayOptions:
    """`url` and `key` name a server that runs already; without them the replay runs its own.

    `speed` None is as fast as it goes, 1.0 the speed of the logs. `quiet_seconds`: a participant
    to whom nothing has come for so long, at the end, has got all they will get.
    `first_answer_seconds`: a server that has not answered at all for so long is not there.
    """

    files: tuple[Path, ...]
    url: str | None = None
    key: str | None = None
    speed: float | None = None
    online: int = 200
    kills: int = 0
    seed: int = 0
    stress: bool = False
    quiet_seconds: float = 15.0
    give_up_seconds: float = 300.0
    """How long one step may take, retries and restarts of the server included."""
    first_answer_seconds: float = 15.0
    progress: Speak | None = None


def parse_speed(text: str) -> float | None:
    """``max`` is None, ``real`` 1.0, ``20x`` 20.0. Raises `invalid_request`."""
    if text == "max":
        return None
    if text == "real":
        return 1.0
    found = re.fullmatch(r"(\d+(?:\.\d+)?)x", text)
    if found is None or float(found[1]) == 0:
        raise QunxinError("invalid_request", detail=f"speed is max, real or 20x, not {text}")
    return float(found[1])


def check_options(options: ReplayOptions) -> None:
    """Refuse what cannot be played. Raises `invalid_request`."""
    if not options.files:
        raise QunxinError("invalid_request", detail="name at least one log file")
    if options.online < 1:
        raise QunxinError("invalid_request", detail="online is at least 1")
    if options.kills < 0:
        raise QunxinError("invalid_request", detail="kill is at least 0")
    if (options.url is None) != (options.key is None):
        raise QunxinError("invalid_request", detail="url and key are given together")
    if options.url is not None and options.kills:
        raise QunxinError("invalid_request", detail="only a server of the replay's own is killed")
    if options.url is not None and not _is_address(options.url):
        detail = f"url is an address such as http://127.0.0.1:8000, not {options.url}"
        raise QunxinError("invalid_request", detail=detail)
    if options.key is not None and not re.fullmatch(r"[!-~]+", options.key):
        raise QunxinError(
            "invalid_request", detail="key is an API key as `qunxin key create` prints"
        )


def _is_address(url: str) -> bool:
    """Whether a connection can be opened to it, over HTTP and as a WebSocket."""
    if not re.fullmatch(r"https?://[!-~]+", url):
        return False
    try:
        parts = urlsplit(url)
        return bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
