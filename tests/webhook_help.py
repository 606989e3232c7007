"""What tests of webhooks share: quick settings, a sender, and how a webhook stands."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from qunxin.engine import Engine, EngineSettings
from qunxin.engine.webhooks import NewWebhook, WebhookStatus
from qunxin.gateways.webhooks import WebhookSender, WebhookSettings
from qunxin.observe import Observer
from webhook_receiver import Received, Receiver

FAST = WebhookSettings(
    webhook_networks=("127.0.0.0/8",),
    webhook_retry_first_seconds=0.01,
    webhook_retry_max_seconds=0.05,
    webhook_progress_seconds=0.02,
    webhook_timeout_seconds=5,
)
NEAR = EngineSettings(webhook_networks=("127.0.0.0/8", "::1/128", "10.0.0.0/8"))


@asynccontextmanager
async def sending(
    engine: Engine,
    receiver: Receiver,
    settings: WebhookSettings = FAST,
    events: tuple[str, ...] = (),
    observer: Observer | None = None,
) -> AsyncIterator[NewWebhook]:
    """A webhook to `receiver`, and a sender while the block runs."""
    async with WebhookSender(engine, settings, observer):
        yield await engine.create_webhook(receiver.url, events=events)


async def say(engine: Engine, group: str, text: str) -> int:
    return (await engine.send("group", group, sender="ann", text=text)).position


async def status_until(
    engine: Engine, hook: NewWebhook, holds: Callable[[WebhookStatus], object]
) -> WebhookStatus:
    """The webhook's status once it is so; looked at after each commit."""
    changed = asyncio.Event()
    engine.watch(lambda _: changed.set())
    async with asyncio.timeout(20):
        while not holds(found := await engine.get_webhook(hook.id)):
            await changed.wait()
            changed.clear()
        return found


def nothing_waits(status: WebhookStatus) -> bool:
    return status.behind == 0 and status.waiting_since is None


def check_order(taken: list[Received]) -> None:
    """First receipts rise within each conversation, without a gap."""
    places = list(dict.fromkeys(one.place for one in taken))
    for name in {name for name, _ in places}:
        positions = [position for found, position in places if found == name]
        assert positions == list(range(positions[0], positions[0] + len(positions)))
