"""SIGKILL in the middle of load, again and again: what was acknowledged is there, once."""

from __future__ import annotations

import asyncio
import os
import random
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any, Protocol

import httpx
import pytest
from fault_client import RealtimeClient, UnknownOutcomeError
from fault_help import asked, populate, read_whole_log

from serving import ServerProcess

KILLS = int(os.environ.get("QUNXIN_TEST_KILLS", "200"))
USERS = [f"u{n}" for n in range(6)]
GROUPS = [f"g{n}" for n in range(4)]
HTTP_WRITERS = 8
REALTIME_IN_FLIGHT = 3
MOST_PER_ROUND = 60
BODIES = ("", "好的 👩‍👩‍👧‍👦", "مرحبا بالعالم", "换行\n与\u2028分隔", "长" * 2_000)


class Journal:
    """What was sent and what was answered, by key: the clients' own record."""

    def __init__(self) -> None:
        self.sent: dict[str, dict[str, Any]] = {}
        self.acknowledged: dict[str, tuple[str, int]] = {}
        self.repeats = 0
        self.duplicates = 0
        self._changed = asyncio.Event()

    def note(self, key: str, receipt: dict[str, Any], *, repeated: bool) -> None:
        assert key not in self.acknowledged
        assert repeated or not receipt["duplicate"], "a first try was called a repeat"
        self.acknowledged[key] = (receipt["conversation"], receipt["position"])
        self.repeats += repeated
        self.duplicates += receipt["duplicate"]
        self._changed.set()

    async def wait_for(self, count: int) -> None:
        while len(self.acknowledged) < count:
            self._changed.clear()
            await self._changed.wait()


class Door(Protocol):
    """One way in. `send` gives the receipt or raises `UnknownOutcomeError`."""

    user: str

    async def send(self, message: dict[str, Any]) -> dict[str, Any]: ...

    async def close(self) -> None: ...


class HttpDoor:
    """Sends for `user` with the API key."""

    def __init__(self, node: ServerProcess, user: str) -> None:
        self.user = user
        self._client = httpx.AsyncClient(
            base_url=node.url, headers={"Authorization": f"Bearer {node.key}"}, timeout=20
        )

    async def send(self, message: dict[str, Any]) -> dict[str, Any]:
        try:
            answer = await self._client.post("/v1/messages", json={**message, "from": self.user})
        except httpx.TransportError as error:
            raise UnknownOutcomeError from error
        assert answer.status_code in (200, 201), answer.text
        receipt: dict[str, Any] = answer.json()
        return receipt

    async def close(self) -> None:
        await self._client.aclose()


class RealtimeDoor:
    """Sends as `user` over one connection, made again after it broke."""

    def __init__(self, node: ServerProcess, user: str) -> None:
        self.user = user
        self._url = node.websocket_url
        self._token = node.token(user)
        self._lock = asyncio.Lock()
        self._client: RealtimeClient | None = None

    async def send(self, message: dict[str, Any]) -> dict[str, Any]:
        client = await self._connected()
        try:
            return await client.rpc("message.send", message)
        except UnknownOutcomeError:
            self._client = None if self._client is client else self._client
            raise

    async def close(self) -> None:
        if self._client is not None:
            await self._client.close()

    async def _connected(self) -> RealtimeClient:
        async with self._lock:
            if self._client is None:
                self._client = await RealtimeClient.open(self._url, self._token)
            return self._client


class Load:
    """Writers that send without pause, and repeat with the same key what was not answered."""

    def __init__(self, node: ServerProcess, journal: Journal) -> None:
        self._journal = journal
        self._random = random.Random(7)
        self._ending = False
        self.up = asyncio.Event()
        """Whether a server runs."""
        self._lanes: list[Door] = [HttpDoor(node, USERS[n % 6]) for n in range(HTTP_WRITERS)]
        for user in USERS:
            self._lanes += [RealtimeDoor(node, user)] * REALTIME_IN_FLIGHT

    def finish(self) -> None:
        """Begin nothing new; what is under way is repeated until it is answered."""
        self._ending = True

    async def run(self) -> None:
        """Return once everything begun before `finish` was answered."""
        try:
            async with asyncio.TaskGroup() as group:
                for lane, door in enumerate(self._lanes):
                    group.create_task(self._write(lane, door))
        finally:
            for door in self._lanes:
                await door.close()

    async def _write(self, lane: int, door: Door) -> None:
        number = 0
        while not self._ending:
            number += 1
            await self._until_answered(door, self._message(f"{lane}-{number}", door.user))

    def _message(self, key: str, sender: str) -> dict[str, Any]:
        text = f"{key} {self._random.choice(BODIES)}"
        message = {"type": "group", "to": self._random.choice(GROUPS), "text": text, "key": key}
        if self._random.random() < 0.2:
            others = [user for user in USERS if user != sender]
            message |= {"type": "private", "to": self._random.choice(others)}
        self._journal.sent[key] = {**message, "from": sender}
        return message

    async def _until_answered(self, door: Door, message: dict[str, Any]) -> None:
        repeated = False
        while True:
            await self.up.wait()
            try:
                receipt = await door.send(message)
            except UnknownOutcomeError:
                repeated = True
                continue
            self._journal.note(message["key"], receipt, repeated=repeated)
            return


