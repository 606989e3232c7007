"""What commands print is what they were given."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import pty
import struct
import subprocess
import sys
import termios

import pytest

from qunxin.cli.output import Output, isolated, titled
from qunxin.errors import QunxinError

NAMES = [":tea: [bold]", "茶 🍵 :smile:", "[/nothing]", "👩🏽\u200d🚀 :heart: \\[x]"]
EVIL = "\x1b]0;pwned\x07\x1b[2J 坏\nmallory  owner\u202e\u2028\x9b31m"
SHOWN = r"\x1b]0;pwned\x07\x1b[2J 坏\nmallory  owner\u202e\u2028\x9b31m"


@pytest.mark.parametrize("name", NAMES)
def test_names_stay_as_they_are(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """No markup, no emoji for words between colons: in lines, tables and errors."""
    output = Output()
    output.result({}, f"made {name}")
    output.table({}, ("name", "count"), [(name, 1)], f"all {name}")
    shown = capsys.readouterr().out.splitlines()
    assert shown[0] == f"made {name}"
    assert shown[2].split(" 1")[0].rstrip().endswith(name)
    assert shown[-1] == f"all {name}"
    output.note(name)
    assert capsys.readouterr().err.rstrip("\n") == name


def test_nothing_in_a_name_acts_on_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """Escapes, breaks of lines and turned directions are written out, wherever a name stands; for
    programs the name is whole."""
    output = Output()
    output.result({}, f"made {EVIL}")
    output.table({}, ("name",), [(EVIL,)], f"all {EVIL}")
    assert capsys.readouterr().out.split("\n") == [
        f"made {SHOWN}",
        "name",
        SHOWN,
        f"all {SHOWN}",
        "",
    ]
    output.note(EVIL)
    output.error(QunxinError("user_not_found", user=EVIL))
    note, error, *_ = capsys.readouterr().err.split("\n")
    assert note == SHOWN
    assert error == f"✗ There is no user {SHOWN}  (user_not_found)"
    Output(as_json=True).result({"name": EVIL})
    assert json.loads(capsys.readouterr().out) == {"name": EVIL}


@pytest.mark.parametrize("name", ["שלום :heart:", "مرحبا 12", "茶 שלום"])
def test_a_name_from_right_to_left_stays_in_its_place(name: str) -> None:
    """Between marks that hold its direction inside, and that it cannot end itself."""
    assert isolated(name) == f"\u2068{name}\u2069"
    assert isolated(f"{name}\u2069") == f"\u2068{name}\\u2069\u2069"
    assert titled({"user": "alice", "name": name}, "user") == f"alice (\u2068{name}\u2069)"
    assert isolated("茶 🍵") == "茶 🍵"


USER = "an.id_that-goes.on_and-on@" + "x" * 37 + "y"
URL = "https://hooks.example.org/" + "very/long/" * 20
ROW = (USER, "很长的名字 🍵 " * 10, URL, "sending")
COLUMNS = ("user", "name", "url", "state")


def test_off_a_terminal_a_table_has_no_width(capsys: pytest.CaptureFixture[str]) -> None:
    """One line for each row, whatever is in it, and no blanks at its end."""
    Output().table({}, COLUMNS, [ROW, ("bob", "鲍勃", "-", "failing")])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert lines[1].split()[0] == USER
    assert lines[1].split()[-2:] == [URL, "sending"]
    assert lines[1].count("很长的名字 🍵") == 10
    assert lines == [line.rstrip() for line in lines]


@pytest.mark.parametrize(("url", "count"), [("-", 6), (URL, 2)], ids=["folded", "too long"])
def test_a_narrow_terminal_folds_only_free_text(url: str, count: int) -> None:
    """Ids and addresses stay in one piece; where they do not fit, so does each row."""
    row = (USER, "很长的名字 🍵 " * 5, url, "-")
    program = f"from qunxin.cli.output import Output\nOutput().table({{}}, {COLUMNS}, [{row}])"
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 95, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    environment |= {"TERM": "xterm", "PYTHONIOENCODING": "utf-8"}
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=theirs, env=environment
    ) as drawing:
        os.close(theirs)
        shown = _all_of(ours)
    assert drawing.returncode == 0
    lines = shown.decode().splitlines()
    assert lines[1].startswith(USER)
    assert url in lines[1]
    assert "".join(lines).count("很") == 5
    assert len(lines) == count


def _all_of(terminal: int) -> bytes:
    """What comes until the other end is closed."""
    parts = []
    with os.fdopen(terminal, "rb", buffering=0) as file:
        while True:
            try:
                part = file.read(65_536)
            except OSError as error:
                assert error.errno == errno.EIO  # so a terminal tells of its end  # noqa: PT017
                break
            if not part:
                break
            parts.append(part)
    return b"".join(parts)
