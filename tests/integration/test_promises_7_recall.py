"""Promise 7: recall reaches every device."""

from __future__ import annotations

import asyncio

import pytest
from door_embedded import EmbeddedDoor
from door_realtime import RealtimeDoor
from doors import Door, Refusal, text_of

from qunxin.model import DeliveryState

SECRET = "说漏嘴了 🤐 סוד"


async def test_promise_7_no_read_shows_it(door: Door) -> None:
    """From the moment of the reply: no page, for nobody, and the recall has its own entry."""
    alice, bob = await door.users("alice", "bob")
    tea = await door.group("tea", alice, bob)
    sent = await door.send("group", tea, alice, SECRET, key="键")
    recalled = await door.recall(sent.conversation, sent.position, alice)
    assert (recalled.recalled, recalled.position) == (sent.position, sent.position + 1)
    for reader in (None, alice, bob):
        log = await door.read_all(sent.conversation, reader)
        assert SECRET not in str(log)
        tombstone, event = log[-2:]
        assert tombstone["recalled"] == recalled.position
        assert "content" not in tombstone
        assert (event["type"], event["target"]) == ("recalled", sent.position)
        assert (tombstone["from"], tombstone["key"]) == (alice, "键")
    again = await door.recall(sent.conversation, sent.position, alice)
    assert (again.position, again.duplicate) == (recalled.position, True)


async def test_promise_7_connected_devices_are_told_and_offline_ones_never_see_it(
    door: Door,
) -> None:
    """Who has it is told that it was taken back; who comes later gets the tombstone only."""
    alice, online, offline = await door.users("alice", "online", "offline")
    tea = await door.group("tea", alice, online, offline)
    name = f"group:{tea}"
    away = await door.device(offline)
    await away.reach(f"inbox:{offline}", 1)
    await away.close()
    here = await door.device(online)
    sent = await door.send("group", tea, alice, SECRET)
    await here.reach(name, sent.position)
    recalled = await door.recall(name, sent.position, alice)
    await here.reach(name, recalled.position)
    assert here.entries(name)[-1]["target"] == sent.position
    for positions in (away.positions(), {}):
        back = await door.device(offline, positions)
        await back.reach(name, recalled.position)
        assert SECRET not in str(back.record)
        tombstones = [e for e in back.entries(name) if e["position"] == sent.position]
        assert [e.get("recalled") for e in tombstones] == [recalled.position]
        await back.close()


async def test_promise_7_of_private_messages_and_broadcasts_too(door: Door) -> None:
    """Any log but an inbox; the operator takes back what the operator said."""
    alice, bob = await door.users("alice", "bob")
    private = await door.send("private", bob, alice, SECRET)
    broadcast = await door.send("broadcast", None, None, SECRET)
    await door.recall(private.conversation, private.position, alice)
    await door.recall(broadcast.conversation, broadcast.position)
    for sent in (private, broadcast):
        log = await door.read_all(sent.conversation, bob, after=sent.position - 1)
        assert text_of(log[0]) is None
        assert log[-1]["type"] == "recalled"
    with pytest.raises(Refusal) as refused:
        await door.recall(f"inbox:{bob}", 1)
    assert refused.value.code == "entry_not_found"


async def test_promise_7_who_may_recall(door: Door) -> None:
    """The author, owners and admins; other members and outsiders may not, and events cannot be."""
    owner, admin, author, plain, eve = await door.users("owner", "admin", "author", "plain", "eve")
    tea = await door.group("tea", owner, admin, author, plain)
    name = f"group:{tea}"
    await door.change_member(tea, admin, role="admin")
    sends = [await door.send("group", tea, author, f"第{n}条") for n in range(3)]
    for user, code in ((plain, "forbidden"), (eve, None)):
        with pytest.raises(Refusal) as refused:
            await door.recall(name, sends[0].position, user)
        assert refused.value.code in (
            {code} if code else {"entry_not_found", "conversation_not_found"}
        )
    for user, sent in zip((owner, admin, author), sends, strict=True):
        assert not (await door.recall(name, sent.position, user)).duplicate
    with pytest.raises(Refusal) as refused:
        await door.recall(name, 1, owner)
    assert refused.value.code == "entry_not_found"


