"""Realtime frames from a seed, a million of them: the server answers in order, logs no error,
grows by nothing, and another reader's stream is what it would be without them."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from pathlib import Path
from statistics import median
from typing import Any

import pytest
from fuzz_frames import FrameMaker

from qunxin.wire.codes import DISCONNECTS, ERROR_NUMBERS
from realtime_client import Closed, RawClient, cut_all
from serving import ServerProcess, answer

TEA = "group:tea"
FRAMES_PER_CONNECTION = 150
PARTS = 50
ATTACKERS = 4
KNOWN_ERRORS = {105, 108, 112, *ERROR_NUMBERS.values()} - {ERROR_NUMBERS["internal"]}
KNOWN_CODES = {one.code for one in DISCONNECTS} | {1000, None}


class Attack:
    """Connections one after another, each with a batch of frames, until `frames` were sent."""

    def __init__(self, server: ServerProcess, seed: int) -> None:
        self.server = server
        self.seed = seed
        self.sent = 0
        self.connections = 0
        self.errors: dict[int, int] = {}
        self.codes: dict[int | None, int] = {}
        self.token = server.token("mallory")

    async def run(self, frames: int) -> None:
        goal = self.sent + frames
        await asyncio.gather(*(self._attack(goal) for _ in range(ATTACKERS)))

    async def _attack(self, goal: int) -> None:
        while self.sent < goal:
            self.connections += 1
            maker = FrameMaker(self.seed * 1_000_003 + self.connections)
            self.sent += FRAMES_PER_CONNECTION
            await self._one_connection(maker)

    async def _one_connection(self, maker: FrameMaker) -> None:
        client = await RawClient.open(self.server.port)
        RawClient.opened.remove(client)
        try:
            await client.connect(self.token)
            reading = asyncio.create_task(self._read(client))
            for _ in range(FRAMES_PER_CONNECTION - 1):
                client.writer.write(maker.harmless())
                if reading.done():
                    break
                with suppress(ConnectionError):
                    await client.writer.drain()
            client.writer.write(maker.final())
            if maker.random.random() < 0.05:
                client.cut()
            else:
                client.writer.write(b"\x88\x80mask")
            code = await asyncio.wait_for(reading, 20)
            assert code in KNOWN_CODES, code
            self.codes[code] = self.codes.get(code, 0) + 1
        finally:
            client.cut()
            with suppress(ConnectionError):
                await client.writer.wait_closed()

    async def _read(self, client: RawClient) -> int | None:
        """Every reply is a line of this protocol with a number that is known."""
        while True:
            try:
                await client.read_more()
            except Closed as closed:
                return closed.code
            for line in client.lines:
                if "error" in line:
                    self._check_error(line["error"])
            client.lines.clear()

    def _check_error(self, error: dict[str, Any]) -> None:
        number = error["code"]
        assert number in KNOWN_ERRORS, error
        assert "Traceback" not in error["message"]
        assert 'File "' not in error["message"]
        self.errors[number] = self.errors.get(number, 0) + 1


class Bystander:
    """Sends numbered messages and reads the group, next to the attack."""

    def __init__(self, server: ServerProcess) -> None:
        self.server = server
        self.position = 0
        self.own: list[int] = []
        self.sent = 0
        self.stopping = False

    async def run(self) -> None:
        self.client = await RawClient.open(self.server.port)
        welcome = await self.client.connect(self.server.token("alice"))
        self.position = welcome["subs"][TEA]["offset"]
        while not self.stopping:
            reply = await self.client.call(
                publish={"channel": TEA, "data": {"text": f"第 {self.sent}", "key": f"{self.sent}"}}
            )
            assert reply["publish"] == {}, reply
            self.sent += 1
            self._check_stream()
            await asyncio.sleep(0.02)
        while len(self.own) < self.sent:
            await self.client.read_more()
            self._check_stream()
        assert self.own == list(range(self.sent))

    def _check_stream(self) -> None:
        """Every position once, in order; own messages whole."""
        for line in self.client.lines:
            publication = line.get("push", {}).get("pub")
            if publication is None or line["push"]["channel"] != TEA:
                continue
            entry = publication["data"]
            assert publication["offset"] == entry["position"] == self.position + 1
            self.position += 1
            if entry.get("from") == "alice":
                assert entry["content"] == [{"type": "text", "text": f"第 {entry['key']}"}]
                self.own.append(int(entry["key"]))
        self.client.lines.clear()


def resident_bytes(pid: int) -> int:
    fields = Path(f"/proc/{pid}/status").read_text().split("VmRSS:")[1].split()
    return int(fields[0]) * 1024


async def fuzz(server: ServerProcess, seed: int, frames: int) -> list[int]:
    """Resident memory after each of fifty parts."""
    with server.client() as api:
        for user in ("alice", "mallory"):
            answer(api.put(f"/v1/users/{user}", json={}))
        answer(api.put("/v1/groups/tea", json={"owner": "alice", "members": ["mallory"]}))
    attack, bystander = Attack(server, seed), Bystander(server)
    watching = asyncio.create_task(bystander.run())
    resident: list[int] = []
    try:
        while attack.sent < frames:
            await attack.run(frames // PARTS)
            assert not watching.done(), watching.result()
            resident.append(resident_bytes(server.pid))
    finally:
        bystander.stopping = True
        await watching
        await cut_all()
    assert bystander.sent > 5
    assert len(attack.errors) >= 5, attack.errors
    assert len(attack.codes) >= 5, attack.codes
    check_log(server.log)
    return resident


def check_log(log: str) -> None:
    """Nothing in the server's log is an error."""
    assert "Traceback" not in log
    for line in log.splitlines():
        if line.startswith("{"):
            assert json.loads(line).get("level") not in ("error", "critical"), line


async def test_a_few_thousand_frames(server: ServerProcess) -> None:
    await fuzz(server, seed=1, frames=3_000)


@pytest.mark.fuzz
@pytest.mark.timeout(3_600)
@pytest.mark.may_block("the machine is busy with the attack")
@pytest.mark.parametrize(("backend", "frames"), [("picows", 1_000_000), ("websockets", 150_000)])
async def test_a_million_frames(data_folder: Path, backend: str, frames: int) -> None:
    """Resident memory at the end is within 5 % of what it was after a warm-up of a fifth: it
    goes up and down by as much, so medians over a fifth of the run are compared."""
    with ServerProcess(data_folder, "--websocket-backend", backend) as server:
        resident = await fuzz(server, seed=2, frames=frames)
    fifth = len(resident) // 5
    before, after = median(resident[fifth : 2 * fifth]), median(resident[-fifth:])
    assert after <= before * 1.05, (before, after)
