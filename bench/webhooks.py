"""What webhooks cost the senders: the same load with and without one, taking turns.

    uv run python bench/webhooks.py

Senders over HTTP in a closed loop (each next message leaves when the last was answered), to as
many groups. For each kind of receiver a webhook is made and brought past its first failures or
successes. Then short stretches with it (it sends) and without (it is paused) take turns, with,
without, without, with and so on, so that what drifts falls on both. Each pair gives a ratio; the
table has the median of the ratios and where the true median lies with 95 % confidence.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import ssl
import statistics
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple, cast

from processes import ServerProcess, create_key, free_port, on_core, start_qunxin

TEXT: Final = "今晚七点老地方见，带上上次说的那本书 📖 see you! " * 3
ANSWERS: Final = {
    "500": b"HTTP/1.1 500 Fault\r\nContent-Length: 0\r\n\r\n",
    "healthy": b"HTTP/1.1 204 Taken\r\n\r\n",
}


class Measured(NamedTuple):
    """One stretch of load."""

    seconds_per_message: float
    """Of wall time; a closed loop, so it moves with the latency."""
    cpu_seconds_per_message: float
    """Of the server's process, all its threads."""
    requests_per_message: float
    """To the receiver."""


class Sender:
    """One keep-alive connection that sends without pause."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, key: str, group: str
    ) -> None:
        self._reader, self._writer = reader, writer
        body = {"type": "group", "to": group, "from": "u0", "text": TEXT}
        self._request = request("POST", "/v1/messages", key, body)

    async def run(self, until: float) -> int:
        """Send until that moment; how many were accepted."""
        sent = 0
        while time.perf_counter() < until:
            self._writer.write(self._request)
            await answer(self._reader)
            sent += 1
        return sent

    def close(self) -> None:
        self._writer.close()


def request(method: str, path: str, key: str, body: Any) -> bytes:
    text = b"" if body is None else json.dumps(body).encode()
    head = (
        f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(text)}\r\n\r\n"
    )
    return head.encode() + text


async def answer(reader: asyncio.StreamReader) -> Any:
    """The JSON of the next answer, which must be a success."""
    head = await reader.readuntil(b"\r\n\r\n")
    size = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
    body = await reader.readexactly(size)
    if not head.startswith((b"HTTP/1.1 200", b"HTTP/1.1 201")):
        raise RuntimeError(body.decode())
    return json.loads(body)


class Node:
    """The server under load, and the connections of this side."""

    def __init__(self, process: ServerProcess, key: str) -> None:
        self.process, self.key = process, key
        self.senders: list[Sender] = []

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.process.port)

    async def ask(self, method: str, path: str, body: Any) -> Any:
        reader, writer = await self.connect()
        writer.write(request(method, path, self.key, body))
        try:
            return await answer(reader)
        finally:
            writer.close()

    async def populate(self, senders: int) -> None:
        users = [f"u{number}" for number in range(20)]
        for user in users:
            await self.ask("PUT", f"/v1/users/{user}", {})
        for number in range(senders):
            body = {"owner": "u0", "members": users}
            await self.ask("PUT", f"/v1/groups/g{number}", body)
            self.senders.append(Sender(*await self.connect(), self.key, f"g{number}"))

    async def measure(self, seconds: float) -> Measured:
        cpu, requests, began = self.process.cpu_seconds(), _Receiver.requests, time.perf_counter()
        sent = sum(await asyncio.gather(*(one.run(began + seconds) for one in self.senders)))
        used = self.process.cpu_seconds() - cpu
        seconds = time.perf_counter() - began
        return Measured(seconds / sent, used / sent, (_Receiver.requests - requests) / sent)


# --- receivers --------------------------------------------------------------------------------


class _Receiver(asyncio.Protocol):
    """One connection to a receiver. It shares its core with the senders, so it does no more for a
    request than to find its end."""

    requests = 0
    """To all of them."""

    def __init__(self, answer: bytes | None, connections: set[asyncio.BaseTransport]) -> None:
        self._answer = answer
        self._connections = connections
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._connections.add(transport)

    def connection_lost(self, _: Exception | None) -> None:
        self._connections.discard(self._transport)

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, end, body = self._received.partition(b"\r\n\r\n")
        size = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)
        if end and len(body) >= size:
            self._received = b""
            _Receiver.requests += 1
            if self._answer is not None:  # else: nothing for as long as the other side waits
                self._transport.write(self._answer)


@asynccontextmanager
async def receiver(kind: str, folder: Path) -> AsyncIterator[str]:
    """The address of a receiver of that kind."""
    if kind == "down":
        yield f"http://127.0.0.1:{free_port()}/"
        return
    tls = _certificate(folder) if kind == "false certificate" else None
    connections: set[asyncio.BaseTransport] = set()
    server = await asyncio.get_running_loop().create_server(
        lambda: _Receiver(ANSWERS.get(kind), connections), "127.0.0.1", 0, ssl=tls
    )
    port = server.sockets[0].getsockname()[1]
    try:
        yield f"{'http' if tls is None else 'https'}://127.0.0.1:{port}/"
    finally:
        server.close()
        for connection in connections:
            connection.close()


def _certificate(folder: Path) -> ssl.SSLContext:
    """Signed by itself, for another name."""
    chain, key = folder / "chain.pem", folder / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    command += ["-subj", "/CN=elsewhere.example", "-keyout", str(key), "-out", str(chain)]
    subprocess.run(command, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain, key)
    return context


class Kind(NamedTuple):
    """A receiver, and what it is told of."""

    receiver: str
    events: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return f"{self.receiver}, wants nothing of it" if self.events else self.receiver


KINDS: Final = (
    *(Kind(name) for name in ("down", "slow", "500", "false certificate")),
    Kind("healthy", ("group.dissolved",)),
    Kind("healthy"),
)
SETTINGS: Final = (
    *("--webhook-networks", "127.0.0.0/8"),
    *("--webhook-timeout-seconds", "2"),
    *("--webhook-retry-max-seconds", "1"),
)
"""A receiver that fails is tried about once a second, so that each stretch has its share of it; by
default it is once in five minutes. One that says nothing is nearly always being waited for."""

STEADY_FAILURES: Final = 6
"""Of several conversations; from four on a receiver counts as down."""


# --- the run ----------------------------------------------------------------------------------


class Hook:
    """A webhook that is there all the time, paused and not."""

    def __init__(self, node: Node, name: str, settle_seconds: float) -> None:
        self._node = node
        self._path = f"/v1/webhooks/{name}"
        self._settle_seconds = settle_seconds
        self._sends = True

    async def until_steady(self, kind: Kind) -> None:
        """Under load until it is as it will stay: failing for good, or sending."""
        while True:
            await self._node.measure(0.2)
            status = await self._node.ask("GET", self._path, None)
            if kind.events or status["failures"] >= STEADY_FAILURES:
                return
            if kind.receiver == "healthy" and status["succeeded"] is not None:
                return

    async def measure(self, seconds: float, *, sends: bool) -> Measured:
        """One stretch, after a short one that counts for nothing. What came while it was paused is
        passed over, so that it has no more to send than what is being committed."""
        if sends is not self._sends:
            since = {"since": int(time.time() * 1000)}
            await self._node.ask("POST", f"{self._path}/replay", since)
            await self._node.ask("PATCH", self._path, {"paused": not sends})
            self._sends = sends
        await self._node.measure(self._settle_seconds)
        return await self._node.measure(seconds)

    async def delete(self) -> None:
        await self._node.ask("DELETE", self._path, None)


class Ratios(NamedTuple):
    """With over without, a pair of stretches each; and requests to the receiver for each message
    while there was the webhook."""

    wall: list[float]
    cpu: list[float]
    requests: list[float]


async def measure_kind(node: Node, kind: Kind, options: argparse.Namespace, folder: Path) -> Ratios:
    found = Ratios([], [], [])
    async with receiver(kind.receiver, folder) as url:
        body = {"url": url, "events": kind.events}
        made = await node.ask("POST", "/v1/webhooks", body)
        hook = Hook(node, made["id"], options.settle)
        await hook.until_steady(kind)
        for number in range(options.pairs):
            order = (False, True) if number % 2 else (True, False)
            pair = {sends: await hook.measure(options.seconds, sends=sends) for sends in order}
            with_it, without = pair[True], pair[False]
            found.wall.append(with_it.seconds_per_message / without.seconds_per_message)
            found.cpu.append(with_it.cpu_seconds_per_message / without.cpu_seconds_per_message)
            found.requests.append(with_it.requests_per_message)
        await hook.delete()
    return found


async def bench(options: argparse.Namespace, folder: Path) -> None:
    core = 0 if options.pin else None
    process = start_qunxin(folder, core, *SETTINGS)
    try:
        process.wait_listening()
        node = Node(process, create_key(folder, "messages", "users", "groups", "webhooks"))
        await node.populate(options.senders)
        await node.measure(1.0)
        quiet = await node.measure(1.0)
        print(f"without a webhook: {1 / quiet.seconds_per_message:,.0f} messages/s")
        print(f"{'receiver':<31}{'time of a message':>24}{'processor time':>24}{'requests':>10}")
        for kind in KINDS:
            if options.receiver in (None, kind.receiver):
                found = await measure_kind(node, kind, options, folder)
                requests = f"{statistics.median(found.requests):>10.2f}"
                shown = f"{_shown(found.wall)}{_shown(found.cpu)}{requests}"
                print(f"{kind.name:<31}{shown}", flush=True)
        for sender in node.senders:
            sender.close()
    finally:
        process.stop()


def _shown(ratios: Sequence[float]) -> str:
    low, high = median_interval(ratios)
    return f"{statistics.median(ratios):>8.3f} ({low:.3f} - {high:.3f})"


def median_interval(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float]:
    """Where the median of what the values are drawn from lies, whatever its shape (the sign test
    turned round): as many values lie above it as heads of so many coins. At least 6 values."""
    ranked, count, outside = sorted(values), len(values), 0
    for left_out in range(count // 2):
        outside += math.comb(count, left_out)
        if 2 * outside > (1 - confidence) * 2**count:
            if left_out == 0:
                break
            return ranked[left_out - 1], ranked[count - left_out]
    raise ValueError("too few values for that confidence")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--pairs", type=int, default=60, help="of stretches, for each receiver")
    parser.add_argument("--seconds", type=float, default=0.75, help="of each measured stretch")
    parser.add_argument("--settle", type=float, default=0.15, help="of load before each stretch")
    parser.add_argument(
        "--receiver", help="only this one", choices={kind.receiver for kind in KINDS}
    )
    parser.add_argument("--senders", type=int, default=8)
    parser.add_argument("--pin", action=argparse.BooleanOptionalAction, default=True)
    options = parser.parse_args()
    median_interval([1.0] * options.pairs)  # before minutes of load: are there enough?
    with tempfile.TemporaryDirectory() as folder, on_core(1 if options.pin else None):
        asyncio.run(bench(options, Path(folder)))


if __name__ == "__main__":
    main()
