"""A real browser on a real server: Debian's Chromium, driven by Playwright."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("playwright", reason="Playwright is missing: uv sync")
from people import Node, Person
from playwright.sync_api import Browser, Page, expect, sync_playwright

from serving import ServerProcess

CHROMIUM = shutil.which("chromium")
WAIT_MS = 15_000

expect.set_options(timeout=WAIT_MS)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything here needs a browser; where there is none, it says how to get it."""
    waits = pytest.mark.may_block("Playwright's own loop hands over to the test")
    missing = pytest.mark.skip(reason="Chromium is missing: apt-get install chromium")
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.browser)
            item.add_marker(waits)
            if CHROMIUM is None:
                item.add_marker(missing)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One browser for all tests of a module; each person in it is a profile of their own. Its
    loop must have ended before a test that has a loop of its own begins."""
    with sync_playwright() as playwright:
        # The sandbox needs rights that containers do not give; pages here are our own.
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def node(server: ServerProcess) -> Node:
    return Node(server)


SignIn = Callable[..., Person]


@pytest.fixture
def sign_in(browser: Browser, node: Node) -> Iterator[SignIn]:
    """Signs people in, each with a browser profile of their own; what their browser complained
    of in the end, but for the server's absence, fails the test."""
    people: list[Person] = []

    def sign_in(user: str, name: str | None = None, **profile: Any) -> Person:
        node.api("PUT", f"/v1/users/{user}", {"name": name} if name else {})
        page = _new_page(browser, profile)
        page.goto(node.cli("link", user)["link"])
        page.locator("main .main").click()
        person = Person(page, user)
        person.is_connected()
        people.append(person)
        return person

    yield sign_in
    complaints = [f"{person.user}: {text}" for person in people for text in person.complaints]
    for person in people:
        person.page.context.close()
    assert not complaints


def _new_page(browser: Browser, profile: dict[str, Any]) -> Page:
    shape = {"locale": "en-GB", "viewport": {"width": 1100, "height": 720}, **profile}
    context = browser.new_context(**shape)
    context.set_default_timeout(WAIT_MS)
    return context.new_page()


@pytest.fixture
def new_page(browser: Browser) -> Iterator[Callable[..., Page]]:
    """Browser profiles of which nobody is signed in."""
    pages: list[Page] = []

    def new_page(**profile: Any) -> Page:
        pages.append(_new_page(browser, profile))
        return pages[-1]

    yield new_page
    for page in pages:
        page.context.close()
