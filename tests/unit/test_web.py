"""The page's files: small, in two languages, with no way for text to become markup."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path

import pytest

from qunxin.gateways.http.pages import pages

WEB = Path(str(files("qunxin") / "web"))
SCRIPTS = sorted(WEB.glob("*.js"))
MAX_MODULE_BYTES = 12_000
MAX_LINES = 600
MARKUP = (
    r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|srcdoc"
    r"|DOMParser|createContextualFragment|setHTMLUnsafe|\.style\b|javascript:"
)


def test_the_module_for_browsers_is_one_small_file() -> None:
    """Under 12 KB as served, without dependencies."""
    served = pages()["/qunxin.js"].body
    assert served == (WEB / "qunxin.js").read_bytes()
    assert len(served) < MAX_MODULE_BYTES
    assert not re.search(rb"^\s*(import|export \*|export \{.*from)", served, re.MULTILINE)


def test_the_page_holds_no_script_or_style_of_its_own() -> None:
    """What the strictest content policy asks for; nothing comes from elsewhere."""
    page = pages()["/"].body.decode()
    assert not re.search(r"<style|style=|<script(?![^>]*src=)|\son\w+=|https?://|=\"//", page)
    for path in re.findall(r'(?:src|href)="(/[^"]+)"', page):
        assert path in pages()


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_scripts_make_no_markup_and_import_what_is_served(path: Path) -> None:
    """Text goes into text nodes; each file is readable in one go."""
    text = path.read_text("utf-8")
    assert not re.search(MARKUP, text)
    assert len(text.splitlines()) <= MAX_LINES
    assert not set(re.findall(r'from "([^"]+)"', text)) - pages().keys()


def test_every_text_stands_in_both_languages() -> None:
    """And each one is used, with the same places to fill."""
    english, chinese = (_texts(name) for name in ("EN", "ZH"))
    assert english.keys() == chinese.keys()
    places = re.compile(r"\{\w+\}")
    for name, text in english.items():
        assert sorted(places.findall(text)) == sorted(places.findall(chinese[name])), name
        assert re.search(r"[一-鿿]|^[^a-z]*$|English|API", chinese[name]), name
    rest = "\n".join(path.read_text("utf-8") for path in SCRIPTS)
    unused = {name for name in english if len(re.findall(rf"\b{name}\b", rest)) < 3}
    assert unused <= {name for name in unused if name.startswith(("closed", "reason_"))}, (
        "made from a prefix and a value"
    )


def _texts(name: str) -> dict[str, str]:
    source = (WEB / "texts.js").read_text("utf-8")
    body = re.search(rf"const {name} = \{{(.*?)\n\}};", source, re.DOTALL)
    assert body
    return dict(re.findall(r'(\w+): "([^"]*)"', body[1]))
