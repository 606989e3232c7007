"""Fan-out to one group: the real server beside a ceiling of picows alone, in the same run.

    python bench/fanout.py                      1,000 members; 1, 4 and 32 messages in flight
    python bench/fanout.py --members 200 --rounds 1 --seconds 1       a quick look
    python bench/fanout.py --servers qunxin --window 32 --seconds 30  something to profile
    python bench/fanout.py --other ../before/.venv/bin/python         beside another checkout

`bench/README.md` says how to read the table.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import platform
import resource
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

import uvloop

from load import Crowd
from population import names, populate
from processes import ServerProcess, create_key, start_ceiling, start_qunxin
from report import Figures, Run, fsync_microseconds, ratios_of, table

WARM_UP_SECONDS: Final = 1.0
SETTLE_SECONDS: Final = 1.0


class Options(argparse.Namespace):
    members: int
    window: list[int]
    senders: int
    rounds: int
    seconds: float
    servers: str
    other: str | None
    pin: bool
    json: bool
    folder: str | None


class Side(NamedTuple):
    """One server with everyone connected to it."""

    server: ServerProcess
    crowd: Crowd
    connection_bytes: float


def parse_options(arguments: Sequence[str] | None = None) -> Options:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--members", type=int, default=1000, help="members of the group, all connected")
    add("--window", type=int, nargs="+", default=[1, 4, 32], help="messages in flight")
    add("--senders", type=int, default=4, help="connections that the messages come from")
    add("--rounds", type=int, default=3, help="runs of each server per window, alternating")
    add("--seconds", type=float, default=3.0, help="measured time of each run")
    add("--servers", choices=["both", "qunxin", "ceiling"], default="both")
    add("--other", metavar="PYTHON", help="instead of the ceiling: the Qunxin that this one runs")
    add("--pin", action=argparse.BooleanOptionalAction, default=True, help="a core for each side")
    add("--folder", help="where the data folder is made (default: the system's own place)")
    add("--json", action="store_true", help="one JSON object on the last line")
    return parser.parse_args(arguments, Options())


def cores(pin: bool) -> tuple[int | None, int | None]:
    """One core for the server, another for the load, where there are two."""
    available = sorted(os.sched_getaffinity(0))
    return (available[0], available[1]) if pin and len(available) > 1 else (None, None)


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


async def connect(server: ServerProcess, tokens: Sequence[str], senders: int) -> Side:
    """Everyone connected, and what one connection costs in resident memory."""
    before = server.resident_bytes()
    crowd = Crowd(f"ws://127.0.0.1:{server.port}/connection/websocket", tokens, senders)
    await crowd.connect()
    await asyncio.sleep(SETTLE_SECONDS)
    return Side(server, crowd, (server.resident_bytes() - before) / len(tokens))


async def prepare_qunxin(folder: Path, core: int | None, python: str, options: Options) -> Side:
    server = start_qunxin(folder, core, python=python)
    try:
        server.wait_listening()
        say(f"qunxin is process {server.pid}; making {options.members} members")
        key = create_key(folder, python=python)
        tokens = await populate(f"http://127.0.0.1:{server.port}", key, options.members)
        return await connect(server, tokens, options.senders)
    except BaseException:
        server.stop()
        raise


async def prepare_ceiling(folder: Path, core: int | None, options: Options) -> Side:
    server = start_ceiling(folder, core)
    try:
        server.wait_listening()
        return await connect(server, names(options.members), options.senders)
    except BaseException:
        server.stop()
        raise


async def measure(side: Side, window: int, seconds: float) -> Run:
    """One run: warm up, measure, drain; raises unless everybody got everything once."""
    crowd, timings = side.crowd, side.crowd.timings
    crowd.start(window)
    await asyncio.sleep(WARM_UP_SECONDS)
    timings.clear()
    deliveries, size, cpu = crowd.deliveries(), crowd.size(), side.server.cpu_seconds()
    own, began = time.process_time(), time.perf_counter()
    await asyncio.sleep(seconds)
    took = time.perf_counter() - began
    run = Run(
        seconds=took,
        deliveries=crowd.deliveries() - deliveries,
        bytes=crowd.size() - size,
        server_cpu_seconds=side.server.cpu_seconds() - cpu,
        client_cpu_seconds=time.process_time() - own,
        ack_seconds=sorted(timings.ack_seconds),
        delivery_seconds=sorted(timings.delivery_seconds),
        messages_per_frame=len(timings.delivery_seconds) / max(timings.frames, 1),
    )
    await crowd.drain()
    return run


async def measure_all(sides: dict[str, Side], options: Options) -> dict[int, dict[str, Figures]]:
    """The median figures per window and server; servers take turns."""
    figures: dict[int, dict[str, Figures]] = {}
    for window in options.window:
        runs: dict[str, list[Run]] = {name: [] for name in sides}
        for turn in range(options.rounds):
            for name, side in sides.items():
                run = await measure(side, window, options.seconds)
                runs[name].append(run)
                rate = run.deliveries / run.seconds
                say(f"W={window} round {turn + 1} {name}: {rate:,.0f} deliveries/s")
        figures[window] = {name: Figures.median_of(each) for name, each in runs.items()}
    return figures


async def bench(options: Options, folder: Path) -> None:
    server_core, load_core = cores(options.pin)
    sides: dict[str, Side] = {}
    try:
        if options.servers != "ceiling":
            own = await prepare_qunxin(folder / "qunxin", server_core, sys.executable, options)
            sides["qunxin"] = own
        if options.other is not None:
            other = await prepare_qunxin(folder / "other", server_core, options.other, options)
            sides["other"] = other
        elif options.servers != "qunxin":
            sides["ceiling"] = await prepare_ceiling(folder, server_core, options)
        if load_core is not None:
            os.sched_setaffinity(0, {load_core})
        gc.freeze()
        figures = await measure_all(sides, options)
        memory = {name: side.connection_bytes for name, side in sides.items()}
    finally:
        for side in sides.values():
            await side.crowd.close()
            side.server.stop()
    print(table(figures, memory))
    if options.json:
        print(json.dumps(as_json(figures, memory, options, folder), ensure_ascii=False))


def as_json(
    figures: dict[int, dict[str, Figures]],
    memory: dict[str, float],
    options: Options,
    folder: Path,
) -> dict[str, object]:
    return {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python "
        f"{platform.python_version()}",
        "members": options.members,
        "senders": options.senders,
        "fsync_p50_us": round(fsync_microseconds(folder)),
        "bytes_per_connection": {name: round(value) for name, value in memory.items()},
        "windows": {
            str(window): {name: each._asdict() for name, each in sides.items()}
            for window, sides in figures.items()
        },
        "ratios": {
            str(window): found._asdict()
            for window, sides in figures.items()
            if (found := ratios_of(sides)) is not None
        },
    }


def main() -> None:
    options = parse_options()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with tempfile.TemporaryDirectory(prefix="qunxin-bench-", dir=options.folder) as folder:
        uvloop.run(bench(options, Path(folder)))


if __name__ == "__main__":
    main()
