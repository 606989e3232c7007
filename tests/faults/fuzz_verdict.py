"""What a server may answer to an attack, and what must not be in its log."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from typing import Any

from qunxin.wire.codes import DISCONNECTS, ERROR_NUMBERS, FAILED

KNOWN_ERRORS = {105, 108, 112, *ERROR_NUMBERS.values()} - {ERROR_NUMBERS["internal"]}
KNOWN_CODES = {one.code for one in DISCONNECTS if one is not FAILED} | {1000, None}
KNOWN_PROBLEMS = set(ERROR_NUMBERS) - {"internal"}


class Seen:
    """What an attack was answered, each of it known and none of it a defect."""

    def __init__(self) -> None:
        self.errors: Counter[int] = Counter()
        self.codes: Counter[int | None] = Counter()
        self.statuses: Counter[int] = Counter()

    def lines(self, lines: Iterable[dict[str, Any]]) -> None:
        for line in lines:
            if "error" in line:
                error = line["error"]
                assert error["code"] in KNOWN_ERRORS, error
                self._check_text(error["message"])
                self.errors[error["code"]] += 1

    def end(self, code: int | None) -> None:
        assert code in KNOWN_CODES, code
        self.codes[code] += 1

    def problem(self, status: int, body: bytes) -> None:
        """An HTTP answer that is no success."""
        problem = json.loads(body)
        assert problem["status"] == status, problem
        assert problem["code"] in KNOWN_PROBLEMS, problem
        self._check_text(problem["detail"])
        self.statuses[status] += 1

    def check(self) -> None:
        """It was an attack: many things were refused."""
        assert len(self.errors) >= 5, self.errors
        assert len(self.codes) >= 4, self.codes

    def _check_text(self, text: str) -> None:
        assert "Traceback" not in text
        assert 'File "' not in text


def check_log(log: str) -> None:
    """Nothing in the server's log is an error."""
    assert "Traceback" not in log
    for line in log.splitlines():
        if line.startswith("{"):
            assert json.loads(line).get("level") not in ("error", "critical"), line
