"""What commands print is what they were given."""

from __future__ import annotations

import pytest

from qunxin.cli.output import Output

NAMES = [":tea: [bold]", "茶 🍵 :smile:", "[/nothing]", "שלום :heart: \\[x]"]


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


def test_names_do_not_move_the_cursor(capsys: pytest.CaptureFixture[str]) -> None:
    """What rings, or goes back over what was written, is left out."""
    output = Output()
    output.result({}, "爱\a\r丽\b丝 🍵")
    output.note("爱\a\r丽\b丝 🍵")
    assert capsys.readouterr() == ("爱丽丝 🍵\n", "爱丽丝 🍵\n")
