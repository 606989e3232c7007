"""SIGKILL of the server and of programs with the Python SDK, in the middle of sending."""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apsw
import pytest
from client_program import has_own_key, message, read_got, read_posted
from fault_help import populate, read_whole_log

from qunxin.client import Entry, Event, connect
from serving import ServerProcess

KILLS = int(os.environ.get("QUNXIN_TEST_CLIENT_KILLS", "100"))
USERS = ["alice", "bob", "carol"]
WATCHER = "dave"
GROUPS = ["g0", "g1"]
MOST_PER_ROUND = 40
PROGRAM = Path(__file__).with_name("client_program.py")
LOOK_SECONDS = 0.05
FINISH_SECONDS = 120


class ProgramProcess:
    """One program with the SDK, which may be killed and started again."""

    def __init__(self, folder: Path, user: str, node: ServerProcess) -> None:
        self.user = user
        self.folder = folder / user
        self.folder.mkdir()
        about = {
            "user": user,
            "url": node.url,
            "token": node.token(user),
            "others": [other for other in USERS if other != user],
            "groups": GROUPS,
        }
        (self.folder / "program.json").write_text(json.dumps(about), "utf-8")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, PROGRAM, self.folder], stdout=log, stderr=log
            )

    def kill(self) -> None:
        if self._process is not None:
            assert self._process.poll() is None, f"{self.user} has ended by itself:\n{self.log}"
            self._process.kill()
            self._process.wait()

    def ended(self) -> bool:
        """Whether it came to its end. Raises where that was not a good one."""
        assert self._process is not None
        code = self._process.poll()
        assert code in (None, 0), f"{self.user}:\n{self.log}"
        return code is not None

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text("utf-8", errors="replace")[-4_000:]

    def outbox_size(self) -> int:
        database = apsw.Connection(str(self.folder / "发件箱.db"))
        (count,) = database.execute("SELECT count(*) FROM outbox").fetchone() or (None,)
        database.close()
        assert isinstance(count, int)
        return count


