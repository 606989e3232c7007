"""SIGKILL of the server in the middle of sending webhooks, to receivers that behave badly."""

from __future__ import annotations

import asyncio
import os
import random
import ssl
import sys
from collections import Counter
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from aiohttp import web
from fault_help import asked, populate, read_whole_log

from serving import ServerProcess
from webhook_receiver import Received, Receiver

KILLS: Final = int(os.environ.get("QUNXIN_TEST_WEBHOOK_KILLS", "12"))
USERS: Final = [f"u{number}" for number in range(4)]
GROUPS: Final = [f"g{number}" for number in range(4)]
AHEAD: Final = 150
TEXTS: Final = ("好的 👩‍👩‍👧‍👦", "مرحبا بالعالم", "长" * 2_000)
SETTINGS: Final = ("--webhook-networks", "127.0.0.0/8", "--webhook-timeout-seconds", "0.5")
UNLIMITED: Final = ("--user-sends-per-minute", "0")


class Moody:
    """Takes most, answers 500, asks for a pause, redirects, or says nothing, as chance has it."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)
        self.calm = False

    async def __call__(self, _: Received) -> web.StreamResponse | int:
        mood = 1.0 if self.calm else self._chance.random()
        if mood < 0.08:
            return 500
        if mood < 0.10:
            return web.Response(status=503, headers={"Retry-After": "0"})
        if mood < 0.12:
            return web.Response(status=302, headers={"Location": "/anders"})
        if mood < 0.14:
            await asyncio.sleep(0.7)  # longer than the attempt's time
        return 204


class Load:
    """Sends to all groups, at most `AHEAD` messages ahead of the receiver; what is acknowledged is
    noted, what is not is not asked for again."""

    def __init__(self, node: ServerProcess, receiver: Receiver) -> None:
        self._node = node
        self._receiver = receiver
        self._chance = random.Random(3)
        self.acknowledged: list[tuple[str, int]] = []
        self.up = asyncio.Event()
        self.ending = False

    async def run(self) -> None:
        headers = {"Authorization": f"Bearer {self._node.key}"}
        async with httpx.AsyncClient(base_url=self._node.url, headers=headers) as client:
            while not self.ending:
                await self.up.wait()
                most = len(self.acknowledged) - AHEAD
                await self._receiver.until(
                    lambda: self.ending or len(self._receiver.taken) >= most  # noqa: B023
                )
                message = {"type": "group", "to": self._chance.choice(GROUPS), "from": USERS[0]}
                message["text"] = self._chance.choice(TEXTS)
                try:
                    answer = await client.post("/v1/messages", json=message)
                except httpx.TransportError:
                    await asyncio.sleep(0)
                    continue
                receipt: dict[str, Any] = answer.json()
                assert answer.status_code == 201, receipt
                self.acknowledged.append((receipt["conversation"], receipt["position"]))


def _check(receiver: Receiver, logs: dict[str, list[int]], secret: str) -> None:
    """Everything came, first receipts in the order of each conversation, ids one to one with
    places, every signature good, never two of one conversation out of turn."""
    places = receiver.places
    for name, positions in logs.items():
        assert [position for found, position in places if found == name] == positions, name
    ids = {(one.id, one.place) for one in receiver.requests}
    assert len(ids) == len({one.id for one in receiver.requests}) == len({p for _, p in ids})
    for one in receiver.taken[-200:]:
        one.check(secret)


@pytest.mark.faults
@pytest.mark.timeout(900)
@pytest.mark.may_block("it asks the server between rounds and reads the logs at the end")
async def test_no_event_is_lost_by_kills(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Over SIGKILLs at random moments, to a receiver that fails, stalls and is down at times:
    every event comes at least once, in order within its conversation."""
    moments = random.Random(5)
    mood = Moody(7)
    receiver = Receiver()
    receiver.behave = mood
    await receiver.start()
    try:
        with ServerProcess(tmp_path / "data", *SETTINGS, *UNLIMITED) as node:
            node.key = node.create_key("all", "--scope", "webhooks", *_scopes())
            with node.client() as client:
                populate(client, USERS, GROUPS)
                body = {"url": f"http://127.0.0.1:{receiver.port}/"}
                hook = asked(client, "POST", "/v1/webhooks", body)
            load = Load(node, receiver)
            async with asyncio.TaskGroup() as group:
                group.create_task(load.run(), name="load")
                for kill in range(KILLS):
                    load.up.set()
                    await receiver.until_asked(len(receiver.requests) + moments.randint(5, 60))
                    load.up.clear()
                    await _kill(node, receiver, down=kill % 5 == 4)
                load.ending = True
                load.up.set()
            mood.calm = True
            with node.client() as client:
                logs = {
                    f"group:{group}": [
                        entry["position"]
                        for entry in read_whole_log(client, f"group:{group}", USERS[0])
                    ][1:]
                    for group in GROUPS
                }
                wanted = {(name, p) for name, positions in logs.items() for p in positions}
                await receiver.until(lambda: wanted <= set(receiver.places))
            assert set(load.acknowledged) <= wanted
            _check(receiver, logs, hook["secret"])
    finally:
        await receiver.stop()
    again = Counter(one.place for one in receiver.taken)
    doubled = sum(count - 1 for count in again.values())
    with capsys.disabled():
        sys.stderr.write(f"\n  {KILLS} kills, {len(wanted)} events came, {doubled} came again")


async def _kill(node: ServerProcess, receiver: Receiver, *, down: bool) -> None:
    """SIGKILL and a new start; where `down`, the receiver comes back only after that."""
    if down:
        await receiver.stop()
    node.kill()
    await asyncio.to_thread(node.start)
    if down:
        await receiver.start()


def _scopes() -> list[str]:
    return [
        part for scope in ("users", "groups", "messages", "read") for part in ("--scope", scope)
    ]


@pytest.mark.faults
@pytest.mark.timeout(300)
@pytest.mark.may_block("it starts a server")
async def test_a_server_with_a_lying_receiver_stops_in_order(tmp_path: Path) -> None:
    """A receiver that breaks off every handshake neither keeps the server from stopping nor from
    accepting."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)  # without a certificate: no handshake ends
    receiver = Receiver(context)
    await receiver.start()
    try:
        with ServerProcess(tmp_path / "data", *SETTINGS, *UNLIMITED) as node:
            node.key = node.create_key("all", "--scope", "webhooks", *_scopes())
            with node.client() as client:
                populate(client, USERS, GROUPS)
                asked(client, "POST", "/v1/webhooks", {"url": receiver.url})
                for _ in range(50):
                    body = {"type": "group", "to": "g0", "from": "u0", "text": "照常 🍵"}
                    asked(client, "POST", "/v1/messages", body)
            assert node.stop() == 0
    finally:
        await receiver.stop()
    assert receiver.requests == []
