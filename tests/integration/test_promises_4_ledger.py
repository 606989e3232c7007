"""Promise 4: the sender can know who got it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest
from door_embedded import SETTINGS, EmbeddedDoor
from door_realtime import RealtimeDoor
from doors import At, Door, Refusal, opened

from qunxin.engine.results import Receipt
from qunxin.model import DeliveryState, Grade, Reason
from qunxin.store.reads import LedgerPage


def _states(page: LedgerPage) -> dict[str, str]:
    return {row.user: str(row.state) for row in page.deliveries}


def _named(receipt: Receipt) -> dict[str, Reason]:
    return {one.user: one.reason for one in receipt.unreachable}


async def test_promise_4_the_receipt_counts_and_names_who_cannot_be_reached(door: Door) -> None:
    """Suspended and erased members are named with reasons; being offline is not unreachable."""
    alice, bob, out, gone = await door.users("alice", "bob", "out", "gone")
    tea = await door.group("tea", alice, bob, out, gone)
    whole = await door.send("group", tea, alice, "都在 ✅")
    assert (whole.grade, whole.members, whole.unreachable_count) == (Grade.COMPLETE, 4, 0)
    await door.suspend(out)
    await door.erase(gone)
    partial = await door.send("group", tea, alice, "部分成员不可达")
    assert (partial.grade, partial.members, partial.unreachable_count) == (Grade.PARTIAL, 4, 2)
    assert _named(partial) == {out: Reason.SUSPENDED, gone: Reason.NOT_FOUND}
    await door.reactivate(out)
    await door.remove(tea, gone)
    assert (await door.send("group", tea, alice, "又都在")).unreachable_count == 0


async def test_promise_4_the_first_hundred_are_named_and_all_are_counted(door: Door) -> None:
    """With 120 of 123 out of reach: the count is exact, the first 100 have names, the ledger
    pages through all of them and counts them on its first page."""
    people = await door.users(*(f"m{n}" for n in range(123)))
    tea = await door.group("tea", *people)
    await asyncio.gather(*(door.suspend(user) for user in people[3:]))
    sent = await door.send("group", tea, people[0], "有人吗？ 📢")
    assert (sent.members, sent.unreachable_count, len(sent.unreachable)) == (123, 120, 100)
    assert set(_named(sent)) <= set(people[3:])
    seen: dict[str, str] = {}
    message = (sent.conversation, sent.position)
    page = first = await door.ledger(*message, limit=50)
    pages = 1
    while page.next_cursor is not None:
        seen |= _states(page)
        page = await door.ledger(*message, limit=50, cursor=page.next_cursor)
        assert page.counts == {}
        pages += 1
    seen |= _states(page)
    assert seen == dict.fromkeys(people[1:3], "queued") | dict.fromkeys(people[3:], "unreachable")
    assert pages == 3
    assert first.counts[DeliveryState.UNREACHABLE] == 120
    only = await door.ledger(*message, state="queued")
    assert _states(only) == dict.fromkeys(people[1:3], "queued")
    assert only.counts == first.counts


async def test_promise_4_one_unreachable_member_can_refuse_the_whole(door: Door) -> None:
    """`require: all`, by the send or by the group: nobody gets it, and the refusal says why."""
    alice, bob, out = await door.users("alice", "bob", "out")
    tea = await door.group("tea", alice, bob, out)
    assert (await door.send("group", tea, alice, "全体", require="all")).members == 3
    await door.suspend(out)
    with pytest.raises(Refusal) as refused:
        await door.send("group", tea, alice, "全体", require="all")
    assert refused.value.code == "members_unreachable"
    assert "1" in refused.value.text
    await door.put_group(tea, require="all")
    with pytest.raises(Refusal) as refused:
        await door.send("group", tea, alice, "按群的规定")
    assert refused.value.code == "members_unreachable"
    assert (await door.send("group", tea, alice, "先发", require="reachable")).grade == "partial"


async def test_promise_4_a_message_for_nobody_is_refused(door: Door) -> None:
    """All others out of reach: a person suspended or erased, or every other member."""
    alice, out, gone = await door.users("alice", "out", "gone")
    tea = await door.group("tea", alice, out, gone)
    await door.suspend(out)
    await door.erase(gone)
    for type_, to in (("group", tea), ("private", out), ("private", gone)):
        with pytest.raises(Refusal) as refused:
            await door.send(type_, to, alice, "喂？ 📞")
        assert refused.value.code == "members_unreachable"


async def test_promise_4_reasons_are_veiled_for_plain_members(door: Door) -> None:
    """Who is suspended is for keys, owners and admins to know; that an account is gone is not
    hidden. Refusals keep to the same rule as receipts."""
    owner, plain, out, gone = await door.users("owner", "plain", "out", "gone")
    tea = await door.group("tea", owner, plain, out, gone)
    await door.suspend(out)
    await door.erase(gone)
    true = {out: Reason.SUSPENDED, gone: Reason.NOT_FOUND}
    veiled = {out: Reason.UNAVAILABLE, gone: Reason.NOT_FOUND}
    assert _named(await door.send("group", tea, owner, "群主", own=True)) == true
    sent = await door.send("group", tea, plain, "成员", own=True)
    assert _named(sent) == veiled
    rows = (await door.ledger(sent.conversation, sent.position, by=plain)).deliveries
    assert {row.user: row.reason for row in rows if row.reason} == veiled
    rows = (await door.ledger(sent.conversation, sent.position, by=owner)).deliveries
    assert {row.user: row.reason for row in rows if row.reason} == true
    with pytest.raises(Refusal) as refused:
        await door.send("group", tea, plain, "全体", own=True, require="all")
    assert refused.value.code == "members_unreachable"
    shown = refused.value.facts.get("unreachable", [])
    assert {row["user"]: row["reason"] for row in shown} == (veiled if shown else {})
    with pytest.raises(Refusal) as refused:
        await door.send("private", out, plain, "你呢？", own=True)
    assert refused.value.code == "members_unreachable"
    assert "suspended" not in str(refused.value.facts)


async def test_promise_4_the_ledger_is_not_for_everyone(door: Door) -> None:
    """The author, owners and admins read it; a plain member, and who is not in it, do not."""
    owner, admin, author, plain, eve = await door.users("owner", "admin", "author", "plain", "eve")
    tea = await door.group("tea", owner, admin, author, plain)
    await door.change_member(tea, admin, role="admin")
    sent = await door.send("group", tea, author, "谁看到了？ 👀")
    for user in (owner, admin, author):
        page = await door.ledger(sent.conversation, sent.position, by=user)
        assert set(_states(page)) == {owner, admin, plain}
    for user, code in ((plain, "forbidden"), (eve, "conversation_not_found")):
        with pytest.raises(Refusal) as refused:
            await door.ledger(sent.conversation, sent.position, by=user)
        assert refused.value.code == code


async def test_promise_4_offline_is_queued_and_read_is_what_the_device_says(door: Door) -> None:
    """Nobody connected: all queued. A user's word moves only that user, and only up to there."""
    alice, bob, carol = await door.users("alice", "bob", "carol")
    tea = await door.group("tea", alice, bob, carol)
    first = await door.send("group", tea, alice, "一")
    second = await door.send("group", tea, alice, "二")
    page = await door.ledger(first.conversation, first.position)
    assert _states(page) == {bob: "queued", carol: "queued"}
    await door.mark_read(bob, first.conversation, first.position)
    assert _states(await door.ledger(first.conversation, first.position))[bob] == "read"
    assert _states(await door.ledger(second.conversation, second.position))[bob] == "queued"
    assert _states(await door.ledger(second.conversation, second.position))[carol] == "queued"


