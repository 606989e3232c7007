"""The module for browsers, `/qunxin.js`, by itself: what it promises to applications."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from people import Node
from playwright.sync_api import Page

from serving import ServerProcess

KILLS = 4
MESSAGES = 120

_START = """async ({ language }) => {
  const { Chat } = await import("/qunxin.js");
  const getToken = () => fetchToken();
  const chat = (window.chat = new Chat({ getToken, language }));
  window.seen = [];
  window.told = [];
  chat.addEventListener("entry", ({ detail }) => {
    if (detail.conversation.startsWith("inbox:")) return;
    seen.push(structuredClone([detail.conversation, detail.entry]));
  });
  chat.addEventListener("reload", ({ detail }) => told.push(detail.conversation));
  chat.start();
}"""


@pytest.fixture
def server_options() -> tuple[str, ...]:
    """Settings of the test's server; a test may have its own."""
    return ()


@pytest.fixture
def server(data_folder: Path, server_options: tuple[str, ...]) -> Iterator[ServerProcess]:
    with ServerProcess(data_folder, *server_options) as process:
        yield process


class App:
    """An application in a browser, for one user."""

    def __init__(self, page: Page, node: Node, user: str, ttl_seconds: int = 3600) -> None:
        self.page = page
        self._node = node
        self.user = user
        self.ttl_seconds = ttl_seconds
        self.tokens = 0
        page.expose_function("fetchToken", self._fetch_token)
        self.start()

    def start(self) -> None:
        """Open the page, or open it again, and start the module there."""
        self.page.goto(self._node.server.url)
        self.page.evaluate(_START, {"language": "zh"})

    def _fetch_token(self) -> str:
        self.tokens += 1
        asked = {"user": self.user, "ttl_seconds": self.ttl_seconds}
        return str(self._node.api("POST", "/v1/tokens", asked)["token"])

    def do(self, script: str, argument: Any = None) -> Any:
        return self.page.evaluate(script, argument)

    def until(self, script: str) -> None:
        """Wait for `script` to hold; looked at from outside, since the page's policy forbids
        text to become script inside."""
        for _ in range(300):
            if self.do(script):
                return
            self.page.wait_for_timeout(50)
        raise AssertionError(f"never: {script}; {self.do('[chat.state, chat.end]')}")

    def connected(self) -> None:
        self.until("window.chat?.state === 'connected'")

    def seen(self) -> list[Any]:
        found: list[Any] = self.do("window.seen")
        return found


StartApp = Callable[..., App]


@pytest.fixture
def start_app(node: Node, new_page: Callable[..., Page]) -> Iterator[StartApp]:
    def start_app(user: str, **options: Any) -> App:
        node.api("PUT", f"/v1/users/{user}", {})
        app = App(new_page(), node, user, **options)
        app.connected()
        return app

    yield start_app  # noqa: PT022 - the pages are closed by their own fixture


def _positions(app: App, conversation: str) -> list[int]:
    """Every position that the application was given, those in hidden ranges included."""
    found: list[int] = []
    for name, entry in app.seen():
        if name == conversation:
            found += range(entry.get("first", entry["position"]), entry["position"] + 1)
    return found


def test_each_message_once_in_order_through_kills_and_reloads(
    node: Node, start_app: StartApp
) -> None:
    """The server is killed again and again and the sender's page reloaded while it sends: every
    message is in the log once, in order, and the other side was given each position once."""
    bob, alice = start_app("bob"), start_app("alice")
    node.api("PUT", "/v1/groups/tea", {"owner": "alice", "members": ["bob"]})
    size = MESSAGES // KILLS
    for turn in range(KILLS):
        texts = [f"{turn * size + n} 🍵 消息" for n in range(size)]
        send = "texts => texts.forEach(text => { chat.send({ type: 'group', to: 'tea', text }) })"
        alice.do(send, texts)
        node.server.kill()
        if turn % 2:
            node.server.start()
            alice.start()
        else:
            node.server.start()
    alice.until("chat.state === 'connected' && chat.outbox.size === 0")
    expected = [f"{n} 🍵 消息" for n in range(MESSAGES)]
    assert node.texts("group:tea") == expected
    bob.until(f"seen.filter(([name]) => name === 'group:tea').length >= {MESSAGES + 1}")
    assert _positions(bob, "group:tea") == list(range(1, MESSAGES + 2))
    assert bob.do("told") == []
    assert bob.do("Object.keys(localStorage).filter(name => name.includes(':out:'))") == []


