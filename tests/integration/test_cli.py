"""The command line on a folder without a server, and beside a running one: the same answers."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest

import qunxin
from command_line import CommandLine
from qunxin.errors import QunxinError
from qunxin.model import ID_RULE
from serving import ServerProcess, answer, run_cli


def test_a_chat_from_the_command_line(cli: CommandLine) -> None:
    """Accounts, a group, members, roles, a message: each step answers what it did."""
    assert cli("user", "create", "alice", "--name", "爱丽丝 👩‍👩‍👧")["new"]
    for user in ("bob", "carol", "dave"):
        cli("user", "create", user)
    assert cli("user", "show", "alice")["name"] == "爱丽丝 👩‍👩‍👧"
    made = cli("group", "create", "tea", "bob", "--owner", "alice", "--name", "茶 🍵")
    assert (made["members"], made["grade"]) == (2, "complete")
    assert cli.refusal("group", "create", "tea", "--owner", "bob")["code"] == ("invalid_request")
    added = cli("group", "add", "tea", "carol", "dave", "bob")
    assert [one["result"] for one in added["results"]] == ["added", "added", "already_member"]
    assert cli("group", "role", "tea", "bob", "admin")["role"] == "admin"
    assert cli("group", "mute", "tea", "dave")["muted"]
    assert cli("group", "mute", "tea")["muted"]
    assert not cli("group", "mute", "tea", "--off")["muted"]
    cli("group", "remove", "tea", "dave")
    members = cli("group", "members", "tea", "--limit", "2")["members"]
    assert [(one["user"], one["role"]) for one in members] == [("alice", "owner"), ("bob", "admin")]
    cli("user", "suspend", "carol")
    sent = cli("send", "group", "tea", "مرحبا 你好 🍵", "--from", "alice", "--key", "早")
    assert (sent["grade"], sent["members"], sent["unreachable_count"]) == ("partial", 3, 1)
    again = cli("send", "group", "tea", "مرحبا 你好 🍵", "--from", "alice", "--key", "早")
    assert (again["position"], again["duplicate"]) == (sent["position"], True)
    assert cli("user", "activate", "carol")["state"] == "active"
    rows = cli("user", "conversations", "bob")["conversations"]
    (row,) = (row for row in rows if row["conversation"] != "broadcast:all")
    assert (row["conversation"], row["name"], row["unread"]) == ("group:tea", "茶 🍵", 1)
    assert cli("user", "sessions", "bob") == {"sessions": []}
    assert cli("group", "dissolve", "tea", "--yes")["state"] == "dissolved"
    assert cli("user", "erase", "dave", "--yes")["state"] == "erased"


def test_refusals_are_the_same_by_both_ways(cli: CommandLine) -> None:
    """Code, tier, words, advice and exit code do not depend on whether a server runs."""
    cli("user", "create", "alice")
    error = cli.refusal("send", "group", "无", "hi", "--from", "alice")
    assert error["code"] == "invalid_request"
    error = cli.refusal("send", "group", "none", "你好", "--from", "alice")
    assert (error["code"], error["tier"]) == ("group_not_found", "group")
    assert error["advice"].startswith("Create it: qunxin group create")
    error = cli.refusal("user", "suspend", "ghost")
    assert (error["code"], error["detail"]) == ("user_not_found", "There is no user ghost")
    error = cli.refusal("group", "dissolve", "none")
    assert (error["code"], "--yes" in error["detail"]) == ("invalid_request", True)


def test_what_was_mistyped_is_said_in_words(cli: CommandLine) -> None:
    """A user who is not there, an id that is none, no id at all: the rule, not a pattern."""
    cli("user", "create", "alice")
    assert cli.refusal("user", "sessions", "nobody")["code"] == "user_not_found"
    assert cli("user", "sessions", "alice") == {"sessions": []}
    assert f"user: {ID_RULE}" in cli.refusal("user", "show", "爱丽丝")["detail"]
    assert "user: missing" in cli.refusal("user", "show", "")["detail"]
    assert (
        "name: at least 1 character" in cli.refusal("user", "create", "bob", "--name", "")["detail"]
    )
    assert (
        "not a public address" in cli.refusal("webhook", "create", "http://10.0.0.1/茶")["detail"]
    )


@pytest.mark.parametrize("minutes", ["0", "-5", "1441"])
def test_a_link_is_good_for_a_day_at_most(
    server: ServerProcess, folder_cli: CommandLine, minutes: str
) -> None:
    """The option is named as it was typed."""
    assert server.url
    assert "--minutes: 1 to 1440" in folder_cli.refusal("link", "--minutes", minutes)["detail"]


def test_a_link_begins_with_an_address(server: ServerProcess, folder_cli: CommandLine) -> None:
    """What no browser could open is refused."""
    assert server.url
    for url in (
        "banana",
        "ftp://chat.example",
        "https://",
        "https://a b/",
        "https://a/?茶",
        "//茶/",
    ):
        error = folder_cli.refusal("link", "--url", url)
        assert "url: an address such as https://chat.example.org" in error["detail"]
    made = folder_cli("link", "--url", "https://chat.example/茶/")
    assert made["link"].startswith("https://chat.example/茶/#link=")


def test_one_is_not_many(folder_cli: CommandLine) -> None:
    """A group of one has one member."""
    folder_cli("user", "create", "alice")
    folder_cli("user", "create", "bob")
    assert "1 member." in folder_cli.run("group", "create", "tea", "--owner", "alice").out
    assert "for 1 member." in folder_cli.run("send", "group", "tea", "茶", "--from", "alice").out
    assert "2 members." in folder_cli.run("group", "create", "rice", "bob", "--owner", "alice").out


def test_a_second_key_of_a_name_is_told_of(folder_cli: CommandLine) -> None:
    """Names need not be unique; a revoked one is no matter."""
    first = folder_cli("key", "create", "店")["id"]
    second = folder_cli.run("key", "create", "店")
    assert second.code == 0
    assert f"another key of that name: {first}" in second.err
    assert "another key" not in folder_cli.run("key", "create", "另一家店").err
    for key in folder_cli("key", "list")["keys"]:
        folder_cli("key", "revoke", key["id"])
    assert "another key" not in folder_cli.run("key", "create", "店").err


def test_a_link_without_a_server_is_refused_and_nothing_else_is_said(data_folder: Path) -> None:
    """No work of the node's own that is cut short by its end is told of as a fault."""
    assert run_cli("key", "create", "店", "--data", str(data_folder)).returncode == 0
    done = run_cli("link", "--data", str(data_folder))
    assert done.returncode == 1
    assert "no server runs on this folder" in done.stderr
    assert "sweep" not in done.stderr


