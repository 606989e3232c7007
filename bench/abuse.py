"""What abuse costs the others: messages among 100 normal clients, in quiet and beside each kind of
abuse, taking turns.

    uv run python bench/abuse.py
    uv run python bench/abuse.py --kinds "slow readers" --rounds 8

`bench/README.md` says how to read the table. Leaves with 1 where the 99th percentile beside some
abuse is more than twice the quiet one.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, NamedTuple

import httpx
import uvloop
from picows import ws_connect

from load import Line, Member, Timings
from population import ask, each
from processes import ServerProcess, create_key, on_core, start_qunxin
from report import percentile_ms

CLIENTS: Final = 100
GROUP_SIZE: Final = 10
MESSAGES_PER_SECOND: Final = 100
PATIENCE_SECONDS: Final = 20.0
MAX_RATIO: Final = 2.0
TEXT: Final = "正常的消息 👋🏽 שלום " * 40
NOBODY: Final = "nobody"
READERS: Final = [f"reader{n}" for n in range(5)]
"""Members of every group, who are sent everything."""
OTHERS: Final = [f"other{n}" for n in range(15)]
OFFENDERS: Final = {
    NOBODY: [],
    "slow readers": READERS,
    "a flooder": OTHERS[:1],
    "half-open handshakes": OTHERS[:1],
    "slow bodies": OTHERS[:1],
    "a reconnect loop": OTHERS,
    "clients that never pong": OTHERS,
}
OPTIONS: Final = {
    "slow readers": ("--max-unsent-bytes", "65536"),
    "clients that never pong": ("--ping-interval-seconds", "2"),
}
"""What is not as it comes, so that the offenders come to their end, and back, again and again."""
TESTS: Final = Path(__file__).parents[1] / "tests"
PROGRAM: Final = TESTS / "faults" / "abuse_program.py"


class Normal(Member):
    """A client that behaves."""

    def take(self, line: Line, now: float) -> None:
        if bytes(line.error):
            self.timings.faults.append(f"refused: {bytes(line.error)!r}")
        super().take(line, now)


class Crowd:
    """The normal clients, in groups of ten."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._timings = Timings()
        self._clients: list[Normal] = []
        self._sent = 0

    async def join(self, token: str) -> None:
        client = Normal(self._timings)
        await ws_connect(lambda: client, self._url)
        client.write(json.dumps({"id": 1, "connect": {"token": token}}).encode())
        await asyncio.wait_for(client.welcomed, PATIENCE_SECONDS)
        self._clients.append(client)

    async def talk(self, seconds: float) -> list[float]:
        """Send at an even pace; the seconds from each send to each of its deliveries."""
        self._timings.clear()
        self._timings.sent_at.clear()
        count = round(seconds * MESSAGES_PER_SECOND)
        begun = time.perf_counter()
        for n in range(count):
            await asyncio.sleep(max(0.0, begun + n / MESSAGES_PER_SECOND - time.perf_counter()))
            self._send()
        async with asyncio.timeout(PATIENCE_SECONDS):
            while len(self._timings.delivery_seconds) < count * GROUP_SIZE:
                if self._timings.faults:
                    raise RuntimeError("; ".join(self._timings.faults[:3]))
                await asyncio.sleep(0.02)
        return list(self._timings.delivery_seconds)

    def _send(self) -> None:
        self._sent += 1
        index = self._sent % len(self._clients)
        key = str(self._sent)
        data = {"type": "group", "to": f"g{index // GROUP_SIZE}", "text": TEXT, "key": key}
        command = {"id": self._sent + 1, "rpc": {"method": "message.send", "data": data}}
        text = json.dumps(command, ensure_ascii=False).encode()
        self._timings.sent_at[key] = time.perf_counter()
        self._clients[index].write(text)

    def leave(self) -> None:
        for client in self._clients:
            client.leaving = True
            client.transport.disconnect(graceful=False)


