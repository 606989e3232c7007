"""From the `connect` command to its reply: what may come meanwhile, who waits, and how long."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from qunxin.engine import Engine
from qunxin.gateways.realtime import RealtimeSettings
from qunxin.gateways.realtime_entrance import AT_ONCE
from realtime_client import TEA, RawClient, RealtimeNode, put_tea, realtime_node


class Gate:
    """In front of `Engine.connect`: nobody comes through until it is opened."""

    def __init__(self, engine: Engine) -> None:
        self.users: list[str] = []
        """Who stands before it or went through, in order."""
        self.free: set[str] = set()
        """For whom it is open already."""
        self.is_open = asyncio.Event()
        self.inside = self.most = 0
        self._connect = engine.connect

    async def connect(self, user: str, *arguments: Any, **options: Any) -> Any:
        self.users.append(user)
        self.inside += 1
        self.most = max(self.most, self.inside)
        try:
            if user not in self.free:
                await self.is_open.wait()
            return await self._connect(user, *arguments, **options)
        finally:
            self.inside -= 1

    async def reached(self, *users: str) -> None:
        async with asyncio.timeout(5):
            while self.users != list(users):  # noqa: ASYNC110 - what the node does has no event
                await asyncio.sleep(0.01)


@pytest.fixture
def gate(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    made = Gate(engine)
    monkeypatch.setattr(engine, "connect", made.connect)
    yield made
    made.is_open.set()


@asynccontextmanager
async def gated(engine: Engine, gate: Gate, **settings: Any) -> AsyncIterator[RealtimeNode]:
    """A node with carol and dave too, whose gate is open when it closes."""
    await put_tea(engine, "carol", "dave")
    async with realtime_node(engine, RealtimeSettings(**settings)) as node:
        yield node
        gate.is_open.set()


async def waiting(node: RealtimeNode, count: int) -> None:
    """Return once so many clients wait to be let in."""
    async with asyncio.timeout(5):
        while len(node.gateway._commands._entrance._waiting) != count:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


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
    subs = {f"group:茶{n}": {"recover": True, "offset": n, "epoch": "e" * 32} for n in range(9_000)}
    async with gated(engine, gate, max_pending_bytes=1_000) as node:
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


# --- waiting ----------------------------------------------------------------------------------


async def test_few_are_let_in_at_the_same_time(engine: Engine, gate: Gate) -> None:
    """Whoever comes together waits for those before, and all of them come in."""
    users = ["alice", "bob", "carol", "dave"] * 5
    gate.free |= set(users)
    async with gated(engine, gate) as node:
        clients = [await RawClient.open(node.port) for _ in users]
        calls = [
            client.connect(node.token(user)) for client, user in zip(clients, users, strict=True)
        ]
        welcomes = await asyncio.gather(*calls)
    assert all("broadcast:all" in welcome["subs"] for welcome in welcomes)
    assert gate.most == AT_ONCE


async def test_they_are_let_in_in_their_order(engine: Engine, gate: Gate) -> None:
    async with gated(engine, gate) as node:
        for count, user in enumerate(("alice", "bob", "dave", "carol")):
            await asking(node, user)
            await waiting(node, max(0, count + 1 - AT_ONCE))
        assert gate.users == ["alice", "bob"]
        gate.is_open.set()
        await gate.reached("alice", "bob", "dave", "carol")


async def test_one_user_takes_one_way_in_at_a_time(engine: Engine, gate: Gate) -> None:
    """However many of their devices connect and however long each takes, others come in."""
    async with gated(engine, gate) as node:
        bobs = [await asking(node, "bob") for _ in range(3)]
        await gate.reached("bob")
        await waiting(node, 2)
        gate.free |= {"alice"}
        assert "connect" in await (await asking(node, "alice")).reply(1)
        assert gate.users == ["bob", "alice"]
        gate.is_open.set()
        assert all(["connect" in await bob.reply(1) for bob in bobs])
    assert not node.gateway._commands._entrance._of_users


async def test_who_waits_too_long_is_told_to_come_back(engine: Engine, gate: Gate) -> None:
    """With a temporary error, after which SDKs wait before they try again; who then stays is
    ended as refused. Nothing was done for them."""
    settings = {"connect_wait_seconds": 0.1, "connect_timeout_seconds": 0.2}
    async with gated(engine, gate, **settings) as node:
        await asking(node, "alice")
        await asking(node, "bob")
        await gate.reached("alice", "bob")
        carol, again = await asking(node, "carol"), await asking(node, "bob")
        for late in (carol, again):
            error = (await late.reply(1))["error"]
            assert (error["code"], error["temporary"]) == (1300, True)
        assert (await carol.closed()).code == 4006
        assert gate.users == ["alice", "bob"]


async def test_whose_connect_has_come_is_not_told_that_none_did(engine: Engine, gate: Gate) -> None:
    """However long it takes, waiting or being let in, past the deadline for silent clients."""
    async with gated(engine, gate, connect_timeout_seconds=0.2) as node:
        users = ("alice", "bob", "carol")
        clients = [await asking(node, user) for user in users]
        await gate.reached("alice", "bob")
        await waiting(node, 1)
        silent = await RawClient.open(node.port)
        assert (await silent.closed()).code == 4005
        gate.is_open.set()
        assert all(["connect" in await client.reply(1) for client in clients])


async def test_too_many_connects_at_once_get_a_temporary_error(engine: Engine, gate: Gate) -> None:
    """SDKs back off after it; after a close they would not."""
    async with gated(engine, gate, max_connecting=3) as node:
        users = ("alice", "bob", "carol")
        clients = [await asking(node, user) for user in users]
        await gate.reached("alice", "bob")
        await waiting(node, 1)
        error = (await (await asking(node, "dave")).reply(1))["error"]
        assert (error["code"], error["temporary"]) == (1300, True)
        gate.is_open.set()
        assert all(["connect" in await client.reply(1) for client in clients])


async def test_nothing_is_done_for_who_has_gone_while_waiting(engine: Engine, gate: Gate) -> None:
    """Their places are free at once."""
    async with gated(engine, gate, max_connecting=4) as node:
        await asking(node, "alice")
        await asking(node, "bob")
        await gate.reached("alice", "bob")
        leaving = [await asking(node, "carol"), await asking(node, "bob")]
        await waiting(node, 2)
        for client in leaving:
            client.cut()
        await waiting(node, 0)
        dave = await asking(node, "dave")
        await waiting(node, 1)
        gate.is_open.set()
        assert "connect" in await dave.reply(1)
        assert gate.users == ["alice", "bob", "dave"]


async def test_who_waits_in_a_node_that_goes_down_is_told_so_at_once(
    engine: Engine, gate: Gate
) -> None:
    """They are not let in to be thrown out again; those who are being let in come in first."""
    async with gated(engine, gate) as node:
        inside = [await asking(node, user) for user in ("alice", "bob")]
        await gate.reached("alice", "bob")
        carol = await asking(node, "carol")
        await waiting(node, 1)
        closing = asyncio.create_task(node.gateway.close())
        error = (await carol.reply(1))["error"]
        assert (error["code"], error["temporary"]) == (1304, True)
        gate.is_open.set()
        for client in inside:
            assert "connect" in await client.reply(1)
        for client in (*inside, carol):
            assert (await client.closed()).code == 4000
            client.cut()
        await closing
        assert gate.users == ["alice", "bob"]
