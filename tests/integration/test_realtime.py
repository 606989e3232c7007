"""Realtime over real sockets, real engine, both WebSocket backends: the protocol as clients see
it, rule by rule."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from qunxin.gateways import realtime_commands
from qunxin.store.reads import ConversationRow
from realtime_client import TEA, TEXT, WORDS, RawClient, RealtimeNode


async def test_a_message_reaches_sender_and_member_once_in_order(node: RealtimeNode) -> None:
    """What alice sends arrives at both with the same positions, her key with it."""
    alice, bob = await node.client("alice"), await node.client("bob")
    receipts = [
        await alice.rpc("message.send", type="group", to="tea", text=f"{WORDS} {i}", key=f"键{i}")
        for i in range(3)
    ]
    first = receipts[0]["position"]
    assert [receipt["position"] for receipt in receipts] == [first, first + 1, first + 2]
    for client in (alice, bob):
        for i in range(3):
            push = await client.push("pub", TEA)
            while push["pub"]["offset"] < first:
                push = await client.push("pub", TEA)
            entry = push["pub"]["data"]
            assert push["pub"]["offset"] == entry["position"] == first + i
            assert (entry["from"], entry["key"]) == ("alice", f"键{i}")
            assert entry["content"] == [{"type": "text", "text": f"{WORDS} {i}"}]


async def test_connect_lists_inbox_broadcasts_and_groups(node: RealtimeNode) -> None:
    """Every conversation with its position, and what a list shows of it."""
    client = await RawClient.open(node.port)
    connect = await client.connect(node.token("alice"), name="测试", version="1")
    assert connect["ping"] == 25
    assert connect["pong"] is True
    assert connect["expires"] is True
    assert 3500 < connect["ttl"] <= 3600
    assert {"inbox:alice", "broadcast:all", TEA} <= set(connect["subs"])
    tea = connect["subs"][TEA]
    assert tea["recoverable"] is True
    assert tea["epoch"] == node.engine.epoch
    assert tea["data"]["name"] == "茶友会 🍵"
    assert tea["data"]["role"] == "owner"
    sessions = node.engine.sessions("alice")
    assert [session.client for session in sessions] == ["测试 1"]
    assert sessions[0].session == connect["client"]


async def test_recovery_gives_what_was_missed_as_pushes_behind_the_reply(
    node: RealtimeNode,
) -> None:
    """`recovered` with the offset asked from, no publications in the reply, then every position
    once, live ones behind them."""
    last = await node.say(5)
    client = await RawClient.open(node.port)
    asked = {"recover": True, "offset": last - 3, "epoch": node.engine.epoch}
    reply = await client.connect(node.token("bob"), subs={TEA: asked, "group:nowhere": asked})
    assert "group:nowhere" not in reply["subs"]
    tea = reply["subs"][TEA]
    assert (tea["was_recovering"], tea["recovered"]) == (True, True)
    assert tea["offset"] == last - 3
    assert "publications" not in tea
    assert await client.positions(last) == [last - 2, last - 1, last]
    live = await node.say(2)
    assert await client.positions(live) == [last + 1, live]


async def test_a_position_of_another_history_must_reload(node: RealtimeNode) -> None:
    """Another epoch, or an offset above the head: not recovered, begins at the head."""
    last = await node.say(2)
    for asked in (
        {"recover": True, "offset": 1, "epoch": "another"},
        {"recover": True, "offset": last + 7, "epoch": node.engine.epoch},
    ):
        client = await RawClient.open(node.port)
        reply = await client.connect(node.token("bob"), subs={TEA: asked})
        tea = reply["subs"][TEA]
        assert tea["was_recovering"] is True
        assert "recovered" not in tea
        assert tea["offset"] == last
        client.cut()


async def test_stored_positions_may_come_in_connect_data(node: RealtimeNode) -> None:
    """A first connect of a device that stored its positions; entries of `subs` that do not ask
    to recover are passed over."""
    last = await node.say(4)
    client = await RawClient.open(node.port)
    reply = await client.connect(
        node.token("bob"),
        subs={TEA: {}},
        data={"positions": {TEA: {"offset": last - 1, "epoch": node.engine.epoch}}, "自己": [1]},
    )
    assert reply["subs"][TEA]["recovered"] is True
    assert await client.positions(last) == [last]


async def test_a_long_absence_comes_in_frames_paced_by_pongs(node: RealtimeNode) -> None:
    """Far more than one frame's worth: each frame is bounded, and without a pong the next page
    does not come."""
    last = await node.say(30, "龘" * 16_000)
    client = await RawClient.open(node.port)
    client.answers_pings = False
    asked = {"recover": True, "offset": last - 30, "epoch": node.engine.epoch}
    await client.connect(node.token("bob"), subs={TEA: asked})
    await client.ping()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await client.read_more()
    assert 0 < len(client.lines) < 30
    client.answers_pings = True
    client.send_frame(TEXT, b"{}")
    assert await client.positions(last) == list(range(last - 29, last + 1))
    assert max(client.frame_sizes) <= 300 * 1024


async def test_a_new_member_is_subscribed_and_a_removed_one_is_told_why(
    node: RealtimeNode,
) -> None:
    """`subscribe` push and entries from the joining; the entry of the removal, then
    `unsubscribe`; nothing after it."""
    carol = await node.client("carol")
    await node.say(1)
    change = await node.engine.add_members("tea", ["carol"])
    push = await carol.push("subscribe", TEA)
    assert push["subscribe"]["recoverable"] is True
    assert push["subscribe"]["data"]["name"] == "茶友会 🍵"
    joined = await carol.push("pub", TEA)
    assert joined["pub"]["offset"] == change.membership_version
    assert joined["pub"]["data"]["type"] == "joined"
    await node.engine.remove_member("tea", "carol")
    left = await carol.push("pub", TEA)
    assert (left["pub"]["data"]["type"], left["pub"]["data"]["reason"]) == ("left", "removed")
    ended = await carol.push("unsubscribe", TEA)
    assert ended["unsubscribe"] == {"code": 2101, "reason": "removed"}
    await node.say(1)
    await carol.rpc("user.get")
    assert not [line for line in carol.lines if line.get("push", {}).get("channel") == TEA]


async def test_publish_sends_to_the_conversation_of_that_name(node: RealtimeNode) -> None:
    """The channel's kind is the type; the reply is empty; a repeat with its key is one message."""
    alice = await node.client("alice")
    body = {"text": WORDS, "key": "同一把钥匙"}
    for _ in range(2):
        assert (await alice.call(publish={"channel": TEA, "data": body}))["publish"] == {}
    private = {"text": "", "content": None}
    refused = await alice.call(publish={"channel": "private:alice~bob", "data": private})
    assert refused["error"]["code"] == 1000
    sent = await alice.call(publish={"channel": "private:alice~bob", "data": {"text": "悄悄话"}})
    assert sent["publish"] == {}
    page = await node.engine.entries("private:alice~bob")
    assert [entry.sender for entry in page.entries if entry.is_message] == ["alice"]
    tea = [e for e in (await node.engine.entries(TEA)).entries if e.is_message]
    assert [entry.key for entry in tea] == ["同一把钥匙"]


