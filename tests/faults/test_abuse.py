"""Each kind of abuse beside clients that behave: it is refused with its code, they lose nothing,
and nothing is left of it. What it costs them in time is measured by ``bench/abuse.py``."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from realtime_client import Closed, RawClient
from serving import ServerProcess, answer, eventually

pytestmark = [pytest.mark.faults, pytest.mark.may_block("offenders share the machine")]

PEOPLE = [f"n{n}" for n in range(20)]
GROUP_SIZE = 10
PAUSE_SECONDS = 0.025
PATIENCE_SECONDS = 60.0
TEXT = "正常的消息 👋🏽 שלום " * 40
MAX_GROWTH_BYTES = 256 * 1024 * 1024
PROGRAM = Path(__file__).with_name("abuse_program.py")
READERS = [f"reader{n}" for n in range(5)]
"""Those who are members of every group, and so are sent everything."""
OTHERS = [f"other{n}" for n in range(15)]
ABUSE = {
    "slow readers": (READERS, "close 4001"),
    "a flooder": (OTHERS[:1], "close 4007"),
    "half-open handshakes": (OTHERS[:1], "408 invalid_request"),
    "slow bodies": (OTHERS[:1], "408 invalid_request"),
    "a reconnect loop": (OTHERS, "429 rate_limited"),
    "clients that never pong": (OTHERS, "close 4002"),
}
"""Who does it, and how it must be refused."""


class Normal:
    """A client that behaves: what it was sent of this crowd's messages, in order."""

    def __init__(self, client: RawClient, group: str, name: str) -> None:
        self.group = group
        self.keys: list[str] = []
        self._name = name
        self._client = client
        self._sent = 0
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        try:
            while True:
                await self._client.read_more()
                for line in self._client.lines:
                    assert "error" not in line, line
                    entry = line.get("push", {}).get("pub", {}).get("data", {})
                    key = entry.get("key", "")
                    self.keys += [key] if key.startswith(self._name) else []
                self._client.lines.clear()
        except Closed as closed:
            pytest.fail(f"a client that behaved was closed with {closed.code}")

    def send(self, key: str) -> None:
        self._sent += 1
        data = {"type": "group", "to": self.group, "text": TEXT, "key": key}
        self._client.send({"id": self._sent + 1, "rpc": {"method": "message.send", "data": data}})

    def check(self) -> None:
        """Raise where it was closed or refused."""
        if self._reading.done():
            self._reading.result()

    async def leave(self) -> None:
        self._reading.cancel()
        await asyncio.wait([self._reading])
        self._client.cut()


class Crowd:
    """Clients that behave, talking until they are stopped."""

    def __init__(self, name: str) -> None:
        self.clients: list[Normal] = []
        self._name = name
        self._sent: dict[str, list[str]] = {}

    async def join(self, port: int, token: str, group: str) -> None:
        client = await RawClient.open(port)
        await client.connect(token)
        self.clients.append(Normal(client, group, self._name))

    async def talk(self, until: asyncio.Event) -> None:
        """Return once everybody has what all the others of the group sent meanwhile, once and in
        order."""
        number = 0
        while not until.is_set():
            sender = self.clients[number % len(self.clients)]
            number += 1
            key = f"{self._name} 第{number}"
            sender.send(key)
            self._sent.setdefault(sender.group, []).append(key)
            await asyncio.sleep(PAUSE_SECONDS)
        async with asyncio.timeout(PATIENCE_SECONDS):
            while any(len(c.keys) < len(self._sent[c.group]) for c in self.clients):
                for client in self.clients:
                    client.check()
                await asyncio.sleep(PAUSE_SECONDS)
        for client in self.clients:
            assert sorted(client.keys) == sorted(self._sent[client.group])
            assert client.keys == next(c.keys for c in self.clients if c.group == client.group)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    options = (
        *("--trusted-proxies", "127.0.0.1"),
        *("--max-unsent-bytes", "65536"),
        *("--ping-interval-seconds", "2"),
        *("--address-handshakes-per-second", "2"),
    )
    with ServerProcess(tmp_path_factory.mktemp("abuse") / "数据", *options) as process:
        yield process


@pytest.fixture(scope="module")
def tokens(server: ServerProcess) -> dict[str, str]:
    """Everybody's, by user."""
    users = (*PEOPLE, *READERS, *OTHERS)
    with server.client() as api:
        for user in users:
            answer(api.put(f"/v1/users/{user}", json={"name": "茶友 🍵"}))
        for begin in range(0, len(PEOPLE), GROUP_SIZE):
            members = PEOPLE[begin : begin + GROUP_SIZE] + READERS
            body = {"owner": members[0], "members": members[1:]}
            answer(api.put(f"/v1/groups/g{begin // GROUP_SIZE}", json=body))
        return {u: answer(api.post("/v1/tokens", json={"user": u}))["token"] for u in users}


@asynccontextmanager
async def crowd_at(
    server: ServerProcess, tokens: dict[str, str], name: str
) -> AsyncIterator[Crowd]:
    crowd = Crowd(name)
    try:
        for n, user in enumerate(PEOPLE):
            await crowd.join(server.port, tokens[user], f"g{n // GROUP_SIZE}")
        yield crowd
    finally:
        for client in crowd.clients:
            await client.leave()


async def abuse_until_refused(kind: str, port: int, tokens: list[str], how: str) -> None:
    """That kind of abuse, until it was refused as expected."""
    tests = PROGRAM.parents[1]
    path = f"{tests}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(PROGRAM), kind, str(port)),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert process.stdin is not None
    assert process.stdout is not None
    said: Any = None
    try:
        process.stdin.write(json.dumps(tokens).encode() + b"\n")
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not (isinstance(said, dict) and how in said):
                line = await process.stdout.readline()
                assert line, f"it ended, after {said}"
                said = json.loads(line)
    except TimeoutError:
        pytest.fail(f"not refused with {how}: {said}")
    finally:
        process.kill()
        await process.wait()


def resident_bytes(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def open_sockets(pid: int) -> int:
    links = (path.readlink() for path in Path(f"/proc/{pid}/fd").iterdir())
    return sum(str(link).startswith("socket:") for link in links)


@pytest.mark.parametrize("kind", ABUSE)
async def test_abuse_is_refused_and_hurts_nobody_else(
    server: ServerProcess, tokens: dict[str, str], kind: str
) -> None:
    """The offender is told why, with the code for it; nobody else is closed, refused, or misses
    anything; memory is bounded, and nothing of it stays."""
    offenders, how = ABUSE[kind]
    async with crowd_at(server, tokens, kind) as crowd:
        sockets, memory = open_sockets(server.pid), resident_bytes(server.pid)
        refused = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(crowd.talk(refused))
            named = [tokens[user] for user in offenders]
            await abuse_until_refused(kind, server.port, named, how)
            refused.set()
        assert resident_bytes(server.pid) - memory < MAX_GROWTH_BYTES
        await asyncio.to_thread(eventually, lambda: open_sockets(server.pid) <= sockets)
