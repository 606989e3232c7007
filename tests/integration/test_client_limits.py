"""Quotas of users and keys, and limits of addresses, over real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from http_node import http_node, raw_connection, serving

import qunxin
from qunxin.engine import Engine, EngineSettings
from qunxin.engine.access import Caller
from qunxin.errors import QunxinError
from qunxin.gateways.client_limits import AddressSettings, ClientLimits
from qunxin.gateways.http import HttpSettings
from qunxin.gateways.websocket import HOLD_SECONDS
from realtime_client import RawClient, realtime_node
from serving import ServerProcess

RATE_LIMITED = 1301
ADDRESSES = {"alice": "203.0.113.7", "bob": "2001:db8:1:2::9"}


@asynccontextmanager
async def engine_with(path: Path, **settings: Any) -> AsyncIterator[Engine]:
    async with qunxin.open(path / "配额.db", settings=EngineSettings(**settings)) as engine:
        for user in ("alice", "bob"):
            await engine.put_user(user)
        yield engine


def check_limited(response: httpx.Response, quota: str) -> None:
    assert response.status_code == 429, response.text
    problem = response.json()
    assert (problem["code"], problem["facts"]) == ("rate_limited", {"quota": quota})
    assert 1 <= int(response.headers["retry-after"]) <= problem["retry_after"] + 1


async def test_sends_of_one_user_are_limited_at_every_door(tmp_path: Path) -> None:
    """One counter over HTTP and realtime; the other users, and the key, send on."""
    async with (
        engine_with(tmp_path, user_sends_per_minute=3) as engine,
        http_node(engine) as node,
        realtime_node(engine) as realtime,
    ):
        message = {"type": "private", "to": "bob", "text": "刷屏 🌊"}
        client = await realtime.client("alice")
        for _ in range(2):
            await client.rpc("message.send", **message)
        headers = node.as_user("alice")
        sent = [
            await node.api.post("/v1/messages", json=message, headers=headers) for _ in range(2)
        ]
        assert sent[0].status_code == 201
        check_limited(sent[1], "user_sends_per_minute")
        reply = await client.call(rpc={"method": "message.send", "data": message})
        assert (reply["error"]["code"], reply["error"]["temporary"]) == (RATE_LIMITED, True)
        bobs = {"type": "private", "to": "alice", "text": "你好"}
        answer = await node.api.post("/v1/messages", json=bobs, headers=node.as_user("bob"))
        assert answer.status_code == 201
        acting = await node.api.post("/v1/messages", json={**message, "from": "alice"})
        assert acting.status_code == 201


async def test_a_repeat_has_its_first_outcome_beyond_the_quota_too(tmp_path: Path) -> None:
    """Who repeats a message whose answer was lost must not be told that it was not sent."""
    async with engine_with(tmp_path, user_sends_per_minute=1) as engine, http_node(engine) as node:

        async def send(text: str, key: str | None) -> httpx.Response:
            message = {"type": "private", "to": "bob", "text": text, "key": key}
            headers = node.as_user("alice")
            return await node.api.post("/v1/messages", json=message, headers=headers)

        first = await send("刷屏 🌊", "k")
        assert first.status_code == 201
        again = await send("刷屏 🌊", "k")
        assert again.status_code == 200, again.text
        assert again.json() == {**first.json(), "duplicate": True}
        assert (await send("别的", "k")).json()["code"] == "idempotency_conflict"
        check_limited(await send("新的 ✨", "k2"), "user_sends_per_minute")
        check_limited(await send("新的 ✨", None), "user_sends_per_minute")


async def test_groups_and_invitations_are_limited(tmp_path: Path) -> None:
    """Creations, not updates; members one by one, those of a creation too; keys by their own."""
    limits = {
        "user_groups_per_hour": 2,
        "user_invitations_per_hour": 3,
        "key_groups_per_hour": 1,
    }
    async with engine_with(tmp_path, **limits) as engine, http_node(engine) as node:
        headers = node.as_user("alice")

        async def put(group: str, **body: Any) -> httpx.Response:
            return await node.api.put(f"/v1/groups/{group}", json=body, headers=headers)

        assert (await put("tea", members=["bob"])).status_code == 201
        assert (await put("tea", name="茶友会 🍵")).status_code == 200
        assert (await put("rice")).status_code == 201
        check_limited(await put("wine"), "user_groups_per_hour")
        many = {"users": ["bob", "bob2", "bob3"]}
        added = await node.api.post("/v1/groups/rice/members", json=many, headers=headers)
        check_limited(added, "user_invitations_per_hour")
        few = {"users": ["bob", "bob2"]}
        added = await node.api.post("/v1/groups/rice/members", json=few, headers=headers)
        assert added.status_code == 200
        owned = {"owner": "alice"}
        assert (await node.api.put("/v1/groups/k1", json=owned)).status_code == 201
        check_limited(await node.api.put("/v1/groups/k2", json=owned), "key_groups_per_hour")


async def test_what_is_refused_uses_up_no_allowance(tmp_path: Path) -> None:
    """Beyond the one quota nothing of the other is counted, what costs nothing is not refused to
    whoever owes, and what is not valid is not counted."""
    limits = {
        "user_groups_per_hour": 2,
        "user_invitations_per_hour": 3,
        "user_sends_per_minute": 1,
    }
    async with engine_with(tmp_path, **limits) as engine:
        alice, bob = Caller.as_user("alice"), Caller.as_user("bob")
        invalid: list[Callable[[], Awaitable[object]]] = [
            lambda: engine.put_group("茶", caller=alice),
            lambda: engine.put_group("tea", name="两\n行", caller=alice),
            lambda: engine.put_group("tea", members=["茶"], caller=alice),
            lambda: engine.put_group("tea", history="所有", caller=alice),
            lambda: engine.add_members("tea", ["bob", "茶"], caller=alice),
            lambda: engine.send(
                "private", "bob", sender="alice", text="喂 📞", require="都", caller=alice
            ),
        ]
        for refused in invalid * 4:
            assert await _refusal(refused()) == "invalid_request"
        await engine.send("private", "bob", sender="alice", text="一条 ✉️", caller=alice)
        await engine.put_group("tea", members=["bob", "nobody"], caller=alice)
        for n in range(3):
            more = engine.put_group(f"rice{n}", members=["bob", "carl"], caller=alice)
            assert await _refusal(more) == "rate_limited"
        assert (await engine.put_group("rice", caller=alice)).created
        await engine.put_group("wine", members=["alice", "b1", "b2", "b3", "b4"], caller=bob)
        assert (await engine.put_group("beer", caller=bob)).created


async def test_trying_ids_counts_as_making_groups(tmp_path: Path) -> None:
    """Beyond the allowance a stranger is refused alike, whether or not the id is taken; members
    change their groups as they like."""
    async with engine_with(tmp_path, user_groups_per_hour=3) as engine:
        await engine.put_group("tea", owner="alice", members=["bob"])
        await engine.put_user("mallory")
        mallory, alice = Caller.as_user("mallory"), Caller.as_user("alice")
        tried = [await _refusal(engine.put_group("tea", caller=mallory)) for _ in range(5)]
        assert tried == ["group_not_found"] * 3 + ["rate_limited"] * 2
        assert await _refusal(engine.put_group("free", caller=mallory)) == "rate_limited"
        for n in range(9):
            changed = await engine.put_group("tea", name=f"茶 {n} 🍵", caller=alice)
            assert not changed.created
        forbidden = engine.put_group("tea", name="我的", caller=Caller.as_user("bob"))
        assert await _refusal(forbidden) == "forbidden"


async def _refusal(asked: Awaitable[object]) -> str:
    with pytest.raises(QunxinError) as refused:
        await asked
    return refused.value.code


async def test_connections_of_one_user_are_limited(tmp_path: Path) -> None:
    """Refused with advice to come back, and taken again when there is room."""
    async with (
        engine_with(tmp_path, user_connections=2) as engine,
        realtime_node(engine) as node,
    ):
        first, _ = await node.client("alice"), await node.client("alice")
        third = await RawClient.open(node.port)
        error = (await third.call(connect={"token": node.token("alice")}))["error"]
        assert (error["code"], error["temporary"]) == (RATE_LIMITED, True)
        await node.client("bob")
        listed = (await first.rpc("user.sessions"))["sessions"]
        await first.rpc("user.end_session", session=listed[1]["session"])
        await node.client("alice")


# --- addresses ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def proxied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server that takes this machine for its proxy."""
    options = (
        *("--trusted-proxies", "127.0.0.1"),
        *("--address-connections", "3"),
        *("--address-requests-per-second", "1"),
        *("--address-handshakes-per-second", "1"),
    )
    with ServerProcess(tmp_path_factory.mktemp("proxied") / "数据", *options) as process:
        yield process


