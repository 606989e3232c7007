"""The doors, each a fixture: tests that take `door` run once through each of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from door_embedded import EmbeddedDoor
from door_http import HttpDoor
from door_realtime import RealtimeDoor
from doors import Door

from serving import ServerProcess

DOORS = ("embedded", "http", "realtime")


@pytest.fixture(scope="session")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """One real server for all tests that take turns at it; each uses ids of its own."""
    with ServerProcess(tmp_path_factory.mktemp("server") / "数据") as process:
        yield process


@pytest.fixture(params=DOORS)
def unopened(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Door]:
    """Makes one door after the other. A server is started here, outside of any loop."""
    if request.param == "embedded":
        return lambda: EmbeddedDoor(tmp_path / "chat 茶.db")
    server: ServerProcess = request.getfixturevalue("shared_server")
    return lambda: HttpDoor(server) if request.param == "http" else RealtimeDoor(server)


@pytest.fixture
async def door(unopened: Callable[[], Door]) -> AsyncIterator[Door]:
    """One door after the other. At the end no device has seen a gap or a repeat."""
    door = unopened()
    await door.open()
    yield door
    try:
        await door.close_devices()
    finally:
        await door.close()


@pytest.fixture
async def embedded(tmp_path: Path) -> AsyncIterator[EmbeddedDoor]:
    """The embedded engine's door alone."""
    door = EmbeddedDoor(tmp_path / "chat 茶.db")
    await door.open()
    yield door
    try:
        await door.close_devices()
    finally:
        await door.close()


@pytest.fixture
async def realtime(shared_server: ServerProcess) -> AsyncIterator[RealtimeDoor]:
    """The realtime door alone."""
    door = RealtimeDoor(shared_server)
    yield door
    try:
        await door.close_devices()
    finally:
        await door.close()
