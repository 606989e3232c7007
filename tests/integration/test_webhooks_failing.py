"""Receivers that refuse some events, or all: who waits, and how often they are asked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from aiohttp import web

import qunxin
from qunxin.engine import Engine
from qunxin.gateways.webhooks.patience import Patience
from webhook_help import FAST, NEAR, nothing_waits, say, sending, status_until
from webhook_receiver import Received, Receiver

POISONED = ("group:tea", "group:rice")
FOR_EVER = 1_000_000.0


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[Engine]:
    async with qunxin.open(tmp_path / "chat.db", settings=NEAR) as chat:
        yield chat


@pytest.fixture(autouse=True)
async def _people(engine: Engine) -> None:
    for user in ("ann", "bo"):
        await engine.put_user(user, name=f"用户 {user}")
    for group in ("tea", "rice", "salt", "soy"):
        await engine.put_group(group, name=f"群 {group} 🍵", owner="ann", members=("bo",))


def endless_after(doubled: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses are short until they were doubled so often; then none ends."""

    def pause(_: Patience, often: int) -> float:
        return 0.001 if often < doubled else FOR_EVER

    monkeypatch.setattr(Patience, "_pause", pause)


async def refuse_some(received: Received) -> int:
    return 500 if received.place[0] in POISONED else 204


async def test_others_go_on_though_only_failures_were_seen_for_long(
    engine: Engine, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two conversations whose events are refused, and nothing else to send, until their pauses have
    no end: an event of a third goes out all the same, and what follows it."""
    endless_after(4, monkeypatch)
    receiver.behave = refuse_some
    async with sending(engine, receiver) as hook:
        await asyncio.gather(*(say(engine, group, "不要的 ☠️") for group in ("tea", "rice")))
        await status_until(engine, hook, lambda status: status.failures >= 8)
        for number in range(3):
            await say(engine, "tea", f"在它后面 {number}")
            await say(engine, "salt", f"正常 {number} 🧂")
            await receiver.until_taken(number + 1)
        found = await status_until(engine, hook, lambda status: status.behind == 5)
        assert found.failures == 0
    assert {one.place[0] for one in receiver.taken} == {"group:salt"}


async def test_one_poisoned_event_holds_up_nobody(
    engine: Engine, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often it failed, and though others fail once beside it."""
    endless_after(4, monkeypatch)
    once = {"group:salt", "group:soy"}

    async def refuse(received: Received) -> int:
        place = received.place[0]
        if place == "group:tea" or place in once:
            once.discard(place)
            return 500
        return 204

    receiver.behave = refuse
    async with sending(engine, receiver) as hook:
        await say(engine, "tea", "不要的 ☠️")
        await status_until(engine, hook, lambda status: status.failures == 5)
        await say(engine, "salt", "第二次就好 🧂")
        await receiver.until_taken(1)
        await say(engine, "soy", "也是 🫘")
        await receiver.until_taken(2)
    assert {one.place[0] for one in receiver.taken} == {"group:salt", "group:soy"}


async def test_an_attempt_that_hangs_holds_up_nobody(
    engine: Engine, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the receiver counts as down and an attempt with a refused event is under way, one of a
    conversation that has not failed goes out beside it."""
    endless_after(1_000, monkeypatch)
    hanging, never = asyncio.Event(), asyncio.Event()

    async def refuse_then_hang(received: Received) -> int:
        if received.place[0] in POISONED and len(receiver.requests) > 8:
            hanging.set()
            await never.wait()
        return await refuse_some(received)

    receiver.behave = refuse_then_hang
    patient = msgspec.structs.replace(FAST, webhook_timeout_seconds=FOR_EVER)
    async with sending(engine, receiver, patient):
        await asyncio.gather(*(say(engine, group, "不要的 ☠️") for group in ("tea", "rice")))
        await hanging.wait()
        await say(engine, "salt", "正常 🧂")
        await receiver.until_taken(1)
        never.set()
    assert receiver.taken[0].place == ("group:salt", 2)


async def test_a_receiver_that_is_down_is_not_asked_by_each_conversation(
    engine: Engine, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While it takes nothing, what is said in conversations that have not failed is held back after
    a few attempts, though another webhook has long got it; all of it comes in the end."""
    endless_after(2, monkeypatch)
    users = [f"u{number}" for number in range(40)]
    for user in users:
        await engine.put_user(user)

    async def down(_: Received) -> int:
        return 502

    receiver.behave = down
    async with Receiver() as other, sending(engine, receiver) as hook:
        await engine.create_webhook(other.url)
        for user in users[:6]:
            await engine.send("private", user, sender="ann", text="在吗 📵")
        await status_until(engine, hook, lambda status: status.failures >= 4)
        for user in users[6:]:
            await engine.send("private", user, sender="ann", text="在吗 📵")
        await other.until_taken(40)
        # Some under way at once, before it counted as down, and some with pauses that end.
        assert len(receiver.requests) <= 12
        assert receiver.taken == []
        receiver.behave = None
        await engine.rotate_webhook(hook.id)
        await receiver.until_taken(40)
        await status_until(engine, hook, nothing_waits)
    assert {one.place for one in receiver.taken} == {(f"private:ann~{u}", 1) for u in users}


async def test_retry_after_with_other_failures_is_for_that_event(
    engine: Engine, receiver: Receiver
) -> None:
    """With 429 and 503 a receiver speaks of itself; with another status of what it was sent."""

    async def refuse(received: Received) -> web.Response | int:
        if received.place[0] in POISONED:
            return web.Response(status=500, headers={"Retry-After": "86400"})
        return 204

    receiver.behave = refuse
    async with sending(engine, receiver) as hook:
        for group in ("tea", "rice", "salt"):
            await say(engine, group, "明天再来 🌙")
        await receiver.until_taken(1)
        await say(engine, "soy", "现在就来 🫘")
        await receiver.until_taken(2)
        await status_until(engine, hook, lambda status: status.behind == 2)
    assert sorted(one.place[0] for one in receiver.requests) == [
        "group:rice",
        "group:salt",
        "group:soy",
        "group:tea",
    ]