async def test_requests_are_limited_by_the_clients_address(proxied: ServerProcess) -> None:
    """The client behind the proxy, not the proxy; an address that the client made up itself
    changes nothing."""
    async with httpx.AsyncClient(base_url=proxied.url) as client:

        async def ask(forwarded: str) -> httpx.Response:
            return await client.get("/health/live", headers={"X-Forwarded-For": forwarded})

        answers = [await ask(f"192.0.2.{n}, {ADDRESSES['alice']}") for n in range(20)]
        assert [one.status_code for one in answers[:10]] == [200] * 10
        refused = next(one for one in answers if one.status_code == 429)
        assert refused.json()["code"] == "rate_limited"
        assert int(refused.headers["retry-after"]) >= 1
        assert (await ask(ADDRESSES["bob"])).status_code == 200
        assert (await client.get("/health/live")).status_code == 200


async def _attempt(port: int, headers: dict[str, str]) -> tuple[int, str | None]:
    """Ask for an upgrade and go away; the status, and when to come back."""
    client = await RawClient.dial(port)
    status, answered, _ = await client.upgrade(**headers)
    client.cut()
    return status, answered.get("retry-after")


async def test_websockets_are_limited_by_the_clients_address(proxied: ServerProcess) -> None:
    """So many at once, and so many in a time, each with a 429 that says when to come back."""
    alice = {"X-Forwarded-For": ADDRESSES["alice"]}
    clients = [await RawClient.open(proxied.port, **alice) for _ in range(3)]
    refused = await RawClient.dial(proxied.port)
    status, headers, body = await refused.upgrade(**alice)
    assert (status, headers["retry-after"], b"rate_limited" in body) == (429, "10", True)
    other = await RawClient.open(proxied.port, X_Forwarded_For=ADDRESSES["bob"])
    clients.pop().cut()
    seen: set[tuple[int, str | None]] = set()
    while not {(101, None), (429, "1")} <= seen:  # taken, and refused for coming too often
        seen.update(await asyncio.gather(*(_attempt(proxied.port, alice) for _ in range(12))))
    for client in (*clients, other, refused):
        client.cut()


