"""The page at `/`, as two people use it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from people import Node, Person
from playwright.sync_api import Page, expect

SignIn = Callable[..., Person]


def _tea(sign_in: SignIn) -> tuple[Person, Person]:
    """Alice and Bob, in Alice's group."""
    bob = sign_in("bob", "鲍勃 🧋")
    alice = sign_in("alice", "爱丽丝 🍵")
    alice.create_group("tea", "茶友会 🍵", "bob")
    expect(alice.page.locator(".talk h1")).to_have_text("茶友会 🍵")
    bob.open("茶友会 🍵")
    return alice, bob


def test_two_people_talk(sign_in: SignIn) -> None:
    """From a group to a removal: each step is seen on the other side, and what was recalled or
    said after the removal is not."""
    alice, bob = _tea(sign_in)
    alice.say("你好，鲍勃 👋🏽")
    bob.sees("你好，鲍勃 👋🏽")
    bob.say("مرحبا alice, two\nlines 👩‍👩‍👧")
    alice.sees("مرحبا alice, two")
    assert alice.texts() == ["你好，鲍勃 👋🏽", "مرحبا alice, two\nlines 👩‍👩‍👧"]
    alice.act("你好，鲍勃 👋🏽", "Who got it")
    ledger = alice.page.get_by_role("dialog")
    expect(ledger.get_by_role("button", name="Read")).to_contain_text("1")
    expect(ledger.locator("li")).to_contain_text("鲍勃 🧋")
    alice.page.keyboard.press("Escape")
    alice.act("你好，鲍勃 👋🏽", "Recall")
    alice.act("你好，鲍勃 👋🏽", "Recall for everyone?")
    bob.sees("爱丽丝 🍵 recalled a message")
    bob.sees_not("你好，鲍勃 👋🏽")
    alice.page.get_by_role("button", name="Members").click()
    members = alice.page.get_by_role("dialog")
    members.get_by_role("button", name="Remove 鲍勃 🧋").click()
    members.get_by_role("button", name="Remove 鲍勃 🧋").click()
    expect(members.locator("li")).to_have_count(1)
    alice.page.keyboard.press("Escape")
    expect(bob.page.locator(".closed")).to_contain_text("You were removed")
    expect(bob.draft).to_be_hidden()
    alice.say("Only for those who are left 🤫")
    alice.sees("Only for those who are left 🤫")
    bob.sees("removed \u2068鲍勃 🧋")
    bob.sees_not("Only for those who are left 🤫")


def test_the_first_link_makes_an_account(node: Node, new_page: Callable[..., Page]) -> None:
    """The one that `serve` prints: it leaves the address bar, works once, and the browser stays
    signed in over a reload, until its person signs out."""
    link = next(line.split()[-1] for line in node.server.log.splitlines() if "Sign in " in line)
    page = new_page()
    page.goto(link)
    assert page.url == f"{node.server.url}/"
    page.locator("input[name=name]").fill("小茶 🍵")
    page.locator("input[name=user]").fill("xiaocha")
    page.get_by_role("button", name="Sign in").click()
    expect(page.locator(".nothing").first).to_contain_text("No conversations yet")
    page.reload()
    expect(page.locator(".me")).to_contain_text("小茶 🍵")
    other = new_page()
    other.goto(link)
    other.locator("input[name=user]").fill("second")
    other.get_by_role("button", name="Sign in").click()
    expect(other.get_by_role("alert")).to_contain_text("used or is too old")
    page.get_by_role("button", name="Sign out").click()
    expect(page.locator("h1")).to_have_text("You are signed out")
    other.goto(node.server.url)
    expect(other.locator("code")).to_have_text("qunxin link alice")


def test_a_killed_server_costs_nothing(node: Node, sign_in: SignIn) -> None:
    """Killed while both write: the draft stays, what was sent meanwhile waits, survives a reload
    of the page, and arrives once, in order."""
    alice, bob = _tea(sign_in)
    alice.say("before 之前")
    bob.sees("before 之前")
    alice.draft.fill("half a thou")
    node.server.kill()
    expect(alice.page.locator(".state")).to_contain_text("what you write is kept")
    alice.draft.press_sequentially("ght 💭")
    bob.say("one 一")
    bob.say("two 二")
    expect(bob.message("two 二")).to_have_class(re.compile("waiting"))
    expect(alice.draft).to_have_value("half a thought 💭")
    node.server.start()
    alice.is_connected()
    for text in ("one 一", "two 二"):
        alice.sees(text)
        bob.sees(text)
    expect(alice.draft).to_have_value("half a thought 💭")
    alice.page.reload()
    expect(alice.draft).to_have_value("half a thought 💭")
    alice.draft.press("Enter")
    bob.sees("half a thought 💭")
    alice.sees("half a thought 💭")
    expect(alice.page.locator(".problem")).to_be_hidden()
    said = ["before 之前", "one 一", "two 二", "half a thought 💭"]
    assert node.texts("group:tea") == said
    assert bob.texts() == said


