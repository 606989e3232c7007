"""A backup in the middle of sends, restored elsewhere, and the clients that go on there."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path
from typing import Any

import centrifuge
import httpx
import pytest
from fault_help import populate, read_whole_log

from serving import ServerProcess, run_cli

pytestmark = [
    pytest.mark.faults,
    pytest.mark.timeout(120),
    pytest.mark.may_block("it waits for the server that it starts"),
]

TEA = "group:tea"
SENDERS = 8
BEFORE = 200
"""Messages accepted before the backup begins."""


class Device(centrifuge.ClientEventHandler):  # type: ignore[misc]
    """A client of another project, and what it was told of the group tea."""

    def __init__(self, node: ServerProcess, user: str) -> None:
        token = node.token(user)

        async def get_token() -> str:
            return token

        self.subscribed: list[tuple[bool, bool]] = []
        self.positions: list[int] = []
        self.changed = asyncio.Condition()
        self.client = centrifuge.Client(
            node.websocket_url, events=self, get_token=get_token, min_reconnect_delay=0.05
        )

    async def on_subscribed(self, ctx: centrifuge.ServerSubscribedContext) -> None:
        if ctx.channel == TEA:
            async with self.changed:
                self.subscribed.append((ctx.was_recovering, ctx.recovered))
                self.changed.notify_all()

    async def on_publication(self, ctx: centrifuge.ServerPublicationContext) -> None:
        if ctx.channel == TEA:
            async with self.changed:
                self.positions.append(ctx.pub.offset)
                self.changed.notify_all()

    async def until_subscribed(self, times: int) -> None:
        async with asyncio.timeout(30), self.changed:
            await self.changed.wait_for(lambda: len(self.subscribed) == times)

    async def until_position(self, position: int) -> None:
        async with asyncio.timeout(30), self.changed:
            await self.changed.wait_for(lambda: position in self.positions)


class Senders:
    """Several clients that send without a pause, and what was accepted of it."""

    def __init__(self, node: ServerProcess) -> None:
        self._node = node
        self.accepted: dict[int, str] = {}
        self.changed = asyncio.Condition()
        self.enough = False

    async def run(self) -> None:
        headers = {"Authorization": f"Bearer {self._node.key}"}
        async with httpx.AsyncClient(base_url=self._node.url, headers=headers, timeout=20) as http:
            await asyncio.gather(*(self._send(http, number) for number in range(SENDERS)))

    async def _send(self, http: httpx.AsyncClient, sender: int) -> None:
        number = 0
        while not self.enough:
            number += 1
            key = f"{sender}-{number}"
            text = f"第 {key} 条 👩\u200d👩\u200d👧 جملة " + "长" * (number % 300)
            body = {"type": "group", "to": "tea", "from": "alice", "text": text, "key": key}
            receipt = (await http.post("/v1/messages", json=body)).raise_for_status().json()
            async with self.changed:
                self.accepted[receipt["position"]] = key
                self.changed.notify_all()

    async def until_accepted(self, count: int) -> None:
        async with asyncio.timeout(60), self.changed:
            await self.changed.wait_for(lambda: len(self.accepted) >= count)


def moved(node: ServerProcess, folder: Path) -> ServerProcess:
    """A server on the restored folder at the place of the old one, with the secrets that sign
    tokens copied as the guide says."""
    shutil.copy(node.data_folder / "token-keys.json", folder)
    other = ServerProcess(folder)
    other.port, other.url, other.key = node.port, node.url, node.key
    other.websocket_url = node.websocket_url
    return other


async def command(*arguments: str) -> Any:
    done = await asyncio.to_thread(run_cli, *arguments, "--json", timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


async def test_a_backup_under_load_restored_elsewhere(tmp_path: Path) -> None:
    """What was acknowledged before the backup is there, a beginning of the log without a gap;
    a client is told to reload once, hears what comes next, and later recovers as ever."""
    with ServerProcess(tmp_path / "旧") as node:
        with node.client() as client:
            populate(client, ["alice", "bob"], ["tea"])
        bob, senders = Device(node, "bob"), Senders(node)
        await bob.client.connect()
        await bob.until_subscribed(1)
        sending = asyncio.create_task(senders.run())
        await senders.until_accepted(BEFORE)
        before = dict(senders.accepted)
        copy = tmp_path / "备份.db"
        told = await command("backup", str(copy), "--data", str(node.data_folder))
        await senders.until_accepted(len(senders.accepted) + 50)
        senders.enough = True
        await sending
        last = max(senders.accepted)
        await bob.until_position(last)
        assert await asyncio.to_thread(node.stop) == 0

    folder = tmp_path / "新"
    restored = await command("restore", str(copy), "--data", str(folder))
    assert restored["manifest"]["facts"] == told["facts"]
    with moved(node, folder) as other:
        with other.client() as client:
            log = read_whole_log(client, TEA, "alice")
            kept = {entry["position"]: entry.get("key") for entry in log}
            assert list(kept) == list(range(1, len(kept) + 1))
            assert before.items() <= kept.items()
            assert len(kept) < last
            await bob.until_subscribed(2)
            assert bob.subscribed == [(False, False), (True, False)]
            body = {"type": "group", "to": "tea", "from": "alice", "text": "继续 🍵", "key": "新"}
            position = client.post("/v1/messages", json=body).raise_for_status().json()["position"]
            assert position == len(kept) + 1
            bob.positions.clear()
            await bob.until_position(position)
        assert await asyncio.to_thread(other.stop) == 0
        other.start()
        await bob.until_subscribed(3)
        assert bob.subscribed[-1] == (True, True)
        await bob.client.disconnect()
