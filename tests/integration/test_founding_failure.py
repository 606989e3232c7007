"""The founding failure: a message to a group, taken for a message to a person.

Names that mean two things, or one thing that is gone, or nothing at all: each message goes where
its type says or is refused at once, in words that say what is the matter. There is no time-out.
"""

from __future__ import annotations

import asyncio

import pytest
from doors import Door, Refusal, positions_of, text_of

AT_ONCE_SECONDS = 5.0
"""Far above what a busy machine takes, far below any time-out that could be meant."""


async def _refused(door: Door, type_: str, to: str, sender: str, code: str) -> dict[str, str]:
    """The texts of the refusal in both languages; it comes at once and has that code."""
    texts = {}
    for language in ("en", "zh"):
        async with asyncio.timeout(AT_ONCE_SECONDS):
            with pytest.raises(Refusal) as refused:
                await door.send(type_, to, sender, "有人吗？ 🆘", language=language)
        assert refused.value.code == code
        texts[language] = refused.value.text
    return texts


def _private(one: str, other: str) -> str:
    return f"private:{min(one, other)}~{max(one, other)}"


async def test_a_group_named_like_a_user(door: Door) -> None:
    """The group's members get what is said to the group; the person gets what is said to them."""
    alice, bob, carol = await door.users("alice", "bob", "carol")
    await door.put_group(carol, owner=alice, members=[bob], name=f"{carol} 的群 👥")
    devices = await door.devices(bob, carol)
    group = await door.send("group", carol, alice, "给群")
    person = await door.send("private", carol, alice, "给人")
    assert (group.conversation, group.members) == (f"group:{carol}", 2)
    assert person.conversation == _private(alice, carol)
    await devices[0].reach(group.conversation, group.position)
    await devices[1].reach(person.conversation, person.position)
    assert devices[0].messages(group.conversation) == ["给群"]
    assert not devices[0].entries(person.conversation)
    assert devices[1].messages(person.conversation) == ["给人"]
    assert not devices[1].entries(group.conversation)
    await _refused(door, "private", alice, alice, "invalid_request")


async def test_a_user_named_like_a_dissolved_group(door: Door) -> None:
    """The group's id says for ever that it was dissolved; the user is reached as a user."""
    alice, bob = await door.users("alice", "bob")
    tea = await door.group("tea", alice, bob)
    await door.send("group", tea, alice, "还在")
    await door.dissolve(tea)
    await door.put_user(tea, name="同名的人 🧑🏻‍🦰")
    texts = await _refused(door, "group", tea, alice, "group_dissolved")
    assert texts == {"en": "The group has been dissolved", "zh": "群组已解散"}
    device = await door.device(tea)
    sent = await door.send("private", tea, alice, "给同名的人")
    await device.reach(sent.conversation, sent.position)
    assert device.messages(sent.conversation) == ["给同名的人"]
    log = await door.read_all(f"group:{tea}")
    assert [text_of(entry) for entry in log if entry["type"] == "group"] == ["还在"]
    with pytest.raises(Refusal) as refused:
        await door.put_group(tea, owner=alice)
    assert refused.value.code == "group_dissolved"


async def test_a_group_that_never_was(door: Door) -> None:
    """Also where a user has the name: it is not tried as anything else."""
    alice, bob = await door.users("alice", "bob")
    (nothing,) = door.ids("nothing")
    for to in (nothing, bob):
        texts = await _refused(door, "group", to, alice, "group_not_found")
        assert texts == {"en": "There is no such group", "zh": "群组不存在"}
        assert await door.read_all(_private(alice, to)) == []


async def test_a_private_message_to_a_groups_name(door: Door) -> None:
    """There is no such person, and the group hears nothing of it."""
    alice, bob = await door.users("alice", "bob")
    tea = await door.group("tea", alice, bob)
    texts = await _refused(door, "private", tea, alice, "user_not_found")
    assert texts == {"en": f"There is no user {tea}", "zh": f"用户 {tea} 不存在"}
    assert positions_of(await door.read_all(f"group:{tea}")) == [1]


async def test_a_group_whose_members_do_not_exist_any_more(door: Door) -> None:
    """Some erased: accepted for the others, and those named. All erased: refused, with the
    count, since nobody would get it."""
    alice, bob, carol = await door.users("alice", "bob", "carol")
    tea = await door.group("tea", alice, bob, carol)
    device = await door.device(carol)
    await door.erase(bob)
    sent = await door.send("group", tea, alice, "还有谁？")
    assert (sent.grade, sent.unreachable_count) == ("partial", 1)
    assert [(one.user, one.reason) for one in sent.unreachable] == [(bob, "not_found")]
    await device.reach(sent.conversation, sent.position)
    await door.erase(carol)
    texts = await _refused(door, "group", tea, alice, "members_unreachable")
    assert texts == {
        "en": "Some members are unreachable (2 of 3)",
        "zh": "部分成员不可达（3 人中有 2 人）",
    }
    assert text_of((await door.read_all(f"group:{tea}"))[-1]) == "还有谁？"


async def test_members_that_never_existed_are_named_at_the_creation(door: Door) -> None:
    """A group is made with those who exist, and says who does not."""
    alice, bob = await door.users("alice", "bob")
    (nobody,) = door.ids("nobody")
    tea = await door.group("tea", alice, bob)
    change = await door.add(tea, nobody, bob)
    results = {row.user: row.result for row in change.results}
    assert results == {nobody: "user_not_found", bob: "already_member"}
    assert change.grade == "partial"
    sent = await door.send("group", tea, alice, "两个人 ✌🏽")
    assert (sent.members, sent.unreachable_count) == (2, 0)


async def test_the_owner_of_a_new_group_must_exist(door: Door) -> None:
    """Otherwise there is no group, rather than one that belongs to nobody."""
    (tea, nobody) = door.ids("tea", "nobody")
    with pytest.raises(Refusal) as refused:
        await door.put_group(tea, owner=nobody)
    assert refused.value.code == "user_not_found"
    (alice,) = await door.users("alice")
    await _refused(door, "group", tea, alice, "group_not_found")
