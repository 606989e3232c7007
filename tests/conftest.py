"""What every test may use, and what no test may do: block the loop, leave tasks behind."""

from __future__ import annotations

import asyncio
import inspect
import time
from asyncio import Handle
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import jwt  # noqa: F401 - what the first token would otherwise load in a test's loop
import pytest
from hypothesis import settings

import qunxin
from command_line import CommandLine
from qunxin.engine import Engine
from serving import ServerProcess

MAX_BLOCKED_SECONDS = 1.0

# How long one example takes says more of the machine's other work than of the code.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")

_run_handle = Handle._run
_blocked: list[str] = []


def _timed_run(self: Handle) -> None:
    """Run one callback of the loop, and note it where it kept the others waiting."""
    started = time.perf_counter()
    _run_handle(self)
    seconds = time.perf_counter() - started
    if seconds > MAX_BLOCKED_SECONDS:
        _blocked.append(f"{seconds:.1f} s: {self!r}")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "may_block(reason): the test blocks its own loop, and says why"
    )
    Handle._run = _timed_run  # type: ignore[method-assign]


def pytest_unconfigure() -> None:
    Handle._run = _run_handle  # type: ignore[method-assign]


@pytest.fixture(autouse=True)
def _loop_stays_free(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail where one callback held the loop for more than a second."""
    _blocked.clear()
    yield
    if _blocked and request.node.get_closest_marker("may_block") is None:
        pytest.fail("the loop was blocked for " + "; ".join(_blocked))


@pytest.fixture(autouse=True)
def _no_task_left(request: pytest.FixtureRequest) -> None:
    """For tests that have a loop: everything that they started has ended."""
    if inspect.iscoroutinefunction(request.function):
        request.getfixturevalue("_tasks_end")


@pytest.fixture
async def _tasks_end() -> AsyncIterator[None]:
    """Made first, so torn down last, after the fixtures that the test uses."""
    before = asyncio.all_tasks()
    yield
    this = asyncio.current_task()
    left = {task for task in asyncio.all_tasks() - before if task is not this}
    if left:
        await asyncio.wait(left, timeout=0.1)
    names = [repr(task) for task in left if not task.done()]
    if names:
        pytest.fail("tasks left behind: " + "; ".join(names))


@pytest.fixture
def data_folder(tmp_path: Path) -> Path:
    """Where a node of this test may keep its state; not made yet."""
    return tmp_path / "数据 data"


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[Engine]:
    """An open engine over a fresh SQLite database and the local broker."""
    async with qunxin.open(tmp_path / "chat.db") as chat:
        yield chat


@pytest.fixture
def server(data_folder: Path) -> Iterator[ServerProcess]:
    """A real `qunxin serve` on a free port, ready, with an API key; stopped afterwards."""
    with ServerProcess(data_folder) as process:
        yield process


@pytest.fixture
def folder_cli(data_folder: Path, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    """Commands on a folder that may have a server or not."""
    return CommandLine(data_folder, capsys)
