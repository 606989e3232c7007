"""What a check found: how bad it is, in words, and what can be done."""

from __future__ import annotations

from enum import StrEnum
from typing import Final, NamedTuple

import msgspec


class Level(StrEnum):
    OK = "ok"
    WARNING = "warning"
    """It works, and may not tomorrow, or not under load."""
    PROBLEM = "problem"
    """It does not work, or is not safe."""


class Words(NamedTuple):
    """A text in both languages."""

    english: str
    chinese: str

    def show(self, language: str) -> str:
        return self.chinese if language == "zh" else self.english


NOTHING = Words("", "")


class Finding(msgspec.Struct, frozen=True):
    """One line of the report. `check` is stable and made for programs."""

    check: str
    level: Level
    text: Words
    advice: Words = NOTHING


AS_THE_OWNER: Final = Words(
    "Run commands as the user that the server runs as.", "请以服务所用的用户身份运行命令。"
)


def fine(check: str, english: str, chinese: str) -> list[Finding]:
    """One finding that all is well."""
    return [Finding(check, Level.OK, Words(english, chinese))]


def warning(check: str, text: Words, advice: Words) -> Finding:
    return Finding(check, Level.WARNING, text, advice)


def problem(check: str, text: Words, advice: Words) -> Finding:
    return Finding(check, Level.PROBLEM, text, advice)
