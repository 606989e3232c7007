"""Replays of small logs end to end: a server of their own, real connections, kills, stress."""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from rich.console import Console

from qunxin.errors import QunxinError
from qunxin.replay import (
    ReplayOptions,
    ReplayOutcome,
    ReplayReport,
    parse_speed,
    print_outcome,
    run_replay,
)
from serving import ServerProcess, run_cli

_ROOT = Path(__file__).parents[2]
SAMPLES = tuple(sorted((_ROOT / "tests" / "data" / "irc").glob("*.txt")))
_WHOLE = _ROOT.parent / "shared" / "data" / "irc"
FAULTS = ("lost", "duplicated", "reordered", "misrouted", "leaked")


def check_clean(report: ReplayReport) -> None:
    """Five zeros, and everything delivered."""
    assert {name: getattr(report, name) for name in FAULTS} == dict.fromkeys(FAULTS, 0)
    assert report.delivered == report.expected_deliveries
    assert report.verdict == "passed"


async def test_a_plain_replay_delivers_everything() -> None:
    """All logs at once, everybody online."""
    report = (await run_replay(ReplayOptions(files=SAMPLES))).report
    check_clean(report)
    assert (report.files, report.users, report.messages) == (3, 46, 101)
    assert report.skipped_lines == 1 + 0 + 2
    assert report.expected_deliveries == 848 + 240 + 21
    assert report.ack_p50_ms > 0
    assert report.ack_p99_ms >= report.ack_p50_ms
    assert report.delivery_p99_ms >= report.delivery_p50_ms > 0


@pytest.mark.processes
async def test_who_is_offline_catches_up() -> None:
    """Three connections for 46 users: nearly everything is delivered by recovery."""
    check_clean((await run_replay(ReplayOptions(files=SAMPLES, online=3))).report)


@pytest.mark.processes
async def test_the_logs_own_pace_is_kept() -> None:
    """Three minutes and more of log, at a hundred times its speed."""
    started = time.monotonic()
    check_clean((await run_replay(ReplayOptions(files=SAMPLES[-1:], speed=100.0))).report)
    assert time.monotonic() - started > 180 / 100


@pytest.mark.processes
async def test_kills_lose_nothing() -> None:
    report = (await run_replay(ReplayOptions(files=SAMPLES, kills=2, online=20))).report
    check_clean(report)
    assert report.kills == 2


@pytest.mark.processes
@pytest.mark.parametrize(("seed", "kills"), [(1, 0), (2, 1)])
async def test_stress_finds_nothing(seed: int, kills: int) -> None:
    """Removals, private messages, namesakes, suspensions, recalls, broadcasts, refusals."""
    options = ReplayOptions(files=SAMPLES, stress=True, seed=seed, kills=kills, online=20)
    outcome = await run_replay(options)
    assert outcome.notes == ()
    check_clean(outcome.report)
    assert outcome.report.messages > 101


@pytest.mark.processes
async def test_a_server_that_others_use_can_be_replayed_on(shared_server: ServerProcess) -> None:
    """Nothing of an earlier replay is in a later one's way, broadcasts neither."""
    options = ReplayOptions(files=SAMPLES, url=shared_server.url, key=shared_server.key)
    check_clean((await run_replay(replace(options, stress=True, seed=3))).report)
    check_clean((await run_replay(replace(options, stress=True, seed=4))).report)
    check_clean((await run_replay(options)).report)


@pytest.mark.processes
def test_the_command_line_prints_one_object_last() -> None:
    """The keys that programs may rest on, in their order; exit code 0."""
    done = run_cli("replay", *map(str, SAMPLES), "--speed", "max", "--json", timeout=50)
    assert done.returncode == 0, done.stderr
    found = msgspec.json.decode(done.stdout.splitlines()[-1])
    assert list(found) == [
        "files",
        "users",
        "messages",
        "skipped_lines",
        "expected_deliveries",
        "delivered",
        *FAULTS,
        "kills",
        "ack_p50_ms",
        "ack_p99_ms",
        "delivery_p50_ms",
        "delivery_p99_ms",
        "messages_per_second",
        "deliveries_per_second",
        "verdict",
    ]
    check_clean(msgspec.convert(found, ReplayReport))


def _children(process: int) -> list[int]:
    listed = Path(f"/proc/{process}/task/{process}/children")
    return [int(child) for child in listed.read_text("ascii").split()] if listed.exists() else []


