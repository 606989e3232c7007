"""Promise 2: all, or a clear failure."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import msgspec
import pytest
from door_embedded import EmbeddedDoor
from door_http import HttpDoor
from door_realtime import RealtimeDoor
from doors import Door, Refusal, is_message, text_of

from qunxin.engine.access import Caller
from qunxin.errors import QunxinError

KEY = "早安-🌅-صباح"


async def _texts(door: Door, conversation: str) -> list[str | None]:
    return [text_of(entry) for entry in await door.read_all(conversation) if is_message(entry)]


async def test_promise_2_a_repeat_gives_the_first_outcome(door: Door) -> None:
    """The same key and content: the same receipt, marked as a repeat, and one entry."""
    alice, bob, gone = await door.users("alice", "bob", "gone")
    tea = await door.group("tea", alice, bob, gone)
    await door.suspend(gone)
    first = await door.send("group", tea, alice, "你好 👋🏽", key=KEY)
    await door.send("group", tea, bob, "在")
    await door.remove(tea, gone)
    again = await door.send("group", tea, alice, "你好 👋🏽", key=KEY)
    assert again == msgspec.structs.replace(first, duplicate=True)
    assert await _texts(door, f"group:{tea}") == ["你好 👋🏽", "在"]


async def test_promise_2_the_same_key_with_other_content_is_refused(door: Door) -> None:
    """Nobody gets the other content; the first stays."""
    alice, bob = await door.users("alice", "bob")
    tea = await door.group("tea", alice, bob)
    first = await door.send("group", tea, alice, "一", key=KEY)
    with pytest.raises(Refusal) as refused:
        await door.send("group", tea, alice, "二", key=KEY)
    assert refused.value.code == "idempotency_conflict"
    assert (await door.send("group", tea, alice, "一", key=KEY)).position == first.position
    assert await _texts(door, f"group:{tea}") == ["一"]


async def test_promise_2_a_key_belongs_to_sender_and_conversation(door: Door) -> None:
    """Other people, and the same person elsewhere, may use the same key."""
    alice, bob = await door.users("alice", "bob")
    tea, rice = await door.group("tea", alice, bob), await door.group("rice", alice, bob)
    receipts = [
        await door.send("group", tea, alice, "甲", key=KEY),
        await door.send("group", tea, bob, "乙", key=KEY),
        await door.send("group", rice, alice, "丙", key=KEY),
        await door.send("private", bob, alice, "丁", key=KEY),
        await door.send("private", alice, bob, "戊", key=KEY),
    ]
    assert not any(receipt.duplicate for receipt in receipts)
    assert await _texts(door, f"group:{tea}") == ["甲", "乙"]
    assert await _texts(door, receipts[3].conversation) == ["丁", "戊"]


async def test_promise_2_refused_then_mended_is_judged_anew(door: Door) -> None:
    """A refusal is no outcome that a key remembers: once its cause is gone, the send goes."""
    alice, bob = await door.users("alice", "bob")
    tea = await door.group("tea", alice)
    for _ in range(2):
        with pytest.raises(Refusal) as refused:
            await door.send("group", tea, bob, "让我进来", key=KEY)
        assert refused.value.code in ("not_a_member", "group_not_found")
    await door.add(tea, bob)
    sent = await door.send("group", tea, bob, "让我进来", key=KEY)
    assert not sent.duplicate
    assert await _texts(door, f"group:{tea}") == ["让我进来"]


async def test_promise_2_a_key_outlives_permissions_and_groups(door: Door) -> None:
    """The outcome was accepted: that stays true for who was removed or muted since, and for a
    group that was dissolved."""
    alice, bob = await door.users("alice", "bob")
    tea = await door.group("tea", alice, bob)
    first = await door.send("group", tea, bob, "早", key=KEY)
    await door.change_member(tea, bob, muted=True)
    assert (await door.send("group", tea, bob, "早", key=KEY)).position == first.position
    await door.remove(tea, bob)
    assert (await door.send("group", tea, bob, "早", key=KEY)).position == first.position
    await door.dissolve(tea)
    assert (await door.send("group", tea, bob, "早", key=KEY)).position == first.position
    with pytest.raises(Refusal) as refused:
        await door.send("group", tea, bob, "早", key=KEY + "2")
    assert refused.value.code == "group_dissolved"


async def test_promise_2_a_key_is_valid_after_a_restart(door: Door) -> None:
    """What was answered before the node went down is answered again after it came back."""
    alice, bob = await door.users("alice", "bob")
    tea = await door.group("tea", alice, bob)
    first = await door.send("group", tea, alice, "在重启之前 💾", key=KEY)
    await door.restart()
    again = await door.send("group", tea, alice, "在重启之前 💾", key=KEY)
    assert again == msgspec.structs.replace(first, duplicate=True)
    with pytest.raises(Refusal) as refused:
        await door.send("group", tea, alice, "别的", key=KEY)
    assert refused.value.code == "idempotency_conflict"


async def test_promise_2_after_a_recall_the_key_gives_the_first_outcome(door: Door) -> None:
    """Nothing is left to compare with: any repeat answers the first outcome, and sends nothing."""
    alice, bob = await door.users("alice", "bob")
    tea = await door.group("tea", alice, bob)
    first = await door.send("group", tea, alice, "说错了", key=KEY)
    await door.recall(first.conversation, first.position, alice)
    for text in ("说错了", "别的"):
        again = await door.send("group", tea, alice, text, key=KEY)
        assert (again.position, again.duplicate) == (first.position, True)
    assert await _texts(door, f"group:{tea}") == [None]


async def test_promise_2_many_repeats_at_once_make_one_message(door: Door) -> None:
    """Twenty sends of one key, side by side: one is the first, all answer its position."""
    alice, bob = await door.users("alice", "bob")
    tea = await door.group("tea", alice, bob)
    device = await door.device(alice)
    sends = (door.send("group", tea, alice, "只有一次 ☝🏽", key=KEY) for _ in range(20))
    receipts = await asyncio.gather(*sends)
    assert len({receipt.position for receipt in receipts}) == 1
    assert [receipt.duplicate for receipt in receipts].count(False) == 1
    await device.reach(f"group:{tea}", receipts[0].position)
    assert await _texts(door, f"group:{tea}") == ["只有一次 ☝🏽"]


async def _send_and_leave(door: Door, tea: str, alice: str, key: str) -> None:
    """Begin a send and be gone before the answer: the outcome is unknown."""
    fields = {"type": "group", "to": tea, "text": "收到了吗？", "key": key}
    if isinstance(door, RealtimeDoor):
        device = await door.mute_device(alice)
        task = asyncio.create_task(device.rpc("message.send", fields))
        await asyncio.sleep(0)
        await device.close()
        with contextlib.suppress(Refusal):
            await task
        return
    task = asyncio.create_task(door.call("message.send", {**fields, "from": alice}))
    await asyncio.sleep(0.001 if isinstance(door, HttpDoor) else 0)
    task.cancel()
    await asyncio.wait([task])


async def test_promise_2_after_an_unknown_outcome_the_repeat_settles_it(door: Door) -> None:
    """The sender was cut off before the reply. The repeat answers, and the message is there
    exactly once, whether the first try had been accepted or not."""
    alice, bob = await door.users("alice", "bob")
    tea = await door.group("tea", alice, bob)
    keys = [f"{KEY}-{number}" for number in range(8)]
    for key in keys:
        await _send_and_leave(door, tea, alice, key)
    receipts = [await door.send("group", tea, alice, "收到了吗？", key=key) for key in keys]
    entries = [entry for entry in await door.read_all(f"group:{tea}") if is_message(entry)]
    assert sorted(entry["key"] for entry in entries) == keys
    assert {r.position for r in receipts} == {entry["position"] for entry in entries}


async def test_promise_2_a_refused_message_reaches_nobody(door: Door) -> None:
    """One unreachable member and `require: all`: no position is used, no device sees it."""
    alice, bob, gone = await door.users("alice", "bob", "gone")
    tea = await door.group("tea", alice, bob, gone)
    await door.suspend(gone)
    devices = await door.devices(alice, bob)
    with pytest.raises(Refusal) as refused:
        await door.send("group", tea, alice, "全体或无", require="all", key=KEY)
    assert refused.value.code == "members_unreachable"
    sent = await door.send("group", tea, alice, "下一条")
    for device in devices:
        await device.reach(sent.conversation, sent.position)
        assert device.messages(sent.conversation) == ["下一条"]
    assert sent.position == 2


async def test_promise_2_a_refused_neighbour_disturbs_nobody(embedded: EmbeddedDoor) -> None:
    """Sends that share a transaction: each is judged by itself."""
    alice, bob, eve = await embedded.users("alice", "bob", "eve")
    tea = await embedded.group("tea", alice, bob)
    sends = (
        embedded.send("group", tea, sender, f"第{n}条")
        for n in range(30)
        for sender in (alice, eve, bob)
    )
    outcomes = await asyncio.gather(*sends, return_exceptions=True)
    refused = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
    assert [getattr(error, "code", error) for error in refused] == ["not_a_member"] * 30
    assert len(await _texts(embedded, f"group:{tea}")) == 60


@pytest.mark.parametrize(
    "fault",
    [QunxinError("overloaded"), QunxinError("store_unavailable"), RuntimeError("读不到 💥")],
)
async def test_promise_2_a_fault_after_the_commit_is_not_the_outcome(
    embedded: EmbeddedDoor, monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    """A message that stands has its receipt, though the store cannot be asked any more what its
    sender may know of whom it does not reach; then they are shown what anybody may."""
    alice, bob, gone = await embedded.users("alice", "bob", "gone")
    tea = await embedded.group("tea", alice, bob, gone)
    await embedded.suspend(gone)

    async def failing(*_: object) -> None:
        raise fault

    engine = embedded.engine
    sending: dict[str, Any] = {"sender": alice, "key": KEY, "caller": Caller.as_user(alice)}
    monkeypatch.setattr(engine.store, "read_member", failing)
    receipt = await engine.send("group", tea, text="在吗 👀", **sending)
    again = await engine.send("group", tea, text="在吗 👀", **sending)
    monkeypatch.undo()
    assert again == msgspec.structs.replace(receipt, duplicate=True)
    assert [(one.user, one.reason) for one in receipt.unreachable] == [(gone, "unavailable")]
    assert await _texts(embedded, receipt.conversation) == ["在吗 👀"]
    told = await engine.send("group", tea, text="在吗 👀", **sending)
    assert [(one.user, one.reason) for one in told.unreachable] == [(gone, "suspended")]
