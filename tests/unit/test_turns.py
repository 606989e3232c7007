"""How requests that arrive together share the loop with everything else."""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.types import Receive, Scope, Send

from qunxin.gateways.http.turns import PER_TURN, with_turns


async def _never(*_: Any) -> Any:
    raise AssertionError("not called")


class Begun:
    """An application that notes which request begins in which turn of the loop."""

    def __init__(self) -> None:
        self.turn = 0
        self.turns: dict[int, int] = {}
        self.app = with_turns(self._begin)

    async def _begin(self, scope: Scope, _receive: Receive, _send: Send) -> None:
        self.turns[scope["number"]] = self.turn

    def ask(self, number: int, kind: str = "http") -> asyncio.Task[None]:
        scope = {"type": kind, "number": number}

        async def request() -> None:
            await self.app(scope, _never, _never)

        return asyncio.create_task(request())

    async def pass_turns(self, count: int) -> None:
        for _ in range(count):
            await asyncio.sleep(0)
            self.turn += 1


async def test_requests_begin_in_order_so_many_in_a_turn() -> None:
    """However many came together; what else the loop has to do comes between them."""
    begun = Begun()
    for number in range(5 * PER_TURN):
        begun.ask(number)
    await begun.pass_turns(40)
    assert list(begun.turns) == list(range(5 * PER_TURN))
    counts = [list(begun.turns.values()).count(turn) for turn in range(40)]
    assert max(counts) == PER_TURN
    assert sum(1 for count in counts if count) == 5


async def test_one_alone_waits_for_nothing() -> None:
    """It begins in its first step; and so does the next one, later."""
    begun = Begun()
    for number in range(3):
        begun.ask(number)
        await begun.pass_turns(1)
        assert number in begun.turns
        await begun.pass_turns(5)


async def test_who_gives_up_takes_nobodys_turn() -> None:
    """A client that hangs up while it waits leaves no hole and no error."""
    begun = Begun()
    tasks = [begun.ask(number) for number in range(4 * PER_TURN)]
    await begun.pass_turns(1)
    for task in tasks[PER_TURN : 2 * PER_TURN]:
        task.cancel()
    await begun.pass_turns(20)
    kept = [*range(PER_TURN), *range(2 * PER_TURN, 4 * PER_TURN)]
    assert list(begun.turns) == kept
    assert len(set(begun.turns.values())) == 3


async def test_only_requests_wait() -> None:
    """Whatever else an application is told passes."""
    begun = Begun()
    for number in range(3 * PER_TURN):
        begun.ask(number, "lifespan")
    await begun.pass_turns(1)
    assert len(begun.turns) == 3 * PER_TURN
