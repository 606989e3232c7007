"""The API's description and its readable page."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any

import pytest

from qunxin.errors import ERRORS
from qunxin.gateways.http.openapi import describe
from qunxin.gateways.http.pages import pages
from qunxin.gateways.operations import OPERATIONS

DESCRIPTION: dict[str, Any] = json.loads(pages()["/openapi.json"].body)
PAGE = pages()["/docs"].body.decode()


def _nodes(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
        for part in value.values():
            yield from _nodes(part)
    elif isinstance(value, list):
        for part in value:
            yield from _nodes(part)


def _look_up(reference: str) -> object:
    found: Any = DESCRIPTION
    for step in reference.removeprefix("#/").split("/"):
        found = found[step]
    return found


def test_it_is_plain_json_and_says_what_it_is() -> None:
    """OpenAPI 3.1, made from the table each time alike."""
    assert DESCRIPTION["openapi"] == "3.1.0"
    assert json.dumps(describe()) == json.dumps(describe())
    assert json.loads(json.dumps(describe())) == DESCRIPTION


def test_every_reference_leads_somewhere() -> None:
    """And every schema is used by something."""
    references = {node["$ref"] for node in _nodes(DESCRIPTION) if "$ref" in node}
    assert all(_look_up(reference) for reference in references)
    schemas = {f"#/components/schemas/{name}" for name in DESCRIPTION["components"]["schemas"]}
    assert schemas <= references


def test_every_operation_is_described_once() -> None:
    """Under its name, path and method."""
    found = {
        operation["operationId"]: (path, method.upper())
        for path, item in DESCRIPTION["paths"].items()
        for method, operation in item.items()
    }
    for operation in OPERATIONS.values():
        assert found[operation.name] == (operation.path, operation.method)
    assert {name for name in found if not name.startswith("health.")} == set(OPERATIONS)


def test_path_parameters_are_those_of_the_path() -> None:
    """Each required, none missing."""
    for path, item in DESCRIPTION["paths"].items():
        for described in item.values():
            parameters = described.get("parameters", [])
            named = {row["name"] for row in parameters if row["in"] == "path"}
            assert named == set(re.findall(r"{(\w+)}", path))
            assert all(row["required"] for row in parameters if row["in"] == "path")


def test_every_error_has_an_example() -> None:
    """In the problem's own form, in Chinese."""
    examples = DESCRIPTION["components"]["examples"]
    assert examples.keys() == ERRORS.keys()
    for code, example in examples.items():
        assert example["value"]["code"] == code
        assert re.search(r"[\u4e00-\u9fff]", example["value"]["detail"])


def test_who_may_not_is_not_asked_for_a_token() -> None:
    """Operations for keys alone name one credential, the others both."""
    schemes = {}
    for name in ("token.create", "key.list", "message.send", "user.get"):
        operation = OPERATIONS[name]
        described = DESCRIPTION["paths"][operation.path][operation.method.lower()]
        schemes[name] = [next(iter(scheme)) for scheme in described["security"]]
    assert schemes == {
        "token.create": ["apiKey"],
        "key.list": ["apiKey"],
        "message.send": ["apiKey", "userToken"],
        "user.get": ["apiKey", "userToken"],
    }


class _Page(HTMLParser):
    """What of a page the tests look at; it also finds tags that were never closed."""

    void = frozenset({"meta", "link", "br", "img", "hr"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.tags: set[str] = set()
        self.attributes: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.ids += [value or "" for name, value in attrs if name == "id"]
        self.links += [value or "" for name, value in attrs if name == "href"]
        if tag not in self.void:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def page() -> _Page:
    parser = _Page()
    parser.feed(PAGE)
    parser.close()
    return parser


def test_the_page_is_well_formed(page: _Page) -> None:
    """Every tag is closed, every id is unique, every link inside it leads somewhere."""
    assert page.open == []
    assert len(set(page.ids)) == len(page.ids)
    inside = {link.removeprefix("#") for link in page.links if link.startswith("#")}
    assert inside <= set(page.ids)
    outside = {link for link in page.links if not link.startswith("#")}
    assert outside - {"data:,"} <= pages().keys()


def test_the_page_needs_nothing_that_its_policy_forbids(page: _Page) -> None:
    """No script, no style in the page, nothing from elsewhere."""
    assert not page.tags & {"script", "style", "iframe", "object", "form", "base"}
    assert not {name for name in page.attributes if name.startswith("on") or name == "style"}
    assert "http://" not in PAGE.replace("http://127.0.0.1:8000", "")
    assert "https://" not in PAGE.replace("https://shop.example.org", "")
    style = pages()["/assets/reference.css"].body.decode()
    assert "@import" not in style
    assert "url(" not in style


def test_the_page_shows_every_operation_and_error(page: _Page) -> None:
    """With its Chinese beside the English; a problem's `type` leads to its error."""
    assert {*OPERATIONS, *ERRORS} <= set(page.ids)
    for operation in OPERATIONS.values():
        assert operation.chinese in PAGE
    for spec in ERRORS.values():
        assert spec.chinese in PAGE


def test_calls_on_the_page_are_ones_that_a_shell_takes() -> None:
    """Quotes are closed, and the address is put in by the shell."""
    for call in re.findall(r"<pre[^>]*><code>(curl .*?)</code></pre>", PAGE, re.DOTALL):
        assert call.count("'") % 2 == 0
        assert call.count('"Authorization') == 1
        assert "$URL/v1/" in call.replace("'", "")
