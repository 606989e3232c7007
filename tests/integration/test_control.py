"""The owner's door: who may have a folder, and for how long the others wait."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
from pathlib import Path

import httpx
import pytest

from qunxin import control
from qunxin.config import Settings
from qunxin.control import open_control
from qunxin.control_socket import SOCKET_NAME, control_socket
from qunxin.errors import QunxinError
from qunxin.folder import owned_folder, prepare_folder


@pytest.fixture
def settings(data_folder: Path) -> Settings:
    return Settings(data=str(data_folder))


async def test_a_second_command_waits_for_the_first(settings: Settings) -> None:
    """Both do their work, one after the other; neither sees an error."""

    async def second() -> str:
        async with open_control(settings) as door:
            return str((await door.call("user.get", user="alice"))["name"])

    async with open_control(settings) as door:
        waiting = asyncio.create_task(second())
        await asyncio.wait({waiting}, timeout=0.3)
        assert not waiting.done()
        await door.call("user.put", user="alice", name="爱 👩‍👩‍👧")
    assert await waiting == "爱 👩‍👩‍👧"


async def test_waiting_has_an_end(
    settings: Settings, data_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder that stays locked without a server that answers is refused in words."""
    monkeypatch.setattr(control, "_OPENING_SECONDS", 0.2)
    prepare_folder(data_folder)
    with owned_folder(data_folder), pytest.raises(QunxinError) as refused:
        async with open_control(settings):
            pass
    assert refused.value.code == "cannot_start"
    assert str(data_folder) in str(refused.value)


async def test_a_socket_that_was_left_behind_is_in_nobodys_way(
    settings: Settings, data_folder: Path
) -> None:
    """Nobody listens there any more: the node is opened here."""
    prepare_folder(data_folder)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(data_folder / SOCKET_NAME))
    async with open_control(settings) as door:
        assert (await door.facts())["pid"] == os.getpid()


def test_the_socket_is_its_owners_alone(data_folder: Path) -> None:
    """Also where one was left behind; and it goes when its maker does."""
    prepare_folder(data_folder)
    path = data_folder / SOCKET_NAME
    path.write_text("不是套接字")
    with control_socket(data_folder):
        status = path.stat()
        assert stat.S_ISSOCK(status.st_mode)
        assert stat.S_IMODE(status.st_mode) == 0o600
    assert not path.exists()


async def test_errors_come_whole_through_the_door(settings: Settings) -> None:
    """Code, facts and advice on retrying are those that the engine raised."""
    async with open_control(settings) as door:
        with pytest.raises(QunxinError) as refused:
            await door.call("user.get", user="没有".encode().hex())
        assert refused.value == QunxinError("user_not_found", user="没有".encode().hex())
        with pytest.raises(QunxinError) as refused:
            await door.call("group.put", group="tea", owner="没有")
        assert refused.value.code == "invalid_request"


async def test_lists_are_read_page_by_page(settings: Settings) -> None:
    """As many as asked for, in order, however many pages that takes."""
    users = [f"u{n:04}" for n in range(1_203)]
    async with open_control(settings) as door:
        for part in (users[:700], users[700:]):
            await asyncio.gather(*(door.call("user.put", user=user) for user in part))
        await door.call("group.put", group="tea", owner=users[0], members=users[1:])
        whole = await door.pages("group.members", "members", 5_000, group="tea")
        first = await door.pages("group.members", "members", 1_100, group="tea")
    assert [one["user"] for one in whole] == users
    assert first == whole[:1_100]


async def test_an_answer_that_never_comes_is_an_unknown_outcome(
    data_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A frozen server is told from one that is not there."""
    prepare_folder(data_folder)
    async with httpx.AsyncClient(
        transport=httpx.AsyncHTTPTransport(uds=str(data_folder / "control.sock")),
        base_url="http://localhost",
    ) as client:
        with control_socket(data_folder) as listener:
            listener.listen()
            monkeypatch.setattr(control, "_FACTS_SECONDS", 0.2)
            with pytest.raises(QunxinError) as unknown:
                await control.Control(client).facts()
        with pytest.raises(QunxinError) as absent:
            await control.Control(client).facts()
    assert (unknown.value.code, absent.value.code) == ("outcome_unknown", "store_unavailable")
