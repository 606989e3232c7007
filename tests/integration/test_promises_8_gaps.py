"""Promise 8: never a silent gap."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from door_embedded import SETTINGS, EmbeddedDoor
from doors import At, Door, Refusal, positions_of, text_of


async def test_promise_8_who_was_away_gets_everything(door: Door) -> None:
    """Groups, private messages and broadcasts missed while offline come by themselves, from
    where the device stood."""
    alice, bob = await door.users("alice", "bob")
    tea = await door.group("tea", alice, bob)
    here = await door.send("group", tea, alice, "在 👀")
    first = await door.send("private", bob, alice, "第一")
    device = await door.device(bob)
    await device.reach(here.conversation, here.position)
    await device.reach(first.conversation, first.position)
    await device.close()
    missed = [await door.send("group", tea, alice, f"不在 {n} 💤") for n in range(20)]
    private = await door.send("private", bob, alice, "私下 🤫")
    broadcast = await door.send("broadcast", None, None, "全体 📣")
    again = await door.device(bob, device.positions())
    for sent in (missed[-1], private, broadcast):
        await again.reach(sent.conversation, sent.position)
    assert positions_of(again.entries(here.conversation)) == [sent.position for sent in missed]
    assert again.messages(private.conversation) == ["私下 🤫"]
    assert again.messages(broadcast.conversation)[-1] == "全体 📣"
    assert not any(start.must_reload for start in again.starts.values())


async def test_promise_8_the_time_outside_is_an_explicit_range(door: Door) -> None:
    """Left and rejoined while offline: the device gets the end of the first stay, one hidden
    range, and the second stay."""
    alice, bob = await door.users("alice", "bob")
    tea = await door.group("tea", alice, bob)
    name = f"group:{tea}"
    first = await door.send("group", tea, alice, "一")
    device = await door.device(bob)
    await device.reach(name, first.position)
    await device.close()
    second = await door.send("group", tea, alice, "二")
    left = (await door.remove(tea, bob)).membership_version
    outside = [await door.send("group", tea, alice, f"外 {n} 🙈") for n in range(3)]
    joined = (await door.add(tea, bob)).membership_version
    last = await door.send("group", tea, alice, "三")
    again = await door.device(bob, device.positions())
    await again.reach(name, last.position)
    seen = again.entries(name)
    assert positions_of(seen) == [second.position, left, joined - 1, joined, last.position]
    hidden = seen[2]
    assert (hidden["type"], hidden["first"], hidden["last"]) == ("hidden", left + 1, joined - 1)
    assert outside[0].position == hidden["first"]
    assert seen == await door.read_all(name, bob, after=first.position)


@pytest.mark.parametrize("history", ["joined", "full"])
async def test_promise_8_pages_cover_every_position(door: Door, history: str) -> None:
    """Read in pages of any size, forwards: each position once, as an entry or in a range."""
    alice, bob = await door.users("alice", "bob")
    tea = await door.group("tea", alice, history=history)
    for n in range(4):
        await door.send("group", tea, alice, f"之前 {n}")
    await door.add(tea, bob)
    await door.send("group", tea, alice, "在 🍵")
    await door.remove(tea, bob)
    await door.send("group", tea, alice, "外")
    await door.add(tea, bob)
    await door.send("group", tea, alice, "又在 🍵")
    for limit in (1, 2, 3, 100):
        covered: list[int] = []
        following: int | None = 0
        while following is not None:
            page = await door.page(f"group:{tea}", bob, after=following, limit=limit)
            for entry in page.entries:
                first = entry["first"] if entry["type"] == "hidden" else entry["position"]
                covered += range(first, entry["position"] + 1)
            assert covered[-1:] == [page.through]
            following = page.next_after
        assert covered == list(range(1, 12))
    visible = {text_of(e) for e in await door.read_all(f"group:{tea}", bob)}
    assert ("之前 0" in visible) == (history == "full")
    assert {"在 🍵", "又在 🍵"} <= visible


async def test_promise_8_pages_between_two_positions_end(door: Door) -> None:
    """Read forwards below a bound: each position once, and an end, also where the bound is above
    the head, where nothing lies between, and where the reader is no longer there."""
    alice, bob = await door.users("alice", "bob")
    tea = await door.group("tea", alice, bob)
    for n in range(5):
        await door.send("group", tea, alice, f"第 {n} 杯 🍵")
    await door.remove(tea, bob)
    await door.send("group", tea, alice, "外")
    for reader, head in ((alice, 8), (bob, 7)):
        for after, before in ((0, 6), (2, 5), (3, 4), (0, 8), (0, 9), (4, 1_000), (8, 1_000)):
            last = max(after, min(before - 1, head))
            for limit in (1, 2, 100):
                covered = await _covered(door, f"group:{tea}", reader, after, before, limit)
                assert covered == list(range(after + 1, last + 1)), (reader, after, before, limit)


async def _covered(
    door: Door, conversation: str, reader: str, after: int, before: int, limit: int
) -> list[int]:
    """The positions of all pages above `after` and below `before`."""
    covered: list[int] = []
    following: int | None = after
    while following is not None:
        fields = {"after": following, "before": before, "limit": limit}
        page = await door.page(conversation, reader, **fields)
        assert page.entries or page.next_after is None
        covered += positions_of(page.entries)
        assert page.through == (covered[-1] if covered else after)
        following = page.next_after
    return covered


@pytest.mark.parametrize(("after", "before"), [(9, 4), (4, 4)])
async def test_promise_8_nothing_lies_below_where_one_stands(
    door: Door, after: int, before: int
) -> None:
    """Such a range is a mistake, and no page can say truthfully how far it goes."""
    alice, bob = await door.users("alice", "bob")
    tea = await door.group("tea", alice, bob)
    await door.send("group", tea, alice, "喝茶 🍵")
    with pytest.raises(Refusal) as refused:
        await door.page(f"group:{tea}", bob, after=after, before=before)
    assert refused.value.code == "invalid_request"


async def test_promise_8_a_page_below_a_position_leads_on(door: Door) -> None:
    """Backwards: what stands just below, and where the rest begins."""
    alice, bob = await door.users("alice", "bob")
    tea = await door.group("tea", alice, bob)
    for n in range(5):
        await door.send("group", tea, alice, f"{n} 🍵")
    page = await door.page(f"group:{tea}", bob, before=4, limit=2)
    assert (positions_of(page.entries), page.through, page.next_after) == ([2, 3], 3, 3)


@pytest.mark.parametrize("wrong", ["another epoch", "beyond the head"])
async def test_promise_8_a_position_that_does_not_fit_means_reload(door: Door, wrong: str) -> None:
    """The device is told plainly, begins at the head, and gets what comes from then on; its
    other conversations are not concerned."""
    alice, bob = await door.users("alice", "bob")
    tea, rice = await door.group("tea", alice, bob), await door.group("rice", alice, bob)
    await door.send("group", rice, alice, "一")
    sent = await door.send("group", tea, alice, "一")
    at = At(sent.epoch, 1)
    bad = At("其他-epoch", 1) if wrong == "another epoch" else At(sent.epoch, 1_000_000)
    device = await door.device(bob, {f"group:{tea}": bad, f"group:{rice}": at})
    assert device.starts[f"group:{tea}"].must_reload
    assert device.starts[f"group:{tea}"].position == 2
    assert not device.starts[f"group:{rice}"].must_reload
    await device.reach(f"group:{rice}", 2)
    assert positions_of(device.entries(f"group:{rice}")) == [2]
    following = await door.send("group", tea, alice, "二")
    await device.reach(f"group:{tea}", following.position)
    assert positions_of(device.entries(f"group:{tea}")) == [3]


async def test_promise_8_positions_of_what_is_not_theirs_change_nothing(door: Door) -> None:
    """Unknown conversations, other people's, groups left long ago: passed over."""
    alice, bob, eve = await door.users("alice", "bob", "eve")
    tea, left = await door.group("tea", alice, bob), await door.group("left", alice, eve)
    over = (await door.remove(left, eve)).membership_version
    sent = await door.send("group", tea, alice, "不是给你的 🚫")
    asked = [f"group:{tea}", f"group:{left}", "group:nowhere", "nonsense 乱", f"inbox:{alice}"]
    device = await door.device(eve, {name: At(sent.epoch, 1) for name in asked})
    private = await door.send("private", eve, alice, "给你的")
    await device.reach(private.conversation, private.position)
    assert "不是给你的" not in str(device.record)
    own = {f"inbox:{eve}", "broadcast:all", private.conversation, f"group:{left}"}
    assert device.record.keys() <= own
    assert device.at(f"group:{left}") <= over


