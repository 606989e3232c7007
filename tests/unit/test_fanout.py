"""Step 5: in step, out of step, large audiences, endings, recalls."""

import asyncio
from typing import Any

from qunxin.broker import Batch
from qunxin.engine.fanout import Fanout, Subscription
from qunxin.engine.sink import Delivery
from qunxin.model import Entry, EventType, JsonObject
from qunxin.observe import NullObserver

TEA = "group:tea"


class Wanted:
    """A broker that only remembers what was asked for."""

    def __init__(self) -> None:
        self.names: set[str] = set()

    def subscribe(self, conversation: str) -> None:
        self.names.add(conversation)

    def unsubscribe(self, conversation: str) -> None:
        self.names.discard(conversation)

    def publish(self, batch: Batch) -> None:
        raise AssertionError(f"the fan-out never publishes: {batch}")

    async def open(self, handler: Any) -> None: ...

    async def close(self) -> None: ...


class Reports(NullObserver):
    """How often an entry was handed to a session, as it was reported."""

    def __init__(self) -> None:
        self.deliveries = 0

    def fanned_out(self, entries: int, sessions: int, seconds: float) -> None:
        assert seconds >= 0
        self.deliveries += entries * sessions


class Device:
    """One subscription and what it was handed."""

    def __init__(self, fanout: Fanout, user: str, position: int = 0, *, live: bool = True) -> None:
        self.entries: list[Entry] = []
        self.behind = 0
        self.ended: str | None = None
        self.subscription = Subscription(
            TEA, user, position, self._deliver, self._fell_behind, self._end
        )
        self.subscription.live = live
        fanout.add(self.subscription)

    def _deliver(self, delivery: Delivery) -> None:
        self.entries.extend(delivery.entries)

    def _fell_behind(self, subscription: Subscription) -> None:
        assert subscription is self.subscription
        self.behind += 1

    def _end(self, subscription: Subscription, reason: str) -> None:
        assert subscription is self.subscription
        self.ended = reason

    @property
    def positions(self) -> list[int]:
        return [entry.position for entry in self.entries]


def message(position: int) -> Entry:
    return Entry(TEA, position, "group", 1, "alice")


def event(position: int, kind: EventType, **body: object) -> Entry:
    facts: JsonObject = dict(body)
    return Entry(TEA, position, kind, 1, body=facts)


def batch(*entries: Entry) -> Batch:
    return Batch(TEA, entries)


def fanout(slice_sessions: int = 100) -> tuple[Fanout, Wanted]:
    broker = Wanted()
    return Fanout(broker, NullObserver(), slice_sessions), broker


def test_the_broker_is_asked_for_what_somebody_here_reads() -> None:
    """The first subscription asks for the conversation, the last one gives it up."""
    index, broker = fanout()
    one, two = Device(index, "甲"), Device(index, "乙")
    assert broker.names == {TEA}
    index.remove(one.subscription)
    index.remove(one.subscription)
    assert broker.names == {TEA}
    index.remove(two.subscription)
    assert broker.names == set()


def test_all_in_step_share_one_delivery() -> None:
    """Every device gets the batch, each entry once."""
    index, _ = fanout()
    devices = [Device(index, name) for name in "甲乙丙"]
    index.handle(batch(message(1), message(2)))
    index.handle(batch(message(3)))
    assert [device.positions for device in devices] == [[1, 2, 3]] * 3


def test_repeat_overlap_and_gap() -> None:
    """A repeat is dropped, an overlap is cut, a gap sends the device to the log, once."""
    index, _ = fanout()
    device = Device(index, "甲", position=2)
    index.handle(batch(message(1), message(2)))
    assert device.positions == []
    index.handle(batch(message(2), message(3)))
    assert device.positions == [3]
    index.handle(batch(message(6)))
    index.handle(batch(message(7)))
    assert device.positions == [3]
    assert device.behind == 1
    assert device.subscription.head_seen == 7


def test_a_device_that_catches_up_is_told_how_far() -> None:
    """While a device reads the log, live batches only raise what it must reach."""
    index, _ = fanout()
    device = Device(index, "甲", live=False)
    index.handle(batch(message(1), message(2)))
    assert device.positions == []
    assert device.subscription.head_seen == 2
    assert device.behind == 0


def test_who_leaves_gets_the_leaving_and_nothing_after_it() -> None:
    """In one batch: the removed member's device ends at the entry that removed them."""
    index, _ = fanout()
    out, stays = Device(index, "出"), Device(index, "留")
    left = event(2, EventType.LEFT, users=["出"], reason="removed")
    index.handle(batch(message(1), left, message(3)))
    assert out.positions == [1, 2]
    assert out.ended == "removed"
    assert stays.positions == [1, 2, 3]
    index.handle(batch(message(4)))
    assert out.positions == [1, 2]


