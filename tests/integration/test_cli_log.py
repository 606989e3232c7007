"""Commands that list accounts and groups, and that read a conversation, recall and the ledger."""

from __future__ import annotations

import pytest

from command_line import CommandLine
from serving import ServerProcess


def test_users_and_groups_are_listed(cli: CommandLine) -> None:
    """Oldest first, up to a limit, over pages; without what is erased or dissolved."""
    cli("user", "create", "alice", "--name", "爱丽丝 🍵")
    assert cli("group", "list") == {"groups": []}
    for user in ("bob", "carol"):
        cli("user", "create", user)
    for group in ("tea", "rice"):
        cli("group", "create", group, "bob", "--owner", "alice")
    cli("user", "erase", "carol", "--yes")
    cli("user", "suspend", "bob")
    cli("group", "dissolve", "rice", "--yes")
    users = cli("user", "list")["users"]
    assert [(one["user"], one["state"]) for one in users] == [
        ("alice", "active"),
        ("bob", "suspended"),
    ]
    assert [one["user"] for one in cli("user", "list", "--limit", "1")["users"]] == ["alice"]
    assert [one["group"] for one in cli("group", "list")["groups"]] == ["tea"]
    shown = cli.run("user", "list").out
    assert "爱丽丝 🍵" in shown


def test_a_list_that_is_empty_says_so(folder_cli: CommandLine) -> None:
    """For people as for programs."""
    folder_cli("key", "create", "店")
    for kind in ("user", "group"):
        assert folder_cli(kind, "list") == {f"{kind}s": []}
        done = folder_cli.run(kind, "list")
        assert (done.code, done.out) == (0, "")
        assert "There are none." in done.err


def test_a_group_is_renamed(cli: CommandLine) -> None:
    """By its name for people; a group that is not there is not made."""
    cli.fill([])
    assert cli("group", "rename", "tea", "茶友会 🍵")["name"] == "茶友会 🍵"
    assert cli("group", "show", "tea")["name"] == "茶友会 🍵"
    assert cli.refusal("group", "rename", "none", "无")["code"] == "group_not_found"
    assert [one["group"] for one in cli("group", "list")["groups"]] == ["tea"]


def test_a_conversation_is_read(cli: CommandLine) -> None:
    """Messages and events, the newest by default, older and newer ones by position."""
    cli.fill(["一 🌅", "二\n两行 \x1b[2J", "三 مرحبا"])
    page = cli("history", "group:tea")
    assert [entry["position"] for entry in page["entries"]] == [1, 2, 3, 4]
    assert page["entries"][2]["content"][0]["text"] == "二\n两行 \x1b[2J"
    newest = cli("history", "group:tea", "--limit", "2")["entries"]
    assert [entry["position"] for entry in newest] == [3, 4]
    older = cli("history", "group:tea", "--before", "3")["entries"]
    assert [entry["position"] for entry in older] == [1, 2]
    newer = cli("history", "group:tea", "--after", "3")["entries"]
    assert [entry["position"] for entry in newer] == [4]
    shown = cli.run("history", "group:tea", "--limit", "2").out
    assert r"二\n两行 \x1b[2J" in shown
    assert "\u2068三 مرحبا\u2069" in shown
    assert "Earlier ones: --before 3" in shown
    assert (
        "Later ones: --after 1"
        in cli.run("history", "group:tea", "--after", "0", "--limit", "1").out
    )
    assert "Earlier" not in cli.run("history", "group:tea").out
    for name, code in (("group:none", "group_not_found"), ("茶", "invalid_request")):
        assert cli.refusal("history", name)["code"] == code


