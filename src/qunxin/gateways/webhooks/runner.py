"""One webhook at work: reads the outbox, sends, tries again, notes how far it is."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from typing import Final

import msgspec

from qunxin.engine import Engine
from qunxin.engine.webhooks import EVENT_OF, wants
from qunxin.errors import QunxinError
from qunxin.gateways.webhooks.ahead import ReadAhead
from qunxin.gateways.webhooks.events import EventReader, event_id
from qunxin.gateways.webhooks.patience import PROBING_FAILURES, Patience
from qunxin.gateways.webhooks.post import Outcome, Poster, Result
from qunxin.gateways.webhooks.settings import WebhookSettings
from qunxin.gateways.webhooks.window import Window
from qunxin.model import Webhook, WebhookReport
from qunxin.observe import Observer
from qunxin.store.commands import MoveWebhook
from qunxin.store.reads import OutboxItem

_log = logging.getLogger("qunxin.gateways.webhooks")

GATHER_SECONDS: Final = 0.02
"""The outbox is not read more often: what many send in that time is read together. What comes
after a silence is read at once."""
_PAGE: Final = 200
_DEFECT: Final = "a defect; it has been logged"


class Runner:
    """Sends the events of one webhook at one revision, until it is stopped or told that the
    receiver is gone. At least once each, in order within a conversation."""

    def __init__(
        self,
        webhook: Webhook,
        engine: Engine,
        reader: EventReader,
        poster: Poster,
        settings: WebhookSettings,
        observer: Observer,
    ) -> None:
        self.webhook = webhook
        self._engine = engine
        self._ahead = ReadAhead(reader)
        self._poster = poster
        self._settings = settings
        self._observer = observer
        self._wanted = frozenset(kind for kind in EVENT_OF if wants(webhook, kind))
        self._window = Window(webhook.serial, settings.webhook_window_events)
        self._left = webhook.waiting
        """What waits and has not been read since the beginning."""
        self._patience = Patience(
            settings.webhook_retry_first_seconds, settings.webhook_retry_max_seconds
        )
        self._report = webhook.report
        self._written = self._state
        self._noted: tuple[int, ...] | None = webhook.waiting
        """What the store has as waiting; None where that is not known."""
        self._write_at = 0.0
        self._told: int | None = -1
        """What the observer was told last; at first nothing."""
        self._attempts: dict[asyncio.Task[Outcome], OutboxItem] = {}
        self._wake = asyncio.Event()
        self._look_at = 0.0
        """When the outbox should be read again; never, until something is committed."""
        self._gather_until = 0.0
        """Not before this, so that what is committed meanwhile is read together."""
        self._hungry = False
        """Whether there is reason to wake for that."""
        self._alarm: asyncio.Handle | None = None
        self._alarm_at = math.inf
        self._paused: str | None = None

    def committed(self, types: AbstractSet[str]) -> None:
        """Entries of these types are in the outbox. Costs next to nothing while there is enough to
        do or nothing may be sent. What is wanted goes out at once, unless the outbox was read just
        before; what is not is passed over later, much at once."""
        if self._wanted.isdisjoint(types):
            soon = asyncio.get_running_loop().time() + self._settings.webhook_progress_seconds
        else:
            soon = self._gather_until
        if soon < self._look_at:
            self._look_at = soon
            if self._hungry:
                self._wake_at(soon)

    def recalled(self, conversation: str, position: int) -> None:
        """Break off what still carries the content of that message; it goes out anew."""
        self._ahead.recalled(conversation, position)
        for task, item in self._attempts.items():
            if (item.conversation, item.position) == (conversation, position):
                task.cancel()

    async def run(self) -> None:
        """Work until cancelled, or until the receiver is gone. Cancelled, it breaks off what is
        under way and notes how far it is."""
        try:
            while True:
                self._settle()
                if self._paused is not None:
                    return
                # One moment for the whole turn: what was not due in it is waited for at its end.
                now = asyncio.get_running_loop().time()
                await self._fill(now)
                await self._start(now)
                self._tell(now)
                await self._write(now)
                await self._rest(now)
        finally:
            await self._break_off()
            await self._write()

    # --- sending ------------------------------------------------------------------------------

    async def _fill(self, now: float) -> None:
        """Read what was left waiting, then on where something may be there that could go out at
        once."""
        try:
            if self._left and now >= self._patience.quiet_until:
                await self._take_up()
            while now >= self._look_at and self._lacks_events(now):
                await self._read_on(now)
        except QunxinError as error:
            _log.warning("webhook %s cannot read the outbox: %s", self.webhook.id, error.code)
            self._patience.wait(now + self._settings.webhook_retry_first_seconds)
            self._look_at = now

    async def _take_up(self) -> None:
        """What is not there any more, or not wanted any more, is left out."""
        items = await self._engine.store.read_outbox_at(self._left)
        self._left = ()
        self._window.restore(item for item in items if item.type in self._wanted)

    async def _read_on(self, now: float) -> None:
        self._look_at, self._gather_until = math.inf, now + GATHER_SECONDS
        limit = min(_PAGE, self._window.room)
        page = await self._engine.store.read_outbox(self._window.through, limit=limit)
        self._window.add(page, lambda item: item.type in self._wanted)
        if page.through < page.head:
            self._look_at = now

    def _lacks_events(self, now: float) -> bool:
        """Whether one that is read now could go out at once, and there is none."""
        return self._window.room > 0 and self._may_send_others(now) and self._next(now) is None

    def _may_send(self, now: float) -> bool:
        most = self._settings.webhook_max_connections
        return len(self._attempts) < most and now >= self._patience.quiet_until

    def _may_send_others(self, now: float) -> bool:
        """Than those that failed. While the receiver seems to be down, one at a time."""
        if not self._may_send(now):
            return False
        patience = self._patience
        return not patience.down or (
            now >= patience.others_from and not self._is_under_way(failed=False)
        )

    def _may_try_again(self, now: float) -> bool:
        """While the receiver seems to be down: one that failed, at a time."""
        return now >= self._patience.retries_from and not self._is_under_way(failed=True)

    def _is_under_way(self, *, failed: bool) -> bool:
        return any((self._window.failures(one) > 0) == failed for one in self._attempts.values())

    def _next(self, now: float) -> OutboxItem | None:
        """What may go out now. While the receiver seems to be down that is rather one that has not
        failed."""
        if not self._may_send(now):
            return None
        if not self._patience.down:
            return self._window.next(now)
        found = self._window.next(now, failed=False) if self._may_send_others(now) else None
        if found is None and self._may_try_again(now):
            found = self._window.next(now, failed=True)
        return found

    async def _start(self, now: float) -> None:
        """As many attempts as may be under way."""
        loop = asyncio.get_running_loop()
        while (item := self._next(now)) is not None:
            body = self._ahead.take(item, loop.time())
            if body is None:
                await self._read_ahead(item, now)
                continue
            self._window.take(item)
            task = loop.create_task(self._attempt(item, body), name=f"webhook-{self.webhook.id}")
            task.add_done_callback(lambda _: self._wake.set())
            self._attempts[task] = item

    async def _read_ahead(self, item: OutboxItem, now: float) -> None:
        """Read what goes out next. One that cannot be read is put off like one that failed."""
        items = [item]
        if not self._patience.down:
            upcoming = self._window.upcoming(now, self._ahead.size)
            items = [one for one in upcoming if not self._ahead.has(one)]
        try:
            await self._ahead.read(items)
        except QunxinError as error:
            self._unreadable(items, f"the event could not be read: {error.code}")
        except Exception:  # noqa: BLE001  whatever it is, the event is not lost by it
            _log.exception("a defect in reading %s", items[0])
            self._unreadable(items, _DEFECT)

    def _unreadable(self, items: Sequence[OutboxItem], error: str) -> None:
        """Of many it is not known which; they are read one by one next."""
        if len(items) == 1:
            self._window.take(items[0])
            self._take_over(items[0], Outcome(Result.FAILED, error))

    async def _attempt(self, item: OutboxItem, body: bytes) -> Outcome:
        started = self._engine.clock.monotonic()
        try:
            name = event_id(self._engine.epoch, item)
            outcome = await self._poster.post(self.webhook, name, body)
        except Exception:  # noqa: BLE001  whatever it is, the event is not lost by it
            _log.exception("a defect in sending %s", item)
            outcome = Outcome(Result.FAILED, _DEFECT)
        seconds = self._engine.clock.monotonic() - started
        self._observer.webhook_attempted(str(outcome.result), seconds)
        return outcome

    def _settle(self) -> None:
        """Draw the consequences of the attempts that have ended."""
        for task in [task for task in self._attempts if task.done()]:
            item = self._attempts.pop(task)
            if task.cancelled():
                self._window.again(item)
            else:
                self._take_over(item, task.result())

    def _take_over(self, item: OutboxItem, outcome: Outcome) -> None:
        now = self._engine.clock.now_ms()
        if outcome.result is Result.TAKEN:
            self._window.done(item)
            self._patience.taken()
            self._report = msgspec.structs.replace(self._report, failures=0, succeeded=now)
            return
        failures = self._report.failures + 1
        self._report = msgspec.structs.replace(
            self._report, failures=failures, error=outcome.error, failed=now
        )
        self._put_off(item, outcome)
        if outcome.result is Result.GONE:
            self._paused = outcome.error
            _log.warning("webhook %s is paused: %s", self.webhook.id, outcome.error)
        elif failures == PROBING_FAILURES:
            _log.warning("webhook %s fails: %s", self.webhook.id, outcome.error)

    def _put_off(self, item: OutboxItem, outcome: Outcome) -> None:
        """The conversation waits; all wait where the receiver asks for it or seems to be down."""
        now = asyncio.get_running_loop().time()
        due = self._patience.failed(item.conversation, self._window.failures(item), now)
        self._window.put_off(item, max(due, now + outcome.retry_after))
        self._patience.wait(now + outcome.quiet_for)

    # --- resting and noting -------------------------------------------------------------------

    async def _rest(self, now: float) -> None:
        """Until something ended, something came, or a time has come."""
        self._hungry = self._lacks_events(now)
        patience = self._patience
        times = [patience.quiet_until]
        if patience.down:
            times += [patience.retries_from, patience.others_from]
        if self._window.next_due is not None:
            times.append(self._window.next_due)
        if self._unwritten:
            times.append(self._write_at)
        if self._hungry:
            if self._look_at <= now:
                return
            times.append(self._look_at)
        self._wake_at(min((time for time in times if time > now), default=math.inf))
        await self._wake.wait()
        self._wake.clear()
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm, self._alarm_at = None, math.inf

    def _wake_at(self, time: float) -> None:
        """At the latest. The time is kept here: what uvloop makes of one that has come has none."""
        if time >= self._alarm_at:
            return
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm = asyncio.get_running_loop().call_at(time, self._wake.set)
        self._alarm_at = time

    def _tell(self, now: float) -> None:
        """Since when events wait; that none does, only once the outbox was read to its end."""
        oldest = self._window.oldest
        if oldest is None and (self._left or self._look_at <= now):
            return
        since = None if oldest is None else oldest.time
        if since != self._told:
            self._told = since
            self._observer.webhook_waiting(self.webhook.id, since)

    @property
    def _state(self) -> tuple[int, int, WebhookReport]:
        return (self._window.through, self._window.version, self._report)

    @property
    def _unwritten(self) -> bool:
        return self._written != self._state

    async def _write(self, now: float = math.inf) -> None:
        """Note progress where there is some and it is time for it."""
        if not (self._unwritten or self._paused) or now < self._write_at:
            return
        self._write_at = now + self._settings.webhook_progress_seconds
        state, waiting = self._state, self._left or self._window.serials
        command = MoveWebhook(
            self.webhook.id,
            self.webhook.revision,
            self._window.through,
            self._report,
            waiting=None if waiting == self._noted else waiting,
            paused=self._paused,
        )
        self._noted = None  # until it is known what became of it
        try:
            await self._engine.committer.run(command)
        except QunxinError as error:
            _log.warning("webhook %s cannot note its progress: %s", self.webhook.id, error.code)
            return
        self._written, self._noted = state, waiting

    async def _break_off(self) -> None:
        for task in self._attempts:
            task.cancel()
        if self._attempts:
            await asyncio.wait(self._attempts)
        self._settle()
