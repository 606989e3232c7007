"""The judge is judged: a defect between server and one client is reported, and nothing else is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from qunxin.replay import ReplayOptions, ReplayReport, run_replay
from serving import ServerProcess
from tampering import Tamper, TamperingProxy, Wire, pushed_entry

SAMPLES = tuple(sorted((Path(__file__).parents[1] / "data" / "irc").glob("*.txt")))
FAULTS = ("lost", "duplicated", "reordered", "misrouted", "leaked")


class Defect:
    """A tamper that strikes once: at the tenth message that one client gets in one group from
    others."""

    def __init__(self) -> None:
        self.struck = 0
        self._seen: dict[tuple[str, str], int] = {}

    def is_target(self, wire: Wire, line: bytes) -> bool:
        entry = None if self.struck else pushed_entry(line)
        if entry is None or entry["type"] != "group" or entry["from"] == wire.user:
            return False
        stream = (wire.user, entry["conversation"])
        self._seen[stream] = self._seen.get(stream, 0) + 1
        return self._seen[stream] == 10

    def strike(self) -> None:
        self.struck += 1

    def __call__(self, wire: Wire, line: bytes) -> list[bytes]:
        """No defect at all."""
        if self.is_target(wire, line):
            self.strike()
        return [line]


class Dropped(Defect):
    def __call__(self, wire: Wire, line: bytes) -> list[bytes]:
        if not self.is_target(wire, line):
            return [line]
        self.strike()
        return []


class Doubled(Defect):
    def __call__(self, wire: Wire, line: bytes) -> list[bytes]:
        if not self.is_target(wire, line):
            return [line]
        self.strike()
        return [line, line]


class Swapped(Defect):
    """Holds one message back until the next entry of its conversation has passed."""

    def __init__(self) -> None:
        super().__init__()
        self._held: tuple[str, str, bytes] | None = None

    def __call__(self, wire: Wire, line: bytes) -> list[bytes]:
        if self.is_target(wire, line):
            self.strike()
            self._held = (wire.user, json.loads(line)["push"]["channel"], line)
            return []
        if self._held is None or pushed_entry(line) is None:
            return [line]
        user, channel, held = self._held
        if (user, channel) != (wire.user, json.loads(line)["push"]["channel"]):
            return [line]
        self._held = None
        return [line, held]


class SentToAFormerMember(Defect):
    """Who has left gets the next message of the group that anybody gets."""

    def __init__(self) -> None:
        super().__init__()
        self._left: dict[str, Wire] = {}

    def __call__(self, wire: Wire, line: bytes) -> list[bytes]:
        entry = pushed_entry(line)
        if entry is not None and entry["type"] == "left" and entry["users"] == [wire.user]:
            self._left.setdefault(entry["conversation"], wire)
        elif entry is not None and entry["type"] == "group" and not self.struck:
            former = self._left.get(entry["conversation"])
            if former is not None and former.user != wire.user:
                self.strike()
                former.say(line)
        return [line]


class SentToAnotherGroup(Defect):
    """The message stands in a group of another name, for one client, beside its own place or
    in place of it."""

    def __init__(self, *, instead: bool) -> None:
        super().__init__()
        self._instead = instead

    def __call__(self, wire: Wire, line: bytes) -> list[bytes]:
        if not self.is_target(wire, line):
            return [line]
        self.strike()
        frame = json.loads(line)
        frame["push"]["channel"] = "group:tea.of.others"
        frame["push"]["pub"]["data"]["conversation"] = "group:tea.of.others"
        wrong = json.dumps(frame, ensure_ascii=False).encode()
        return [wrong] if self._instead else [line, wrong]


async def _replay(server: ServerProcess, tamper: Tamper) -> ReplayReport:
    async with TamperingProxy(server.port, tamper) as proxy:
        options = ReplayOptions(files=SAMPLES, url=proxy.url, key=server.key, quiet_seconds=1.0)
        return (await run_replay(options)).report


@pytest.mark.parametrize(
    ("defect", "faults"),
    [
        (Defect(), {}),
        (Dropped(), {"lost": 1}),
        (Doubled(), {"duplicated": 1}),
        (Swapped(), {"reordered": 1}),
        (SentToAFormerMember(), {"leaked": 1}),
        (SentToAnotherGroup(instead=False), {"misrouted": 1}),
        (SentToAnotherGroup(instead=True), {"misrouted": 1}),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Defect) else "",
)
async def test_a_planted_defect_is_what_is_reported(
    shared_server: ServerProcess, defect: Defect, faults: dict[str, int]
) -> None:
    """Exactly that number, and a verdict that fails; without a defect, a verdict that passes."""
    report = await _replay(shared_server, defect)
    assert defect.struck == 1
    assert {name: getattr(report, name) for name in FAULTS if getattr(report, name)} == faults
    assert report.verdict == ("failed" if faults else "passed")
    missing = 1 if faults.get("lost") or getattr(defect, "_instead", False) else 0
    assert report.delivered == report.expected_deliveries - missing == 1109 - missing