def test_a_reloaded_application_goes_on_where_it_was(node: Node, start_app: StartApp) -> None:
    """Positions outlast a reload; what came meanwhile comes once, what was seen does not."""
    bob = start_app("bob")
    node.api("PUT", "/v1/users/alice", {})
    node.api("PUT", "/v1/groups/tea", {"owner": "alice", "members": ["bob"]})
    _say(node, "一", "二")
    bob.until("seen.length === 3")
    bob.page.goto("about:blank")
    _say(node, "三")
    bob.start()
    bob.until("seen.length >= 1")
    assert _positions(bob, "group:tea") == [4]
    node.api("DELETE", "/v1/groups/tea/members/bob?from=alice")
    _say(node, "not for bob 🙈")
    node.api("POST", "/v1/groups/tea/members", {"users": ["bob"]})
    _say(node, "四")
    bob.until("seen.length >= 5")
    assert _positions(bob, "group:tea") == [4, 5, 6, 7, 8]
    kinds = [entry["type"] for _, entry in bob.seen()]
    assert kinds == ["group", "left", "hidden", "joined", "group"]
    row = bob.do("chat.conversations.get('group:tea')")
    assert (row["ended"], row["head"], row["unread"]) == ("", 8, 1)


def _say(node: Node, *texts: str) -> int:
    """Alice says them to the group; the last one's position."""
    position = 0
    for text in texts:
        message = {"type": "group", "to": "tea", "from": "alice", "text": text}
        position = node.api("POST", "/v1/messages", message)["position"]
    return position


@pytest.mark.parametrize("server_options", [("--recent-conversations", "2")])
def test_conversations_that_a_connection_does_not_begin_with(
    node: Node, start_app: StartApp
) -> None:
    """They are followed like the others: live, and what was missed comes once."""
    groups = [f"many-{n}" for n in range(5)]
    node.api("PUT", "/v1/users/alice", {})
    node.api("PUT", "/v1/users/bob", {})
    for group in groups:
        node.api("PUT", f"/v1/groups/{group}", {"owner": "alice", "members": ["bob"]})
    bob = start_app("bob")
    bob.until(f"seen.length === {len(groups)}")
    _say_to_all(node, groups, "在吗 👋")
    bob.until(f"seen.length === {2 * len(groups)}")
    bob.page.goto("about:blank")
    _say_to_all(node, groups, "missed 🌊")
    bob.start()
    bob.until(f"seen.length >= {len(groups)}")
    _say_to_all(node, groups, "又来了 🟢")
    bob.until(f"seen.length >= {2 * len(groups)}")
    for group in groups:
        assert _positions(bob, f"group:{group}") == [3, 4]
    assert bob.do("told") == []


def _say_to_all(node: Node, groups: list[str], text: str) -> None:
    for group in groups:
        message = {"type": "group", "to": group, "from": "alice", "text": text}
        node.api("POST", "/v1/messages", message)


def test_a_recalled_message_is_gone_whatever_came_first(node: Node, start_app: StartApp) -> None:
    """From an open timeline, from the list's last message, and from a page of history that was
    read before the recall and arrives after it."""
    bob = start_app("bob")
    node.api("PUT", "/v1/users/alice", {})
    node.api("PUT", "/v1/groups/tea", {"owner": "alice", "members": ["bob"]})
    position = _say(node, "秘密 🤐")
    bob.until(f"chat.conversations.get('group:tea')?.last?.position === {position}")
    bob.do("chat.open('group:tea')")
    old = bob.do("chat.timelines.get('group:tea').entries.map(entry => structuredClone(entry))")
    node.api("POST", f"/v1/conversations/group:tea/entries/{position}/recall", {"from": "alice"})
    bob.until("seen.at(-1)[1].type === 'recalled'")
    bob.do("old => chat.timelines.get('group:tea').add(old)", old)
    assert "秘密" not in str(bob.do("chat.timelines.get('group:tea').entries"))
    assert "秘密" not in str(bob.do("chat.conversations.get('group:tea').last"))


def test_refusals_and_their_texts(node: Node, start_app: StartApp) -> None:
    """A refusal rejects with its number and text, stands in the outbox over a reload, and does not
    hold up what follows; forgotten, it is gone."""
    bob = start_app("bob")
    node.api("PUT", "/v1/users/alice", {})
    sending = """async () => {
      const first = chat.send({ type: "group", to: "nowhere", text: "没有 🫥" });
      const second = chat.send({ type: "private", to: "alice", text: "有" });
      const refused = await first.catch((error) => error);
      const { code, message, temporary } = refused;
      return [{ code, message, temporary }, await second];
    }"""
    refused, receipt = bob.do(sending)
    assert refused == {"code": 1201, "message": "群组不存在", "temporary": False}
    assert (receipt["conversation"], receipt["position"]) == ("private:alice~bob", 1)
    bob.start()
    bob.connected()
    kept = bob.do("[...chat.outbox.values()].map(({ message, error }) => [message.text, error])")
    assert [(text, error["code"]) for text, error in kept] == [("没有 🫥", 1201)]
    bob.do("chat.discard([...chat.outbox.keys()][0])")
    bob.start()
    bob.connected()
    assert bob.do("chat.outbox.size") == 0


