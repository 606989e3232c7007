"""``qunxin doctor``: what could keep a node from keeping its promises, and what to do about it.

A check looks at one thing, changes nothing that stays, and gives findings. The order is that of
mending: what comes first may explain what comes later.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from qunxin.config import Settings
from qunxin.doctor import data, machine, serving
from qunxin.doctor.findings import AS_THE_OWNER, Finding, Level, Words, problem

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
    findings: list[Finding] = []
    for check in CHECKS:
        try:
            findings += await check(settings)
        except PermissionError as error:
            findings.append(_not_allowed(check.__name__.removeprefix("check_"), error))
    return findings


def _not_allowed(check: str, error: PermissionError) -> Finding:
    place = error.filename
    text = Words(f"{place} may not be looked into", f"无权查看 {place}")
    return problem(check.replace("_", " "), text, AS_THE_OWNER)


__all__ = ["CHECKS", "Finding", "Level", "examine"]