def test_what_waits_survives_a_reload(node: Node, sign_in: SignIn) -> None:
    """Sent without a server, the page closed, the server back, the page opened: it is sent."""
    alice, _ = _tea(sign_in)
    node.server.kill()
    alice.say("from before the reload 🕰️")
    expect(alice.message("from before the reload 🕰️")).to_have_class(re.compile("waiting"))
    alice.page.goto("about:blank")
    node.server.start()
    alice.page.goto(node.server.url)
    alice.is_connected()
    alice.open("茶友会 🍵")
    alice.sees("from before the reload 🕰️")
    assert node.texts("group:tea") == ["from before the reload 🕰️"]


def test_refusals_come_in_words_with_what_to_do(node: Node, sign_in: SignIn) -> None:
    """In Chinese: 部分成员不可达 can be sent to the others; 群组已解散 cannot be sent at all."""
    alice = sign_in("alice", "爱丽丝", locale="zh-CN")
    for user in ("bob", "carol"):
        node.api("PUT", f"/v1/users/{user}", {"name": f"{user} 🧋"})
    group = {"name": "严格", "owner": "alice", "members": ["bob", "carol"], "require": "all"}
    node.api("PUT", "/v1/groups/strict", group)
    node.api("PUT", "/v1/users/carol", {"state": "suspended"})
    alice.open("严格")
    alice.say("到齐了吗？")
    refusal = alice.log.get_by_role("alert")
    expect(refusal).to_contain_text("部分成员不可达（3 人中有 1 人）")
    assert node.texts("group:strict") == []
    refusal.get_by_role("button", name="只发给可达成员").click()
    alice.sees("到齐了吗？")
    partial = alice.message("到齐了吗？").get_by_role(
        "button", name="部分成员不可达（3 人中 1 人）"
    )
    partial.click()
    expect(alice.page.get_by_role("dialog")).to_contain_text("已停用")
    alice.page.keyboard.press("Escape")
    node.server.kill()
    alice.say("还在吗？")
    alice.page.context.set_offline(True)
    node.server.start()
    node.api("DELETE", "/v1/groups/strict")
    alice.page.context.set_offline(False)
    expect(alice.log.get_by_role("alert")).to_contain_text("群组已解散")
    expect(alice.page.locator(".closed")).to_have_text("群组已解散。")
    alice.log.get_by_role("button", name="放弃").click()
    alice.sees_not("还在吗？")
    assert node.texts("group:strict") == ["到齐了吗？"]


def test_nothing_that_anybody_writes_becomes_markup(node: Node, sign_in: SignIn) -> None:
    """Scripts and markup through every field that another user or the address can fill."""
    evil = '<img src=x onerror="window.hit=1"><script>window.hit=1</script>\'"`${1}</textarea>'
    mallory = sign_in("mallory", f"M {evil}")
    alice = sign_in("alice", f"A {evil}")
    group = {"name": f"G {evil}", "owner": "mallory", "members": ["alice"]}
    node.api("PUT", "/v1/groups/evil", group)
    parts: list[dict[str, Any]] = [
        {"type": "text", "text": evil},
        {"type": "mention", "user": "alice"},
        {"type": "image", "url": "javascript:window.hit=1", "name": evil},
        {"type": "image", "url": "https://evil.example/x.png"},
        {"type": "file", "url": 'data:text/html,<script>"1"</script>', "name": evil},
        {"type": "custom", "name": evil, "data": {"__proto__": evil, "html": evil}},
    ]
    sent = {"type": "group", "to": "evil", "from": "mallory", "content": parts}
    node.api("POST", "/v1/messages", sent)
    alice.open(f"G {evil}")
    _harmless(alice, mallory)
    bubble = alice.page.locator(".bubble")
    expect(bubble).to_contain_text(evil)
    assert bubble.locator("a").evaluate_all("a => a.map(x => x.href)") == [
        "https://evil.example/x.png"
    ]
    mallory.open(f"G {evil}")
    mallory.say(f"{evil} {evil}")
    alice.sees(f"{evil} {evil}")
    _harmless(alice, mallory)
    mallory.act(f"{evil} {evil}", "Who got it")
    expect(mallory.page.get_by_role("dialog")).to_contain_text(f"A {evil}")
    _harmless(alice, mallory)
    mallory.page.keyboard.press("Escape")
    for person, other in ((alice, "M"), (mallory, "A")):
        person.page.get_by_role("button", name="Members").click()
        expect(person.page.get_by_role("dialog")).to_contain_text(f"{other} {evil}")
        _harmless(alice, mallory)
        person.page.keyboard.press("Escape")
        person.page.locator(".side .bar button").click()
        form = person.page.get_by_role("dialog")
        form.get_by_role("button", name="Person").click()
        spoilt = "(e, v) => { e.pattern = '.*'; e.value = v }"
        form.locator("input[name=user]").evaluate(spoilt, evil)
        form.locator("form:not([hidden]) .main").click()
        expect(form.get_by_role("alert")).to_be_visible()
        _harmless(alice, mallory)
        person.page.keyboard.press("Escape")
    for person in (alice, mallory):
        person.page.goto(f"{node.server.url}/#group:<img src=x onerror=window.hit=1>")
        expect(person.page.locator(".talk")).to_contain_text("There is no such conversation")
        _harmless(alice, mallory)