def _listens(process: int) -> bool:
    """Whether it is a server that has begun to keep something in its folder."""
    command = Path(f"/proc/{process}/cmdline").read_bytes().split(b"\0")
    if b"serve" not in command:
        return False
    folder = Path(command[command.index(b"--data") + 1].decode())
    return any(folder.glob("*.db"))


@pytest.mark.processes
@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_a_replay_that_is_ended_takes_its_server_along(tmp_path: Path) -> None:
    """SIGTERM in the middle: no server and no folder is left behind."""
    command = [sys.executable, "-m", "qunxin", "replay", *map(str, SAMPLES), "--speed", "real"]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(command, env=environment) as process:
        until = time.monotonic() + 40
        while not any(_listens(child) for child in _children(process.pid)):
            assert time.monotonic() < until
            time.sleep(0.05)
        (server,) = _children(process.pid)
        process.terminate()
        assert process.wait(timeout=20) == 128 + signal.SIGTERM
    assert not Path(f"/proc/{server}").exists()
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    done = run_cli("replay", str(tmp_path / "没有.txt"))
    assert done.returncode != 0
    assert "没有.txt" in done.stderr


@pytest.mark.parametrize(
    "content",
    [
        "[09:14:02] <茶> 你好\n[09:14:05] <鲍勃> hi\n".encode(),
        b"SQLite format 3\x00\x10\x00\x02\x02\x00\xff" + "没有消息".encode(),
        "=== 爱 entered the room.\n[09:14] <爱> \u3000\n".encode(),
        b"",
    ],
    ids=["seconds", "binary", "silent", "empty"],
)
async def test_a_log_without_a_message_is_refused(tmp_path: Path, content: bytes) -> None:
    """Beside one that has some: a verdict on what was not understood would mean nothing."""
    log = tmp_path / "日志.txt"
    log.write_bytes(content)
    with pytest.raises(QunxinError) as caught:
        await run_replay(ReplayOptions(files=(*SAMPLES, log)))
    told = "no line of it is a message; see docs/how-to/replay.md"
    assert caught.value == QunxinError("invalid_request", detail=f"{log}: {told}")


def test_the_table_tells_how_many_lines_were_skipped() -> None:
    zero = msgspec.convert(
        {field.name: 0 for field in msgspec.structs.fields(ReplayReport)} | {"verdict": "passed"},
        ReplayReport,
    )
    console = Console(file=io.StringIO(), width=80)
    report = msgspec.structs.replace(zero, skipped_lines=1234)
    print_outcome(ReplayOutcome(report, ()), console)
    printed = console.file.getvalue()  # type: ignore[attr-defined]
    assert re.search(r"Lines skipped +1,234\n", printed)


@pytest.mark.parametrize(
    "options",
    [
        ReplayOptions(files=()),
        ReplayOptions(files=SAMPLES, online=0),
        ReplayOptions(files=SAMPLES, kills=-1),
        ReplayOptions(files=SAMPLES, url="http://127.0.0.1:1"),
        ReplayOptions(files=SAMPLES, url="http://127.0.0.1:1", key="k", kills=1),
    ],
)
async def test_what_cannot_be_played_is_refused(options: ReplayOptions) -> None:
    with pytest.raises(QunxinError, match="invalid_request"):
        await run_replay(options)


def test_speeds() -> None:
    assert parse_speed("max") is None
    assert parse_speed("real") == 1.0
    assert parse_speed("20x") == 20.0
    for wrong in ("0x", "fast", "-1x", ""):
        with pytest.raises(QunxinError, match="invalid_request"):
            parse_speed(wrong)


@pytest.mark.faults
@pytest.mark.timeout(900)
@pytest.mark.may_block("two of these share the machine")
@pytest.mark.skipif(not _WHOLE.is_dir(), reason="the whole logs are not here")
@pytest.mark.parametrize(
    "extra",
    [{}, {"kills": 10}, *({"stress": True, "seed": seed} for seed in (1, 2, 3))],
    ids=str,
)
async def test_twelve_days_lose_nothing(extra: dict[str, Any]) -> None:
    """The main job: all twelve logs at once."""
    files = tuple(sorted(_WHOLE.glob("*.txt")))
    report = (await run_replay(replace(ReplayOptions(files=files), **extra))).report
    check_clean(report)
    assert report.users == 2261
    if "stress" not in extra:
        assert report.messages == 15_268
        assert report.expected_deliveries == 1_493_052