async def test_promise_7_the_sender_sees_how_many_have_passed_it(door: Door) -> None:
    """After a recall the ledger counts whose devices have passed the tombstone."""
    alice, bob, carol = await door.users("alice", "bob", "carol")
    tea = await door.group("tea", alice, bob, carol)
    sent = await door.send("group", tea, alice, SECRET)
    await door.mark_read(bob, sent.conversation, sent.position)
    recalled = await door.recall(sent.conversation, sent.position, alice)
    page = await door.ledger(sent.conversation, sent.position)
    assert page.recalled == recalled.position
    assert {row.user: str(row.state) for row in page.deliveries} == {bob: "queued", carol: "queued"}
    await door.mark_read(bob, sent.conversation, recalled.position)
    page = await door.ledger(sent.conversation, sent.position)
    assert {row.user: str(row.state) for row in page.deliveries} == {bob: "read", carol: "queued"}
    assert page.counts[DeliveryState.QUEUED] == 1


async def test_promise_7_after_a_restart_too(door: Door) -> None:
    """Tombstones are as durable as messages."""
    alice, bob = await door.users("alice", "bob")
    tea = await door.group("tea", alice, bob)
    sent = await door.send("group", tea, alice, SECRET)
    await door.recall(sent.conversation, sent.position, alice)
    await door.restart()
    device = await door.device(bob)
    await device.reach(sent.conversation, sent.position + 1)
    assert SECRET not in str(device.record)
    assert SECRET not in str(await door.read_all(sent.conversation))


async def test_promise_7_embedded_what_waits_is_cancelled(embedded: EmbeddedDoor) -> None:
    """Content that a program has not taken yet is not given to it any more."""
    alice, bob = await embedded.users("alice", "bob")
    tea = await embedded.group("tea", alice, bob)
    device = await embedded.slow_device(bob)
    sent = await embedded.send("group", tea, alice, SECRET)
    recalled = await embedded.recall(sent.conversation, sent.position, alice)
    device.go_on()
    await device.reach(sent.conversation, recalled.position)
    assert SECRET not in str(device.record)
    assert device.messages(sent.conversation) == [None]


async def test_promise_7_realtime_what_waits_is_cancelled(realtime: RealtimeDoor) -> None:
    """A device that catches up slowly, a page for each pong: what is recalled before its page is
    due comes as a tombstone."""
    alice, bob = await realtime.users("alice", "bob")
    tea = await realtime.group("tea", alice, bob)
    long = "很长" * 10_000
    for n in range(12):
        await realtime.send("group", tea, alice, f"{n} {long}")
    last = await realtime.send("group", tea, alice, SECRET)
    device = await realtime.mute_device(bob)
    await device.until(lambda: device.pings > 0)
    assert device.at(last.conversation) < last.position
    recalled = await realtime.recall(last.conversation, last.position, alice)
    answered = 0
    while device.at(last.conversation) < recalled.position:
        for _ in range(device.pings - answered):
            await device.say("{}")
        answered = device.pings
        await asyncio.wait_for(device.wait_for_more(), timeout=8)
    assert SECRET not in str(device.record)
    assert device.messages(last.conversation)[-1] is None


async def test_promise_7_embedded_the_bytes_are_gone(embedded: EmbeddedDoor) -> None:
    """Once the engine has closed, no file beside the database holds the content."""
    alice, bob = await embedded.users("alice", "bob")
    tea = await embedded.group("tea", alice, bob)
    for n in range(20):
        sent = await embedded.send("group", tea, alice, f"{SECRET} {n}")
        await embedded.recall(sent.conversation, sent.position, alice)
    await embedded.close()
    files = [path for path in embedded.path.parent.rglob("*") if path.is_file()]
    assert embedded.path in files
    assert not [path.name for path in files if SECRET.encode() in path.read_bytes()]
