"""Step 4: each command that is refused is counted, once, whoever refused it and when."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from qunxin.clock import SystemClock
from qunxin.engine.commit import Committer
from qunxin.engine.settings import EngineSettings
from qunxin.errors import QunxinError
from qunxin.model import MessageType
from qunxin.observe import NullObserver
from qunxin.store.commands import Command, Post
from qunxin.store.results import Outcome
from qunxin.stores.sqlite import SqliteStore
from qunxin.tasks import TaskSet

TO_NOBODY = Post(
    MessageType.GROUP, "group:无", "alice", '[{"type":"text","text":"茶 🍵"}]'.encode()
)


class Refusals(NullObserver):
    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def refused(self, code: str) -> None:
        self.counts[code] += 1


class GatedStore(SqliteStore):
    """Begins no commit while the gate is shut; fails each with `failure`, where there is one."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.gate, self.begun = asyncio.Event(), asyncio.Event()
        self.failure: Exception | None = None

    async def commit(self, commands: Sequence[Command]) -> Sequence[Outcome]:
        self.begun.set()
        await self.gate.wait()
        if self.failure is not None:
            raise self.failure
        return await super().commit(commands)


class Node:
    """A committer over a gated store, and what it reported."""

    def __init__(self, path: Path, settings: EngineSettings) -> None:
        self.store = GatedStore(path / "茶.db")
        self.refusals = Refusals()
        self.committer = Committer(
            self.store, settings, SystemClock(), self.refusals, lambda _done: None, lambda _to: None
        )

    async def codes(self, times: int) -> Counter[str]:
        """What so many sends at once are refused with."""
        outcomes = await asyncio.gather(
            *(self.committer.run(TO_NOBODY) for _ in range(times)), return_exceptions=True
        )
        return Counter(one.code for one in outcomes if isinstance(one, QunxinError))


@asynccontextmanager
async def open_node(path: Path, settings: EngineSettings) -> AsyncIterator[Node]:
    node, tasks = Node(path, settings), TaskSet()
    await node.store.open()
    node.committer.open(tasks)
    try:
        yield node
    finally:
        node.store.gate.set()
        await node.committer.close()
        await tasks.close()
        await node.store.close()


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        (None, "group_not_found"),
        (QunxinError("store_unavailable"), "store_unavailable"),
        (ZeroDivisionError("缺陷"), "outcome_unknown"),
    ],
)
async def test_every_command_of_a_refused_batch_is_counted(
    tmp_path: Path, failure: Exception | None, code: str
) -> None:
    """By itself or all together."""
    async with open_node(tmp_path, EngineSettings()) as node:
        node.store.gate.set()
        node.store.failure = failure
        assert await node.codes(7) == {code: 7}
    assert node.refusals.counts == {code: 7}


async def test_commands_for_which_there_is_no_room_are_counted(tmp_path: Path) -> None:
    """And those that come while the node stops."""
    async with open_node(tmp_path, EngineSettings(commit_queue_commands=2)) as node:
        sends = asyncio.create_task(node.codes(5))
        await node.store.begun.wait()
        assert node.refusals.counts == {"overloaded": 3}
        node.store.gate.set()
        assert await sends == {"overloaded": 3, "group_not_found": 2}
        await node.committer.close()
        assert await node.codes(2) == {"shutting_down": 2}
    assert node.refusals.counts == {"overloaded": 3, "group_not_found": 2, "shutting_down": 2}


async def test_commands_without_an_answer_in_time_are_counted_once(tmp_path: Path) -> None:
    """Handed to the store or still waiting: what the store says later of the first is no second
    refusal, and the others never reach it."""
    settings = EngineSettings(commit_batch_commands=2, commit_deadline_seconds=0.3)
    async with open_node(tmp_path, settings) as node:
        assert await node.codes(5) == {"outcome_unknown": 2, "overloaded": 3}
    assert node.refusals.counts == {"outcome_unknown": 2, "overloaded": 3}