def test_a_key_made_by_either_way_opens_the_server(
    data_folder: Path, folder_cli: CommandLine
) -> None:
    """A key from before the start works after it, one from beside it at once, a revoked one no
    longer."""
    before = folder_cli("key", "create", "früher 早")
    with ServerProcess(data_folder) as server:
        beside = folder_cli("key", "create", "daneben", "--scope", "read")
        assert beside["scopes"] == ["read"]
        for key in (before["key"], beside["key"]):
            with server.client(key) as client:
                assert client.get("/v1/users/nobody").status_code == 404
        folder_cli("key", "revoke", before["id"])
        with server.client(before["key"]) as client:
            assert client.get("/v1/users/nobody").status_code == 401
    listed = folder_cli("key", "list")["keys"]
    assert {one["name"] for one in listed} == {"früher 早", "daneben", "tests"}
    assert before["key"] not in json.dumps(listed)


def test_a_token_is_revoked_by_whatever_id_it_has(folder_cli: CommandLine) -> None:
    """Others choose the ids of the tokens that they sign."""
    folder_cli("user", "create", "alice")
    for name in ("ab/cd+ef==", "令牌/🎫"):
        assert folder_cli("token", "revoke", "alice", "--id", name)["id"] == name


def test_a_token_from_the_command_line_is_accepted(
    server: ServerProcess, folder_cli: CommandLine
) -> None:
    """With the time that was asked for, and only for an account that is there."""
    folder_cli("user", "create", "alice")
    made = folder_cli("token", "create", "alice", "--ttl-seconds", "60")
    with server.client(made["token"]) as client:
        assert answer(client.get("/v1/users/alice"))["user"] == "alice"
        assert client.put("/v1/users/bob", json={}).json()["code"] == "forbidden"
    assert folder_cli.refusal("token", "create", "bob")["code"] == "user_not_found"