async def test_publish_to_what_is_not_there_or_not_allowed(node: RealtimeNode) -> None:
    """Each gets its own error at once, and never becomes another kind of message."""
    carol = await node.client("carol")
    for channel, code in (
        ("group:tea", 1201),
        ("group:never", 1201),
        ("private:alice~bob", 1005),
        ("private:carol~nobody", 1101),
        ("inbox:carol", 1005),
        ("tea", 1005),
        ("broadcast:all", 1003),
    ):
        reply = await carol.call(publish={"channel": channel, "data": {"text": "你好"}})
        assert reply["error"]["code"] == code, (channel, reply)
    reply = await carol.call(publish={"channel": TEA, "data": {"text": "x", "type": "private"}})
    assert reply["error"]["code"] == 1000


async def test_several_commands_in_one_frame_in_order(node: RealtimeNode) -> None:
    """`connect` first, then the following lines of the same frame, replies in that order."""
    client = await RawClient.open(node.port)
    client.send(
        {"id": 1, "connect": {"token": node.token("bob")}},
        {"id": 2, "subscribe": {"channel": TEA}},
        {"id": 3, "rpc": {"method": "user.get", "data": {}}},
        {"id": 4, "ping": {}},
    )
    for number in (1, 2, 3, 4):
        await client.reply(number)
    assert not [line for line in client.lines if "id" in line]


