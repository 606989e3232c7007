"""An SDK that is not ours, unchanged: centrifuge-python against the gateway, in both encodings."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import centrifuge
import pytest

from qunxin.engine import Engine
from qunxin.errors import QunxinError
from qunxin.gateways.realtime import RealtimeSettings
from realtime_client import TEA, RealtimeNode, put_tea, realtime_node

WORDS = "早安 👩\u200d👩\u200d👧 مرحبا \u202eabc\u202c"


class Device(centrifuge.ClientEventHandler):  # type: ignore[misc]
    """One client and everything that it was told, in order."""

    def __init__(self, node: RealtimeNode, user: str, **options: Any) -> None:
        self.node = node
        self.user = user
        self.events: list[tuple[Any, ...]] = []
        self.given: list[int] = []
        self.changed = asyncio.Condition()
        self.handling_seconds = 0.0

        async def get_token() -> str:
            return node.token(user)

        options = {
            "get_token": get_token,
            "min_reconnect_delay": 0.05,
            "use_protobuf": node.protobuf,
        } | options
        self.client = centrifuge.Client(node.url, events=self, **options)

    async def note(self, *event: Any) -> None:
        async with self.changed:
            self.events.append(event)
            self.changed.notify_all()

    async def on_connected(self, _ctx: centrifuge.ConnectedContext) -> None:
        await self.note("connected")

    async def on_connecting(self, ctx: centrifuge.ConnectingContext) -> None:
        await self.note("connecting", ctx.code)

    async def on_disconnected(self, ctx: centrifuge.DisconnectedContext) -> None:
        await self.note("disconnected", ctx.code)

    async def on_subscribed(self, ctx: centrifuge.ServerSubscribedContext) -> None:
        data = self.read(ctx.data)
        await self.note("subscribed", ctx.channel, ctx.was_recovering, ctx.recovered, data)

    async def on_unsubscribed(self, ctx: centrifuge.ServerUnsubscribedContext) -> None:
        await self.note("unsubscribed", ctx.channel)

    async def on_publication(self, ctx: centrifuge.ServerPublicationContext) -> None:
        await asyncio.sleep(self.handling_seconds)
        if ctx.channel == TEA:
            self.given.append(ctx.pub.offset)
        await self.note("publication", ctx.channel, ctx.pub.offset, self.read(ctx.pub.data))

    def read(self, data: Any) -> Any:
        """`data` is JSON text where the SDK speaks Protobuf."""
        return json.loads(data) if isinstance(data, bytes) and data else data

    def write(self, data: Any) -> Any:
        return json.dumps(data).encode() if self.node.protobuf else data

    async def rpc(self, method: str, **data: Any) -> Any:
        return self.read((await self.client.rpc(method, self.write(data))).data)

    async def until(self, *event: Any) -> tuple[Any, ...]:
        """The first event that begins like that, once it is there; it and all before it are
        then forgotten."""
        async with asyncio.timeout(15), self.changed:
            while True:
                for index, seen in enumerate(self.events):
                    if seen[: len(event)] == event:
                        del self.events[: index + 1]
                        return seen
                await self.changed.wait()

    async def offsets(self, last: int) -> list[int]:
        """Offsets in the tea group until `last`."""
        seen: list[int] = []
        while not seen or seen[-1] != last:
            seen.append((await self.until("publication", TEA))[2])
        return seen


@pytest.fixture(params=["picows json", "picows protobuf", "websockets protobuf"])
async def node(engine: Engine, request: pytest.FixtureRequest) -> AsyncIterator[RealtimeNode]:
    backend, encoding = request.param.split(" ")
    await put_tea(engine)
    settings = RealtimeSettings(
        websocket_backend=backend, ping_spacing_seconds=0.1, linger_seconds=0.5
    )
    async with realtime_node(engine, settings) as running:
        yield running._replace(protobuf=encoding == "protobuf")


async def test_the_sdk_sends_reads_and_asks(node: RealtimeNode) -> None:
    """rpc with its full result, publish, history, refusals with number and text."""
    alice, bob = Device(node, "alice"), Device(node, "bob")
    await alice.client.connect()
    await bob.client.connect()
    subscribed = await bob.until("subscribed", TEA)
    assert subscribed[4]["name"] == "茶友会 🍵"
    await alice.until("subscribed", TEA)
    sent = await alice.rpc("message.send", type="group", to="tea", text=WORDS, key="键")
    position = sent["position"]
    for device in (alice, bob):
        while (event := await device.until("publication", TEA))[2] < position:
            pass
        assert event[2] == position
        assert event[3]["content"] == [{"type": "text", "text": WORDS}]
        assert event[3]["key"] == "键"
    await alice.client.publish(TEA, alice.write({"text": "二"}))
    assert (await bob.until("publication", TEA))[2] == position + 1
    history = await bob.client.history(TEA, limit=1, reverse=True)
    assert history.offset == position + 1
    assert [publication.offset for publication in history.publications] == [position + 1]
    assert bob.read(history.publications[0].data)["position"] == position + 1
    with pytest.raises(centrifuge.ReplyError) as refused:
        await bob.rpc("message.send", type="group", to="nowhere", text="?")
    assert refused.value.code == 1201
    present = await bob.client.presence(TEA)
    assert sorted(one.user for one in present.clients.values()) == ["alice", "bob"]
    stats = await bob.client.presence_stats(TEA)
    assert (stats.num_clients, stats.num_users) == (2, 2)
    with pytest.raises(centrifuge.ReplyError) as unavailable:
        await bob.client.presence("inbox:bob")
    assert unavailable.value.code == 108
    await alice.client.disconnect()
    await bob.client.disconnect()


async def test_what_was_missed_comes_once_after_a_broken_connection(node: RealtimeNode) -> None:
    """The SDK comes back by itself and asks from where it stood."""
    bob = Device(node, "bob")
    await bob.client.connect()
    await bob.until("subscribed", TEA)
    first = await node.engine.send("group", "tea", sender="alice", text=WORDS)
    await bob.offsets(first.position)
    for connection in list(node.gateway._connections):
        connection.abort()
    await bob.until("connecting")
    last = first.position
    for i in range(20):
        last = (await node.engine.send("group", "tea", sender="alice", text=f"断线 {i}")).position
    assert await bob.offsets(last) == list(range(first.position + 1, last + 1))
    await bob.client.disconnect()


async def test_a_cut_in_the_middle_of_recovery_loses_nothing(node: RealtimeNode) -> None:
    """The trap: the SDK stores the reply's offset before it has the entries. With a slow app the
    connection is cut again and again while entries are still being handled."""
    bob = Device(node, "bob")
    bob.handling_seconds = 0.01
    await bob.client.connect()
    await bob.until("subscribed", TEA)
    begin = (await node.engine.entries(TEA)).head
    last = begin
    for i in range(60):
        last = (await node.engine.send("group", "tea", sender="alice", text=f"慢 {i}")).position
    cuts = 0
    async with asyncio.timeout(20), bob.changed:
        while not bob.given or bob.given[-1] < last:
            if len(bob.given) // 15 > cuts:
                cuts += 1
                for connection in list(node.gateway._connections):
                    connection.abort()
            await bob.changed.wait()
    assert cuts >= 3
    assert [offset for offset in bob.given if offset > begin] == list(range(begin + 1, last + 1))
    await bob.client.disconnect()


async def test_membership_while_connected(node: RealtimeNode) -> None:
    """Gained, with the entry that says so; lost, with the entry that says why before it."""
    bob = Device(node, "bob")
    await bob.client.connect()
    await bob.until("subscribed", TEA)
    await node.engine.remove_member("tea", "bob")
    left = await bob.until("publication", TEA)
    while left[3]["type"] != "left":
        left = await bob.until("publication", TEA)
    await bob.until("unsubscribed", TEA)
    await node.engine.add_members("tea", ["bob"])
    await bob.until("subscribed", TEA)
    again = await bob.until("publication", TEA)
    assert (again[3]["type"], again[2]) == ("joined", left[2] + 1)
    await bob.client.disconnect()


async def test_an_own_subscription_object_does_no_harm(node: RealtimeNode) -> None:
    """Answered 105; the server-side subscription goes on."""
    bob = Device(node, "bob")
    await bob.client.connect()
    await bob.until("subscribed", TEA)
    subscription = bob.client.new_subscription(TEA)
    await subscription.subscribe()
    with pytest.raises(centrifuge.CentrifugeError):
        await subscription.ready(timeout=2)
    receipt = await node.engine.send("group", "tea", sender="alice", text=WORDS)
    assert (await bob.offsets(receipt.position))[-1] == receipt.position
    await bob.client.disconnect()


async def test_a_client_side_subscription_recovers(node: RealtimeNode) -> None:
    """A conversation that a session is not subscribed to by itself, taken up on demand."""
    bob = Device(node, "bob")
    await bob.client.connect()
    await bob.until("subscribed", TEA)
    (session,) = node.engine._all_sessions()
    session.unsubscribe(TEA)
    got: asyncio.Queue[int] = asyncio.Queue()

    class Events(centrifuge.SubscriptionEventHandler):  # type: ignore[misc]
        async def on_publication(self, ctx: centrifuge.PublicationContext) -> None:
            got.put_nowait(ctx.pub.offset)

    subscription = bob.client.new_subscription(TEA, events=Events())
    await subscription.subscribe()
    await subscription.ready()
    receipt = await node.engine.send("group", "tea", sender="alice", text=WORDS)
    offset = 0
    while offset < receipt.position:
        offset = await asyncio.wait_for(got.get(), 10)
    assert offset == receipt.position
    await subscription.unsubscribe()
    await bob.client.disconnect()


async def test_disconnects_for_good_and_for_now(node: RealtimeNode) -> None:
    """4000 to 4499 comes back, 4500 and above does not."""
    from qunxin.wire.codes import FAILED

    bob = Device(node, "bob")
    await bob.client.connect()
    await bob.until("connected")
    for session in list(node.gateway._sessions):
        session.disconnect(FAILED)
    await bob.until("connecting", FAILED.code)
    await bob.until("connected")
    await node.engine.put_user("bob", state="suspended")
    await bob.until("disconnected", 4500)


async def test_a_token_is_refreshed_before_its_end(node: RealtimeNode) -> None:
    """Before the end of one the SDK refreshes, without an end of the connection."""
    asked = 0

    async def get_token() -> str:
        nonlocal asked
        asked += 1
        return node.token("bob", 2 if asked == 1 else 3600)

    bob = Device(node, "bob", get_token=get_token)
    await bob.client.connect()
    await bob.until("connected")
    async with asyncio.timeout(10):
        while asked < 2:  # noqa: ASYNC110 - the SDK's own timer
            await asyncio.sleep(0.05)
    receipt = await node.engine.send("group", "tea", sender="alice", text=WORDS)
    await bob.offsets(receipt.position)
    assert not [event for event in bob.events if event[0] == "connecting"]
    await bob.client.disconnect()


async def test_a_refused_connect_is_tried_again_where_that_helps(
    node: RealtimeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A busy server: again, after a while. An account that is suspended: not again."""
    bob = Device(node, "bob")
    refusals = [QunxinError("overloaded"), QunxinError("store_unavailable")]
    real = node.engine.connect

    async def connect(*args: Any, **fields: Any) -> Any:
        if refusals:
            raise refusals.pop()
        return await real(*args, **fields)

    monkeypatch.setattr(node.engine, "connect", connect)
    await bob.client.connect()
    await bob.until("connected")
    assert not refusals
    await bob.client.disconnect()
    await node.engine.put_user("bob", state="suspended")
    late = Device(node, "bob")
    await late.client.connect()
    await late.until("disconnected", 1103)