def test_for_people_a_key_stands_alone_on_the_output(folder_cli: CommandLine) -> None:
    """`KEY=$(qunxin key create …)` works: what else is said goes to the error output."""
    done = folder_cli.run("key", "create", "人")
    assert re.fullmatch(r"qx_\S+\n", done.out)
    assert "not shown again" in done.err


NEEDS_A_NODE: list[tuple[str, ...]] = [
    ("backup", "{elsewhere}/copy.db"),
    ("export", "{elsewhere}/copy.jsonl"),
    ("send", "broadcast", "all", "早 🌅"),
    ("link",),
    ("user", "show", "alice"),
    ("user", "erase", "alice", "--yes"),
    ("group", "create", "tea", "--owner", "alice"),
    ("group", "members", "tea"),
    ("key", "list"),
    ("token", "rotate"),
    ("webhook", "list"),
    ("webhook", "create", "https://shop.example.org/群"),
]


@pytest.mark.parametrize("arguments", NEEDS_A_NODE, ids=lambda given: " ".join(given[:2]))
@pytest.mark.parametrize("there", [False, True], ids=["no folder", "an empty folder"])
def test_a_command_makes_no_node_of_a_mistyped_folder(
    folder_cli: CommandLine, tmp_path: Path, arguments: tuple[str, ...], there: bool
) -> None:
    """It is refused, names the folder in full, and leaves neither a folder nor a file."""
    elsewhere = tmp_path / "备份"
    elsewhere.mkdir()
    if there:
        folder_cli.folder.mkdir()
    error = folder_cli.refusal(*(part.format(elsewhere=elsewhere) for part in arguments))
    assert error["code"] == "not_found"
    assert f"there is no node in {folder_cli.folder.absolute()}" in error["detail"]
    assert not any(elsewhere.iterdir())
    assert folder_cli.folder.exists() is there
    assert not there or not any(folder_cli.folder.iterdir())


@pytest.mark.parametrize("arguments", [("key", "create", "店"), ("user", "create", "alice")])
def test_what_begins_a_node_may_make_its_folder(
    folder_cli: CommandLine, arguments: tuple[str, ...]
) -> None:
    """And says so, where it is new."""
    done = folder_cli.run(*arguments)
    assert done.code == 0
    assert f"Made the data folder {folder_cli.folder.absolute()}" in done.err


CONTROLS = ["\x1b]0;pwned\x07\x1b[2J 坏", "茶\n茶", "茶\n", "\x9b31m 红", "行\u2028行", "\x7f茶"]


@pytest.mark.parametrize("name", CONTROLS, ids=ascii)
def test_a_name_that_would_act_on_a_terminal_is_refused(cli: CommandLine, name: str) -> None:
    """At every door by which a name comes in; right-to-left and joined emoji are names."""
    cli("user", "create", "alice", "--name", "שלום 👩‍👩‍👧")
    for command in (
        ("user", "create", "alice", "--name", name),
        ("group", "create", "tea", "--owner", "alice", "--name", name),
        ("key", "create", name),
    ):
        assert cli.refusal(*command)["code"] == "invalid_request"
    assert cli("user", "show", "alice")["name"] == "שלום 👩‍👩‍👧"


