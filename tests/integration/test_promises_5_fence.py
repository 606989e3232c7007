"""Promise 5: a membership fence."""

from __future__ import annotations

import asyncio

import pytest
from doors import Device, Door, Json, Refusal, is_message, positions_of, text_of

ROUNDS = 6


async def test_promise_5_the_receipt_names_the_membership(door: Door) -> None:
    """Version for version: creation, joining, leaving; two sends under one membership agree."""
    alice, bob, carol = await door.users("alice", "bob", "carol")
    tea = await door.group("tea", alice, bob)
    assert (await door.send("group", tea, alice, "一")).membership_version == 1
    joined = await door.add(tea, carol)
    sends = [await door.send("group", tea, alice, f"三人 {n}") for n in range(2)]
    assert {s.membership_version for s in sends} == {joined.membership_version}
    assert {s.members for s in sends} == {3}
    left = await door.remove(tea, bob)
    sent = await door.send("group", tea, alice, "两人")
    assert (sent.membership_version, sent.members) == (left.membership_version, 2)


async def test_promise_5_who_was_removed_gets_nothing_later(door: Door) -> None:
    """Connected, offline, coming back with or without positions: up to the leaving, and no
    further; reading ends there too."""
    alice, bob, carol = await door.users("alice", "bob", "carol")
    tea = await door.group("tea", alice, bob, carol)
    name = f"group:{tea}"
    connected, witness = await door.devices(bob, carol)
    before = await door.send("group", tea, alice, "还在")
    await connected.reach(name, before.position)
    left = await door.remove(tea, bob)
    after = [await door.send("group", tea, alice, f"秘密 {n} 🔒") for n in range(5)]
    await witness.reach(name, after[-1].position)
    await connected.reach(name, left.membership_version)
    private = await door.send("private", bob, alice, "再见 👋🏽")
    await connected.reach(private.conversation, private.position)
    assert connected.at(name) == left.membership_version
    assert connected.entries(name)[-1]["type"] == "left"
    for positions in ({}, connected.positions()):
        again = await door.device(bob, positions)
        await again.reach(f"inbox:{bob}", 2)
        assert not [e for e in again.entries(name) if e["position"] > left.membership_version]
    log = await door.read_all(name, bob)
    assert log[-1]["position"] == left.membership_version
    with pytest.raises(Refusal):
        await door.send("group", tea, bob, "我还在吗？")


async def test_promise_5_removed_while_offline(door: Door) -> None:
    """The inbox says that it is over and up to where; that far everything can be read."""
    alice, bob = await door.users("alice", "bob")
    tea = await door.group("tea", alice, bob)
    name = f"group:{tea}"
    device = await door.device(bob)
    await device.reach(f"inbox:{bob}", 1)
    await device.close()
    missed = await door.send("group", tea, alice, "你不在时 💤")
    left = await door.remove(tea, bob)
    await door.send("group", tea, alice, "与你无关")
    again = await door.device(bob, device.positions())
    await again.until(lambda: any(e["type"] == "ceased" for e in again.entries(f"inbox:{bob}")))
    ceased = again.entries(f"inbox:{bob}")[-1]
    assert (ceased["conversation_left"], ceased["last"]) == (name, left.membership_version)
    rest = await door.read_all(name, bob, after=missed.position - 1)
    assert positions_of(rest) == [missed.position, left.membership_version]


async def test_promise_5_who_was_added_misses_nothing_later(door: Door) -> None:
    """Added while connected, and while offline; the next message, sent at once, is there."""
    alice, online, offline = await door.users("alice", "online", "offline")
    tea = await door.group("tea", alice)
    name = f"group:{tea}"
    device = await door.device(online)
    await door.send("group", tea, alice, "之前的事")
    joined = await door.add(tea, online, offline)
    sends = await asyncio.gather(
        *(door.send("group", tea, alice, f"欢迎 {n} 🎉") for n in range(5))
    )
    head = max(sent.position for sent in sends)
    late = await door.device(offline)
    for one in (device, late):
        await one.reach(name, head)
        seen = [e["position"] for e in one.entries(name) if e["type"] != "hidden"]
        assert seen == list(range(joined.membership_version, head + 1))


async def test_promise_5_who_was_added_while_a_device_was_away(door: Door) -> None:
    """The device gets everything since the joining, although another of its user's devices has
    had it and read it; in groups that show their history and in private conversations too."""
    alice, bob = await door.users("alice", "bob")
    old = await door.group("old", alice, bob)
    away = await door.device(bob)
    await away.reach(f"inbox:{bob}", 1)
    await away.reach(f"group:{old}", 1)
    await away.close()
    joined: dict[str, int] = {}
    for history in ("joined", "full"):
        tea = await door.group(f"tea-{history}", alice, history=history)
        await door.send("group", tea, alice, "之前的事 🙈")
        joined[f"group:{tea}"] = (await door.add(tea, bob)).membership_version
        had = [await door.send("group", tea, alice, f"欢迎 {n} 🎉") for n in range(3)]
        await door.mark_read(bob, had[-1].conversation, had[-1].position)
        await door.send("group", tea, alice, "后来的 שלום")
    first = await door.send("private", bob, alice, "第一句")
    joined[first.conversation] = first.position
    await door.mark_read(bob, first.conversation, first.position)
    await door.send("private", bob, alice, "第二句")
    again = await door.device(bob, away.positions())
    for name, since in joined.items():
        log = await door.read_all(name, bob)
        await again.reach(name, log[-1]["position"])
        assert not again.starts[name].must_reload
        seen = [entry for entry in again.entries(name) if entry["position"] >= since]
        assert seen == [entry for entry in log if entry["position"] >= since]


