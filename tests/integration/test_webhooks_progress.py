"""How far a webhook is: kept exactly, whatever waits, and shown."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

import qunxin
from qunxin.engine import Engine
from qunxin.engine.webhooks import NewWebhook
from qunxin.gateways.webhooks import WebhookSender
from qunxin.model import Webhook, WebhookReport
from qunxin.ops.metrics import Metrics
from qunxin.store.commands import MoveWebhook
from webhook_help import FAST, NEAR, check_order, nothing_waits, say, sending, status_until
from webhook_receiver import Received, Receiver

SELDOM = msgspec.structs.replace(FAST, webhook_progress_seconds=3_600)
"""Progress is written at the first change, and at the end."""


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[Engine]:
    async with qunxin.open(tmp_path / "chat.db", settings=NEAR) as chat:
        yield chat


@pytest.fixture(autouse=True)
async def _people(engine: Engine) -> None:
    for user in ("ann", "bo", "cy"):
        await engine.put_user(user, name=f"用户 {user}")
    for group in ("tea", "rice", "salt"):
        await engine.put_group(group, name=f"群 {group} 🍵", owner="ann", members=("bo", "cy"))


class Poison:
    """A receiver's behaviour: refuses what is of one conversation, until it is cured."""

    def __init__(self, receiver: Receiver, conversation: str = "group:tea") -> None:
        self._conversation = conversation
        self.cured = False
        receiver.behave = self

    async def __call__(self, received: Received) -> int:
        return 500 if received.place[0] == self._conversation and not self.cured else 204


def repeats(receiver: Receiver) -> int:
    """How many that were taken before came again."""
    taken = Counter(one.id for one in receiver.taken)
    return taken.total() - len(taken)


async def stored(engine: Engine, hook: NewWebhook) -> Webhook:
    return next(one for one in await engine.store.read_webhooks() if one.id == hook.id)


async def say_all(engine: Engine, count: int, *groups: str) -> None:
    for start in range(0, count, 50):
        numbers = range(start, min(start + 50, count))
        await asyncio.gather(*(say(engine, groups[n % len(groups)], f"第{n} 🍵") for n in numbers))


async def test_what_was_taken_behind_a_refused_event_never_comes_again(
    engine: Engine, receiver: Receiver
) -> None:
    """Neither after a change of the webhook nor after a new start, however much it was; the refused
    event goes on waiting and comes in the end, with those behind it."""
    poison = Poison(receiver)
    async with sending(engine, receiver) as hook:
        for text in ("不要的 ☠️", "在它后面"):
            await say(engine, "tea", text)
        await say_all(engine, 700, "rice", "salt")
        await receiver.until_taken(700)
        found = await status_until(engine, hook, lambda status: status.behind == 2)
        assert len((await stored(engine, hook)).waiting) == 2
        first = (await engine.store.read_outbox_at((await stored(engine, hook)).waiting))[0]
        assert (found.waiting_since, first.conversation) == (first.time, "group:tea")
        await engine.rotate_webhook(hook.id)
        await say(engine, "rice", "换了钥匙 🗝️")
        await receiver.until_taken(701)
        asked = len(receiver.requests)
        await receiver.until_asked(asked + 1)
    async with WebhookSender(engine, FAST):
        await say(engine, "rice", "又开始了 🌅")
        await receiver.until_taken(702)
        assert repeats(receiver) == 0
        poison.cured = True
        await receiver.until_taken(704)
        await status_until(engine, hook, nothing_waits)
    assert repeats(receiver) == 0
    check_order(receiver.taken)


async def test_a_change_loses_no_progress(engine: Engine, receiver: Receiver) -> None:
    """What was taken since progress was last written is noted before the webhook goes on with a new
    secret or address."""
    async with sending(engine, receiver, SELDOM) as hook:
        await say_all(engine, 60, "tea", "rice")
        await receiver.until_taken(60)
        await engine.rotate_webhook(hook.id)
        await say(engine, "salt", "之后 🧂")
        await receiver.until(lambda: ("group:salt", 2) in receiver.places)
        await engine.change_webhook(hook.id, url=receiver.url + "&再")
        await say(engine, "salt", "又之后 🧂")
        await receiver.until(lambda: ("group:salt", 3) in receiver.places)
    # What was under way at the moment of a change may have been taken unnoticed.
    assert repeats(receiver) <= 2 * SELDOM.webhook_max_connections


