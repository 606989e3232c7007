"""Mistakes at the command line, and what only looks like one: what is sent, refused, left."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from command_line import CommandLine
from qunxin.cli.app import run


@pytest.fixture
def cli(folder_cli: CommandLine) -> CommandLine:
    """Alice and Bob in the group tea, where nothing was said yet."""
    folder_cli.fill([])
    return folder_cli


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch) -> io.BytesIO:
    """What stands in the standard input of the next command."""
    given = io.BytesIO()
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(given, "ascii"))
    return given


def say_in(typed: io.BytesIO, content: bytes) -> None:
    typed.write(content)
    typed.seek(0)


def said(cli: CommandLine) -> list[str]:
    """All texts in the group, the oldest first."""
    entries = cli("history", "group:tea")["entries"]
    return [one["content"][0]["text"] for one in entries if "content" in one]


def test_a_broadcast_in_nobodys_name_is_sent(cli: CommandLine) -> None:
    """Keys are a sender's; a key that is given all the same is refused, not dropped."""
    assert cli("send", "broadcast", "all", "今晚 22:00 维护 🔧")["position"] == 1
    error = cli.refusal("send", "broadcast", "all", "维护", "--key", "早")
    assert "key: needs a sender" in error["detail"]
    assert cli("send", "broadcast", "all", "早 🌅", "--from", "alice")["position"] == 2


def test_an_empty_key_is_no_key(cli: CommandLine) -> None:
    """A script whose variable is empty learns that nothing protects its repeats."""
    error = cli.refusal("send", "group", "tea", "茶", "--from", "alice", "--key", "")
    assert "key: at least 1 character" in error["detail"]
    assert said(cli) == []


@pytest.mark.parametrize("text", ["- 茶\n- 米", "-5 °C", "-", "--- 完 ---", "--你好", "-h 🍵"])
def test_a_text_may_begin_with_a_hyphen(cli: CommandLine, typed: io.BytesIO, text: str) -> None:
    """Wherever the options stand; a single hyphen reads standard input."""
    say_in(typed, "从标准输入 🍵\r\n第二行\n".encode())
    cli("send", "group", "tea", "--from", "alice", text)
    assert said(cli) == ["从标准输入 🍵\n第二行" if text == "-" else text]
    cli("send", "group", "tea", f"-{text} 茶", "--from", "alice")
    assert said(cli)[1:] == [f"-{text} 茶"]


@pytest.mark.parametrize("option", ["--jsno", "--form", "--requier=all", "--kye"])
def test_a_misspelt_option_is_not_said(cli: CommandLine, option: str) -> None:
    """Nor does it become a member."""
    done = cli.run("send", "group", "tea", option, "--from", "alice")
    assert (done.code, "did you mean" in done.err) == (2, True)
    assert cli.run("group", "add", "tea", "alice", option).code == 2
    assert said(cli) == []


