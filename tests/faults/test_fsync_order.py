"""A system-call trace shows that nothing is said of a message before it is on the disk.

SIGKILL does not test the disk: what a killed process has written survives in the kernel's cache.
So the server runs under strace, and the order of its own calls is the evidence.
"""

from __future__ import annotations

import asyncio
import re
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest
from fault_client import RealtimeClient
from fault_help import asked, populate

from serving import ServerProcess

SENDS_AT_ONCE = 25
ROUNDS = 6
TRACED = "fsync,fdatasync,write,writev,pwrite64,pwritev,sendto,sendmsg"
STRACE = ("strace", "-D", "-f", "-ttt", "-yy", "-s", "200000", "-e", f"trace={TRACED}", "-o")

_LINE = re.compile(r"(?P<thread>\d+)\s+(?P<time>\d+\.\d+) (?P<rest>.*)")
_CALL = re.compile(r"(?P<name>\w+)\(\d+<(?P<target>[^>]*)>(?P<rest>.*)", re.DOTALL)
_RESUMED = re.compile(r"<\.\.\. (?P<name>\w+) resumed>(?P<rest>.*)", re.DOTALL)


class Call(NamedTuple):
    """One system call: the lines of the trace where it began and where it had returned."""

    began: int
    ended: int
    name: str
    target: str
    data: str

    @property
    def syncs_wal(self) -> bool:
        return self.name in ("fsync", "fdatasync") and self.target.endswith("-wal")

    @property
    def writes_wal(self) -> bool:
        return self.name.startswith("pwrite") and self.target.endswith("-wal")

    @property
    def to_a_socket(self) -> bool:
        return self.target.startswith(("TCP:", "TCPv6:", "socket:"))


def read_trace(text: str) -> list[Call]:
    """The calls that succeeded, in the order in which they began."""
    return sorted(_calls(text.splitlines()))


def _calls(lines: Sequence[str]) -> Iterator[Call]:
    open_calls: dict[str, tuple[int, str, str, str]] = {}
    for number, line in enumerate(lines):
        found = _LINE.match(line)
        if found is None:
            continue
        thread, rest = found["thread"], found["rest"]
        resumed, call = _RESUMED.match(rest), _CALL.match(rest)
        if resumed is not None and thread in open_calls:
            began, name, target, data = open_calls.pop(thread)
            if " = -1 " not in resumed["rest"]:
                yield Call(began, number, name, target, data)
        elif call is not None and rest.endswith("<unfinished ...>"):
            open_calls[thread] = (number, call["name"], call["target"], call["rest"])
        elif call is not None and " = -1 " not in call["rest"][-60:]:
            yield Call(number, number, call["name"], call["target"], call["rest"])


def check_order(calls: Sequence[Call], stored: str, told: str) -> None:
    """The bytes `stored` went into the WAL, then the WAL was synced, and only after that did
    the first byte of anything with `told` in it go to a socket."""
    written = next((c for c in calls if c.writes_wal and stored in c.data), None)
    assert written is not None, f"{stored} was never written to the WAL"
    synced = next((c for c in calls if c.syncs_wal and c.began > written.ended), None)
    assert synced is not None, f"the WAL was not synced after {stored} was written"
    said = next((c for c in calls if c.to_a_socket and told in c.data), None)
    assert said is not None, f"{told} was never sent"
    assert synced.ended < said.began, f"{told} was sent before the sync of {stored} returned"


@pytest.fixture
def traced(tmp_path: Path) -> Iterator[ServerProcess]:
    """A server under strace; its trace is ``trace`` beside the data folder."""
    if shutil.which("strace") is None:
        pytest.skip("needs strace: apt-get install strace")
    with ServerProcess(tmp_path / "data", wrapper=[*STRACE, str(tmp_path / "trace")]) as node:
        yield node


def whole_trace(node: ServerProcess) -> str:
    """The trace of a server that has ended, once the tracer has written all of it."""
    path = node.data_folder.parent / "trace"
    deadline = time.monotonic() + 30
    while not (text := path.read_text("utf-8", "replace")).rstrip().endswith("exited with 0 +++"):
        assert time.monotonic() < deadline, f"the trace does not end: {text[-300:]}"
        time.sleep(0.05)
    return text


async def _send_bursts(client: RealtimeClient) -> None:
    """Bursts that share transactions; the n-th command has the id n + 1 and the text mark-n."""
    for burst in range(ROUNDS):
        numbers = range(burst * SENDS_AT_ONCE, (burst + 1) * SENDS_AT_ONCE)
        async with asyncio.TaskGroup() as group:
            for n in numbers:
                text = f"mark-{n:05d}. 你好 👋🏽"
                message = {"type": "group", "to": "tea", "text": text, "key": f"k{n}"}
                group.create_task(client.rpc("message.send", message))


@pytest.mark.faults
@pytest.mark.timeout(180)
@pytest.mark.may_block("it reads the trace once the server has ended")
async def test_each_batch_is_synced_before_its_replies_and_pushes(traced: ServerProcess) -> None:
    """Promise 2: what is acknowledged or delivered over realtime is durable by then."""
    with traced.client() as http:
        populate(http, ["alice", "bob"], ["tea"])
    alice = await RealtimeClient.open(traced.websocket_url, traced.token("alice"))
    bob = await RealtimeClient.open(traced.websocket_url, traced.token("bob"))
    try:
        await _send_bursts(alice)
        await bob.publications("group:tea", SENDS_AT_ONCE * ROUNDS)
    finally:
        await alice.close()
        await bob.close()
    assert traced.stop() == 0
    calls = read_trace(whole_trace(traced))
    for n in range(SENDS_AT_ONCE * ROUNDS):
        check_order(calls, f"mark-{n:05d}.", f'\\"id\\":{n + 2},')
        check_order(calls, f"mark-{n:05d}.", f"mark-{n:05d}.")


@pytest.mark.faults
@pytest.mark.timeout(180)
def test_each_message_is_synced_before_its_http_reply(traced: ServerProcess) -> None:
    """Promise 2 over HTTP: each reply names a conversation of its own, so that it is found."""
    users = [f"friend{n:03d}" for n in range(30)]
    with traced.client() as http:
        populate(http, ["alice", *users], [])
        for user in users:
            message = {"type": "private", "from": "alice", "to": user, "text": f"to-{user}. 嗨"}
            asked(http, "POST", "/v1/messages", message)
    assert traced.stop() == 0
    calls = read_trace(whole_trace(traced))
    for user in users:
        check_order(calls, f"to-{user}.", f'\\"conversation\\":\\"private:alice~{user}\\"')


def test_the_judge_sees_a_reply_before_the_sync() -> None:
    """A trace in which the reply overtakes the sync is refused, whatever thread each is on."""
    lines = [
        '7 1.000001 pwrite64(5</d/store.db-wal>, "x mark-1. y", 11, 0) = 11',
        "7 1.000002 fdatasync(5</d/store.db-wal> <unfinished ...>",
        '6 1.000003 sendto(9<TCP:[127.0.0.1:1->127.0.0.1:2]>, "told mark-1.", 12, 0) = 12',
        "7 1.000004 <... fdatasync resumed>) = 0",
    ]
    with pytest.raises(AssertionError, match="before the sync"):
        check_order(read_trace("\n".join(lines)), "mark-1.", "mark-1.")
    in_order = [lines[0], lines[1], lines[3], lines[2]]
    check_order(read_trace("\n".join(in_order)), "mark-1.", "mark-1.")
