"""The gate of heavy reads: who reads, who waits, and who is refused."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from qunxin.engine.access import ALL_SCOPES, SYSTEM, Caller
from qunxin.engine.gate import ReadGate
from qunxin.errors import QunxinError

ALICE, BOB, EVE = (Caller.as_user(name) for name in ("alice", "bob", "eve"))
KEY = Caller.as_key(ALL_SCOPES, "alice")
"""Whose id is that of a user."""


class Desk:
    """Reads through a gate, each of which is under way until it is ended."""

    def __init__(self, gate: ReadGate) -> None:
        self.gate = gate
        self.asking: list[asyncio.Task[str]] = []
        self.begun: list[str] = []
        self.under_way: dict[str, asyncio.Future[str]] = {}

    async def ask(self, caller: Caller, name: str) -> asyncio.Task[str]:
        """Ask, and give who asked when nothing more happens by itself."""
        task = asyncio.create_task(self.gate.run(caller, lambda: self._read(name)), name=name)
        self.asking.append(task)
        await self.settled()
        return task

    async def _read(self, name: str) -> str:
        self.begun.append(name)
        self.under_way[name] = asyncio.get_running_loop().create_future()
        try:
            return await self.under_way[name]
        finally:
            del self.under_way[name]

    async def end(self, name: str, error: Exception | None = None) -> None:
        """The read ends with its own name in Chinese brackets, or with `error`."""
        if error is None:
            self.under_way[name].set_result(f"「{name}」")
        else:
            self.under_way[name].set_exception(error)
        await self.settled()

    @staticmethod
    async def settled() -> None:
        for _ in range(20):
            await asyncio.sleep(0)

    async def close(self) -> None:
        for task in self.asking:
            task.cancel()
        await asyncio.gather(*self.asking, return_exceptions=True)
        for reading in list(self.under_way.values()):
            reading.cancel()
        await self.settled()


@pytest.fixture
async def make_desk() -> AsyncIterator[Callable[[ReadGate], Desk]]:
    desks: list[Desk] = []

    def make(gate: ReadGate) -> Desk:
        desks.append(Desk(gate))
        return desks[-1]

    yield make
    for desk in desks:
        await desk.close()


MakeDesk = Callable[[ReadGate], Desk]


async def test_of_each_caller_one_is_read_and_two_in_all(make_desk: MakeDesk) -> None:
    """Whoever asks often waits behind themself; the others come between their reads."""
    desk = make_desk(ReadGate())
    for n in range(1, 4):
        await desk.ask(ALICE, f"爱丽丝{n}")
    assert list(desk.under_way) == ["爱丽丝1"]
    bobs = await desk.ask(BOB, "鲍勃")
    await desk.ask(EVE, "伊芙")
    assert list(desk.under_way) == ["爱丽丝1", "鲍勃"]
    await desk.end("爱丽丝1")
    assert list(desk.under_way) == ["鲍勃", "伊芙"]
    await desk.end("鲍勃")
    assert await bobs == "「鲍勃」"
    assert list(desk.under_way) == ["伊芙", "爱丽丝2"]
    await desk.end("爱丽丝2")
    await desk.end("爱丽丝3")
    await desk.end("伊芙")
    assert [await task for task in desk.asking] == [
        f"「{name}」" for name in ("爱丽丝1", "爱丽丝2", "爱丽丝3", "鲍勃", "伊芙")
    ]


async def test_a_user_and_a_key_of_one_name_are_two(make_desk: MakeDesk) -> None:
    """Neither waits for the other."""
    desk = make_desk(ReadGate())
    await desk.ask(ALICE, "人")
    await desk.ask(KEY, "钥匙")
    assert list(desk.under_way) == ["人", "钥匙"]


async def test_a_caller_who_goes_away_keeps_the_place_until_the_read_ends(
    make_desk: MakeDesk,
) -> None:
    """The store reads on for them, so their place is not another's; one who only waited is gone
    at once."""
    desk = make_desk(ReadGate(at_once=1))
    gone = await desk.ask(ALICE, "走了")
    waiting = await desk.ask(ALICE, "不等了")
    gone.cancel()
    waiting.cancel()
    await desk.ask(ALICE, "又来")
    await desk.ask(BOB, "鲍勃")
    assert list(desk.under_way) == ["走了"]
    await desk.end("走了", QunxinError("store_unavailable"))
    assert desk.begun == ["走了", "鲍勃"]
    await desk.end("鲍勃")
    assert desk.begun == ["走了", "鲍勃", "又来"]


async def test_what_fails_frees_its_place(make_desk: MakeDesk) -> None:
    """And is told to whoever asked, as it was raised."""
    desk = make_desk(ReadGate(at_once=1))
    failing = await desk.ask(ALICE, "坏")
    await desk.ask(ALICE, "好")
    await desk.end("坏", QunxinError("store_unavailable"))
    with pytest.raises(QunxinError) as refused:
        await failing
    assert refused.value.code == "store_unavailable"
    assert list(desk.under_way) == ["好"]


async def test_too_many_that_wait_are_refused(make_desk: MakeDesk) -> None:
    """Of one caller, whom it concerns alone; there is room again when one of theirs has gone."""
    desk = make_desk(ReadGate(max_waiting=2))
    first, *_ = [await desk.ask(ALICE, f"爱丽丝{n}") for n in range(3)]
    refused = await desk.ask(ALICE, "太多")
    assert _code(refused) == "overloaded"
    await desk.ask(BOB, "鲍勃")
    assert list(desk.under_way) == ["爱丽丝0", "鲍勃"]
    await desk.end("爱丽丝0")
    assert await first == "「爱丽丝0」"
    assert not (await desk.ask(ALICE, "有位")).done()


async def test_who_waits_too_long_is_refused_and_was_not_begun(make_desk: MakeDesk) -> None:
    """Behind their own read or behind others': nothing is left of them, and the places are as
    they were."""
    desk = make_desk(ReadGate(at_once=1, wait_seconds=0.01))
    first = await desk.ask(ALICE, "第一")
    late = [await desk.ask(ALICE, "自己"), await desk.ask(BOB, "鲍勃")]
    await asyncio.wait(late)
    assert [_code(task) for task in late] == ["overloaded", "overloaded"]
    assert desk.begun == ["第一"]
    await desk.end("第一")
    assert await first == "「第一」"
    for caller, name in ((BOB, "鲍勃"), (ALICE, "爱丽丝")):
        again = await desk.ask(caller, name)
        await desk.end(name)
        assert await again == f"「{name}」"


async def test_the_embedding_program_waits_as_long_as_it_takes(make_desk: MakeDesk) -> None:
    """Its own reads are one at a time too, and none of them is refused."""
    desk = make_desk(ReadGate(at_once=1, max_waiting=1, wait_seconds=0.01))
    for n in range(5):
        await desk.ask(SYSTEM, f"程序{n}")
    late = await desk.ask(ALICE, "爱丽丝")
    await asyncio.wait([late])
    assert (desk.begun, _code(late)) == (["程序0"], "overloaded")
    for n in range(5):
        await desk.end(f"程序{n}")
    assert [await task for task in desk.asking[:5]] == [f"「程序{n}」" for n in range(5)]


def _code(task: asyncio.Task[str]) -> str:
    error = task.exception()
    assert isinstance(error, QunxinError)
    return error.code
