"""From the `connect` command to its reply: what may come meanwhile, who waits, and how long."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from qunxin.engine import Engine
from qunxin.gateways.realtime import RealtimeSettings
from realtime_client import TEA, RawClient, RealtimeNode, put_tea, realtime_node


class Gate:
    """In front of `Engine.connect`: nobody comes through until it is opened."""

    def __init__(self, engine: Engine) -> None:
        self.users: list[str] = []
        """Who stands before it or went through, in order."""
        self.is_open = asyncio.Event()
        self._connect = engine.connect

    async def connect(self, user: str, *arguments: Any, **options: Any) -> Any:
        self.users.append(user)
        await self.is_open.wait()
        return await self._connect(user, *arguments, **options)

    async def reached(self, *users: str) -> None:
        async with asyncio.timeout(5):
            while self.users != list(users):  # noqa: ASYNC110 - what the node does has no event
                await asyncio.sleep(0.01)


@pytest.fixture
def gate(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Gate:
    made = Gate(engine)
    monkeypatch.setattr(engine, "connect", made.connect)
    return made


async def asking(node: RealtimeNode, user: str, *behind: dict[str, Any]) -> RawClient:
    """A client whose `connect` is sent, and what it sends in the same frame."""
    client = await RawClient.open(node.port)
    client.send({"id": 1, "connect": {"token": node.token(user), "name": "测试"}}, *behind)
    return client


async def test_a_second_connect_is_not_kept_beside_the_first(
    node: RealtimeNode, gate: Gate
) -> None:
    """It ends the connection while the first is still under way; nothing of it waits."""
    bob = await asking(node, "bob")
    await gate.reached("bob")
    bob.send({"id": 2, "connect": {"token": node.token("bob"), "name": "又来"}})
    assert (await bob.closed()).code == 4505
    gate.is_open.set()
    assert gate.users == ["bob"]


async def test_what_is_written_behind_connect_waits_for_it(engine: Engine, gate: Gate) -> None:
    """SDKs write their subscriptions in the frame of `connect`, before they are admitted; however
    long that is, they are answered, in order."""
    await put_tea(engine)
    subs = {f"group:茶{n}": {"recover": True, "offset": n, "epoch": "e" * 32} for n in range(9_000)}
    async with realtime_node(engine, RealtimeSettings(max_pending_bytes=1_000)) as node:
        client = await RawClient.open(node.port)
        connect = {"id": 1, "connect": {"token": node.token("bob"), "subs": subs}}
        assert len(client.encode([connect])) > 2**19
        client.send(connect, {"id": 2, "subscribe": {"channel": TEA}})
        await gate.reached("bob")
        client.send({"id": 3, "ping": {}})
        gate.is_open.set()
        replies = [await client.reply(number) for number in (1, 2, 3)]
    assert TEA in replies[0]["connect"]["subs"]
    assert replies[1]["error"]["code"] == 105
    assert replies[2]["ping"] == {}


async def test_only_connect_may_be_longer_than_other_commands(engine: Engine) -> None:
    """In its own frame too."""
    await put_tea(engine)
    async with realtime_node(engine, RealtimeSettings(max_message_bytes=1_000)) as node:
        long = {"text": "长" * 10_000}
        bob = await asking(node, "bob", {"id": 2, "publish": {"channel": TEA, "data": long}})
        assert "connect" in await bob.reply(1)
        assert (await bob.reply(2))["error"]["code"] == 1008


async def test_a_connect_that_fails_inside_is_answered_and_the_client_can_leave(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `internal`; whoever stays is ended like anybody whose `connect` was refused."""

    async def broken(*_arguments: Any, **_options: Any) -> None:
        raise RuntimeError("坏了")

    await put_tea(engine)
    monkeypatch.setattr(engine, "connect", broken)
    async with realtime_node(engine, RealtimeSettings(connect_timeout_seconds=0.2)) as node:
        bob = await asking(node, "bob")
        assert (await bob.reply(1))["error"]["code"] == 1305
        assert (await bob.closed()).code == 4006
