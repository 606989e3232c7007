"""axe finds nothing on any view of the page, light and dark, wide and narrow."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from people import Node, Person
from playwright.sync_api import Page, expect

_PROFILES: dict[str, dict[str, Any]] = {
    "light": {},
    "dark phone": {
        "viewport": {"width": 390, "height": 780},
        "color_scheme": "dark",
        "locale": "zh-CN",
    },
}


@pytest.mark.parametrize("profile", _PROFILES)
def test_axe_is_content(
    profile: str, node: Node, sign_in: Callable[..., Person], new_page: Callable[..., Page]
) -> None:
    """The door, an empty list, a conversation with every kind of line, and each dialog."""
    shape = _PROFILES[profile]
    outside = new_page(**shape)
    for address in (node.server.url, node.cli("link")["link"]):
        outside.goto(address)
        expect(outside.locator(".card h1")).to_be_visible()
        _check(outside)
    alice = sign_in("alice", "爱丽丝 🍵", **shape)
    for check in _views(node, alice):
        expect(check).to_be_visible()
        _check(alice.page)


def _views(node: Node, alice: Person) -> Iterator[Any]:
    page = alice.page
    yield page.locator(".nothing .main")
    _tell_a_story(node)
    yield page.locator(".badge")
    page.locator(".list button").click()
    yield page.locator(".message").first
    page.locator(".bar .icon:not(.back)").last.click()
    yield page.locator("dialog li").last
    page.keyboard.press("Escape")
    page.locator(".mine").first.hover()
    page.locator(".mine .ask").first.click()
    yield page.locator("dialog .tag").first
    page.keyboard.press("Escape")
    node.api("PUT", "/v1/groups/tea", {"muted": True})
    node.api("PATCH", "/v1/groups/tea/members/bob", {"role": "owner"})
    node.api("PATCH", "/v1/groups/tea/members/alice", {"role": "member"})
    alice.say("…")
    yield page.locator(".outcome")
    node.api("DELETE", "/v1/groups/tea")
    yield page.locator(".closed:not([hidden])")


def _tell_a_story(node: Node) -> None:
    for user in ("bob", "carol"):
        node.api("PUT", f"/v1/users/{user}", {"name": f"{user} كارول"})
    group = {"name": "茶友会 🍵", "owner": "alice", "members": ["bob", "carol"]}
    node.api("PUT", "/v1/groups/tea", group)
    said = [("alice", "早 ☀️"), ("bob", "Morning"), ("bob", "again"), ("alice", "oops")]
    for user, text in said:
        message = {"type": "group", "to": "tea", "from": user, "text": text}
        node.api("POST", "/v1/messages", message)
    path = f"/v1/conversations/group:tea/entries/{1 + len(said)}/recall"
    node.api("POST", path, {"from": "alice"})
    node.api("PUT", "/v1/users/carol", {"state": "suspended"})


def _check(page: Page) -> None:
    """Also of what is only good practice."""
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
