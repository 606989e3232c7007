"""How far a webhook is: kept exactly, whatever waits, and shown."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import qunxin
from qunxin.engine import Engine
from webhook_help import NEAR, say
from webhook_receiver import Receiver


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[Engine]:
    async with qunxin.open(tmp_path / "chat.db", settings=NEAR) as chat:
        yield chat


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with Receiver() as one:
        yield one


@pytest.fixture(autouse=True)
async def _people(engine: Engine) -> None:
    for user in ("ann", "bo", "cy"):
        await engine.put_user(user, name=f"用户 {user}")
    for group in ("tea", "rice", "salt"):
        await engine.put_group(group, name=f"群 {group} 🍵", owner="ann", members=("bo", "cy"))


async def say_all(engine: Engine, count: int, *groups: str) -> None:
    for start in range(0, count, 50):
        numbers = range(start, min(start + 50, count))
        await asyncio.gather(*(say(engine, groups[n % len(groups)], f"第{n} 🍵") for n in numbers))


async def test_waiting_since_is_found_however_far_ahead_it_is(engine: Engine) -> None:
    """Behind more than a page of what the webhook is not told of."""
    hook = await engine.create_webhook("https://例え.example/", events=("message.recalled",))
    await say_all(engine, 1_200, "tea")
    assert (await engine.get_webhook(hook.id)).waiting_since is None
    receipt = await engine.recall("group:tea", 2)
    await say_all(engine, 10, "rice")
    (log,) = (await engine.store.read_log("group:tea", None, after=receipt.position - 1)).entries
    assert (await engine.get_webhook(hook.id)).waiting_since == log.time
    assert (await engine.get_webhook(hook.id)).behind == 1_211
