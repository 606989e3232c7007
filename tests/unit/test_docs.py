"""The pages can fail: glossary, promises, links."""

from __future__ import annotations

import ast
import enum
import inspect
import re
from pathlib import Path

import pytest

from qunxin import model

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])
PROMISES = range(1, 10)


def _glossary() -> str:
    return (DOCS / "glossary.md").read_text("utf-8")


def _model_classes() -> list[type]:
    return [
        value
        for name, value in vars(model).items()
        if inspect.isclass(value) and value.__module__ == model.__name__ and name[0] != "_"
    ]


@pytest.mark.parametrize("noun", _model_classes(), ids=lambda noun: noun.__name__)
def test_every_noun_of_the_model_stands_in_the_glossary(noun: type) -> None:
    """A class of the model, and each value of an enumeration there, is explained."""
    page = _glossary()
    assert f"`{noun.__name__}`" in page or f"`{noun.__name__}." in page
    if issubclass(noun, enum.Enum):
        words = {str(m.value) if isinstance(m.value, str) else m.name.lower() for m in noun}
        missing = {word for word in words if not re.search(rf"`[^`]*\b{word}\b[^`]*`", page)}
        assert not missing


def test_the_glossary_names_only_what_exists() -> None:
    """Every name in a table's last column is found in the model."""
    unknown = []
    for line in _glossary().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 4:
            for name in re.findall(r"`([^`]+)`", cells[3]):
                first, *rest = name.split(".")
                found = getattr(model, first, None)
                if found is None or not all(hasattr(found, part) for part in rest):
                    unknown.append(name)
    assert not unknown


def _promise_tests() -> list[str]:
    paths = (ROOT / "tests" / "integration").glob("test_promises*.py")
    trees = (ast.parse(path.read_text("utf-8")) for path in paths)
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return [node.name for tree in trees for node in ast.walk(tree) if isinstance(node, functions)]


@pytest.mark.parametrize("number", PROMISES)
def test_every_promise_has_a_test_named_after_it(number: int) -> None:
    """The page states the promise and the tests that prove it, and there is at least one."""
    page = (DOCS / "promises.md").read_text("utf-8")
    assert re.search(rf"^## {number}\. ", page, re.MULTILINE)
    assert f"`test_promise_{number}_…`" in page
    assert [name for name in _promise_tests() if name.startswith(f"test_promise_{number}_")]


def test_no_test_is_named_after_a_promise_that_does_not_exist() -> None:
    """`test_promise_10_…` would prove nothing that the page says."""
    numbers = {
        int(n) for name in _promise_tests() for n in re.findall(r"^test_promise_(\d+)_", name)
    }
    assert numbers <= set(PROMISES)


def _anchors(page: Path) -> set[str]:
    """The anchors that GitHub makes of a page's headings."""
    text = re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {
        re.sub(r"[^\w\- ]", "", heading.replace("`", "").strip().lower()).replace(" ", "-")
        for heading in headings
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_relative_links_lead_somewhere(page: Path) -> None:
    """Every link to a file or a heading of this repository is right."""
    text = re.sub(r"```.*?```|`[^`\n]*`", "", page.read_text("utf-8"), flags=re.DOTALL)
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        path = (page.parent / name).resolve() if name else page
        if not path.exists() or (anchor and anchor not in _anchors(path)):
            broken.append(target)
    assert not broken


def test_the_architecture_names_files_that_exist() -> None:
    """Whoever follows the message finds every file where the page says."""
    text = (ROOT / "ARCHITECTURE.md").read_text("utf-8")
    names = set(re.findall(r"`([\w./-]+\.py|[\w-]+(?:/[\w-]+)*/)`", text))
    places = (ROOT, ROOT / "src" / "qunxin")
    assert len(names) > 20
    assert not {name for name in names if not any((place / name).exists() for place in places)}