def test_a_message_over_the_hard_limit_costs_only_itself(node: Node, start_app: StartApp) -> None:
    """The server ends the connection unread; the module comes back without that message, which
    stays refused over a reload, and sends the rest."""
    bob = start_app("bob")
    node.api("PUT", "/v1/users/alice", {})
    node.api("PUT", "/v1/groups/tea", {"owner": "bob"})
    sending = """async () => {
      const large = chat.send({ type: "private", to: "alice", text: "长".repeat(400_000) });
      const small = chat.send({ type: "group", to: "tea", text: "短 🍵" });
      const { code } = await large.catch((error) => error);
      return [code, (await small).duplicate];
    }"""
    assert bob.do(sending)[0] == 1008
    assert node.texts("group:tea") == ["短 🍵"]
    bob.start()
    bob.connected()
    bob.do("chat.send({ type: 'group', to: 'tea', text: '还在 🟢' })")
    assert bob.do("[...chat.outbox.values()].map(({ error }) => error.code)") == [1008]


def test_tokens_are_renewed_and_ends_are_final(node: Node, start_app: StartApp) -> None:
    """A short-lived token is replaced in time, on the same connection; a suspended account's
    connection ends for good, and is told so."""
    bob = start_app("bob", ttl_seconds=3)
    bob.do("""() => {
      window.states = [];
      chat.addEventListener("state", () => states.push(chat.state));
    }""")
    bob.page.wait_for_timeout(6_000)  # two lives of a token have to pass
    assert bob.tokens >= 3
    assert bob.do("[chat.state, ...states]") == ["connected"]
    node.api("PUT", "/v1/users/bob", {"state": "suspended"})
    bob.until("chat.state === 'ended'")
    assert bob.do("chat.end.code") == 4500


@pytest.mark.parametrize("server_options", [("--recovery-budget-entries", "10")])
def test_away_for_too_long_it_says_so(node: Node, start_app: StartApp) -> None:
    """Beyond the budget the application is told to reload; what follows comes live."""
    bob = start_app("bob")
    node.api("PUT", "/v1/users/alice", {})
    node.api("PUT", "/v1/groups/tea", {"owner": "alice", "members": ["bob"]})
    _say(node, "一")
    bob.until("seen.length === 2")
    bob.page.goto("about:blank")
    _say(node, *(f"missed {n} 🌊" for n in range(12)))
    bob.start()
    bob.until("told.length === 1")
    last = _say(node, "live 🟢")
    bob.until("seen.length >= 1")
    assert _positions(bob, "group:tea") == [last]
    bob.do("chat.open('group:tea')")
    assert bob.do("chat.timelines.get('group:tea').entries.length") == 15


def test_a_user_who_is_forgotten_leaves_nothing_behind(node: Node, start_app: StartApp) -> None:
    """Neither in storage, where others' things stay, nor in memory; nothing is written later, and
    the next user begins afresh."""
    bob = start_app("bob")
    node.api("PUT", "/v1/groups/tea", {"owner": "bob", "name": "茶友会 🍵"})
    bob.until("chat.conversations.has('group:tea')")
    bob.do("chat.open('group:tea')")
    node.server.kill()
    bob.until("chat.state === 'waiting'")
    bob.do("""() => {
      localStorage.setItem("qunxin:bobby:draft:group:tea", "别人的 ✋");
      chat.send({ type: "group", to: "tea", text: "没发出去 📮" });
    }""")
    assert len(bob.do("Object.keys(localStorage).filter(n => n.startsWith('qunxin:bob:'))")) == 2
    bob.do("chat.forget()")
    assert bob.do("[chat.state, chat.user]") == ["ended", None]
    sizes = "[chat.outbox, chat.timelines, chat.conversations].map(({ size }) => size)"
    assert bob.do(sizes) == [0, 0, 0]
    bob.do("dispatchEvent(new Event('pagehide'))")
    assert bob.do("Object.keys(localStorage)") == ["qunxin:bobby:draft:group:tea"]
    node.server.start()
    node.api("PUT", "/v1/users/carol", {})
    bob.user = "carol"
    bob.do("() => { chat.start(); }")
    bob.connected()
    assert bob.do("[chat.user, chat.conversations.has('group:tea')]") == ["carol", False]
    assert node.texts("group:tea") == []
