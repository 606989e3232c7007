"""One replay from log files to verdict."""

from __future__ import annotations

import asyncio
import random
import re
import secrets
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from itertools import count
from pathlib import Path
from typing import Final

from qunxin.errors import QunxinError
from qunxin.model import is_valid_id
from qunxin.replay.api import Api
from qunxin.replay.client import Participant, Surroundings
from qunxin.replay.driver import Driver
from qunxin.replay.irc import decode, read_log
from qunxin.replay.judge import Findings, Judge
from qunxin.replay.lines import LineReader
from qunxin.replay.options import ReplayOptions, check_options
from qunxin.replay.plan import Named, Plan, plan_plain
from qunxin.replay.records import Journal, Observations
from qunxin.replay.report import FAILED, PASSED, ReplayOutcome, ReplayReport, percentile_ms
from qunxin.replay.server import OwnServer
from qunxin.replay.stress import plan_stress

_clock = time.perf_counter
_NOTES_LIMIT: Final = 40
_TERMINATED: Final = "SIGTERM"
_LAST_KILL_SHARE: Final = 0.95
"""No kill is due after this share of the work, so that each finds something going on."""


async def run_replay(options: ReplayOptions) -> ReplayOutcome:
    """Play the logs, and judge what everybody saw.

    Raises `invalid_request` for options or files that cannot be played, `cannot_start` where the
    replay's own server does not start or the one of `url` does not answer, what a server refuses
    the accounts, groups and connections with, `outcome_unknown` where it stops answering.
    """
    check_options(options)
    plan = await asyncio.to_thread(make_plan, options)
    try:
        with _ended_in_order():
            async with _server(options) as (url, key, own):
                return await _Replay(plan, options, url, key, own).run()
    except BaseExceptionGroup as group:
        refusal = group.subgroup(QunxinError)
        if refusal is None:
            raise
        raise _first(refusal) from group