async def test_recalled_while_it_waits_for_a_new_start(engine: Engine, receiver: Receiver) -> None:
    """An event that was left waiting goes out as it is then: without the content."""
    poison = Poison(receiver)
    async with sending(engine, receiver) as hook:
        await say(engine, "tea", "收回我 🙈")
        await say(engine, "rice", "好的")
        await receiver.until_taken(1)
        await status_until(engine, hook, lambda status: status.behind == 1)
    await engine.recall("group:tea", 2)
    poison.cured = True
    before = len(receiver.requests)
    async with WebhookSender(engine, FAST):
        await receiver.until_taken(3)
    assert all("收回我" not in one.body.decode() for one in receiver.requests[before:])
    assert [one.place for one in receiver.requests[before:]] == [("group:tea", 2), ("group:tea", 3)]
    assert receiver.taken[1].event["data"]["entry"]["recalled"] == 3


async def test_what_waits_and_is_not_wanted_any_more(engine: Engine, receiver: Receiver) -> None:
    """It is dropped once the webhook is told of other events only, and the status says so."""
    Poison(receiver)
    async with sending(engine, receiver) as hook:
        await say(engine, "tea", "不要的 ☠️")
        await say(engine, "rice", "好的")
        await receiver.until_taken(1)
        await status_until(engine, hook, lambda status: status.behind == 1)
        await engine.change_webhook(hook.id, events=("member.left",))
        await status_until(engine, hook, nothing_waits)
        assert (await stored(engine, hook)).waiting == ()
        await engine.remove_member("rice", "cy")
        await receiver.until(lambda: receiver.taken[-1].type == "member.left")


async def test_what_waits_and_is_not_there_any_more(engine: Engine, receiver: Receiver) -> None:
    """A place that names nothing holds nothing up, and is forgotten."""
    hook = await engine.create_webhook(receiver.url)
    head = (await engine.store.read_outbox(0)).head
    report = WebhookReport()
    await engine.committer.run(
        MoveWebhook(hook.id, 1, head, report, waiting=(head - 1, head + 9_000))
    )
    async with WebhookSender(engine, FAST):
        await say(engine, "tea", "照常 🍵")
        await receiver.until(lambda: ("group:tea", 2) in receiver.places)
        await status_until(engine, hook, nothing_waits)
        assert (await stored(engine, hook)).waiting == ()


async def test_what_waits_is_bounded(engine: Engine, receiver: Receiver) -> None:
    """When the window is full of what waits, the outbox is not read on: the others wait too, and
    all of it comes later; also where it begins anew with a smaller window."""
    poison = Poison(receiver)
    narrow = msgspec.structs.replace(FAST, webhook_window_events=6)
    async with sending(engine, receiver, narrow) as hook:
        await say_all(engine, 40, "tea")
        await status_until(engine, hook, lambda status: status.failures)
        await say(engine, "rice", "还要等")
        failures = (await engine.get_webhook(hook.id)).failures
        await status_until(engine, hook, lambda status: status.failures > failures + 2)
        assert (await engine.get_webhook(hook.id)).behind == 41
        assert len((await stored(engine, hook)).waiting) == 6
        assert receiver.taken == []
    poison.cured = True
    async with WebhookSender(engine, msgspec.structs.replace(FAST, webhook_window_events=2)):
        await receiver.until_taken(41)
        await status_until(engine, hook, nothing_waits)
    check_order(receiver.taken)
    assert repeats(receiver) == 0


async def test_replay_passes_over_what_waits(engine: Engine, receiver: Receiver) -> None:
    """From a later time on, a refused event is not tried any more."""
    Poison(receiver)
    async with sending(engine, receiver) as hook:
        await say(engine, "tea", "不要的 ☠️")
        await receiver.until_asked(2)
        await status_until(engine, hook, lambda status: status.behind == 1)
        since = (await engine.get_webhook(hook.id)).waiting_since
        assert since is not None
        await engine.replay_webhook(hook.id, 2**53 - 1)
        await status_until(engine, hook, nothing_waits)
        receiver.requests.clear()
        await say(engine, "rice", "接着来")
        await receiver.until_taken(1)
    assert [one.text for one in receiver.requests] == ["接着来"]