class Stretch(NamedTuple):
    """Some seconds, quiet or beside abuse."""

    delivery_seconds: list[float]
    server_busy: float
    """Share of one core."""
    resident_bytes: int


class Measured(NamedTuple):
    """One kind of abuse."""

    quiet: list[Stretch]
    beside: list[Stretch]
    outcomes: Counter[str]
    """How the offenders were refused."""

    @property
    def ratio(self) -> float:
        return p99_ms(self.beside) / p99_ms(self.quiet)

    @property
    def ratios(self) -> list[float]:
        """Of each round by itself."""
        pairs = zip(self.quiet, self.beside, strict=True)
        return [p99_ms([beside]) / p99_ms([quiet]) for quiet, beside in pairs]

    @property
    def growth_bytes(self) -> int:
        before = min(stretch.resident_bytes for stretch in self.quiet)
        return max(stretch.resident_bytes for stretch in self.beside) - before


def p99_ms(stretches: Sequence[Stretch]) -> float:
    """Over all the deliveries of these stretches together."""
    return percentile_ms(_pooled(stretches), 99)


def _pooled(stretches: Sequence[Stretch]) -> list[float]:
    return sorted(second for stretch in stretches for second in stretch.delivery_seconds)


async def measure(server: ServerProcess, crowd: Crowd, seconds: float) -> Stretch:
    cpu, began = server.cpu_seconds(), time.perf_counter()
    found = await crowd.talk(seconds)
    busy = (server.cpu_seconds() - cpu) / (time.perf_counter() - began)
    return Stretch(found, busy, server.resident_bytes())


@asynccontextmanager
async def abuse(kind: str, port: int, tokens: Sequence[str]) -> AsyncIterator[Counter[str]]:
    """That kind of abuse, under way; afterwards, how it was refused."""
    outcomes: Counter[str] = Counter()
    if kind == NOBODY:
        yield outcomes
        return
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(PROGRAM), kind, str(port)),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(TESTS)},
    )
    told, said = process.stdin, process.stdout
    if told is None or said is None:
        raise RuntimeError("pipes were asked for")
    try:
        told.write(json.dumps(tokens).encode() + b"\n")
        while json.loads(await said.readline()) != "begun":
            pass  # some are refused before all of them have begun
        yield outcomes
        told.close()
        *_, last = (await said.read()).splitlines()
        outcomes.update(json.loads(last))
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def open_files(pid: int) -> int:
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


async def until_gone(server: ServerProcess, files: int) -> None:
    """Return once the server has noticed that the offenders are gone."""
    deadline = time.perf_counter() + PATIENCE_SECONDS
    while open_files(server.pid) > files:
        if time.perf_counter() > deadline:
            raise RuntimeError(f"{open_files(server.pid) - files} files stay open")
        await asyncio.sleep(0.05)


async def measure_kind(
    server: ServerProcess, crowd: Crowd, kind: str, tokens: Sequence[str], options: Options
) -> Measured:
    found = Measured([], [], Counter())
    files = open_files(server.pid)
    for _ in range(options.rounds):
        found.quiet.append(await measure(server, crowd, options.seconds))
        async with abuse(kind, server.port, tokens) as outcomes:
            found.beside.append(await measure(server, crowd, options.seconds))
        found.outcomes.update(outcomes)
        await until_gone(server, files)
    return found


async def populate(server: ServerProcess, key: str) -> dict[str, str]:
    """Everybody, and the groups; the tokens by user."""
    people = [f"n{n}" for n in range(CLIENTS)]
    users = [*people, *READERS, *OTHERS]
    url, headers = f"http://127.0.0.1:{server.port}", {"Authorization": f"Bearer {key}"}
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=30) as client:
        for user in users:
            await ask(client, "PUT", f"/v1/users/{user}", {"name": "茶友 🍵"})
        for begin in range(0, CLIENTS, GROUP_SIZE):
            members = people[begin : begin + GROUP_SIZE] + READERS
            body = {"owner": members[0], "members": members[1:]}
            await ask(client, "PUT", f"/v1/groups/g{begin // GROUP_SIZE}", body)

        async def token(user: str) -> str:
            return str((await ask(client, "POST", "/v1/tokens", {"user": user}))["token"])

        return dict(zip(users, await each(token, users), strict=True))