def test_dissolution_ends_everybody() -> None:
    """All devices get the entry and end there."""
    index, broker = fanout()
    devices = [Device(index, name) for name in "甲乙"]
    index.handle(batch(message(1), event(2, EventType.DISSOLVED)))
    assert [(d.positions, d.ended) for d in devices] == [([1, 2], "dissolved")] * 2
    assert broker.names == set()


async def test_a_large_audience_is_served_in_slices() -> None:
    """Order holds across slices, and another conversation's turn comes between them."""
    index, _ = fanout(slice_sessions=10)
    devices = [Device(index, f"u{n}") for n in range(35)]
    index.handle(batch(message(1)))
    index.handle(batch(message(2)))
    assert sum(len(device.entries) for device in devices) == 0
    turns = 0
    while any(device.positions != [1, 2] for device in devices):
        await asyncio.sleep(0)
        turns += 1
        assert turns < 100
    assert turns >= 8


async def test_leaving_overtakes_the_slices() -> None:
    """A member removed while batches wait in slices has everything before the leaving at once,
    in order, and nothing after it."""
    index, _ = fanout(slice_sessions=2)
    devices = [Device(index, f"u{n}") for n in range(7)]
    left = event(2, EventType.LEFT, users=["u6"], reason="removed")
    index.handle(batch(message(1), left, message(3)))
    assert devices[6].positions == [1, 2]
    for _ in range(40):
        await asyncio.sleep(0)
    assert devices[6].positions == [1, 2]
    assert all(device.positions == [1, 2, 3] for device in devices[:6])


async def test_a_recall_cancels_what_waits() -> None:
    """Slices not yet served get the tombstone, never the content."""
    index, _ = fanout(slice_sessions=2)
    devices = [Device(index, f"u{n}") for n in range(6)]
    index.handle(batch(message(1)))
    await asyncio.sleep(0)
    seen = index.recalls_seen(TEA)
    index.handle(batch(event(2, EventType.RECALLED, target=1)))
    assert index.recalls_seen(TEA) == seen + 1
    for _ in range(40):
        await asyncio.sleep(0)
    first = [device.entries[0].recalled for device in devices]
    assert first == [None, None, 2, 2, 2, 2]
    assert all(device.positions == [1, 2] for device in devices)


def test_only_what_was_handed_over_is_reported() -> None:
    """Not to devices that read the log, that have it already, or that are sent to the log."""
    reports = Reports()
    index = Fanout(Wanted(), reports, slice_sessions=100)
    devices = [
        *(Device(index, name) for name in "甲乙"),
        Device(index, "読", live=False),
        Device(index, "已", position=2),
    ]
    index.handle(batch(message(1), message(2)))
    assert reports.deliveries == 2 * 2
    index.handle(batch(message(3)))
    assert reports.deliveries == 2 * 2 + 3
    index.handle(batch(message(6)))
    assert reports.deliveries == sum(len(device.entries) for device in devices) == 7


async def test_what_overtakes_the_slices_is_reported_once() -> None:
    """A removed member's entries, given at once, and everybody else's in their turn."""
    reports = Reports()
    index = Fanout(Wanted(), reports, slice_sessions=2)
    devices = [Device(index, f"u{n}") for n in range(7)]
    gone = Device(index, "走")
    left = event(2, EventType.LEFT, users=["u6"], reason="removed")
    index.handle(batch(message(1), left, message(3)))
    index.remove(gone.subscription)
    for _ in range(40):
        await asyncio.sleep(0)
    assert reports.deliveries == sum(len(device.entries) for device in devices) == 20


def test_a_leaving_that_comes_late_ends_nobody_who_has_come_back() -> None:
    """A device that read of leaving and rejoining in the log is not ended by the old batch."""
    index, _ = fanout()
    back = Device(index, "回", position=4)
    index.handle(batch(event(2, EventType.LEFT, users=["回"], reason="removed")))
    assert back.ended is None
    index.handle(batch(message(5)))
    assert back.positions == [5]


def test_a_message_recalled_in_its_own_batch_is_a_tombstone() -> None:
    """Committed and recalled in one transaction: nobody is handed the content."""
    index, _ = fanout()
    device = Device(index, "甲")
    index.handle(batch(message(1), event(2, EventType.RECALLED, target=1)))
    assert device.positions == [1, 2]
    assert device.entries[0].recalled == 2