@contextmanager
def _ended_in_order() -> Iterator[None]:
    """SIGTERM ends the replay's own server too, and removes its folder; then this process."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    if task is None or threading.current_thread() is not threading.main_thread():
        yield
        return
    loop.add_signal_handler(signal.SIGTERM, task.cancel, _TERMINATED)
    try:
        yield
    except asyncio.CancelledError as cancelled:
        if cancelled.args == (_TERMINATED,):
            sys.exit(128 + signal.SIGTERM)
        raise
    finally:
        loop.remove_signal_handler(signal.SIGTERM)


def make_plan(options: ReplayOptions) -> Plan:
    """The plan of these logs. On a server that is not the replay's own every id carries a tag,
    so that nothing of an earlier replay is in the way."""
    tag = "" if options.url is None else secrets.token_hex(4)
    taken: set[str] = set()
    logs = [_read_file(path, tag, taken) for path in options.files]
    return plan_stress(logs, options.seed, tag) if options.stress else plan_plain(logs, tag)


def _read_file(path: Path, tag: str, taken: set[str]) -> Named:
    try:
        text = decode(path.read_bytes())
    except OSError as error:
        detail = f"{path}: {error.strerror}"
        raise QunxinError("invalid_request", detail=detail) from error
    log = read_log(text, tag)
    if not log.totals.messages:
        detail = f"{path}: no line of it is a message; see docs/how-to/replay.md"
        raise QunxinError("invalid_request", detail=detail)
    name = path.name.removesuffix(".txt").removesuffix(".raw")
    base = re.sub(r"[^A-Za-z0-9-]+", ".", name)[:40].strip(".-") or "log"
    suffix = f"-{tag}" if tag else ""
    group = next(
        group
        for group in (f"{base}{suffix}" if n == 1 else f"{base}-{n}{suffix}" for n in count(1))
        if group not in taken and is_valid_id(group)
    )
    taken.add(group)
    return Named(group, name, log)


@asynccontextmanager
async def _server(options: ReplayOptions) -> AsyncIterator[tuple[str, str, OwnServer | None]]:
    if options.url is not None and options.key is not None:
        yield options.url, options.key, None
        return
    folder = Path(tempfile.mkdtemp(prefix="qunxin-replay-"))
    try:
        async with OwnServer(folder) as own:
            yield own.url, await own.make_key(), own
    finally:
        await asyncio.to_thread(shutil.rmtree, folder)


class _Replay:
    def __init__(
        self, plan: Plan, options: ReplayOptions, url: str, key: str, own: OwnServer | None
    ) -> None:
        self._plan = plan
        self._options = options
        self._own = own
        self._api = Api(url, key)
        self._journal = Journal(len(plan.messages))
        self._observations = Observations()
        lines = LineReader(self._observations, tuple(plan.messages))
        address = re.sub("^http", "ws", url.rstrip("/")) + "/connection/websocket"
        self._around = Surroundings(
            lambda: address,
            self._api.token,
            lines,
            self._observations,
            self._journal,
            _clock,
        )
        self._participants = {user: Participant(user, self._around) for user in plan.users}
        self._killer = _Killer(own, plan, options)
        self._driver = Driver(
            plan,
            options,
            self._api,
            self._participants,
            self._journal,
            _clock,
            self._killer.progressed,
        )

    async def run(self) -> ReplayOutcome:
        try:
            await self._driver.set_up()
            started = _clock()
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._killer.run())
                await self._driver.play()
                played = _clock()
                await self._driver.catch_up()
                ended = _clock()
                self._killer.finish()
        finally:
            for participant in self._participants.values():
                await participant.go_offline()
            self._api.close()
        findings = await asyncio.to_thread(self._judge)
        return self._outcome(findings, played - started, ended - started)

    def _judge(self) -> Findings:
        judge = Judge(self._plan, self._journal, self._observations, shared=self._own is None)
        return judge.judge({user: one.record for user, one in self._participants.items()})

    def _outcome(self, found: Findings, playing: float, all_in: float) -> ReplayOutcome:
        expected = self._plan.expected_deliveries
        whole = found.faults == 0 and found.delivered == expected and not self._journal.faults
        acks = self._ack_seconds()
        latencies = sorted(self._around.latencies)
        messages = self._plan.accepted_messages
        report = ReplayReport(
            files=len(self._options.files),
            users=self._plan.log_users,
            messages=messages,
            skipped_lines=self._plan.skipped_lines,
            expected_deliveries=expected,
            delivered=found.delivered,
            lost=found.lost,
            duplicated=found.duplicated,
            reordered=found.reordered,
            misrouted=found.misrouted,
            leaked=found.leaked,
            kills=0 if self._own is None else self._own.kills,
            ack_p50_ms=percentile_ms(acks, 0.5),
            ack_p99_ms=percentile_ms(acks, 0.99),
            delivery_p50_ms=percentile_ms(latencies, 0.5),
            delivery_p99_ms=percentile_ms(latencies, 0.99),
            messages_per_second=round(messages / max(playing, 1e-9), 1),
            deliveries_per_second=round(found.delivered / max(all_in, 1e-9), 1),
            verdict=PASSED if whole else FAILED,
        )
        notes = [*self._journal.faults, *found.examples]
        return ReplayOutcome(report, tuple(notes[:_NOTES_LIMIT]))

    def _ack_seconds(self) -> list[float]:
        journal = self._journal
        return sorted(
            accepted - sent
            for accepted, sent in zip(journal.accepted, journal.sent, strict=True)
            if accepted
        )


class _Killer:
    """Kills the server at moments that the seed chooses, and starts it again each time."""

    def __init__(self, own: OwnServer | None, plan: Plan, options: ReplayOptions) -> None:
        self._own = own
        self._chance = random.Random(f"kill {options.seed}")  # noqa: S311 - repeatable
        work = sum(map(len, plan.lanes)) + len(plan.users)
        self._moments = sorted(
            int(self._chance.random() * work * _LAST_KILL_SHARE) for _ in range(options.kills)
        )
        self._done = 0
        self._finished = False
        self._moved = asyncio.Event()

    def progressed(self) -> None:
        self._done += 1
        if self._moments and self._done > self._moments[0]:
            self._moved.set()

    def finish(self) -> None:
        """No work is left; what is still due comes now."""
        self._finished = True
        self._moved.set()

    async def run(self) -> None:
        """Return once every kill has happened and the server is up again."""
        while self._moments and self._own is not None:
            while self._done <= self._moments[0] and not self._finished:
                self._moved.clear()
                await self._moved.wait()
            self._moments.pop(0)
            await asyncio.sleep(self._chance.uniform(0, 0.05))
            await self._own.kill()
            await self._own.start()


def _first(group: BaseExceptionGroup[QunxinError]) -> QunxinError:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, QunxinError)  # noqa: S101 - what `subgroup` keeps
    return error