async def bench_kind(kind: str, options: Options, folder: Path, core: int | None) -> Measured:
    """With a server of its own."""
    trust = ("--trusted-proxies", "127.0.0.1")  # so that offenders may have another address
    server = start_qunxin(folder, core, *trust, *OPTIONS.get(kind, ()))
    try:
        server.wait_listening()
        tokens = await populate(server, create_key(folder))
        crowd = Crowd(f"ws://127.0.0.1:{server.port}/connection/websocket")
        for n in range(CLIENTS):
            await crowd.join(tokens[f"n{n}"])
        await crowd.talk(2.0)
        offenders = [tokens[user] for user in OFFENDERS[kind]]
        found = await measure_kind(server, crowd, kind, offenders, options)
        crowd.leave()
        return found
    finally:
        server.stop()


async def bench(options: Options, folder: Path, core: int | None) -> bool:
    """Whether everything is within the bound."""
    gc.disable()  # a collection would delay those who measure
    print(HEAD, flush=True)
    within = True
    for number, kind in enumerate(options.kinds):
        found = await bench_kind(kind, options, folder / str(number), core)
        print(row(kind, found), flush=True)
        within &= found.ratio <= MAX_RATIO
        gc.collect()
    return within


HEAD: Final = (
    f"{'beside':<24} {'p50':>6} {'quiet':>6} {'p99':>6} {'quiet':>6} {'ratio':>6} "
    f"{'(rounds)':>12} {'busy':>5} {'quiet':>5} {'memory':>7}  refused"
)


def row(kind: str, found: Measured) -> str:
    medians = [percentile_ms(_pooled(each), 50) for each in (found.beside, found.quiet)]
    tails = [p99_ms(each) for each in (found.beside, found.quiet)]
    busy = [statistics.mean(s.server_busy for s in each) for each in (found.beside, found.quiet)]
    spread = f"({min(found.ratios):.2f}-{max(found.ratios):.2f})"
    refused = ", ".join(f"{how}: {count}" for how, count in found.outcomes.most_common(3))
    return (
        f"{kind:<24} {medians[0]:>6.2f} {medians[1]:>6.2f} {tails[0]:>6.2f} {tails[1]:>6.2f} "
        f"{found.ratio:>6.2f} {spread:>12} {busy[0]:>5.0%} {busy[1]:>5.0%} "
        f"{found.growth_bytes / 2**20:>3.0f} MiB  {refused}"
    )


class Options(argparse.Namespace):
    kinds: list[str]
    rounds: int
    seconds: float
    folder: str | None


def parse_options() -> Options:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    add = parser.add_argument
    add("--kinds", nargs="+", choices=list(OFFENDERS), default=list(OFFENDERS), metavar="KIND")
    add("--rounds", type=int, default=5, help="quiet and abused stretches of each kind")
    add(
        "--seconds", type=float, default=12.0, help="of each: longer than the deadlines that end it"
    )
    add("--folder", help="where the data folder is made (default: in memory, where that can be)")
    return parser.parse_args(namespace=Options())


def main() -> None:
    options = parse_options()
    cores = sorted(os.sched_getaffinity(0))
    server_core, load_core = (cores[0], cores[1]) if len(cores) > 1 else (None, None)
    memory = Path("/dev/shm")  # noqa: S108 - in a folder of its own there
    parent = options.folder or (memory if memory.is_dir() else None)
    with tempfile.TemporaryDirectory(dir=parent) as folder, on_core(load_core):
        within = uvloop.run(bench(options, Path(folder), server_core))
    sys.exit(not within)


if __name__ == "__main__":
    main()
