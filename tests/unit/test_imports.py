"""The directions of imports, type-only ones included, as ARCHITECTURE.md draws them."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from serving import ServerProcess, run_cli

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


SERVING = frozenset({"uvicorn", "uvloop", "picows", "websockets", "jwt", "prometheus_client"})
"""What a server needs before its first request, and a command does not that opens the node."""
SELDOM = frozenset({"google.protobuf", "aiohttp", "httpcore"})
"""What only some nodes need: Protobuf's clients, webhooks, the setting `jwks`."""
DRAWING = frozenset({"rich", "pygments"})
"""For tables, colours and progress."""
NODE = frozenset({"qunxin.node", "qunxin.stores.sqlite", "apsw", "starlette"})
"""What a command needs that finds no server."""
ASKING = frozenset({"httpx"}) | DRAWING
"""What a command asks the node with, which draws by itself where it can."""
LOGGING = frozenset({"structlog"}) | DRAWING
"""What writes a server's lines, and draws tracebacks where it can."""
NEVER = frozenset({"pytest"})
"""What only tests need."""
ALL = SERVING | SELDOM | DRAWING | NODE | ASKING | LOGGING | NEVER


def loaded(program: str, *arguments: str) -> set[str]:
    """The names of all modules when `program` calls `tell`."""
    begin = "import sys\ndef tell(*_): print('loaded', *sys.modules, flush=True)\n"
    done = subprocess.run(
        [sys.executable, "-c", begin + program, *arguments],
        capture_output=True,
        text=True,
        check=True,
    )
    line = next(line for line in done.stdout.splitlines() if line.startswith("loaded "))
    return set(line.split())


@pytest.mark.parametrize(
    ("modules", "absent"),
    [
        ("qunxin", ALL | {"asyncio", "msgspec", "qunxin.engine"}),
        ("qunxin.cli", ALL | {"asyncio", "cyclopts"}),
        ("qunxin.embed", (ALL | {"cyclopts"}) - NODE),
    ],
)
def test_nothing_is_loaded_in_vain(modules: str, absent: frozenset[str]) -> None:
    """What takes long to load is loaded by those alone who need it."""
    assert not loaded(f"import {modules}; tell()") & absent


COMMAND = """
from qunxin.cli import main
try:
    main(sys.argv[1:])
finally:
    tell()
"""
SERVER = """
import os, signal
import qunxin.cli.serve
qunxin.cli.serve.announce = lambda *_: (tell(), os.kill(os.getpid(), signal.SIGTERM))
""" + COMMAND.replace("tell()", "pass")


def test_a_server_loads_what_it_needs_and_no_more(data_folder: Path) -> None:
    """When it is ready, what a first request or a first token needs is there, since loading would
    hold up its loop; what few nodes need is not."""
    there = loaded(SERVER, "serve", "--port", "0", "--data", str(data_folder))
    documents = {"qunxin.gateways.http.openapi", "qunxin.gateways.http.reference"}
    assert there >= NODE | SERVING - {"websockets"} | {"qunxin.gateways.websocket_picows"}
    assert not there & (SELDOM | {"httpx"} | NEVER | documents)


def test_a_command_loads_no_server(data_folder: Path) -> None:
    """Also one that opens the node itself, and prints what it did."""
    there = loaded(COMMAND, "user", "create", "a", "--name", "爱 🍵", "--data", str(data_folder))
    assert there >= NODE
    assert not there & (SERVING - {"websockets"} | SELDOM - {"httpcore"} | {"structlog"} | NEVER)


def test_a_command_beside_a_server_loads_no_node(data_folder: Path) -> None:
    """It asks at the socket, and needs neither store nor HTTP application."""
    with ServerProcess(data_folder):
        there = loaded(COMMAND, "user", "create", "鲍勃".encode().hex(), "--data", str(data_folder))
    assert not there & (SERVING | NODE | SELDOM - {"httpcore"} | {"structlog"} | NEVER)


def test_the_version_is_told_at_once() -> None:
    """With nothing loaded for it, in the same words as by the whole command line."""
    there = loaded(COMMAND, "--version")
    assert not there & (ALL | {"asyncio", "msgspec", "cyclopts"})
    short = run_cli("--version")
    whole = subprocess.run(
        [sys.executable, "-c", "from qunxin.cli.app import run; run(['--version'])"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert (short.returncode, short.stdout) == (0, whole.stdout)
