"""Reading IRC logs: lines of text in, steps and totals out. Pure.

Two forms are read, line by line, the first rule that fits::

    [hh:mm] <nick> text             === nick [user@host]  has joined #channel
    [hh:mm]  * nick text            === nick entered the room.
                                    === nick [user@host]  has left #channel
                                    === nick left the room…
                                    === nick was kicked off #channel…
                                    === a is now known as b

Anything else is skipped and counted. A person is known by the first nick they bore in the file
and by how many persons before them began with that nick there; `user_id` makes a user of that.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from enum import Enum
from typing import Final, NamedTuple

from qunxin.model import MAX_ID_LENGTH

_MESSAGE = re.compile(r"\[(\d\d):(\d\d)\] <([^>]+)> ?(.*)", re.DOTALL)
_ACTION = re.compile(r"\[(\d\d):(\d\d)\]  \* (\S+) ?(.*)", re.DOTALL)
_JOIN = re.compile(r"=== (\S+) (?:\[.*\]  ?has joined #|entered the room\.)")
_LEAVE = re.compile(r"=== (\S+) (?:\[.*\]  ?has left #|left the room|was kicked off #)")
_RENAME = re.compile(r"=== (\S+) is now known as (\S+)")
_UNTOLD: Final = -1


class StepKind(Enum):
    JOIN = "join"
    LEAVE = "leave"
    RENAME = "rename"
    MESSAGE = "message"


class Step(NamedTuple):
    """One thing that happened. `user` is the id of the person it happened to."""

    kind: StepKind
    user: str
    text: str
    """The nick borne from now on (join, rename), or the message; empty for a leave."""
    minute: int
    """Minutes since midnight, as last told by a message line; before the first, as told by it."""


class Totals(NamedTuple):
    """A log in numbers. `deliveries` counts each message once for every member present at its
    line but the author."""

    users: int
    messages: int
    joins: int
    leaves: int
    renames: int
    skipped: int
    deliveries: int


class IrcLog(NamedTuple):
    steps: tuple[Step, ...]
    totals: Totals


def user_id(nick: str, ordinal: int = 1, tag: str = "") -> str:
    """The id of the `ordinal`-th person who began as `nick`; never the same for two of them.

    ASCII letters and digits stand for themselves, every other byte of the UTF-8 is ``_`` and
    two hexadecimal digits; a dot sets apart what was not in the nick. What would be too long is
    cut, and told apart by a digest of the whole.
    """
    encoded = "".join(_escape(character) for character in nick)
    name = encoded if encoded[:1] not in ("", "_") else f"q.{encoded or '0'}"
    suffix = (f".{ordinal}" if ordinal > 1 else "") + (f".t{tag}" if tag else "")
    if len(name) + len(suffix) <= MAX_ID_LENGTH:
        return name + suffix
    digest = hashlib.sha256(nick.encode()).hexdigest()[:24]
    return f"{name[: MAX_ID_LENGTH - len(suffix) - 26].rstrip('.')}.h{digest}{suffix}"


def _escape(character: str) -> str:
    if character.isascii() and character.isalnum():
        return character
    return "".join(f"_{byte:02x}" for byte in character.encode())


def read_log(text: str, tag: str = "") -> IrcLog:
    """Steps and totals of one file's text; each step's `user` carries `tag`."""
    reader = _Reader(tag)
    for line in text.split("\n"):
        if line:
            reader.read(line)
    first = next((step.minute for step in reader.steps if step.minute != _UNTOLD), 0)
    steps = (
        step._replace(minute=first) if step.minute == _UNTOLD else step for step in reader.steps
    )
    return IrcLog(tuple(steps), reader.totals())


def decode(data: bytes) -> str:
    """UTF-8 with invalid bytes replaced, as the logs are read."""
    return data.decode(errors="replace")


class _Reader:
    """The room as it stands at one line: who bears which nick, and who is present."""

    def __init__(self, tag: str) -> None:
        self.steps: list[Step] = []
        self._tag = tag
        self._bearers: dict[str, str] = {}
        self._ordinals: dict[str, int] = {}
        self._present: set[str] = set()
        self._minute = _UNTOLD
        self._skipped = 0
        self._deliveries = 0

    def read(self, line: str) -> None:
        if found := _MESSAGE.match(line) or _ACTION.match(line):
            self._say(*found.groups())
        elif found := _JOIN.match(line):
            self._join(found[1])
        elif found := _LEAVE.match(line):
            self._leave(found[1])
        elif found := _RENAME.match(line):
            self._rename(found[1], found[2])
        else:
            self._skipped += 1

    def totals(self) -> Totals:
        def count(kind: StepKind) -> int:
            return sum(step.kind is kind for step in self.steps)

        return Totals(
            users=sum(self._ordinals.values()),
            messages=count(StepKind.MESSAGE),
            joins=count(StepKind.JOIN),
            leaves=count(StepKind.LEAVE),
            renames=count(StepKind.RENAME),
            skipped=self._skipped,
            deliveries=self._deliveries,
        )

    def _person(self, nick: str) -> str:
        person = self._bearers.get(nick)
        if person is None:
            self._ordinals[nick] = self._ordinals.get(nick, 0) + 1
            person = self._bearers[nick] = user_id(nick, self._ordinals[nick], self._tag)
        return person

    def _say(self, hour: str, minute: str, nick: str, text: str) -> None:
        self._minute = int(hour) * 60 + int(minute)
        if not text.strip():
            self._skipped += 1
            return
        author = self._join(nick)
        self._deliveries += len(self._present) - 1
        self._add(StepKind.MESSAGE, author, text)

    def _join(self, nick: str) -> str:
        person = self._person(nick)
        if person not in self._present:
            self._present.add(person)
            self._add(StepKind.JOIN, person, nick)
        return person

    def _leave(self, nick: str) -> None:
        person = self._bearers.get(nick)
        if person in self._present:
            self._present.discard(person)
            self._add(StepKind.LEAVE, person, "")

    def _rename(self, old: str, new: str) -> None:
        if old == new:
            return
        self._leave(new)
        person = self._join(old)
        del self._bearers[old]
        self._bearers[new] = person
        self._add(StepKind.RENAME, person, new)

    def _add(self, kind: StepKind, user: str, text: str) -> None:
        self.steps.append(Step(kind, user, text, self._minute))


def all_users(logs: Iterable[IrcLog]) -> Iterator[str]:
    """Every user of the logs once, in order of first appearance."""
    seen: Final[set[str]] = set()
    for log in logs:
        for step in log.steps:
            if step.user not in seen:
                seen.add(step.user)
                yield step.user
