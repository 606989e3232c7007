"""What commands print is what they were given."""

from __future__ import annotations

import json

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
        "name".ljust(len(SHOWN) + 1),
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
