"""All webhooks of a node: begun, changed and ended as they are in the store."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Final, Self

from qunxin.engine import Engine
from qunxin.errors import QunxinError
from qunxin.gateways.webhooks.events import EventReader
from qunxin.gateways.webhooks.paused import PausedWebhooks
from qunxin.gateways.webhooks.post import Poster
from qunxin.gateways.webhooks.runner import Runner
from qunxin.gateways.webhooks.settings import WebhookSettings
from qunxin.model import Entry, EventType, Webhook
from qunxin.observe import NullObserver, Observer
from qunxin.store.commands import Command, DeleteWebhook, PutWebhook
from qunxin.store.results import Done
from qunxin.tasks import TaskSet

_log = logging.getLogger("qunxin.gateways.webhooks")
_RETRY_SECONDS: Final = 1.0


class WebhookSender:
    """Sends while its block runs; used with ``async with`` inside the engine's own block.

    It is the only one that sends: a SQLite folder has one owner. Several nodes on one store would
    need a lease for each webhook; its revision already keeps a late one from writing progress.
    """

    def __init__(
        self,
        engine: Engine,
        settings: WebhookSettings | None = None,
        observer: Observer | None = None,
    ) -> None:
        self._engine = engine
        self._settings = settings or WebhookSettings()
        self._observer = observer or NullObserver()
        self._reader = EventReader(engine)
        self._poster = Poster(self._settings)
        self._tasks = TaskSet()
        self._runners: dict[str, tuple[Runner, asyncio.Task[None]]] = {}
        self._paused = PausedWebhooks(engine, self._observer)
        self._known: set[str] = set()
        self._changed = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._unwatch = self._engine.watch(self._look)
        self._tasks.start("webhooks", self._run())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Break off what is under way; it is sent again when a sender begins."""
        self._unwatch()
        await self._tasks.close()
        await self._poster.close()
        self._runners.clear()

    def _look(self, done: Sequence[tuple[Command, Done]]) -> None:
        """After each batch: tell whoever sends, break off what was recalled, see to changes."""
        entries: list[Entry] = []
        for command, outcome in done:
            if isinstance(command, (PutWebhook, DeleteWebhook)):
                self._changed.set()
            entries += outcome.entries
            for entry in outcome.entries:
                if entry.type == EventType.RECALLED and entry.body is not None:
                    self._recalled(entry.conversation, entry.body["target"])
        if entries:
            self._paused.committed(entries)
            types = {entry.type for entry in entries}
            for runner, _ in self._runners.values():
                runner.committed(types)

    def _recalled(self, conversation: str, position: int) -> None:
        for runner, _ in self._runners.values():
            runner.recalled(conversation, position)

    async def _run(self) -> None:
        while True:
            self._changed.clear()
            try:
                await self._sync()
            except QunxinError as error:
                _log.warning("the webhooks cannot be read: %s", error.code)
                asyncio.get_running_loop().call_later(_RETRY_SECONDS, self._changed.set)
            await self._changed.wait()

    async def _sync(self) -> None:
        """Bring what runs in line with the store."""
        webhooks = await self._read()
        if await self._end_runners(webhooks):
            webhooks = await self._read()  # with what they noted at their end
        if webhooks:
            await self._poster.open()
        for name, webhook in webhooks.items():
            if name not in self._runners and webhook.paused is None:
                self._start(webhook)
        for name in self._known - webhooks.keys():
            self._observer.webhook_deleted(name)
        self._known = set(webhooks)
        await self._paused.look([one for one in webhooks.values() if one.paused is not None])

    async def _read(self) -> dict[str, Webhook]:
        return {one.id: one for one in await self._engine.store.read_webhooks()}

    async def _end_runners(self, webhooks: Mapping[str, Webhook]) -> bool:
        """Those that are not as these say, and those that ended themselves: whether there were
        any."""
        ended = False
        for name, (runner, task) in list(self._runners.items()):
            found = webhooks.get(name)
            if found is None or found.revision != runner.webhook.revision or task.done():
                del self._runners[name]
                task.cancel()
                await asyncio.wait([task])
                ended = True
        return ended

    def _start(self, webhook: Webhook) -> None:
        runner = Runner(
            webhook, self._engine, self._reader, self._poster, self._settings, self._observer
        )
        task = self._tasks.start(f"webhook {webhook.id}", runner.run())
        task.add_done_callback(self._look_again)
        self._runners[webhook.id] = (runner, task)

    def _look_again(self, _: asyncio.Task[None]) -> None:
        """One has ended, perhaps by a defect, or could not note that it is paused: unless the store
        says that it is to rest, it begins anew a little later."""
        asyncio.get_running_loop().call_later(_RETRY_SECONDS, self._changed.set)