async def test_promise_4_the_senders_other_devices_are_not_in_the_ledger(door: Door) -> None:
    """The sender counts in `members`, and has no row."""
    alice, bob = await door.users("alice", "bob")
    sent = await door.send("private", bob, alice, "你好 🙋🏽‍♂️")
    assert sent.members == 2
    page = await door.ledger(sent.conversation, sent.position)
    assert _states(page) == {bob: "queued"}


async def test_promise_4_who_joined_later_is_not_claimed(door: Door) -> None:
    """A group that shows its history: a new member reads the old messages, and is no part of
    their ledger. Nor is who was away between leaving and rejoining."""
    alice, bob, late = await door.users("alice", "bob", "late")
    tea = await door.group("tea", alice, bob, history="full")
    old = await door.send("group", tea, alice, "旧消息 📜")
    await door.remove(tea, bob)
    missed = await door.send("group", tea, alice, "没有别人了")
    await door.add(tea, late, bob)
    devices = await door.devices(late, bob)
    new = await door.send("group", tea, alice, "新消息 🆕")
    for device in devices:
        await device.reach(new.conversation, new.position)
        await door.mark_read(device.user, new.conversation, new.position)
    page = await door.proven(new, {"read": 2})
    assert set(_states(page)) == {late, bob}
    assert _states(await door.ledger(old.conversation, old.position)).keys() == {bob}
    assert _states(await door.ledger(missed.conversation, missed.position)) == {}
    assert (await door.read_all(new.conversation, late))[0]["position"] == 1


