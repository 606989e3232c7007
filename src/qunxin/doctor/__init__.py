"""``qunxin doctor``: what could keep a node from keeping its promises, and what to do about it.

A check looks at one thing, changes nothing that stays, and gives findings. The order is that of
mending: what comes first may explain what comes later.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from qunxin.config import Settings
from qunxin.doctor import data, machine, serving
from qunxin.doctor.findings import Finding, Level

CHECKS: Final[tuple[Callable[[Settings], Awaitable[list[Finding]]], ...]] = (
    machine.check_versions,
    machine.check_exposure,
    machine.check_open_files,
    machine.check_clock,
    serving.check_certificate,
    serving.check_token_keys,
    serving.check_port,
    data.check_rights,
    data.check_disk,
    data.check_fsync,
    data.check_server,
    data.check_database,
)


async def examine(settings: Settings) -> list[Finding]:
    """The findings of all checks over `settings` and their data folder, in order."""
    return [finding for check in CHECKS for finding in await check(settings)]


__all__ = ["CHECKS", "Finding", "Level", "examine"]