def test_a_message_is_recalled(cli: CommandLine) -> None:
    """By its author or by the operator, by nobody else; then the history shows that it was."""
    cli.fill(["说错了 🙈", "又错了 🙈"])
    assert cli.refusal("recall", "group:tea", "2", "--from", "bob")["code"] == "forbidden"
    assert cli("recall", "group:tea", "2", "--from", "alice")["duplicate"] is False
    assert cli("recall", "group:tea", "2")["duplicate"] is True
    done = cli.run("recall", "group:tea", "3")
    assert "The message group:tea 3 is recalled." in done.out
    shown = cli.run("history", "group:tea").out
    assert "错了" not in shown
    assert "(recalled at 4)" in shown
    assert cli.refusal("recall", "group:tea", "9")["code"] == "entry_not_found"


def test_the_ledger_is_shown(cli: CommandLine) -> None:
    """Counts of all, and names: by state, up to a limit."""
    cli.fill(["早 🌅"])
    cli("user", "create", "carol")
    cli("group", "add", "tea", "carol")
    cli("user", "suspend", "carol")
    cli("send", "group", "tea", "午 ☀️", "--from", "alice")
    ledger = cli("deliveries", "group:tea", "4")
    assert ledger["counts"] == {"queued": 1, "delivered": 0, "read": 0, "unreachable": 1}
    assert [(row["user"], row["state"]) for row in ledger["deliveries"]] == [
        ("bob", "queued"),
        ("carol", "unreachable"),
    ]
    only = cli("deliveries", "group:tea", "4", "--state", "unreachable")
    assert [row["user"] for row in only["deliveries"]] == ["carol"]
    assert only["counts"] == ledger["counts"]
    assert len(cli("deliveries", "group:tea", "4", "--limit", "1")["deliveries"]) == 1
    assert (
        "queued 1, delivered 0, read 0, unreachable 1"
        in cli.run("deliveries", "group:tea", "4").out
    )
    assert cli.refusal("deliveries", "group:tea", "99")["code"] == "entry_not_found"
    cli("recall", "group:tea", "4")
    assert "Recalled at 5" in cli.run("deliveries", "group:tea", "4").out


@pytest.mark.parametrize("per_page", [1, 2, 3])
def test_the_ledger_is_read_page_by_page(
    folder_cli: CommandLine, monkeypatch: pytest.MonkeyPatch, per_page: int
) -> None:
    """Whatever a page holds: everybody once, up to the limit, with the counts of the first."""
    for module in ("qunxin.control", "qunxin.cli.deliveries"):
        monkeypatch.setattr(f"{module}.MAX_PAGE", per_page)
    folder_cli.fill([])
    others = ["carol", "dave", "erin"]
    for user in others:
        folder_cli("user", "create", user)
    folder_cli("group", "add", "tea", *others)
    folder_cli("send", "group", "tea", "早 🌅", "--from", "alice")
    for limit in (1, 2, 3, 4, 5):
        ledger = folder_cli("deliveries", "group:tea", "3", "--limit", str(limit))
        assert ledger["counts"] == {"queued": 4, "delivered": 0, "read": 0, "unreachable": 0}
        assert [row["user"] for row in ledger["deliveries"]] == ["bob", *others][:limit]


def test_lists_are_for_keys_with_their_scope(
    server: ServerProcess, folder_cli: CommandLine
) -> None:
    """Over HTTP: no user's own token, no key without the scope; pages by a cursor."""
    folder_cli.fill([])
    token = folder_cli("token", "create", "alice")["token"]
    reader = folder_cli("key", "create", "只读", "--scope", "read")["key"]
    for path in ("/v1/users", "/v1/groups"):
        for secret in (token, reader):
            with server.client(secret) as client:
                refused = client.get(path)
                assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
    with server.client() as client:
        page = client.get("/v1/users", params={"limit": 1}).json()
        assert [one["user"] for one in page["users"]] == ["alice"]
        page = client.get("/v1/users", params={"cursor": page["next_cursor"]}).json()
        assert ([one["user"] for one in page["users"]], page["next_cursor"]) == (["bob"], None)
        assert client.get("/v1/groups", params={"cursor": "茶"}).json()["code"] == "invalid_request"