async def test_subscribing_to_an_own_conversation_is_answered_105(node: RealtimeNode) -> None:
    """Without a position, and the inbox always; the server-side subscription goes on."""
    bob = await node.client("bob")
    position = {"recover": True, "offset": 0, "epoch": node.engine.epoch}
    for asked in ({"channel": TEA}, {"channel": "inbox:bob", **position}):
        reply = await bob.call(subscribe=asked)
        assert reply["error"] == {"code": 105, "message": "already subscribed"}
    last = await node.say(1)
    assert (await bob.positions(last))[-1] == last


def _standing(node: RealtimeNode, offset: int) -> dict[str, Any]:
    return {"recover": True, "offset": offset, "epoch": node.engine.epoch}


async def test_what_was_followed_on_demand_goes_on_where_it_stood(node: RealtimeNode) -> None:
    """SDKs ask again, with the position, for what has meanwhile become one of the most recent
    conversations: what was missed follows, each position once."""
    last = await node.say(5)
    bob = await node.client("bob", subs={TEA: _standing(node, last)})
    reply = await bob.call(subscribe={"channel": TEA, **_standing(node, last - 3)})
    assert (reply["subscribe"]["recovered"], reply["subscribe"]["offset"]) == (True, last - 3)
    newest = await node.say(2)
    assert await bob.positions(newest) == list(range(last - 2, newest + 1))


async def test_what_came_before_it_was_asked_for_again_is_not_repeated(
    node: RealtimeNode,
) -> None:
    """Entries handed over since the connect reply may have been dropped or shown: who stands
    before them is told to reload, who stands at their end goes on, and none comes twice."""
    last = await node.say(5)
    bob = await node.client("bob")
    assert (await bob.positions(last))[-1] == last
    behind = (await bob.call(subscribe={"channel": TEA, **_standing(node, last - 3)}))["subscribe"]
    assert (behind["was_recovering"], behind.get("recovered"), behind["offset"]) == (
        True,
        None,
        last,
    )
    there = (await bob.call(subscribe={"channel": TEA, **_standing(node, last)}))["subscribe"]
    assert (there["recovered"], there["offset"]) == (True, last)
    newest = await node.say(2)
    assert await bob.positions(newest) == [last + 1, last + 2]