def _harmless(*people: Person) -> None:
    """At this moment: nothing ran, nothing became an element, and the browser has nothing to
    complain of, such as what its policy forbade."""
    made = "body img:not(.mark), body script, body iframe, body style, [onerror], [style]"
    for person in people:
        assert person.page.evaluate("window.hit") is None
        assert person.page.locator(made).count() == 0
        assert person.complaints == []


def test_a_full_browser_storage_loses_no_draft(sign_in: SignIn) -> None:
    """What cannot be kept is not sent, stays where it was written, and is told of in words."""
    alice, _ = _tea(sign_in)
    alice.page.evaluate("""() => {
      let text = "满".repeat(1_000_000);
      for (let n = 0; text; n += 1) {
        try { localStorage.setItem(`rest ${n}`, text); }
        catch { text = text.slice(text.length / 2 + 1); }
      }
    }""")
    alice.draft.fill("no room for this 📦" * 20)
    alice.draft.press("Enter")
    expect(alice.page.locator(".problem")).to_contain_text("That did not work")
    expect(alice.draft).to_have_value("no room for this 📦" * 20)
    alice.page.evaluate("localStorage.clear()")
    alice.draft.press("Enter")
    alice.sees("no room for this 📦" * 20)


LIMIT = 65_536


def _size(text: str) -> int:
    """In bytes, as the node counts a message of this text."""
    content = [{"type": "text", "text": text}]
    return len(json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode())


def test_a_long_text_is_told_and_never_cut(node: Node, sign_in: SignIn) -> None:
    """Counted in bytes as the node counts, quotes and line breaks too: over by one it is not sent
    and stays; exactly at the limit it arrives whole."""
    alice, bob = _tea(sign_in)
    text = '满"\t' * 9_000 + "\n🍵\n"
    text += "x" * (LIMIT - _size(text))
    alice.draft.fill(text + "满" * 500)
    over = alice.page.locator(".over")
    expect(over).to_contain_text("Too long by 1,500 bytes: a message holds 65,536")
    alice.draft.press("Enter")
    expect(alice.draft).to_have_value(text + "满" * 500)
    alice.draft.fill(text + "x")
    expect(over).to_contain_text("by 1 bytes")
    expect(alice.page.get_by_role("button", name="Send")).to_be_disabled()
    alice.draft.fill(text)
    expect(over).to_be_hidden()
    alice.draft.press("Enter")
    expect(alice.draft).to_have_value("")
    expect(bob.page.locator(".bubble")).to_be_visible()
    assert node.texts("group:tea") == [text]
    assert bob.texts() == [text]


def test_what_was_refused_as_too_large_can_be_edited(node: Node, sign_in: SignIn) -> None:
    """The node has come back with a lower limit: "Edit" puts the text before the draft, whole."""
    alice, _ = _tea(sign_in)
    node.server.stop()
    text = "长" * 1_000
    alice.say(text)
    alice.draft.fill("下一句 ✍️")
    node.server.start("--max-message-bytes", "2000")
    refusal = alice.log.get_by_role("alert")
    expect(refusal).to_contain_text("Make it shorter")
    expect(refusal.get_by_role("button", name="Try again")).to_have_count(0)
    refusal.get_by_role("button", name="Edit").click()
    expect(alice.draft).to_have_value(f"{text}\n下一句 ✍️")
    expect(alice.page.locator(".over")).to_contain_text("a message holds 2,000")
    alice.sees_not(text)
    alice.page.reload()
    expect(alice.draft).to_have_value(f"{text}\n下一句 ✍️")
    alice.draft.fill("短 ✂️")
    alice.draft.press("Enter")
    alice.sees("短 ✂️")


