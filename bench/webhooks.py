"""What webhooks cost the senders: the same load with and without one, taking turns.

    uv run python bench/webhooks.py

Senders over HTTP in a closed loop (each next message leaves when the last was answered), to as many
groups. Each round measures, for every kind of receiver, without a webhook, with one to that
receiver, and without again; the ratio is the time of a message with it over the mean of its two
neighbours without. The table has the medians over the rounds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import ssl
import statistics
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

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
        cpu, began = self.process.cpu_seconds(), time.perf_counter()
        sent = sum(await asyncio.gather(*(one.run(began + seconds) for one in self.senders)))
        used = self.process.cpu_seconds() - cpu
        return Measured((time.perf_counter() - began) / sent, used / sent)


# --- receivers --------------------------------------------------------------------------------


async def _serve(kind: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One connection to a receiver of that kind, until the other side is gone."""
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            size = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
            await reader.readexactly(size)
            if kind == "slow":
                await reader.read()  # says nothing for as long as the other side waits
                return
            writer.write(ANSWERS[kind])
    except (asyncio.IncompleteReadError, ConnectionError):
        return
    finally:
        writer.close()


@asynccontextmanager
async def receiver(kind: str, folder: Path) -> AsyncIterator[str]:
    """The address of a receiver of that kind."""
    if kind == "down":
        yield f"http://127.0.0.1:{free_port()}/"
        return
    served = "healthy" if kind == "false certificate" else kind
    tls = _certificate(folder) if kind == "false certificate" else None
    open_now: set[asyncio.StreamWriter] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        open_now.add(writer)
        await _serve(served, reader, writer)
        open_now.discard(writer)

    server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=tls)
    port = server.sockets[0].getsockname()[1]
    try:
        yield f"{'http' if tls is None else 'https'}://127.0.0.1:{port}/"
    finally:
        server.close()
        for writer in list(open_now):
            writer.close()


def _certificate(folder: Path) -> ssl.SSLContext:
    """Signed by itself, for another name."""
    chain, key = folder / "chain.pem", folder / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    command += ["-subj", "/CN=elsewhere.example", "-keyout", str(key), "-out", str(chain)]
    subprocess.run(command, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain, key)
    return context


KINDS: Final = ("down", "slow", "500", "false certificate", "healthy")


# --- the run ----------------------------------------------------------------------------------


async def measure_kind(node: Node, kind: str, seconds: float, folder: Path) -> tuple[float, float]:
    """Ratios of wall time and of processor time, with over without."""
    before = await node.measure(seconds)
    async with receiver(kind, folder) as url:
        hook = (await node.ask("POST", "/v1/webhooks", {"url": url}))["id"]
        with_it = await node.measure(seconds)
        await node.ask("DELETE", f"/v1/webhooks/{hook}", None)
    after = await node.measure(seconds)
    return tuple(  # type: ignore[return-value]
        given / statistics.mean(without)
        for given, without in zip(with_it, zip(before, after, strict=True), strict=True)
    )


async def bench(options: argparse.Namespace, folder: Path) -> None:
    core = 0 if options.pin else None
    process = start_qunxin(folder, core, "--webhook-networks", "127.0.0.0/8")
    try:
        process.wait_listening()
        node = Node(process, create_key(folder, "messages", "users", "groups", "webhooks"))
        await node.populate(options.senders)
        await node.measure(1.0)
        found: dict[str, list[tuple[float, float]]] = {kind: [] for kind in KINDS}
        for round_ in range(options.rounds):
            for kind in KINDS:
                found[kind].append(await measure_kind(node, kind, options.seconds, folder))
            print(f"round {round_ + 1} of {options.rounds}", flush=True)
        show(found, await node.measure(options.seconds))
        for sender in node.senders:
            sender.close()
    finally:
        process.stop()


def show(found: dict[str, list[tuple[float, float]]], quiet: Measured) -> None:
    print(f"without a webhook: {1 / quiet.seconds_per_message:,.0f} messages/s")
    print(f"{'receiver':<20}{'time of a message':>20}{'processor time':>20}")
    for kind, ratios in found.items():
        times, cpu = zip(*ratios, strict=True)
        print(f"{kind:<20}{_shown(times):>20}{_shown(cpu):>20}")


def _shown(ratios: Sequence[float]) -> str:
    return f"{statistics.median(ratios):.3f} ({min(ratios):.2f}-{max(ratios):.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each measured stretch")
    parser.add_argument("--senders", type=int, default=8)
    parser.add_argument("--pin", action=argparse.BooleanOptionalAction, default=True)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, on_core(1 if options.pin else None):
        asyncio.run(bench(options, Path(folder)))


if __name__ == "__main__":
    main()