class Watcher:
    """A program with the SDK that is never killed itself, in this process."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self._arrived = asyncio.Event()

    def take(self, event: Event) -> None:
        assert isinstance(event, Entry), event
        self.entries.append(event)
        self._arrived.set()

    async def wait_for_more(self, count: int) -> None:
        """Return once `count` more entries have come."""
        wanted = len(self.entries) + count
        while len(self.entries) < wanted:
            self._arrived.clear()
            await self._arrived.wait()


async def _eventually(holds: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + FINISH_SECONDS
    while not holds():
        assert time.monotonic() < deadline, what
        await asyncio.sleep(LOOK_SECONDS)


async def _kill_again_and_again(
    node: ServerProcess, programs: list[ProgramProcess], watcher: Watcher, kills: int
) -> None:
    """Some entries, SIGKILL while others are under way, a new start; as often for the server as
    for the programs."""
    chance = random.Random(kills)
    victims = ["server"] * kills + ["program"] * kills
    chance.shuffle(victims)
    for victim in victims:
        await watcher.wait_for_more(chance.randint(1, MOST_PER_ROUND))
        if victim == "server":
            node.kill()
            await asyncio.to_thread(node.start)
        else:
            program = chance.choice(programs)
            program.kill()
            program.start()


async def _finish(node: ServerProcess, programs: list[ProgramProcess]) -> dict[str, list[Any]]:
    """Everything is sent, then everything is received; the logs, by conversation."""
    for program in programs:
        (program.folder / "finish").touch()
    await _eventually(
        lambda: all((program.folder / "sent").exists() for program in programs),
        "an outbox does not become empty",
    )
    logs = await asyncio.to_thread(_read_logs, node)
    heads = {name: len(entries) for name, entries in logs.items()}
    for program in programs:
        part = program.folder / "heads.part"
        part.write_text(json.dumps(heads), "utf-8")
        part.rename(program.folder / "heads")
    await _eventually(
        lambda: all(program.ended() for program in programs), "a program misses entries"
    )
    return logs


def _read_logs(node: ServerProcess) -> dict[str, list[Any]]:
    pairs = [(one, other) for one in USERS for other in USERS if one < other]
    readers = {f"group:{group}": USERS[0] for group in GROUPS}
    readers |= {f"private:{one}~{other}": one for one, other in pairs}
    with node.client() as client:
        return {name: read_whole_log(client, name, reader) for name, reader in readers.items()}


def _check_sent(programs: list[ProgramProcess], logs: dict[str, list[Any]]) -> int:
    """Every message that was given to the SDK is in the log, once; how many there are."""
    texts = Counter(
        entry["content"][0]["text"]
        for entries in logs.values()
        for entry in entries
        if "content" in entry
    )
    assert not [text for text, count in texts.items() if count > 1], "doubled"
    unsure = set()
    for program in programs:
        assert program.outbox_size() == 0
        others = [other for other in USERS if other != program.user]
        for number, state in read_posted(program.folder / "program.db").items():
            text = message(program.user, number, others, GROUPS)["text"]
            if state == "posted":
                assert texts.pop(text, 0) == 1, f"lost: {text}"
            else:
                assert not has_own_key(number), "a message with a key is posted again"
                unsure.add(text)
    assert set(texts) <= unsure, "what nobody sent"
    return sum(map(len, logs.values()))


def _check_received(program: ProgramProcess, logs: dict[str, list[Any]]) -> None:
    """The program was handed every position of its conversations, once, in order."""
    got: dict[str, list[int]] = {}
    for conversation, first, last, _key in read_got(program.folder / "program.db"):
        got.setdefault(conversation, []).extend(range(first, last + 1))
    for conversation, entries in logs.items():
        if conversation.startswith("group:") or program.user in conversation:
            assert got.get(conversation, []) == list(range(1, len(entries) + 1)), conversation


async def _run(tmp_path: Path, kills: int, say: Callable[[str], None]) -> None:
    began = time.monotonic()
    with ServerProcess(tmp_path / "数据") as node:
        with node.client() as client:
            populate(client, [*USERS, WATCHER], GROUPS)
        programs = [ProgramProcess(tmp_path, user, node) for user in USERS]
        watcher = Watcher()
        try:
            token = node.token(WATCHER)
            async with connect(node.url, token, max_reconnect_seconds=0.5) as sdk:
                watching = asyncio.create_task(sdk.run(watcher.take))
                for program in programs:
                    program.start()
                await _kill_again_and_again(node, programs, watcher, kills)
                logs = await _finish(node, programs)
                await _eventually(
                    lambda: all(
                        sdk.positions[f"group:{group}"].position == len(logs[f"group:{group}"])
                        for group in GROUPS
                    ),
                    "the watcher misses entries",
                )
                watching.cancel()
                await asyncio.wait([watching])
        finally:
            for program in programs:
                if not program.ended():
                    program.kill()
        count = _check_sent(programs, logs)
        for program in programs:
            _check_received(program, logs)
        for group in GROUPS:
            name = f"group:{group}"
            seen = [entry.position for entry in watcher.entries if entry.conversation == name]
            assert seen == list(range(1, len(logs[name]) + 1))
        say(
            f"{kills} kills of the server, {kills} of programs, {count} entries, "
            f"{time.monotonic() - began:.0f} s"
        )


@pytest.mark.processes
@pytest.mark.timeout(300)
@pytest.mark.may_block("it starts processes and reads logs")
async def test_a_few_kills_lose_and_double_nothing(tmp_path: Path) -> None:
    """The same as below, short enough for every run."""
    await _run(tmp_path, 3, lambda _: None)


@pytest.mark.faults
@pytest.mark.timeout(1800)
@pytest.mark.may_block("it starts processes and reads logs")
async def test_kills_of_server_and_clients_lose_and_double_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every message given to the SDK is in the log once, outboxes are empty at the end, and every
    program was handed each entry once, in order."""

    def say(text: str) -> None:
        with capsys.disabled():
            sys.stderr.write(f"\n  {text}")
            sys.stderr.flush()

    await _run(tmp_path, KILLS, say)