async def test_waiting_since_is_found_however_far_ahead_it_is(engine: Engine) -> None:
    """Behind more than a page of what the webhook is not told of."""
    hook = await engine.create_webhook("https://例え.example/", events=("message.recalled",))
    await say_all(engine, 600, "tea")
    assert (await engine.get_webhook(hook.id)).waiting_since is None
    receipt = await engine.recall("group:tea", 2)
    await say_all(engine, 10, "rice")
    (log,) = (await engine.store.read_log("group:tea", None, after=receipt.position - 1)).entries
    assert (await engine.get_webhook(hook.id)).waiting_since == log.time
    assert (await engine.get_webhook(hook.id)).behind == 611


class Gauge(Metrics):
    """Metrics of a node, and what they say of a webhook's waiting, once it is so."""

    def __init__(self) -> None:
        super().__init__()
        self._changed = asyncio.Event()

    def webhook_waiting(self, webhook: str, since: int | None) -> None:
        super().webhook_waiting(webhook, since)
        self._changed.set()

    def webhook_deleted(self, webhook: str) -> None:
        super().webhook_deleted(webhook)
        self._changed.set()

    def of(self, hook: NewWebhook) -> float | None:
        """None: there is no such series."""
        name = "qunxin_webhook_waiting_since_timestamp_seconds"
        return self.registry.get_sample_value(name, {"webhook": hook.id})

    async def until(self, hook: NewWebhook, value: float | None) -> None:
        async with asyncio.timeout(20):
            while self.of(hook) != value:
                self._changed.clear()
                await self._changed.wait()


async def test_the_metric_of_a_webhook_at_work(engine: Engine, receiver: Receiver) -> None:
    """It stands from the beginning, tells of the oldest event that waits, over a change of the
    webhook too, and is gone with the webhook."""
    poison = Poison(receiver)
    gauge = Gauge()
    async with sending(engine, receiver, observer=gauge) as hook:
        await gauge.until(hook, 0.0)
        await say(engine, "tea", "不要的 ☠️")
        await say_all(engine, 20, "rice")
        await receiver.until_taken(20)
        found = await status_until(engine, hook, lambda status: status.behind == 1)
        assert found.waiting_since is not None
        assert gauge.of(hook) == found.waiting_since / 1000
        await engine.rotate_webhook(hook.id)
        asked = len(receiver.requests)
        await receiver.until_asked(asked + 2)
        assert gauge.of(hook) == found.waiting_since / 1000
        poison.cured = True
        await gauge.until(hook, 0.0)
        await engine.delete_webhook(hook.id)
        await gauge.until(hook, None)


async def test_the_metric_of_a_webhook_that_is_gone(engine: Engine, receiver: Receiver) -> None:
    """After a 410 and after a new start it goes on saying since when events wait."""

    async def gone(_: Received) -> int:
        return 410

    receiver.behave = gone
    gauge = Gauge()
    async with sending(engine, receiver, observer=gauge) as hook:
        await say(engine, "tea", "一 🚪")
        found = await status_until(engine, hook, lambda status: status.paused)
        assert found.waiting_since is not None
        since = found.waiting_since / 1000
        await say(engine, "tea", "二")
        assert gauge.of(hook) == since
    assert gauge.of(hook) == since
    again = Gauge()
    async with WebhookSender(engine, FAST, again):
        await again.until(hook, since)
        receiver.behave = None
        await engine.change_webhook(hook.id, paused=False)
        await receiver.until_taken(2)
        await again.until(hook, 0.0)


async def test_the_metric_of_a_webhook_that_is_paused(engine: Engine, receiver: Receiver) -> None:
    """Nothing waits until the first event that it is told of is committed; a replay is seen."""
    hook = await engine.create_webhook(receiver.url, events=("message.created",))
    await engine.change_webhook(hook.id, paused=True)
    gauge = Gauge()
    async with WebhookSender(engine, FAST, gauge):
        await gauge.until(hook, 0.0)
        await engine.remove_member("tea", "cy")
        assert gauge.of(hook) == 0.0
        await say(engine, "tea", "等着 ⏸️")
        await say(engine, "tea", "也等着 ⏸️")
        await gauge.until(hook, ((await engine.get_webhook(hook.id)).waiting_since or 0) / 1000)
        assert gauge.of(hook) != 0.0
        await engine.replay_webhook(hook.id, 2**53 - 1)
        await gauge.until(hook, 0.0)
        await engine.delete_webhook(hook.id)
        await gauge.until(hook, None)
        await say(engine, "tea", "没人等了")
        assert gauge.of(hook) is None
    assert receiver.requests == []
