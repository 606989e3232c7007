"""Connections that are lost or ended, and people who sign out."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from people import Node, Person
from playwright.sync_api import Page, expect

SignIn = Callable[..., Person]

PHONE: dict[str, Any] = {
    "viewport": {"width": 390, "height": 780},
    "has_touch": True,
    "is_mobile": True,
}
OUT = "You are signed out"


def _tea(node: Node, sign_in: SignIn, **profile: Any) -> Person:
    """Alice, with her group open."""
    alice = sign_in("alice", "爱丽丝 🍵", **profile)
    node.api("PUT", "/v1/groups/tea", {"name": "茶友会 🍵", "owner": "alice"})
    alice.open("茶友会 🍵")
    return alice


def _stands_above_the_log(alice: Person) -> None:
    state, log = (alice.page.locator(at).bounding_box() for at in (".state", ".scroll"))
    assert state is not None
    assert log is not None
    assert 0 < state["height"] < 160
    assert state["y"] + state["height"] <= log["y"]


def test_a_lost_connection_is_told_in_a_conversation_on_a_phone(
    node: Node, sign_in: SignIn
) -> None:
    """Above what is read, until it is back."""
    alice = _tea(node, sign_in, **PHONE)
    expect(alice.page.locator(".side")).to_be_hidden()
    node.server.kill()
    expect(alice.page.get_by_role("status").first).to_contain_text("what you write is kept")
    _stands_above_the_log(alice)
    alice.say("等一下 ⏳")
    expect(alice.message("等一下 ⏳")).to_contain_text("Waits for the connection")
    node.server.start()
    alice.sees("等一下 ⏳")
    expect(alice.page.locator(".state")).to_be_hidden()


@pytest.mark.parametrize("live", [True, False], ids=["connected", "away"])
@pytest.mark.parametrize("cause", ["suspended", "revoked"])
def test_an_ended_connection_says_so_and_how_to_come_back(
    node: Node, sign_in: SignIn, cause: str, live: bool
) -> None:
    """On a phone, whether the end comes live or is met on coming back: the reason in words, no
    form, nothing that waits; what was written is there again after signing in."""
    alice = _tea(node, sign_in, **PHONE)
    alice.draft.fill("写到一半 ✍️")
    if not live:
        alice.page.context.set_offline(True)
        node.server.kill()
        node.server.start()
        expect(alice.page.locator(".state")).to_contain_text("No connection")
        alice.say("还没发 📮")
        alice.draft.fill("写到一半 ✍️")
    _end(node, cause)
    alice.page.context.set_offline(False)
    reason = "This account is suspended" if cause == "suspended" else "You have been signed out"
    expect(alice.page.locator(".state")).to_contain_text(reason)
    _stands_above_the_log(alice)
    expect(alice.draft).to_be_hidden()
    expect(alice.page.locator(".closed")).to_contain_text("until you sign in again")
    expect(alice.page.locator("body")).not_to_contain_text("Waits for the connection")
    if not live:
        expect(alice.message("还没发 📮")).to_contain_text("Kept until you sign in again")
        alice.complained("403" if cause == "suspended" else "401")
    alice.page.get_by_role("button", name="Sign in again").click()
    expect(alice.page.locator(".card h1")).to_have_text(OUT)
    expect(alice.page.get_by_role("alert")).to_contain_text(reason)
    alice.complained("403" if cause == "suspended" else "401")
    _come_back(node, alice, cause)
    expect(alice.draft).to_have_value("写到一半 ✍️")
    if not live:
        alice.sees("还没发 📮")


def _end(node: Node, cause: str) -> None:
    if cause == "suspended":
        node.api("PUT", "/v1/users/alice", {"state": "suspended"})
    else:
        node.cli("token", "revoke", "alice")


def _come_back(node: Node, alice: Person, cause: str) -> None:
    if cause == "suspended":
        node.api("PUT", "/v1/users/alice", {"state": "active"})
        alice.page.get_by_role("button", name="Try again").click()
        expect(alice.page.locator(".talk h1")).to_have_text("茶友会 🍵")
    else:
        alice.page.goto(node.cli("link", "alice")["link"])
        alice.page.get_by_role("button", name="Sign in").click()
        alice.open("茶友会 🍵")


def test_signing_out_ends_every_tab_and_token(node: Node, sign_in: SignIn) -> None:
    """The other tab leaves too, its token is refused, no session is left, and the browser keeps
    nothing of what was written or where one was."""
    alice = sign_in("alice", "爱丽丝 🍵")
    other = alice.page.context.new_page()
    with other.expect_response("**/session/token") as answered:
        other.goto(node.server.url)
    token = answered.value.json()["token"]
    node.api("PUT", "/v1/groups/tea", {"name": "茶友会 🍵", "owner": "alice"})
    for page in (alice.page, other):
        page.locator(".list button").click()
        expect(page.locator(".talk h1")).to_have_text("茶友会 🍵")
    assert len(node.api("GET", "/v1/users/alice/sessions")["sessions"]) == 2
    assert _kept(alice.page)
    alice.page.get_by_role("button", name="Sign out").click()
    for page in (alice.page, other):
        expect(page.locator(".card h1")).to_have_text(OUT)
        assert "tea" not in page.url
    assert node.api("GET", "/v1/users/alice/sessions")["sessions"] == []
    with node.server.client(token) as thief:
        refused = thief.get("/v1/users/alice")
    assert (refused.status_code, refused.json()["code"]) == (401, "token_revoked")
    assert _kept(alice.page) == []


def _kept(page: Page) -> list[str]:
    found: list[str] = page.evaluate("Object.keys(localStorage)")
    return [name for name in found if "alice" in name]


def test_signing_out_asks_where_something_would_be_lost(node: Node, sign_in: SignIn) -> None:
    """A draft and a refused message: stay, and they are there; go, and they are deleted."""
    alice = _tea(node, sign_in)
    node.api("PUT", "/v1/groups/tea", {"muted": True})
    node.api("PUT", "/v1/users/bob", {"name": "鲍勃 🧋"})
    node.api("POST", "/v1/groups/tea/members", {"users": ["bob"]})
    node.api("PATCH", "/v1/groups/tea/members/bob", {"role": "owner"})
    node.api("PATCH", "/v1/groups/tea/members/alice", {"role": "member"})
    alice.say("没人收到 🙊")
    expect(alice.log.get_by_role("alert")).to_be_visible()
    alice.draft.fill("草稿 🗒️")
    alice.page.get_by_role("button", name="Sign out").click()
    dialog = alice.page.get_by_role("dialog")
    expect(dialog).to_contain_text("have not been sent: 2")
    dialog.get_by_role("button", name="Stay signed in").click()
    expect(alice.draft).to_have_value("草稿 🗒️")
    alice.say("还在")
    alice.draft.fill("草稿 🗒️")
    alice.page.get_by_role("button", name="Sign out").click()
    expect(dialog).to_contain_text("have not been sent: 3")
    dialog.get_by_role("button", name="Sign out and delete them").click()
    expect(alice.page.locator(".card h1")).to_have_text(OUT)
    assert _kept(alice.page) == []
    alice.page.reload()
    expect(alice.page.locator(".card h1")).to_have_text(OUT)
    assert "草稿" not in str(alice.page.evaluate("JSON.stringify(localStorage)"))


def test_signing_out_waits_until_the_page_knows_whom(node: Node, sign_in: SignIn) -> None:
    """Before the first token nobody can say whose drafts are to be deleted: the button comes with
    it, and leaves nothing behind."""
    alice = _tea(node, sign_in)
    alice.draft.fill("草稿 🗒️")
    alice.page.route("**/session/token", lambda route: route.abort())
    alice.page.reload()
    expect(alice.page.locator(".state")).to_contain_text("No connection")
    button = alice.page.get_by_role("button", name="Sign out")
    expect(button).to_have_count(0)
    alice.page.unroute("**/session/token")
    expect(button).to_be_visible()
    button.click()
    alice.page.get_by_role("button", name="Sign out and delete them").click()
    expect(alice.page.locator(".card h1")).to_have_text(OUT)
    assert _kept(alice.page) == []
    alice.complained("ERR_FAILED")


def test_promise_7_a_preview_that_was_recalled_meanwhile_is_gone(
    node: Node, sign_in: SignIn
) -> None:
    """From the list too, where so much was missed that it has to be read again."""
    alice = sign_in("alice", "爱丽丝 🍵")
    node.api("PUT", "/v1/users/bob", {"name": "鲍勃 🧋"})
    node.api("PUT", "/v1/groups/tea", {"name": "茶友会 🍵", "owner": "bob", "members": ["alice"]})
    message = {"type": "group", "to": "tea", "from": "bob", "text": "秘密 🤐"}
    position = node.api("POST", "/v1/messages", message)["position"]
    last = alice.page.locator(".list .last")
    expect(last).to_contain_text("秘密 🤐")
    alice.page.context.set_offline(True)
    node.server.kill()
    node.server.start("--recovery-budget-entries", "0")
    path = f"/v1/conversations/group:tea/entries/{position}/recall"
    node.api("POST", path, {"from": "bob"})
    alice.page.context.set_offline(False)
    alice.is_connected()
    expect(last).to_contain_text("recalled")
    expect(alice.page.locator("body")).not_to_contain_text("秘密")


def test_signing_out_without_a_server_says_what_holds(node: Node, sign_in: SignIn) -> None:
    """In words, with nothing deleted; when it is back, the same button does it."""
    alice = _tea(node, sign_in)
    node.server.kill()
    expect(alice.page.locator(".state")).to_be_visible()
    alice.page.get_by_role("button", name="Sign out").click()
    dialog = alice.page.get_by_role("dialog")
    expect(dialog.get_by_role("alert")).to_contain_text("this browser stays signed in")
    assert _kept(alice.page)
    node.server.start()
    dialog.get_by_role("button", name="Sign out").click()
    expect(alice.page.locator(".card h1")).to_have_text(OUT)
    assert _kept(alice.page) == []
    with httpx.Client(base_url=node.server.url) as outside:
        assert outside.get("/health/ready").status_code == 200


def test_a_first_visit_is_no_error(node: Node, new_page: Callable[..., Page]) -> None:
    """Whoever has no session is told how to get one, and the browser has nothing to log."""
    page = new_page(locale="zh-CN")
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(node.server.url)
    expect(page.locator("h1")).to_have_text("您尚未登录")
    expect(page.locator("body")).not_to_contain_text("undefined")
    assert said == []


def test_the_next_person_in_a_browser(node: Node, sign_in: SignIn) -> None:
    """Whoever was signed in there is out, in every tab, and is told."""
    alice = _tea(node, sign_in)
    node.api("PUT", "/v1/users/bob", {"name": "鲍勃 🧋"})
    tab = alice.page.context.new_page()
    tab.goto(node.cli("link", "bob")["link"])
    tab.locator("main .main").click()
    expect(tab.locator(".me")).to_contain_text("鲍勃 🧋")
    expect(alice.page.locator(".state")).to_contain_text(re.compile("signed out"))
    expect(alice.draft).to_be_hidden()
    alice.page.get_by_role("button", name="Sign in again").click()
    expect(alice.page.locator(".me")).to_contain_text("鲍勃 🧋")
