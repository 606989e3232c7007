"""Who takes part: the node with its operator, and people with what they do and see."""

from __future__ import annotations

import json
import re
from typing import Any

from playwright.sync_api import Locator, Page, expect

from serving import ServerProcess, run_cli


class Node:
    """The server, and what its operator does at the command line."""

    def __init__(self, server: ServerProcess) -> None:
        self.server = server

    def cli(self, *arguments: str) -> Any:
        done = run_cli(*arguments, "--data", str(self.server.data_folder), "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def api(self, method: str, path: str, body: Any = None) -> Any:
        """With the API key."""
        with self.server.client() as client:
            response = client.request(method, path, json=body)
        assert response.is_success, response.text
        return response.json()

    def texts(self, conversation: str) -> list[str]:
        """All messages of a conversation, in order, as the log has them."""
        page = self.api("GET", f"/v1/conversations/{conversation}/entries?after=0&limit=1000")
        return [e["content"][0]["text"] for e in page["entries"] if e.get("content")]


class Person:
    """Somebody who is signed in, in a browser profile of their own."""

    def __init__(self, page: Page, user: str) -> None:
        self.page = page
        self.user = user
        self.complaints: list[str] = []
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("console", lambda said: self._note(said.type, said.text))
        page.on("dialog", lambda dialog: self._note("error", f"dialog: {dialog.message}"))

    def _note(self, kind: str, text: str) -> None:
        absent = re.search("ERR_(CONNECTION|INTERNET)|WebSocket connection to", text)
        if kind == "error" and not absent:
            self.complaints.append(text)

    def complained(self, about: str) -> None:
        """The browser complained of this, as it had to; nothing else is forgiven."""
        found = [text for text in self.complaints if about in text]
        assert found, f"no complaint about {about}: {self.complaints}"
        self.complaints = [text for text in self.complaints if text not in found]

    @property
    def log(self) -> Locator:
        return self.page.get_by_role("log")

    @property
    def draft(self) -> Locator:
        return self.page.locator("textarea[name=text]")

    def is_connected(self) -> None:
        """Wait until the page has its connection."""
        expect(self.page.locator(".me strong")).to_be_visible()
        expect(self.page.locator(".state")).to_be_hidden()

    def create_group(self, group: str, name: str, members: str) -> None:
        self.page.locator(".side .bar button").click()
        dialog = self.page.get_by_role("dialog")
        dialog.locator("input[name=name]").fill(name)
        dialog.locator("input[name=group]").fill(group)
        dialog.locator("input[name=members]").fill(members)
        dialog.locator("form:not([hidden]) .main").click()

    def open(self, title: str) -> None:
        """Go to a conversation by its title in the list."""
        self.page.locator(".list button").filter(has_text=title).click()
        expect(self.page.locator(".talk h1")).to_have_text(title)

    def say(self, text: str) -> None:
        self.draft.fill(text)
        self.draft.press("Enter")
        expect(self.draft).to_have_value("")

    def message(self, text: str) -> Locator:
        """The message with this text, wherever it is on its way."""
        shown = self.page.locator(".message").filter(has=self.page.locator(".bubble"))
        return shown.filter(has_text=text)

    def sees(self, text: str) -> None:
        """A message or an event, once, and accepted if it is a message."""
        line = self.log.locator("li").filter(has_text=text)
        expect(line).to_have_count(1)
        expect(line).not_to_have_class(re.compile("waiting|refused"))

    def sees_not(self, text: str) -> None:
        expect(self.log.locator("li").filter(has_text=text)).to_have_count(0)

    def texts(self) -> list[str]:
        """Everything said, in the order shown, without who said it."""
        bubbles = self.page.locator(".message .bubble").all()
        return [bubble.evaluate(_TEXT) for bubble in bubbles]

    def act(self, text: str, action: str) -> None:
        """Press one of a message's own buttons."""
        message = self.message(text)
        message.hover()
        message.get_by_role("button", name=action).click()


_TEXT = """e => [...e.childNodes].filter(n => n.className !== "unseen")
    .map(n => n.textContent).join("")"""
