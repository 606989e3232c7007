"""Times as people read them."""

from __future__ import annotations

from datetime import UTC, datetime


def local_time(milliseconds: int | None) -> str | None:
    """Local date and time to the second; None for what never happened (0 or None)."""
    if not milliseconds:
        return None
    moment = datetime.fromtimestamp(milliseconds / 1000, UTC).astimezone()
    return moment.strftime("%Y-%m-%d %H:%M:%S")
