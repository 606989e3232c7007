"""Promise 1: type is never guessed."""

from __future__ import annotations

import pytest
from doors import Door, Refusal, positions_of


async def test_promise_1_each_type_takes_its_own_path(door: Door) -> None:
    """With a group named like the recipient, each message goes where its type says, and only
    there."""
    alice, bob, carol = await door.users("alice", "bob", "carol")
    await door.put_group(bob, owner=alice, members=[carol])
    devices = await door.devices(alice, bob, carol)
    to_group = await door.send("group", bob, alice, "给群的 🍵")
    to_person = await door.send("private", bob, alice, "只给你 🤫")
    assert to_group.conversation == f"group:{bob}"
    assert to_person.conversation == f"private:{min(alice, bob)}~{max(alice, bob)}"
    assert (to_group.members, to_person.members) == (2, 2)
    for device, groups, privates in zip(devices, (1, 0, 1), (1, 1, 0), strict=True):
        if groups:
            await device.reach(to_group.conversation, to_group.position)
        if privates:
            await device.reach(to_person.conversation, to_person.position)
        assert device.messages(to_group.conversation) == ["给群的 🍵"] * groups
        assert device.messages(to_person.conversation) == ["只给你 🤫"] * privates


@pytest.mark.parametrize("type_", [None, "", "GROUP", "multicast", "组", "private "])
async def test_promise_1_a_missing_or_unknown_type_is_refused(
    door: Door, type_: str | None
) -> None:
    """Whatever names exist, a message that does not say its type goes nowhere."""
    alice, bob = await door.users("alice", "bob")
    await door.put_group(bob, owner=alice, members=[bob])
    with pytest.raises(Refusal) as refused:
        await door.send(type_, bob, alice, "去哪里？", key="一")
    assert refused.value.code == "unknown_message_type"
    assert positions_of(await door.read_all(f"group:{bob}")) == [1]
    assert await door.read_all(f"private:{min(alice, bob)}~{max(alice, bob)}") == []


async def test_promise_1_a_group_message_never_falls_back_to_a_person(door: Door) -> None:
    """A group that does not exist is an error at once, also where a user has its name."""
    alice, bob = await door.users("alice", "bob")
    with pytest.raises(Refusal) as refused:
        await door.send("group", bob, alice, "有人吗？")
    assert refused.value.code == "group_not_found"
    assert await door.read_all(f"private:{min(alice, bob)}~{max(alice, bob)}") == []


async def test_promise_1_a_broadcast_is_for_keys_and_says_so(door: Door) -> None:
    """A broadcast by the operator reaches everyone; addressed to one name it is refused."""
    alice, bob = await door.users("alice", "bob")
    devices = await door.devices(alice, bob)
    sent = await door.send("broadcast", None, None, "全体注意 📣")
    assert sent.conversation == "broadcast:all"
    for device in devices:
        await device.reach(sent.conversation, sent.position)
        assert device.messages(sent.conversation)[-1] == "全体注意 📣"
    with pytest.raises(Refusal) as refused:
        await door.send("broadcast", alice, None, "只给她？")
    assert refused.value.code == "invalid_request"
    with pytest.raises(Refusal) as refused:
        await door.send("broadcast", "all", alice, "我也要广播", own=True)
    assert refused.value.code == "forbidden"