def test_behind_two_hyphens_an_option_is_a_text(
    cli: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As everywhere."""
    monkeypatch.setenv("QUNXIN_DATA", str(cli.folder))
    assert run(["send", "group", "tea", "--from", "alice", "--", "--json"]) == 0
    assert said(cli) == ["--json"]


def test_users_are_read_from_standard_input(cli: CommandLine, typed: io.BytesIO) -> None:
    """One on a line."""
    for user in ("carol", "dave"):
        cli("user", "create", user)
    say_in(typed, b"carol\r\ndave\n")
    results = cli("group", "add", "tea", "-")["results"]
    assert [(one["user"], one["result"]) for one in results] == [
        ("carol", "added"),
        ("dave", "added"),
    ]


def test_input_that_is_not_utf_8_is_refused_in_words(cli: CommandLine, typed: io.BytesIO) -> None:
    """From a pipe or as an argument; nothing of it is sent."""
    send = ("send", "group", "tea", "--from", "alice")
    say_in(typed, "茶".encode() + b"\xff")
    error = cli.refusal(*send, "-")
    assert (error["code"], "not UTF-8 (at byte 3)" in error["detail"]) == ("invalid_request", True)
    error = cli.refusal(*send, "茶 x\udcff")
    assert (error["code"], r"茶 x\udcff" in error["detail"]) == ("invalid_request", False)
    done = cli.run(*send, "茶 x\udcff")
    assert (done.code, r"not UTF-8: 茶 x\udcff" in done.err) == (1, True)
    assert cli.run("user", "show", "\udcff").code == 1
    assert said(cli) == []


def test_a_file_may_have_any_name(cli: CommandLine, tmp_path: Path) -> None:
    """Also one that is not UTF-8: told of in a form that can be read back."""
    target = tmp_path / "备份 \udcff.jsonl"
    assert cli("export", str(target))["file"] == str(target)
    assert target.exists()
    target.unlink()
    done = cli.run("export", str(target))
    assert (done.code, r"备份 \udcff.jsonl" in done.out) == (0, True)


def test_whoever_could_not_be_added_makes_it_fail(cli: CommandLine) -> None:
    """Exit code 1, with the results as before; who was a member already is no failure."""
    done = cli.run("group", "add", "tea", "nobody", "bob")
    assert done.code == 1
    assert done.out == "0 of 2 added to tea.\n  nobody: user_not_found\n"
    done = cli.run("group", "add", "tea", "nobody", "--json")
    assert done.code == 1
    assert json.loads(done.out)["results"] == [{"user": "nobody", "result": "user_not_found"}]
    assert cli.run("group", "add", "tea", "bob").code == 0
    done = cli.run("group", "create", "rice", "bob", "nobody", "--owner", "alice", "--name", "米")
    assert (done.code, "nobody: user_not_found" in done.out) == (1, True)
    assert cli("group", "show", "rice")["members"] == 2


LISTS = [
    ("user", "list"),
    ("user", "conversations", "alice"),
    ("group", "list"),
    ("group", "members", "tea"),
    ("deliveries", "broadcast:all", "1"),
    ("history", "broadcast:all"),
]


@pytest.mark.parametrize("command", LISTS, ids=" ".join)
def test_a_list_of_nothing_is_refused(cli: CommandLine, command: tuple[str, ...]) -> None:
    """It would look as if there were none."""
    cli("send", "broadcast", "all", "早 🌅")
    for limit in ("0", "-1"):
        error = cli.refusal(*command, "--limit", limit)
        assert (error["code"], "limit: at least 1" in error["detail"]) == ("invalid_request", True)
    cli(*command, "--limit", "1")


def test_advice_is_given_where_it_helps(cli: CommandLine) -> None:
    """Reaching those who can be reached needs somebody who can; adding somebody is no way to be
    rid of them."""
    cli("user", "suspend", "bob")
    words = ("你好 🍵", "--from", "alice", "--require", "all")
    alone = [
        cli.refusal("send", "private", "bob", *words),
        cli.refusal("send", "group", "tea", *words),
        cli.refusal("send", "broadcast", "all", *words),
        cli.refusal("group", "remove", "tea", "nobody"),
        cli.refusal("group", "mute", "tea", "nobody"),
    ]
    assert [error["advice"] for error in alone] == [None] * 5
    others = [cli.refusal("send", "broadcast", "all", "维护 🔧", "--require", "all")]
    cli("user", "create", "carol")
    cli("group", "add", "tea", "carol")
    others.append(cli.refusal("send", "group", "tea", *words))
    others.append(cli.refusal("send", "broadcast", "all", *words))
    assert {error["advice"] for error in others} == {
        "Send to those who can be reached: --require reachable"
    }
    cli("user", "create", "dave")
    advice = cli.refusal("send", "group", "tea", "茶", "--from", "dave")["advice"]
    assert advice == "Add the user: qunxin group add GROUP USER"


@pytest.mark.parametrize("user", ["root", "0", ""])
def test_no_unit_runs_a_node_as_root(folder_cli: CommandLine, user: str) -> None:
    """As the help says."""
    error = folder_cli.refusal("systemd", "--user", user)
    assert "must not run as root" in error["detail"]


def test_an_import_that_fails_leaves_no_folder(folder_cli: CommandLine, tmp_path: Path) -> None:
    """Nor the ones above it that it made; what was there stays, if it is empty too."""
    (tmp_path / "坏.jsonl").write_text('{"茶": 1}\n', "utf-8")
    there = tmp_path / "有"
    there.mkdir()
    for folder in (tmp_path / "新", there / "一" / "二", there):
        folder_cli.folder = folder
        for name in ("坏.jsonl", "无.jsonl"):
            error = folder_cli.refusal("import", str(tmp_path / name))
            assert error["code"] == "invalid_request"
    assert {path.name for path in tmp_path.iterdir()} == {"坏.jsonl", "有"}
    assert {path.name for path in there.iterdir()} == {"lock"}


@pytest.mark.parametrize("moment", ["0001-01-01", "9999-13-01", "昨天", "茶时"])
def test_a_time_that_is_none_is_refused(cli: CommandLine, moment: str) -> None:
    """Or that is too early for a clock."""
    error = cli.refusal("webhook", "replay", "9c1e5a7d20b4", "--from", moment)
    assert "--from: a time such as" in error["detail"]


@pytest.mark.parametrize(
    "arguments",
    [("user", "crate", "爱"), ("send", "whisper", "tea", "茶"), ("serve", "--port", "八千")],
    ids=" ".join,
)
def test_wrong_usage_is_told_of_as_json_where_that_is_asked_for(
    folder_cli: CommandLine, arguments: tuple[str, ...]
) -> None:
    """One object on one line, like any other error."""
    done = folder_cli.run(*arguments, "--json")
    assert (done.code, done.out) == (2, "")
    (line,) = done.err.splitlines()
    error = json.loads(line)["error"]
    assert (error["code"], error["tier"], error["retryable"]) == (
        "invalid_request",
        "request",
        False,
    )
    assert arguments[1] in error["detail"]