def test_addresses_that_name_no_conversation(node: Node, sign_in: SignIn) -> None:
    """They are told of in words, at the start too, and the list is there; a link that is pasted
    into the open page is taken."""
    alice, bob = _tea(sign_in)
    node.api("POST", "/v1/messages", {"type": "group", "to": "tea", "from": "bob", "text": "早 ☀️"})
    for address in ("#100%", "#tea", "#group:", "#private:a", "#群"):
        alice.page.goto(f"{node.server.url}/{address}")
        alice.page.reload()
        expect(alice.page.locator(".talk")).to_contain_text("There is no such conversation")
        expect(alice.page.locator(".list .last")).to_contain_text("早 ☀️")
    alice.page.get_by_role("button", name="Back to the conversations").click()
    expect(alice.page.locator(".talk")).to_contain_text("Choose a conversation")
    alice.open("茶友会 🍵")
    bob.page.goto(node.cli("link", "alice")["link"])
    expect(bob.page.locator(".card h1")).to_have_text("Sign in as alice")


def test_tabs_share_a_conversations_draft(node: Node, sign_in: SignIn) -> None:
    """One person has one draft in one conversation: what is written in a tab stands in the other,
    before and after a reload, and is gone from both when it is sent."""
    alice, bob = _tea(sign_in)
    second = Person(alice.page.context.new_page(), "alice")
    second.page.goto(alice.page.url)
    expect(second.page.locator(".talk h1")).to_have_text("茶友会 🍵")
    alice.draft.fill("第一 ①")
    expect(second.draft).to_have_value("第一 ①")
    second.draft.press_sequentially(" then ②")
    expect(alice.draft).to_have_value("第一 ① then ②")
    alice.page.reload()
    expect(alice.draft).to_have_value("第一 ① then ②")
    alice.draft.press("Enter")
    bob.sees("第一 ① then ②")
    for tab in (alice, second):
        expect(tab.draft).to_have_value("")
    assert second.complaints == []
    assert node.texts("group:tea") == ["第一 ① then ②"]


def test_more_conversations_than_a_connection_brings(node: Node, sign_in: SignIn) -> None:
    """The list has them all, and an old one opens and is live."""
    for n in range(210):
        group = {"name": f"组 {n}", "owner": "alice"}
        if n == 0:
            node.api("PUT", "/v1/users/alice", {})
        node.api("PUT", f"/v1/groups/many-{n}", group)
    alice = sign_in("alice")
    expect(alice.page.locator(".list button")).to_have_count(210)
    alice.open("组 0")
    alice.say("还在 👴")
    alice.sees("还在 👴")


def test_with_the_keyboard_alone(sign_in: SignIn) -> None:
    """Open, write, reach a message's buttons, close a dialog and be back where one was."""
    alice, bob = _tea(sign_in)
    keyboard = bob.page.keyboard
    bob.page.locator(".list button").focus()
    keyboard.press("Enter")
    bob.draft.focus()
    keyboard.type("first line")
    keyboard.press("Shift+Enter")
    keyboard.type("第二行")
    keyboard.press("Enter")
    alice.sees("第二行")
    bob.message("第二行").get_by_role("button", name="Who got it").focus()
    keyboard.press("Enter")
    expect(bob.page.get_by_role("dialog")).to_be_visible()
    keyboard.press("Escape")
    expect(bob.page.get_by_role("dialog")).to_have_count(0)
    focused = bob.page.evaluate("document.activeElement.textContent")
    assert focused == "Who got it"


def test_on_a_phone_nothing_sticks_out(node: Node, sign_in: SignIn) -> None:
    """At 320 pixels, in Chinese and dark: one pane at a time, and back; long words wrap."""
    phone = {"viewport": {"width": 320, "height": 640}, "has_touch": True, "is_mobile": True}
    alice = sign_in("alice", "爱" * 60, locale="zh-CN", color_scheme="dark", **phone)
    node.api("PUT", "/v1/users/bob", {"name": "b" * 120})
    group = {"name": "长" * 150, "owner": "bob", "members": ["alice"]}
    node.api("PUT", "/v1/groups/long", group)
    sent = {"type": "group", "to": "long", "from": "bob", "text": "w" * 2000}
    node.api("POST", "/v1/messages", sent)
    expect(alice.page.locator(".badge")).to_have_text("1")
    assert _sticks_out(alice.page) == 0
    alice.page.locator(".list button").click()
    expect(alice.page.locator(".bubble")).to_be_visible()
    expect(alice.page.locator(".side")).to_be_hidden()
    assert _sticks_out(alice.page) == 0
    alice.page.get_by_role("button", name="成员").click()
    assert _sticks_out(alice.page) == 0
    alice.page.keyboard.press("Escape")
    alice.page.get_by_role("button", name="返回会话列表").click()
    expect(alice.page.locator(".list")).to_be_visible()
    expect(alice.page.locator(".badge")).to_have_count(0)
    background = alice.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert background == "rgb(23, 21, 19)"


def _sticks_out(page: Page) -> int:
    width: int = page.evaluate("document.scrollingElement.scrollWidth - innerWidth")
    return max(0, width)