async def test_an_embedded_engine_refuses_such_names_too(tmp_path: Path) -> None:
    """The rule is the engine's, not the gateways'."""
    async with qunxin.open(tmp_path / "chat.db") as chat:
        for name in CONTROLS:
            with pytest.raises(QunxinError) as refused:
                await chat.put_user("alice", name=name)
            assert refused.value.code == "invalid_request"


def test_what_is_written_is_its_owners_alone(data_folder: Path) -> None:
    """Folder 0700, files 0600, whatever the umask of the shell."""
    script = f"umask 000; exec '{sys.executable}' -m qunxin key create k --data \"$FOLDER\""
    subprocess.run(
        ["bash", "-c", script],
        env={**os.environ, "FOLDER": str(data_folder)},
        check=True,
        capture_output=True,
    )
    assert stat.S_IMODE(data_folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in data_folder.iterdir()} == {0o600}


@pytest.mark.parametrize(
    ("variables", "options", "says"),
    [
        ({"LANG": "zh_CN.UTF-8"}, (), "群组不存在"),
        ({"LANG": "C.UTF-8"}, (), "There is no such group"),
        ({"LANG": "zh_CN.UTF-8", "LC_ALL": "en_GB.UTF-8"}, (), "There is no such group"),
        ({"LANG": "C.UTF-8"}, ("--language", "zh"), "请先创建群组"),
    ],
)
def test_errors_speak_the_readers_language(
    folder_cli: CommandLine,
    monkeypatch: pytest.MonkeyPatch,
    variables: dict[str, str],
    options: tuple[str, ...],
    says: str,
) -> None:
    """As LANG and its stronger relatives say, or as asked."""
    for name in ("LC_ALL", "LC_MESSAGES", "LANG"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    folder_cli("user", "create", "alice")
    done = folder_cli.run("group", "show", "tea", *options)
    assert done.code == 1
    assert says in done.err
    assert "(group_not_found)" in done.err


@pytest.mark.parametrize(
    "arguments",
    [
        ("user", "crate", "alice"),
        ("send", "whisper", "tea", "你好"),
        ("group", "create", "tea"),
        ("serve", "--port", "八千"),
        ("serve", "--port", "70000"),
        ("serve", "--store", "postgresql://db/qunxin"),
    ],
)
def test_wrong_usage_ends_with_2(folder_cli: CommandLine, arguments: tuple[str, ...]) -> None:
    """A shell script can tell a mistake of its own from a refusal."""
    done = folder_cli.run(*arguments)
    assert done.code == 2
    assert done.err
    assert not folder_cli.folder.exists()


HELPED = [
    (),
    ("serve",),
    ("replay",),
    ("send",),
    ("history",),
    ("recall",),
    ("deliveries",),
    ("backup",),
    ("restore",),
    ("export",),
    ("import",),
    ("doctor",),
    ("systemd",),
    *(("user", n) for n in ("create", "list", "show", "suspend", "activate", "erase")),
    *(("user", n) for n in ("conversations", "sessions")),
    *(("group", n) for n in ("create", "list", "show", "rename", "members", "add", "remove")),
    *(("group", n) for n in ("role", "mute", "dissolve")),
    ("token", "create"),
    *(("key", n) for n in ("create", "list", "revoke")),
    *(("webhook", n) for n in ("create", "list", "show", "change", "pause", "resume")),
    *(("webhook", n) for n in ("rotate", "replay", "delete")),
]


@pytest.mark.parametrize("command", HELPED, ids=" ".join)
def test_help_shows_how(command: tuple[str, ...], folder_cli: CommandLine) -> None:
    """Every command's help has an example that begins with the command itself."""
    done = folder_cli.run(*command, "--help")
    assert done.code == 0
    assert re.search(r"\bqunxin " + " ".join(command), done.out.partition("\n")[2])


def test_the_module_and_the_command_say_their_version() -> None:
    """`--version` for bug reports."""
    assert re.fullmatch(r"qunxin \d+\.\d+\.\d+\S*\n", run_cli("--version").stdout)
