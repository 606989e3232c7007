"""Realtime frames and streams from a seed, a million of them: the server answers in order, logs no
error, grows by nothing, and another reader's stream is what it would be without them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from statistics import median

import pytest
from fuzz_frames import FrameMaker
from fuzz_streams import StreamAttack
from fuzz_verdict import Seen, check_log

from realtime_client import Closed, ProtobufClient, RawClient, cut_all
from serving import ServerProcess, answer

TEA = "group:tea"
FRAMES_PER_CONNECTION = 150
PARTS = 50
ATTACKERS = 4
STRANGERS = 0.1
"""The share of connections that begin with something else than a `connect` that is right."""
CLIENTS: dict[str, type[RawClient]] = {"json": RawClient, "protobuf": ProtobufClient}


class Attack:
    """Connections one after another, each with a batch of frames, until `frames` were sent."""

    def __init__(self, server: ServerProcess, seed: int, encoding: str) -> None:
        self.server = server
        self.seed = seed
        self.encoding = encoding
        self.sent = 0
        self.connections = 0
        self.seen = Seen()
        self.token = server.token("mallory")

    async def run(self, frames: int) -> None:
        goal = self.sent + frames
        async with asyncio.TaskGroup() as attackers:
            for _ in range(ATTACKERS):
                attackers.create_task(self._attack(goal))

    async def _attack(self, goal: int) -> None:
        while self.sent < goal:
            self.connections += 1
            maker = FrameMaker(self.seed * 1_000_003 + self.connections, self.encoding)
            await self._one_connection(maker)

    async def _one_connection(self, maker: FrameMaker) -> None:
        client = await CLIENTS[self.encoding].open(self.server.port)
        RawClient.opened.remove(client)
        try:
            if maker.random.random() < STRANGERS:
                self.sent += 1
                client.writer.write(maker.opening())
            else:
                await client.connect(self.token)
            reading = asyncio.create_task(self._read(client))
            await self._write(client, maker, reading)
            self.seen.end(await asyncio.wait_for(reading, 20))
        finally:
            client.cut()
            with suppress(ConnectionError):
                await client.writer.wait_closed()

    async def _write(
        self, client: RawClient, maker: FrameMaker, reading: asyncio.Task[int | None]
    ) -> None:
        for _ in range(FRAMES_PER_CONNECTION - 1):
            self.sent += 1
            client.writer.write(maker.harmless())
            if reading.done():
                break
            with suppress(ConnectionError):
                await client.writer.drain()
        self.sent += 1
        client.writer.write(maker.final())
        if maker.random.random() < 0.05:
            client.cut()
        else:
            client.writer.write(b"\x88\x80mask")

    async def _read(self, client: RawClient) -> int | None:
        """Every reply is a line of this protocol with a number that is known."""
        while True:
            try:
                await client.read_more()
            except Closed as closed:
                return closed.code
            self.seen.lines(client.lines)
            client.lines.clear()


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


def populate(server: ServerProcess) -> None:
    with server.client() as api:
        for user in ("alice", "mallory"):
            answer(api.put(f"/v1/users/{user}", json={}))
        answer(api.put("/v1/groups/tea", json={"owner": "alice", "members": ["mallory"]}))


async def fuzz(server: ServerProcess, attack: Attack | StreamAttack, goal: int) -> list[int]:
    """Resident memory after each of fifty parts."""
    resident: list[int] = []
    async with beside(server) as bystander:
        while attack.sent < goal or bystander.sent <= 5:
            await attack.run(goal // PARTS)
            resident.append(resident_bytes(server.pid))
    attack.seen.check()
    check_log(server.log)
    return resident


@asynccontextmanager
async def beside(server: ServerProcess) -> AsyncIterator[Bystander]:
    """Somebody who talks while the block runs, and is served as if nothing were."""
    bystander = Bystander(server)
    watching = asyncio.create_task(bystander.run())
    try:
        yield bystander
    finally:
        bystander.stopping = True
        await watching
        await cut_all()


def check_growth(resident: list[int], share: float = 0.05) -> None:
    """At the end within that share of what it was after a warm-up of two fifths, by when it has
    come to rest in what is kept for later use: it goes up and down by as much, so medians over a
    fifth of the run are compared."""
    fifth = len(resident) // 5
    before, after = median(resident[2 * fifth : 3 * fifth]), median(resident[-fifth:])
    assert after <= before * (1 + share), (before, after)


async def test_a_few_thousand(server: ServerProcess) -> None:
    """Of frames in both encodings, and of requests for streams."""
    populate(server)
    attacks: list[Attack | StreamAttack] = [
        Attack(server, 1, "json"),
        Attack(server, 1, "protobuf"),
        StreamAttack(server, 1),
    ]
    async with beside(server) as bystander:
        while bystander.sent <= 5 or any(attack.sent < 400 for attack in attacks):
            for attack, requests in zip(attacks, (2_000, 2_000, 400), strict=True):
                await attack.run(requests)
    for attack in attacks:
        attack.seen.check()
    check_log(server.log)


@pytest.mark.fuzz
@pytest.mark.timeout(3_600)
@pytest.mark.may_block("the machine is busy with the attack")
@pytest.mark.parametrize(
    ("backend", "encoding", "frames"),
    [
        ("picows", "json", 1_000_000),
        ("websockets", "json", 150_000),
        ("picows", "protobuf", 300_000),
        ("websockets", "protobuf", 50_000),
    ],
)
async def test_many_frames(data_folder: Path, backend: str, encoding: str, frames: int) -> None:
    with ServerProcess(data_folder, "--websocket-backend", backend) as server:
        populate(server)
        resident = await fuzz(server, Attack(server, 2, encoding), frames)
    check_growth(resident)


@pytest.mark.fuzz
@pytest.mark.timeout(3_600)
@pytest.mark.may_block("the machine is busy with the attack")
async def test_many_streams(server: ServerProcess) -> None:
    populate(server)
    resident = await fuzz(server, StreamAttack(server, 2), 15_000)
    check_growth(resident, 0.1)  # bodies of a megabyte come and go