async def _kill_again_and_again(
    node: ServerProcess, journal: Journal, load: Load, say: Any
) -> None:
    """`KILLS` times: some acknowledgements, SIGKILL while others are under way, a new start."""
    moments = random.Random(11)
    began = time.monotonic()
    for kill in range(1, KILLS + 1):
        load.up.set()
        await journal.wait_for(len(journal.acknowledged) + moments.randint(1, MOST_PER_ROUND))
        node.kill()
        load.up.clear()
        await asyncio.to_thread(node.start)
        if kill % 20 == 0 or kill == KILLS:
            say(
                f"{kill} kills, {len(journal.acknowledged)} acknowledged, {journal.repeats} "
                f"repeated, of those {journal.duplicates} had been accepted, "
                f"{time.monotonic() - began:.0f} s"
            )
    load.up.set()


def _check_log(entries: list[dict[str, Any]], conversation: str) -> None:
    positions = [entry["position"] for entry in entries]
    assert positions == list(range(1, len(entries) + 1)), f"{conversation}: a gap or a repeat"


def _check_everything(node: ServerProcess, journal: Journal) -> None:
    """The logs hold exactly what was acknowledged, each where it was acknowledged."""
    found: dict[tuple[str, int], dict[str, Any]] = {}
    with node.client() as client:
        for name in {conversation for conversation, _ in journal.acknowledged.values()}:
            reader = USERS[0] if name.startswith("group:") else name[8:].partition("~")[0]
            entries = read_whole_log(client, name, reader)
            _check_log(entries, name)
            found |= {(name, e["position"]): e for e in entries if "content" in e}
    counts = Counter(entry["key"] for entry in found.values())
    assert not [key for key, count in counts.items() if count > 1], "doubled"
    assert set(counts) == set(journal.acknowledged), "lost, or never sent"
    for key, place in journal.acknowledged.items():
        entry, message = found[place], journal.sent[key]
        assert (entry["key"], entry["type"], entry["from"], entry["content"]) == (
            key,
            message["type"],
            message["from"],
            [{"type": "text", "text": message["text"]}],
        )


def _check_repeats(node: ServerProcess, journal: Journal) -> None:
    """Keys answer as they did, kills or not."""
    with node.client() as client:
        for key, (conversation, position) in list(journal.acknowledged.items())[-200:]:
            receipt = asked(client, "POST", "/v1/messages", journal.sent[key])
            outcome = (receipt["conversation"], receipt["position"], receipt["duplicate"])
            assert outcome == (conversation, position, True)


@pytest.mark.faults
@pytest.mark.timeout(1800)
@pytest.mark.may_block("it waits for the server before the load and reads the logs after it")
async def test_nothing_acknowledged_is_lost_or_doubled_by_kills(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Promises 2 and 3 hold over SIGKILL in the middle of load, with sends repeated by key."""

    def say(text: str) -> None:
        with capsys.disabled():
            sys.stderr.write(f"\n  {text}")
            sys.stderr.flush()

    journal = Journal()
    with ServerProcess(tmp_path / "data") as node:
        with node.client() as client:
            populate(client, USERS, GROUPS)
        load = Load(node, journal)
        async with asyncio.TaskGroup() as group:
            group.create_task(load.run())
            await _kill_again_and_again(node, journal, load, say)
            load.finish()
        assert journal.repeats > 0, "no kill hit anything in flight"
        _check_everything(node, journal)
        _check_repeats(node, journal)
        assert node.stop() == 0
