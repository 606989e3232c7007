"""The end of a server under load: everything accepted is answered, everybody is told to come back,
not all at once; and where something hangs, the end comes at its limit."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import apsw
import httpx
import pytest
from fault_help import populate, read_whole_log
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from qunxin.gateways.draining import plan_lots
from qunxin.wire.codes import SHUTTING_DOWN
from serving import ServerProcess

pytestmark = [
    pytest.mark.faults,
    pytest.mark.timeout(120),
    pytest.mark.may_block("it waits for the server that it starts"),
]

DEVICES = 250
MANY_DEVICES = 500
READERS = [f"reader{number}" for number in range(10)]
SENDERS = 6


class Device:
    """A connected device of one of the readers, and how its connection ended."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self.positions: list[int] = []
        self.code: int | None = None
        self.ended_at = 0.0

    async def run(self) -> None:
        """Read, and answer pings, until the server ends it."""
        try:
            async for frame in self._connection:
                for line in str(frame).splitlines():
                    await self._take(json.loads(line))
        except ConnectionClosed:
            pass
        self.code = self._connection.close_code
        self.ended_at = time.monotonic()

    async def _take(self, told: dict[str, Any]) -> None:
        if not told:
            await self._connection.send("{}")
        push = told.get("push", {})
        if push.get("channel") == "group:tea" and "pub" in push:
            self.positions.append(push["pub"]["offset"])


async def connected(server: ServerProcess, token: str) -> Device:
    connection = await connect(server.websocket_url, open_timeout=30, max_size=None)
    await connection.send(json.dumps({"id": 1, "connect": {"token": token}}))
    assert "connect" in str(await connection.recv())
    return Device(connection)


async def send_until_cut(server: ServerProcess, number: int, answers: dict[str, int]) -> None:
    """Send without a pause; the position of each key that was accepted."""
    headers = {"Authorization": f"Bearer {server.key}"}
    async with httpx.AsyncClient(base_url=server.url, headers=headers, timeout=20) as client:
        for count in range(1_000_000):
            key = f"{number}-{count}"
            body = {"type": "group", "to": "tea", "from": "alice", "text": "茶 🍵", "key": key}
            try:
                response = await client.post("/v1/messages", json=body)
            except httpx.TransportError:
                return
            if response.status_code != 201:
                assert response.json()["code"] == "shutting_down"
                return
            answers[key] = response.json()["position"]


async def test_a_stop_under_load(tmp_path: Path) -> None:
    """Whatever is in the log afterwards was answered, so nobody has to ask; every device got a
    beginning of it, was told to come back, and they were told one after the other."""
    with ServerProcess(tmp_path / "data") as server:
        with server.client() as client:
            populate(client, ["alice", *READERS], ["tea"])
        tokens = [server.token(reader) for reader in READERS]
        devices = [await connected(server, tokens[n % len(tokens)]) for n in range(DEVICES)]
        reading = asyncio.gather(*(device.run() for device in devices))
        answers: dict[str, int] = {}
        sending = asyncio.gather(*(send_until_cut(server, n, answers) for n in range(SENDERS)))
        async with asyncio.timeout(30):
            while len(answers) < 100:  # noqa: ASYNC110 - the senders have no event for it
                await asyncio.sleep(0.01)
        assert await asyncio.to_thread(server.stop) == 0
        await asyncio.gather(sending, reading)
        server.start()
        with server.client() as client:
            log = read_whole_log(client, "group:tea", "alice")
    kept = {entry["key"]: entry["position"] for entry in log if "key" in entry}
    assert kept == answers
    assert {device.code for device in devices} == {SHUTTING_DOWN.code}
    for device in devices:
        first = device.positions[0]
        assert device.positions == list(range(first, first + len(device.positions)))
    ends = sorted(device.ended_at for device in devices)
    planned = plan_lots(DEVICES, 2.0)[-1].after_seconds
    assert ends[-1] - ends[0] > 0.5 * planned  # whoever has much to read learns of the end late


async def test_a_stop_spreads_the_ends_evenly(tmp_path: Path) -> None:
    """Over the time that the plan has for so many, in no third of it much more than a third of
    them. The machine is shared, and a lot that comes late does not delay those after it."""
    with ServerProcess(tmp_path / "data") as server:
        with server.client() as client:
            populate(client, ["alice", *READERS], ["tea"])
        tokens = [server.token(reader) for reader in READERS]
        devices = [await connected(server, tokens[n % len(tokens)]) for n in range(MANY_DEVICES)]
        reading = asyncio.gather(*(device.run() for device in devices))
        assert await asyncio.to_thread(server.stop) == 0
        await reading
    assert {device.code for device in devices} == {SHUTTING_DOWN.code}
    ends = sorted(device.ended_at for device in devices)
    took = ends[-1] - ends[0]
    assert took > 0.75 * plan_lots(MANY_DEVICES, 2.0)[-1].after_seconds
    for third in range(3):
        begin = ends[0] + third * took / 3
        within = sum(begin <= end <= begin + took / 3 for end in ends)
        assert 0.15 * MANY_DEVICES < within < 0.55 * MANY_DEVICES


async def test_a_stop_that_hangs_ends_at_its_limit(tmp_path: Path) -> None:
    """Here another process holds the database, so what was accepted cannot be answered; after
    the limit the server is gone, and the key says later what became of it."""
    body = {"type": "group", "to": "tea", "from": "alice", "text": "挂起 🍵", "key": "一"}
    with ServerProcess(tmp_path / "data", "--shutdown-timeout-seconds", "1.5") as server:
        with server.client() as client:
            populate(client, ["alice", "bob"], ["tea"])
        other = apsw.Connection(str(server.data_folder / "messages.db"))
        other.execute("BEGIN IMMEDIATE")
        headers = {"Authorization": f"Bearer {server.key}"}
        async with httpx.AsyncClient(base_url=server.url, headers=headers, timeout=20) as waiting:
            requests = [asyncio.create_task(waiting.post("/v1/messages", json=body))]
            while "qunxin_commit_queue_commands 0.0" in (await waiting.get("/metrics")).text:
                requests.append(asyncio.create_task(waiting.put("/v1/users/cy", json={})))
            started = time.monotonic()
            assert await asyncio.to_thread(server.stop) == 1
            assert time.monotonic() - started < 4
            ends = await asyncio.gather(*requests, return_exceptions=True)
            assert {outcome_of(end) for end in ends} <= {"cut off", "outcome_unknown"}
        assert "the rest is cut" in server.log
        other.execute("ROLLBACK")
        other.close()
        server.start()
        with server.client() as client:
            receipt = client.post("/v1/messages", json=body).raise_for_status().json()
            assert receipt["position"] == 2
            log = read_whole_log(client, "group:tea", "alice")
    assert [entry.get("key") for entry in log[1:]] == ["一"]


def outcome_of(end: httpx.Response | BaseException) -> str:
    """What the sender knows then: an error's code, or that the connection broke."""
    if isinstance(end, httpx.TransportError):
        return "cut off"
    return str(end.json()["code"]) if isinstance(end, httpx.Response) else repr(end)