async def _settled(door: Door, device: Device, tea: str) -> list[Json]:
    """What a member's device has of the group, once it has everything, and the log as the member
    may see it from where the device began."""
    name = f"group:{tea}"
    last = await door.send("group", tea, device.user, "最后 🏁")
    await device.reach(name, last.position)
    return await door.read_all(name, device.user)


def _without_hidden(entries: list[Json]) -> list[Json]:
    return [entry for entry in entries if entry["type"] != "hidden"]


async def _seen_of_last_stay(door: Door, device: Device, tea: str) -> set[int]:
    """Where the device's entries stand, each as it is in the log; none is missing since its user
    was last added."""
    log = await _settled(door, device, tea)
    readable = {entry["position"]: entry for entry in _without_hidden(log)}
    seen = _without_hidden(device.entries(f"group:{tea}"))
    assert all(readable[entry["position"]] == entry for entry in seen)
    positions = {entry["position"] for entry in seen}
    stay = max(entry["position"] for entry in log if entry["type"] == "joined")
    assert {position for position in readable if position >= stay} <= positions
    return positions


async def test_promise_5_in_and_out_quickly_while_connected(door: Door) -> None:
    """Removed and added again, round after round, with messages in between: the device ends with
    exactly what the member may read, nothing of the times outside."""
    alice, bob = await door.users("alice", "bob")
    tea = await door.group("tea", alice, bob)
    device = await door.device(bob)
    outside = []
    for n in range(ROUNDS):
        await door.send("group", tea, alice, f"在 {n}")
        await door.remove(tea, bob)
        outside.append((await door.send("group", tea, alice, f"不在 {n} 🙈")).position)
        await door.add(tea, bob)
    log = await _settled(door, device, tea)
    readable = {entry["position"]: entry for entry in _without_hidden(log)}
    seen = _without_hidden(device.entries(f"group:{tea}"))
    assert not readable.keys() & set(outside)
    assert all(readable[entry["position"]] == entry for entry in seen)
    first = seen[0]["position"]
    assert [e["position"] for e in seen] == [p for p in readable if p >= first]
    assert first <= 2


async def test_promise_5_in_and_out_side_by_side_with_the_talk(door: Door) -> None:
    """The same without waiting for anything: changes and messages race, on several groups."""
    alice, bob = await door.users("alice", "bob")
    groups = [await door.group(f"tea{n}", alice, bob) for n in range(3)]
    device = await door.device(bob)

    async def shuffle(tea: str) -> None:
        for _ in range(ROUNDS):
            await door.remove(tea, bob)
            await door.add(tea, bob)

    async def talk(tea: str) -> None:
        for n in range(4 * ROUNDS):
            await door.send("group", tea, alice, f"{n} 🗣")

    await asyncio.gather(*(work(tea) for tea in groups for work in (shuffle, talk)))
    for tea in groups:
        await _seen_of_last_stay(door, device, tea)


async def test_promise_5_the_fence_holds_while_a_device_catches_up(door: Door) -> None:
    """A device that reads a long log is removed and added again meanwhile."""
    alice, bob = await door.users("alice", "bob")
    tea = await door.group("tea", alice, bob)
    long = "很长 " + "🧾" * 200
    await asyncio.gather(*(door.send("group", tea, alice, long) for _ in range(60)))
    device = await door.device(bob)

    async def shuffle() -> list[int]:
        positions = []
        for n in range(ROUNDS):
            await door.remove(tea, bob)
            positions.append((await door.send("group", tea, alice, f"不在 {n}")).position)
            await door.add(tea, bob)
        return positions

    outside = await shuffle()
    assert not await _seen_of_last_stay(door, device, tea) & set(outside)


async def test_promise_5_dissolution_is_the_last_entry(door: Door) -> None:
    """Everybody gets `dissolved` and nothing after it; the id answers that for ever."""
    alice, bob = await door.users("alice", "bob")
    tea = await door.group("tea", alice, bob)
    name = f"group:{tea}"
    devices = await door.devices(alice, bob)
    sent = await door.send("group", tea, alice, "最后一条")
    await door.dissolve(tea)
    for device in devices:
        await device.reach(name, sent.position + 1)
        assert device.entries(name)[-1]["type"] == "dissolved"
        log = await door.read_all(name, device.user)
        assert [text_of(e) for e in log if is_message(e)] == ["最后一条"]
    for user in (alice, bob):
        with pytest.raises(Refusal) as refused:
            await door.send("group", tea, user, "还有人吗？")
        assert refused.value.code == "group_dissolved"
    with pytest.raises(Refusal) as refused:
        await door.put_group(tea, owner=alice)
    assert refused.value.code == "group_dissolved"
