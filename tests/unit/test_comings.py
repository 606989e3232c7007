"""Comings and goings: gathered, told together, and adding up to who is there."""

import asyncio

from qunxin.broker import Batch
from qunxin.brokers.local import LocalBroker
from qunxin.engine.comings import ComingsIndex, compare
from qunxin.engine.fanout import Fanout, Subscription
from qunxin.engine.settings import EngineSettings
from qunxin.engine.sink import Coming, Comings
from qunxin.model import Entry
from qunxin.observe import NullObserver
from qunxin.tasks import TaskSet

TEA = "group:tea"


class Hall:
    """A fan-out and who is told; comings are gathered for one turn of the loop."""

    def __init__(self, limit: int = 10) -> None:
        settings = EngineSettings(join_leave_clients=limit, join_leave_seconds=0)
        self.fanout = Fanout(LocalBroker(), NullObserver(), 100)
        self.tasks = TaskSet()
        self.index = ComingsIndex(self.fanout, self.tasks, settings)

    async def told(self) -> None:
        """Return once nothing waits to be told."""
        while self.tasks:  # noqa: ASYNC110 - its tasks end by themselves
            await asyncio.sleep(0)


class Device:
    """One session's subscription, and what it was told: `+` who came, `-` who went."""

    def __init__(
        self, hall: Hall, session: str, *, asks: bool = False, conversation: str = TEA
    ) -> None:
        self.hall = hall
        self.batches: list[list[str]] = []
        self.encoded: list[dict[str, bytes]] = []
        self.subscription = Subscription(
            conversation, f"{session}先生", 0, lambda _: None, lambda _: None, _ended, session
        )
        hall.fanout.add(self.subscription)
        if asks:
            hall.index.watch(self.subscription, self._tell)

    def _tell(self, comings: Comings) -> None:
        assert all(one.user == f"{one.session}先生" for one in comings.comings)
        self.encoded.append(comings.encoded)
        self.batches.append([f"{'-+'[one.here]}{one.session}" for one in comings.comings])

    def come(self) -> "Device":
        self.subscription.live = True
        self.hall.index.came(self.subscription)
        return self

    def go(self) -> None:
        self.hall.fanout.remove(self.subscription)
        self.hall.index.went(self.subscription)

    def take(self) -> list[list[str]]:
        taken, self.batches = self.batches, []
        return taken


def _ended(_subscription: Subscription, _reason: str) -> None: ...


async def test_what_comes_together_is_told_together_and_shared() -> None:
    """Own coming included; who was there before is not told of."""
    hall = Hall()
    Device(hall, "甲").come()
    one, two = Device(hall, "乙", asks=True).come(), Device(hall, "丙", asks=True).come()
    late = Device(hall, "丁").come()
    await hall.told()
    assert one.take() == two.take() == [["+乙", "+丙", "+丁"]]
    assert one.encoded[0] is two.encoded[0]
    late.go()
    await hall.told()
    assert one.take() == two.take() == [["-丁"]]


async def test_nobody_is_told_before_being_in_step() -> None:
    """And then only of what has come since."""
    hall = Hall()
    early, late = Device(hall, "甲", asks=True).come(), Device(hall, "乙", asks=True)
    await hall.told()
    assert (early.take(), late.take()) == ([["+甲"]], [])
    Device(hall, "丙").come()
    await hall.told()
    assert (early.take(), late.take()) == ([["+丙"]], [])
    late.come()
    await hall.told()
    assert early.take() == late.take() == [["+乙"]]


async def test_who_never_came_into_step_was_never_there() -> None:
    hall = Hall()
    one = Device(hall, "甲", asks=True).come()
    await hall.told()
    one.take()
    Device(hall, "乙").go()
    await hall.told()
    assert one.take() == []


async def test_passing_by_and_coming_back_are_told_in_order() -> None:
    """Within one gathering: whoever counts and whoever keeps a set are both right in the end."""
    hall = Hall()
    one, two = Device(hall, "甲", asks=True).come(), Device(hall, "乙").come()
    await hall.told()
    one.take()
    two.go()
    Device(hall, "乙").come()
    Device(hall, "丙").come().go()
    await hall.told()
    assert one.take() == [["-乙", "+乙", "+丙", "-丙"]]


