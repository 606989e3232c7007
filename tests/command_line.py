"""The command line in this process, for tests: starting one for each command would take minutes."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import qunxin.owner  # noqa: F401 - what a command would otherwise import in its loop, slowly
from qunxin.cli.app import run


class Done(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str


class CommandLine:
    """Runs commands on one folder, which may have a server or not."""

    def __init__(self, folder: Path, capture: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self._capture = capture

    def run(self, *arguments: str) -> Done:
        """To its end, whatever that is."""
        self._capture.readouterr()
        with _process_unchanged():
            try:
                code = run([*arguments, "--data", str(self.folder)])
            except SystemExit as end:
                code = int(end.code or 0)
        return Done(code, *self._capture.readouterr())

    def __call__(self, *arguments: str) -> Any:
        """The JSON object that a command prints; it must succeed."""
        done = self.run(*arguments, "--json")
        assert done.code == 0, done.err
        assert len(done.out.splitlines()) == 1
        return json.loads(done.out)

    def refusal(self, *arguments: str) -> Any:
        """The error that a command tells of as JSON; it must end with exit code 1."""
        done = self.run(*arguments, "--json")
        assert (done.code, done.out) == (1, ""), done
        return json.loads(done.err.splitlines()[-1])["error"]

    def fill(self, words: Iterable[str]) -> None:
        """Two users, and the group tea with a message of each of `words` by alice."""
        for user in ("alice", "bob"):
            self("user", "create", user)
        self("group", "create", "tea", "bob", "--owner", "alice")
        for text in words:
            self("send", "group", "tea", "--from", "alice", text)


@contextmanager
def _process_unchanged() -> Iterator[None]:
    """Undo what a command may do to its process: umask and logging."""
    root = logging.getLogger()
    handlers, level, umask = list(root.handlers), root.level, os.umask(0o022)
    try:
        yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
        os.umask(umask)