async def test_who_is_removed_while_asking_again_is_told_so(
    node: RealtimeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The removal's entry and the end of the subscription come; the question is refused."""
    bob = await node.client("bob")
    read = node.engine.store.read_conversations

    async def remove_first(user: str, names: Sequence[str]) -> Sequence[ConversationRow]:
        await node.engine.remove_member("tea", "bob")
        while node.engine.sessions("bob")[0].conversations > 2:  # noqa: ASYNC110 - no event tells
            await asyncio.sleep(0)
        return await read(user, names)

    monkeypatch.setattr(node.engine.store, "read_conversations", remove_first)
    refused = await bob.call(subscribe={"channel": TEA, **_standing(node, 1)})
    assert refused["error"]["code"] == 1005
    types = [(await bob.push("pub", TEA))["pub"]["data"]["type"]]
    while types[-1] != "left":
        types.append((await bob.push("pub", TEA))["pub"]["data"]["type"])
    assert (await bob.push("unsubscribe", TEA))["unsubscribe"]["code"] == 2101


async def test_subscribe_on_demand_recovers_and_unsubscribe_ends_it(node: RealtimeNode) -> None:
    """A conversation left and taken up again from a stored position."""
    bob = await node.client("bob")
    assert (await bob.call(unsubscribe={"channel": TEA}))["unsubscribe"] == {}
    last = await node.say(3)
    position = {"recover": True, "offset": last - 2, "epoch": node.engine.epoch}
    reply = await bob.call(subscribe={"channel": TEA, **position})
    assert reply["subscribe"]["recovered"] is True
    assert reply["subscribe"]["offset"] == last - 2
    assert await bob.positions(last) == [last - 1, last]
    refused = await bob.call(subscribe={"channel": "group:没有"})
    assert refused["error"]["code"] == 1005


async def test_history_forwards_backwards_and_position_only(node: RealtimeNode) -> None:
    """Entries with their offsets; `since` of another epoch is refused."""
    last = await node.say(5)
    bob = await node.client("bob")

    async def offsets(**fields: Any) -> list[int]:
        reply = await bob.call(history={"channel": TEA, **fields})
        assert reply["history"]["offset"] == last
        assert reply["history"]["epoch"] == node.engine.epoch
        return [pub["offset"] for pub in reply["history"]["publications"]]

    assert await offsets() == []
    assert await offsets(limit=0, reverse=False) == []
    assert await offsets(limit=2, since={"offset": last - 4, "epoch": node.engine.epoch}) == [
        last - 3,
        last - 2,
    ]
    assert await offsets(limit=2, reverse=True) == [last, last - 1]
    assert await offsets(limit=2, reverse=True, since={"offset": last - 1}) == [last - 2, last - 3]
    assert last in await offsets(limit=-1)
    refused = await bob.call(history={"channel": TEA, "limit": 1, "since": {"epoch": "旧"}})
    assert refused["error"]["code"] == 112
    foreign = await bob.call(history={"channel": "private:alice~carol", "limit": 1})
    assert foreign["error"]["code"] == 1005


async def test_what_is_not_available_says_so(node: RealtimeNode) -> None:
    bob = await node.client("bob")
    for kind, channel in (
        ("sub_refresh", TEA),
        ("presence", "private:alice~bob"),
        ("presence_stats", "broadcast:all"),
        ("presence", "inbox:bob"),
    ):
        reply = await bob.call(**{kind: {"channel": channel}})
        assert reply["error"] == {"code": 108, "message": "not available"}
    unknown = await bob.call(rpc={"method": "没有这个", "data": {}})
    assert unknown["error"] == {"code": 104, "message": "There is no method 没有这个"}


async def _counted(client: RawClient, clients: int, users: int) -> None:
    """Return once so many are present."""
    async with asyncio.timeout(5):
        stats = None
        while stats != {"num_clients": clients, "num_users": users}:
            stats = (await client.call(presence_stats={"channel": TEA}))["presence_stats"]


async def test_members_see_who_follows_the_group(node: RealtimeNode) -> None:
    """Devices by session, users counted once; gone with their connection, and shown to members
    alone."""
    alice, bob, again = [await node.client(user) for user in ("alice", "bob", "bob")]
    ids = [info.session for user in ("alice", "bob") for info in node.engine.sessions(user)]
    await _counted(alice, 3, 2)
    present = (await alice.call(presence={"channel": TEA}))["presence"]["presence"]
    assert sorted(present) == sorted(ids)
    assert {session: one["user"] for session, one in present.items()} == {
        ids[0]: "alice",
        ids[1]: "bob",
        ids[2]: "bob",
    }
    assert all(one["client"] == session for session, one in present.items())
    again.cut()
    await _counted(bob, 2, 2)
    carol = await node.client("carol")
    for kind in ("presence", "presence_stats"):
        assert (await carol.call(**{kind: {"channel": TEA}}))["error"]["code"] == 1201
        assert (await carol.call(**{kind: {"channel": "没有"}}))["error"]["code"] == 1005


async def test_presence_is_bounded(node: RealtimeNode, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too many to be named are refused, and still counted."""
    monkeypatch.setattr(realtime_commands, "_MAX_PRESENT", 1)
    alice, _bob = await node.client("alice"), await node.client("bob")
    await _counted(alice, 2, 2)
    refused = await alice.call(presence={"channel": TEA})
    assert refused["error"]["code"] == 1000
    assert "presence_stats" in refused["error"]["message"]
    named = await alice.rpc("group.presence", group="tea", limit=1)
    assert (named["clients"], len(named["present"])) == (2, 1)


async def test_errors_carry_number_text_and_advice(node: RealtimeNode) -> None:
    """In the language of the upgrade request, or of `connect.data`."""
    client = await RawClient.open(node.port, Accept_Language="zh-CN,zh;q=0.9")
    await client.connect(node.token("bob"))
    reply = await client.call(rpc={"method": "message.send", "data": {"type": "group", "to": "无"}})
    assert reply["error"]["code"] == 1000
    data = {"type": "group", "to": "never", "text": "x"}
    reply = await client.call(rpc={"method": "message.send", "data": data})
    assert reply["error"] == {"code": 1201, "message": "群组不存在"}
    english = await node.client("bob", data={"language": "en"})
    reply = await english.call(rpc={"method": "message.send", "data": data})
    assert reply["error"]["message"] == "There is no such group"


@pytest.mark.parametrize(
    ("token", "code", "temporary"),
    [("", 1001, False), ("不是令牌", 1001, False), ("expired", 109, False)],
)
async def test_a_refused_connect_is_an_error_reply_and_then_the_end(
    node: RealtimeNode, token: str, code: int, temporary: bool
) -> None:
    """The client is told and may leave; what it sends meanwhile is passed over."""
    if token == "expired":
        token = node.token("bob", 1)
        await asyncio.sleep(0)
        node.authenticator._clock = _Later(node.authenticator._clock)
    client = await RawClient.open(node.port)
    client.send({"id": 1, "connect": {"token": token}}, {"id": 2, "rpc": {"method": "user.get"}})
    reply = await client.reply(1)
    assert reply["error"]["code"] == code
    assert reply["error"].get("temporary", False) is temporary
    client.send({"id": 3, "ping": {}})
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await client.read_more()
    client.cut()


class _Later:
    """A clock one hour ahead."""

    def __init__(self, clock: Any) -> None:
        self._clock = clock

    def now_ms(self) -> int:
        return int(self._clock.now_ms()) + 3_600_000

    def monotonic(self) -> float:
        return float(self._clock.monotonic())


async def test_accounts_that_may_not_connect(node: RealtimeNode) -> None:
    """Unknown, erased, suspended: each its own number; a live session of a suspended account is
    ended for good."""
    bob = await node.client("bob")
    await node.engine.put_user("bob", state="suspended")
    closed = await bob.closed()
    assert (closed.code, closed.reason) == (4500, "the account is suspended")
    await node.engine.erase_user("carol")
    for user, code in (("bob", 1103), ("carol", 1102), ("dave", 1101)):
        client = await RawClient.open(node.port)
        reply = await client.call(connect={"token": node.token(user)})
        assert reply["error"]["code"] == code
        client.cut()


async def test_ended_sessions_stay_away(node: RealtimeNode) -> None:
    bob = await node.client("bob")
    await node.engine.end_sessions("bob")
    assert (await bob.closed()).code == 4502


async def test_refresh_in_time_and_with_the_wrong_token(node: RealtimeNode) -> None:
    """A refresh with an expired token is temporary: terminal otherwise, says the SDKs' source."""
    bob = await node.client("bob")
    reply = await bob.call(refresh={"token": node.token("bob", 600)})
    assert reply["refresh"]["expires"] is True
    assert 590 < reply["refresh"]["ttl"] <= 600
    reply = await bob.call(refresh={"token": node.token("alice")})
    assert reply["error"]["code"] == 1003
    old = node.token("bob", 1)
    node.authenticator._clock = _Later(node.authenticator._clock)
    reply = await bob.call(refresh={"token": old})
    assert (reply["error"]["code"], reply["error"]["temporary"]) == (109, True)


async def test_pongs_move_the_delivered_cursor(node: RealtimeNode) -> None:
    """Nothing is delivered until the client answers the ping behind it."""
    bob = await node.client("bob")
    bob.answers_pings = False
    last = await node.say(1)
    await bob.positions(last)
    await bob.ping()
    ledger = await node.engine.deliveries(TEA, last)
    assert {d.user: str(d.state) for d in ledger.deliveries}["bob"] == "queued"
    bob.send_frame(TEXT, b"{}")
    async with asyncio.timeout(10):
        while True:
            await node.engine.cursors.flush()
            ledger = await node.engine.deliveries(TEA, last)
            if {d.user: str(d.state) for d in ledger.deliveries}["bob"] == "delivered":
                return
            await asyncio.sleep(0.02)


@pytest.mark.parametrize(
    "line",
    [
        b'{"id":7,"rpc":{"method":5}}',
        b'{"id":7}',
        b'{"id":7,"ping":{},"presence":{"channel":"x"}}',
        b'{"id":7,"subscribe":{"channel":""}}',
        b'{"id":7,"history":{"channel":"x","limit":9007199254740993}}',
        b'{"id":7,"rpc":{"method":"message.send","data":"\\ud83d"}}',
        b'{"id":7,"rpc":{"method":"message.send","data":' + b"[" * 5000 + b"]" * 5000 + b"}}",
        b'{"id":7,"rpc":{"method":"message.send","data":{"text":1e400}}}',
        b'{"id":7,"rpc":{"method":"message.send","data":' + b"9" * 5000 + b"}}",
        b'{"id":7,"rpc":{"method":"message.send","data":[[[[1]]]]}}',
        b'{"id":7,"publish":{"channel":"group:tea","data":7}}',
        b'{"id":7,"publish":{"channel":"group:tea","data":{"text":"\\ud83d"}}}',
        b'{"id":7,"publish":{"channel":"group:tea","data":' + b"9" * 5000 + b"}}",
        b'{"id":7,"publish":{"channel":"group:tea"}}',
    ],
)
async def test_what_is_wrong_in_itself_is_answered_and_passed_over(
    node: RealtimeNode, line: bytes
) -> None:
    """`invalid_request` under its id; the connection goes on."""
    bob = await node.client("bob")
    bob.send_frame(TEXT, line)
    reply = await bob.reply(7)
    assert reply["error"]["code"] == 1000, reply
    assert "Traceback" not in reply["error"]["message"]
    assert (await bob.rpc("user.get"))["user"] == "bob"


async def test_a_too_large_command_is_answered_and_a_huge_frame_is_not_read(
    node: RealtimeNode,
) -> None:
    """1009, which stops some SDKs for ever, is never sent."""
    bob = await node.client("bob")
    reply = await bob.call(publish={"channel": TEA, "data": {"text": "大" * 100_000}})
    assert reply["error"]["code"] == 1008
    reply = await bob.call(publish={"channel": TEA, "data": {"text": "大" * 30_000}})
    assert reply["error"]["code"] == 1008
    assert (await bob.rpc("user.get"))["user"] == "bob"
    bob.send_frame(TEXT, b"x" * (2 * 1024 * 1024))
    closed = await bob.closed()
    assert closed.code == 4509
    fragments = await node.client("alice")
    fragments.send_frame(TEXT, b"x" * 600_000, fin=False)
    fragments.send_frame(0, b"x" * 600_000, fin=False)
    assert (await fragments.closed()).code == 4509


async def test_a_connect_command_of_a_megabyte_is_taken(node: RealtimeNode) -> None:
    """It lists positions of thousands of conversations."""
    subs = {
        f"group:{i:016}": {"recover": True, "offset": i, "epoch": "旧" * 5} for i in range(9_999)
    }
    client = await RawClient.open(node.port)
    reply = await client.connect(node.token("bob"), subs=subs)
    assert TEA in reply["subs"]