async def test_who_comes_too_often_is_told_so_after_a_while(proxied: ServerProcess) -> None:
    """A loop of reconnections gets one refusal a second for each connection that it keeps open, and
    whoever else comes meanwhile waits for nothing."""
    mallory = {"X-Forwarded-For": "198.51.100.7"}
    loop = asyncio.get_running_loop()

    async def attempt() -> tuple[int, float]:
        began = loop.time()
        status, _ = await _attempt(proxied.port, mallory)
        return status, loop.time() - began

    attempts = await asyncio.gather(*(attempt() for _ in range(100)))
    refused = [seconds for status, seconds in attempts if status == 429]
    assert len(refused) > 50
    assert min(refused) >= 0.9 * HOLD_SECONDS
    waiting = [asyncio.create_task(attempt()) for _ in range(20)]
    other = await RawClient.open(proxied.port, X_Forwarded_For=ADDRESSES["bob"])
    assert sum(not one.done() for one in waiting) >= 15
    assert (await asyncio.gather(*waiting))[-1][0] == 429
    other.cut()


class Everybody(ClientLimits):
    """Counts this machine's connections too."""

    def peer(self, peer: object) -> str | None:  # noqa: ARG002
        return "大家"


async def test_a_connection_too_many_is_answered_and_closed() -> None:
    """Whatever it sends is not read, and is no reason to cut the answer off; when the first one
    has gone, the next is served."""
    limits = Everybody(AddressSettings(address_connections=1), lambda: 0.0)
    async with serving(_hello, HttpSettings(drain_seconds=0.2), limits) as port:
        async with raw_connection(port) as first:
            await first.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert (await first.answer()).status == 200
            async with raw_connection(port) as second:
                await second.send(b"POST / HTTP/1.1\r\nHost: a\r\n\r\n" + b"x" * 100_000)
                refused = await second.answer()
                assert (refused.status, refused.problem["code"]) == (429, "rate_limited")
                assert refused.headers["retry-after"] == "10"
                assert await second.closed()
        async with asyncio.timeout(5):
            status = 0
            while status != 200:
                async with raw_connection(port) as third:
                    await third.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                    status = (await third.answer()).status


async def _hello(_scope: Any, _receive: Any, send: Any) -> None:
    headers = [(b"content-length", b"2")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"ok"})
