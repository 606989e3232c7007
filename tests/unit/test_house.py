"""The house: what holds for every file, so that no review has to look for it."""

from __future__ import annotations

import ast
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from qunxin.version import VERSION

ROOT = Path(__file__).parents[2]
SRC = ROOT / "src" / "qunxin"
FILES = sorted(SRC.rglob("*.py"))
MAX_LINES = 600

EMPTY_WORDS = frozenset({"a", "an", "the", "of", "for", "to", "is", "in", "and", "or", "as", "it"})

SHORT_LINES = 6
"""A function or a plain value of so many lines may speak for itself."""

EXPLAINED_ELSEWHERE = {
    "src/qunxin/gateways/operations/handlers.py": "each by the row that names it",
    "src/qunxin/stores/sqlite/commands/": "each by the contract's command of its name",
    "src/qunxin/stores/sqlite/reads/": "each by the contract's read of its name",
}

Definition = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
Documented = ast.Module | Definition


def _relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def _definitions(path: Path) -> list[Definition]:
    """The public classes and functions of a module, and the public methods of those classes."""
    found: list[Definition] = []
    waiting: list[ast.stmt] = list(ast.parse(path.read_text("utf-8")).body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, Definition) and not node.name.startswith("_"):
            found.append(node)
            if isinstance(node, ast.ClassDef):
                waiting.extend(node.body)
    return found


def _must_explain_itself(node: Definition) -> bool:
    """Whether the name and the signature are not enough. Methods may rely on their class, and on
    the contract that they fulfil."""
    if isinstance(node, ast.ClassDef):
        return any(isinstance(part, Definition) for part in node.body)
    lines = (node.end_lineno or node.lineno) - node.lineno + 1
    return lines > SHORT_LINES and node.col_offset == 0


def _words(text: str) -> set[str]:
    spaced = re.sub(r"([a-z])([A-Z])", r"\1 \2", text)
    words = {word.lower().rstrip("s") for word in re.findall(r"[A-Za-z]+", spaced)}
    return words - EMPTY_WORDS


@pytest.mark.parametrize("path", [path for path in FILES if path.stat().st_size], ids=_relative)
def test_every_module_says_what_it_is(path: Path) -> None:
    """Whoever opens a file learns in its first lines what it is for."""
    assert ast.get_docstring(ast.parse(path.read_text("utf-8")))


@pytest.mark.parametrize("path", FILES, ids=_relative)
def test_what_is_public_is_explained(path: Path) -> None:
    """Every public class with methods and every function that is not short has a docstring."""
    if _relative(path).startswith(tuple(EXPLAINED_ELSEWHERE)):
        return
    silent = [
        node.name
        for node in _definitions(path)
        if _must_explain_itself(node) and not ast.get_docstring(node)
    ]
    assert not silent


@pytest.mark.parametrize("path", FILES, ids=_relative)
def test_no_docstring_restates_a_name(path: Path) -> None:
    """A docstring says what the name does not."""
    empty = [
        node.name
        for node in _definitions(path)
        if (text := ast.get_docstring(node)) and not _words(text) - _words(node.name)
    ]
    assert not empty


@pytest.mark.parametrize("path", FILES, ids=_relative)
def test_no_file_holds_two_ideas(path: Path) -> None:
    """A file stays short enough to be read in one go."""
    assert len(path.read_text("utf-8").splitlines()) <= MAX_LINES


def _tracked() -> list[Path]:
    listing = subprocess.run(
        ["git", "-C", ROOT, "ls-files", "-z"], capture_output=True, check=True
    ).stdout
    return [ROOT / name for name in listing.decode().split("\0") if name]


FORBIDDEN = {
    "a package registry's host": r"(?:files\.pythonhosted|pypi|npmjs|yarnpkg|crates)\."
    r"(?:org|com|io)/(?!project/)|https?://[^\s\"']*/(?:simple|packages)/",
    "a path of one machine": r"(?<![\w./<-])/(?:home|Users|root|work)/\w",
    "unfinished work": r"\b(?:TODO|FIXME|XXX)\b|NotImplementedError",
}


@pytest.mark.parametrize("what", FORBIDDEN)
def test_nothing_tracked_holds(what: str) -> None:
    """No tracked text ties the project to a machine or a registry, or admits to be unfinished."""
    pattern = re.compile(FORBIDDEN[what])
    found = []
    for path in _tracked():
        if not path.is_file() or path == Path(__file__) or "data" in path.parts:
            continue
        try:
            lines = path.read_text("utf-8").splitlines()
        except UnicodeDecodeError:
            continue
        found += [
            f"{_relative(path)}:{n}" for n, line in enumerate(lines, 1) if pattern.search(line)
        ]
    assert not found


def test_the_version_is_that_of_the_project() -> None:
    """What the program says of itself is what is installed."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    assert project["project"]["version"] == VERSION


def test_no_lock_file_is_tracked() -> None:
    """Lock files carry download addresses; the pins in pyproject.toml carry none."""
    assert not {path.name for path in _tracked()} & {"uv.lock", "package-lock.json"}


def test_every_dependency_is_pinned_without_a_host() -> None:
    """The pins name one exact version of everything, and nothing of where it comes from."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    tables = project["project"].get("optional-dependencies", {}) | project["dependency-groups"]
    wanted = [
        *project["project"]["dependencies"],
        *(name for row in tables.values() for name in row),
    ]
    pins = project["tool"]["uv"]["constraint-dependencies"]
    assert all(re.fullmatch(r"[a-z0-9-]+==[0-9][\w.]*( ; .+)?", pin) for pin in pins)
    names = {re.split(r"[=<>~\[ ]", name)[0].lower() for name in wanted} - {"qunxin"}
    assert names <= {pin.partition("==")[0] for pin in pins}
