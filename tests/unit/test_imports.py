"""The directions of imports, type-only ones included, as ARCHITECTURE.md draws them."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SRC = Path(__file__).parents[2] / "src"
FILES = sorted((SRC / "qunxin").rglob("*.py"))

NOUNS = frozenset({"model", "errors", "tasks", "version"})
CONTRACTS = frozenset({"store", "records", "broker", "observe", "clock"})

MAY_IMPORT = {
    **dict.fromkeys(NOUNS, frozenset()),
    **dict.fromkeys(CONTRACTS, NOUNS | CONTRACTS),
    "wire": NOUNS,
    "engine": NOUNS | CONTRACTS,
    "stores": NOUNS | CONTRACTS,
    "brokers": NOUNS | CONTRACTS,
    "testing": NOUNS | CONTRACTS,
    "ops": NOUNS | CONTRACTS,
    "client": NOUNS | CONTRACTS | {"wire", "engine"},
    "config": NOUNS | {"engine"},
    "gateways": NOUNS | CONTRACTS | {"wire", "engine", "ops", "config"},
}
"""What each part may import of ours, beside itself. A part that is not listed is where parts
meet (`server`, `cli`) and may import anything."""

APART: dict[str, dict[str, tuple[str, ...]]] = {
    "stores": {"sqlite": ("sqlite",), "postgres": ("postgres",)},
    "brokers": {"local": ("local",), "nats": ("nats",)},
    "gateways": {
        "http": ("http",),
        "realtime": ("realtime", "websocket", "connection"),
        "onebot": ("onebot",),
        "webhooks": ("webhooks",),
    },
}
"""Folders with interchangeable parts, which must not know each other, and how the names of each
part's modules begin. A module of no part is what several of them stand on."""


def _module(path: Path) -> str:
    parts = path.relative_to(SRC).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {_module(path): path for path in FILES}


def _imports(path: Path) -> set[str]:
    """The modules of ours that a file imports, wherever in it the import stands."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: imports are absolute"
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found.update((names & MODULES.keys()) or {node.module})
            if names - MODULES.keys():
                found.add(node.module)
    return {name for name in found if name.partition(".")[0] == "qunxin"}


def _part(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def _room(module: str) -> str:
    """The interchangeable part that a module belongs to, or nothing."""
    parts = module.split(".")
    if len(parts) < 3:
        return ""
    rooms = APART.get(parts[1], {}).items()
    return next((room for room, begins in rooms if parts[2].startswith(begins)), "")


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_the_right_way(module: str) -> None:
    """A module imports only what its part may see."""
    part = _part(module)
    if part not in MAY_IMPORT:
        return
    allowed = MAY_IMPORT[part] | {part}
    wrong = {name for name in _imports(MODULES[module]) if _part(name) not in allowed}
    assert not wrong


@pytest.mark.parametrize("module", [name for name in MODULES if _part(name) in APART])
def test_interchangeable_parts_do_not_know_each_other(module: str) -> None:
    """A store never imports another store, a gateway never another gateway, and what several of
    them stand on imports none."""
    if module.count(".") < 2:
        return
    near = {name for name in _imports(MODULES[module]) if _part(name) == _part(module)}
    assert not {name for name in near if _room(name) not in {"", _room(module)}}


def test_no_import_cycles() -> None:
    """Following imports never leads back to where one started."""
    graph = {module: _imports(path) & MODULES.keys() for module, path in MODULES.items()}
    done: set[str] = set()

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, " imports ".join((*trail[trail.index(module) :], module))
        if module not in done:
            for name in sorted(graph[module]):
                if name != module:
                    visit(name, (*trail, module))
            done.add(module)

    for module in graph:
        visit(module, ())


def test_the_engine_knows_no_transport() -> None:
    """Neither the engine nor what it stands on imports a library of a transport or a database."""
    transports = {"apsw", "picows", "uvicorn", "starlette", "httpx", "aiohttp", "websockets", "jwt"}
    parts = NOUNS | CONTRACTS | {"engine", "wire"}
    for module, path in MODULES.items():
        if _part(module) in parts:
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if isinstance(node, ast.Import):
                    names = {alias.name for alias in node.names}
                else:
                    names = {node.module or ""} if isinstance(node, ast.ImportFrom) else set()
                assert not {name.partition(".")[0] for name in names} & transports, module


SERVER_ONLY = frozenset({"starlette", "uvicorn", "picows", "uvloop", "cyclopts", "rich", "httpx"})
SELDOM_USED = frozenset({"aiohttp", "httpcore", "pytest"})
"""What only webhooks, the setting `jwks` or tests take."""
SERVING_ONLY = frozenset({"jwt", "cryptography", "structlog", "google.protobuf", "picows"})
"""What a server needs, and a command does not that opens the node itself."""


@pytest.mark.parametrize(
    ("modules", "absent"),
    [
        ("qunxin", SERVER_ONLY | SERVING_ONLY | SELDOM_USED | {"standardwebhooks"}),
        ("qunxin.cli.app", (SERVER_ONLY | SERVING_ONLY | SELDOM_USED) - {"cyclopts"}),
        ("qunxin.cli.key, qunxin.node, qunxin.owner", SERVING_ONLY | SELDOM_USED),
        ("qunxin.cli.serve", SELDOM_USED | {"httpx"}),
    ],
    ids=["embedding", "the command line", "a command", "a server"],
)
def test_nothing_is_loaded_in_vain(modules: str, absent: frozenset[str]) -> None:
    """What takes long to load is loaded by those alone who need it."""
    program = f"import sys, {modules}; print(sorted({set(absent)!r} & sys.modules.keys()))"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