async def test_promise_8_beyond_the_budget_means_reload(tmp_path: Path) -> None:
    """A connection is given so many missed entries and no more: the conversation beyond them is
    told to reload, and claims no delivery of what it was not given, then or later."""
    door = EmbeddedDoor(
        tmp_path / "chat.db", msgspec.structs.replace(SETTINGS, recovery_budget_entries=20)
    )
    await door.open()
    try:
        alice, bob = await door.users("alice", "bob")
        tea, rice = await door.group("tea", alice, bob), await door.group("rice", alice, bob)
        much = [await door.send("group", tea, alice, f"{n} 📚") for n in range(30)]
        little = await door.send("group", rice, alice, "不多")
        device = await door.device(bob)
        assert device.starts[f"group:{tea}"].must_reload
        assert not device.starts[f"group:{rice}"].must_reload
        await device.reach(little.conversation, little.position)
        live = await door.send("group", tea, alice, "现在 🔴")
        await device.reach(live.conversation, live.position)
        assert device.messages(live.conversation) == ["现在 🔴"]
        await door.proven(little, {"delivered": 1})
        await door.proven(much[0], {"queued": 1})
        await door.proven(live, {"delivered": 1})
        await door.close_devices()
        again = await door.device(bob, device.positions())
        assert not again.starts[f"group:{tea}"].must_reload
        last = await door.send("group", tea, alice, "之后 🔵")
        await door.proven(last, {"delivered": 1})
        await door.proven(much[-1], {"queued": 1})
        await door.close_devices()
    finally:
        await door.close()


async def test_promise_8_no_device_starts_above_what_was_proven(door: Door) -> None:
    """A new device without positions gets what no device of its user has proved to have, also
    after a restart."""
    alice, bob = await door.users("alice", "bob")
    tea = await door.group("tea", alice, bob)
    name = f"group:{tea}"
    sends = [await door.send("group", tea, alice, f"{n} 🧱") for n in range(10)]
    await door.mark_read(bob, name, sends[4].position)
    await door.restart()
    device = await door.device(bob)
    await device.reach(name, sends[-1].position)
    texts = device.messages(name)
    assert texts[-5:] == [f"{n} 🧱" for n in range(5, 10)]
    assert len(texts) == (5 if door.pushes else 10)
