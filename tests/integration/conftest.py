"""The doors, each a fixture: tests that take `door` run once through each of them. And a realtime
node for tests of the protocol itself."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from door_embedded import EmbeddedDoor
from door_http import HttpDoor
from door_realtime import RealtimeDoor
from doors import Door, opened

from command_line import CommandLine
from qunxin.engine import Engine
from qunxin.gateways.realtime import RealtimeSettings
from realtime_client import RealtimeNode, put_tea, realtime_node
from serving import ServerProcess
from webhook_receiver import Receiver

DOORS = ("embedded", "http", "realtime")


@pytest.fixture(params=["picows", "websockets"])
def backend(request: pytest.FixtureRequest) -> Any:
    """The library that reads WebSocket frames."""
    return request.param


@pytest.fixture
async def node(engine: Engine, backend: Any) -> AsyncIterator[RealtimeNode]:
    """The realtime gateway over an engine with the group tea; carol is not in it."""
    await put_tea(engine, "carol")
    settings = RealtimeSettings(
        websocket_backend=backend, ping_spacing_seconds=0.1, linger_seconds=0.5
    )
    async with realtime_node(engine, settings) as running:
        yield running


@pytest.fixture(params=["alone", pytest.param("beside a server", marks=pytest.mark.processes)])
def cli(request: pytest.FixtureRequest, folder_cli: CommandLine) -> CommandLine:
    """Commands on a folder, once without a server and once through one."""
    if request.param != "alone":
        request.getfixturevalue("server")
    return folder_cli


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    """What takes the posts of webhooks."""
    async with Receiver() as one:
        yield one


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
    async with opened(unopened()) as door:
        yield door


@pytest.fixture
async def embedded(tmp_path: Path) -> AsyncIterator[EmbeddedDoor]:
    """The embedded engine's door alone."""
    async with opened(EmbeddedDoor(tmp_path / "chat 茶.db")) as door:
        yield door


@pytest.fixture
async def realtime(shared_server: ServerProcess) -> AsyncIterator[RealtimeDoor]:
    """The realtime door alone."""
    async with opened(RealtimeDoor(shared_server)) as door:
        yield door