async def test_who_is_gone_is_told_nothing_more() -> None:
    """Not even what was gathered before; and when nobody is left who asked, nothing is kept."""
    hall = Hall()
    one, two = Device(hall, "甲", asks=True).come(), Device(hall, "乙", asks=True).come()
    await hall.told()
    one.take(), two.take()
    Device(hall, "丙").come()
    two.go()
    await hall.told()
    assert (one.take(), two.take()) == ([["-乙", "+丙"]], [])
    one.go()
    await hall.told()
    assert not hall.index._index


async def test_a_subscription_that_has_ended_is_not_watched() -> None:
    """Nothing would ever take it away again."""
    hall = Hall()
    gone = Device(hall, "甲")
    gone.go()
    hall.index.watch(gone.subscription, gone._tell)
    assert not hall.index._index


async def test_falling_out_of_step_is_no_going() -> None:
    """Nor is the device told anything until it is in step again: then all that has changed."""
    hall = Hall()
    one, two = Device(hall, "甲", asks=True).come(), Device(hall, "乙", asks=True).come()
    await hall.told()
    one.take(), two.take()
    hall.fanout.handle(Batch(TEA, (Entry(TEA, 9, "group", 1),)))
    assert not two.subscription.live
    one.come()
    passer = Device(hall, "丙").come()
    Device(hall, "丁").come()
    await hall.told()
    passer.go()
    await hall.told()
    assert (one.take(), two.take()) == ([["+丙", "+丁"], ["-丙"]], [])
    two.come()
    await hall.told()
    assert (one.take(), two.take()) == ([], [["+丁"]])


async def test_over_the_limit_nobody_is_told_until_it_is_fewer() -> None:
    """Then what has changed in all is told, so that it still adds up."""
    hall = Hall(limit=3)
    one = Device(hall, "甲", asks=True).come()
    two, three = Device(hall, "乙").come(), Device(hall, "丙").come()
    await hall.told()
    assert one.take() == [["+甲", "+乙", "+丙"]]
    four, asked_late = Device(hall, "丁").come(), Device(hall, "戊", asks=True).come()
    await hall.told()
    two.go()
    await hall.told()
    assert (one.take(), asked_late.take()) == ([], [])
    three.go()
    await hall.told()
    assert one.take() == [["-乙", "-丙", "+丁", "+戊"]]
    assert asked_late.take()[0][-1] == "+戊"
    four.go()
    await hall.told()
    assert one.take() == asked_late.take() == [["-丁"]]


async def test_asked_over_the_limit_all_are_told_as_coming_once_it_is_fewer() -> None:
    hall = Hall(limit=2)
    crowd = [Device(hall, name).come() for name in "乙丙"]
    one = Device(hall, "甲", asks=True).come()
    await hall.told()
    assert one.take() == []
    crowd[0].go()
    await hall.told()
    assert one.take() == [["+丙", "+甲"]]


async def test_only_groups_and_only_where_it_is_on() -> None:
    for name in ("private:a~b", "inbox:a", "broadcast:all"):
        hall = Hall()
        one = Device(hall, "甲", asks=True, conversation=name).come()
        Device(hall, "乙", conversation=name).come()
        await hall.told()
        assert not one.take()
    off = Hall(limit=0)
    one = Device(off, "甲", asks=True).come()
    await off.told()
    assert not one.take()
    assert not off.index._index


async def test_many_are_told_some_in_each_turn() -> None:
    """Others have their turns in between; whoever goes meanwhile is passed over."""
    hall = Hall(limit=500)
    devices = [Device(hall, f"甲{n}", asks=True).come() for n in range(400)]
    turns = []
    while hall.tasks:
        await asyncio.sleep(0)
        turns.append(sum(len(one.batches) for one in devices))
        if turns[-1] == 50:
            devices[-1].go()
    assert {50, 100, 150, 200, 250, 300, 350, 399} <= set(turns)
    assert len(devices[0].batches[0]) == 400
    assert devices[0].batches[1:] == [["-甲399"]]
    assert not devices[-1].batches


def test_the_difference_adds_up() -> None:
    """Whatever happened, the last word on each session is how it is now."""
    before, now = {"甲": "a", "乙": "b", "丙": "c"}, {"乙": "b", "丙": "c", "丁": "d"}
    passing = {"丙": "c", "丁": "d", "戊": "e", "甲": "a"}
    assert list(compare(before, now, passing)) == [
        Coming("甲", "a", here=False),
        Coming("丙", "c", here=False),
        Coming("丙", "c", here=True),
        Coming("丁", "d", here=True),
        Coming("戊", "e", here=True),
        Coming("戊", "e", here=False),
    ]