async def test_promise_4_embedded_delivered_only_when_taken(embedded: EmbeddedDoor) -> None:
    """What waits in a program's queue is not delivered; once the program has come past it, it
    is."""
    alice, quick, slow = await embedded.users("alice", "quick", "slow")
    tea = await embedded.group("tea", alice, quick, slow)
    await embedded.device(quick)
    device = await embedded.slow_device(slow)
    sent = await embedded.send("group", tea, alice, "慢慢来 🐢")
    page = await embedded.proven(sent, {"delivered": 1, "queued": 1})
    assert _states(page) == {quick: "delivered", slow: "queued"}
    device.go_on()
    await embedded.proven(sent, {"delivered": 2})


@pytest.mark.processes
async def test_promise_4_realtime_delivered_only_after_a_pong(realtime: RealtimeDoor) -> None:
    """A client that answers pings proves what it has, without any other help; one that does not
    stays queued, though the message is on its screen."""
    alice, quick, mute = await realtime.users("alice", "quick", "mute")
    tea = await realtime.group("tea", alice, quick, mute)
    await realtime.device(quick)
    device = await realtime.mute_device(mute)
    sent = await realtime.send("group", tea, alice, "收到请回答 📻")
    await device.reach(sent.conversation, sent.position)
    page = await realtime.proven(sent, {"delivered": 1, "queued": 1})
    assert _states(page) == {quick: "delivered", mute: "queued"}
    while not device.pings:
        await device.wait_for_more()
    await device.say("{}")
    await realtime.proven(sent, {"delivered": 2})


async def test_promise_4_embedded_told_to_reload_claims_nothing_before(
    embedded: EmbeddedDoor,
) -> None:
    """After a restore: the device keeps the position that it was told, and comes back with it. The
    ledger claims what it is given from there on, and what it missed once another device has it,
    or its user has read it."""
    await _come_back_after_a_reload(embedded)


@pytest.mark.processes
async def test_promise_4_realtime_told_to_reload_claims_nothing_before(
    realtime: RealtimeDoor,
) -> None:
    """The same with a device that does nothing but answer pings."""
    await _come_back_after_a_reload(realtime)


async def _come_back_after_a_reload(door: Door) -> None:
    alice, bob = await door.users("alice", "bob")
    tea = await door.group("tea", alice, bob)
    name = f"group:{tea}"
    missed = [await door.send("group", tea, alice, f"丢失 {n} 🕳️") for n in range(3)]
    device = await door.device(bob, {name: At("恢复之前", 2)})
    assert device.starts[name].must_reload
    await device.close()
    again = await door.device(bob, device.positions())
    assert not again.starts[name].must_reload
    live = await door.send("group", tea, alice, "以后 🔴")
    await door.proven(live, {"delivered": 1})
    assert again.messages(name) == ["以后 🔴"]
    for sent in missed:
        assert _states(await door.ledger(name, sent.position)) == {bob: "queued"}
    await door.mark_read(bob, name, missed[0].position)
    assert _states(await door.ledger(name, missed[0].position)) == {bob: "read"}
    assert _states(await door.ledger(name, missed[1].position)) == {bob: "queued"}
    new = await door.device(bob)
    assert new.starts[name].position == missed[0].position
    await new.reach(name, live.position)
    await door.proven(missed[1], {"delivered": 1})
    await door.proven(missed[2], {"delivered": 1})


async def test_promise_4_who_comes_back_while_connected_claims_nothing_before(
    tmp_path: Path,
) -> None:
    """Told to reload, removed, and added again: the same device goes on where it was, and what it
    was never given is not delivered for that."""
    settings = msgspec.structs.replace(SETTINGS, recovery_budget_entries=10)
    async with opened(EmbeddedDoor(tmp_path / "chat 茶.db", settings)) as door:
        alice, bob = await door.users("alice", "bob")
        tea = await door.group("tea", alice, bob, history="full")
        name = f"group:{tea}"
        missed = [await door.send("group", tea, alice, f"没给过 {n} 🕳️") for n in range(30)]
        device = await door.device(bob)
        assert device.starts[name].must_reload
        await device.reach(name, (await door.remove(tea, bob)).membership_version)
        await device.reach(name, (await door.add(tea, bob)).membership_version)
        live = await door.send("group", tea, alice, "回来了 👋")
        await door.proven(live, {"delivered": 1})
        assert device.messages(name) == ["回来了 👋"]
        for sent in (missed[0], missed[-1]):
            assert _states(await door.ledger(name, sent.position)) == {bob: "queued"}
