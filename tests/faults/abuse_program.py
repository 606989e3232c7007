"""One kind of abuse, as a program of its own, so that it does not measure itself:
``python abuse_program.py KIND PORT``.

It is given the offenders' tokens as one JSON line, and prints JSON lines: "begun"; how it was
refused so far, whenever there is a new way; and how in all, when its input has ended.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import socket
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

from qunxin.gateways.realtime import PATH
from realtime_client import TEXT, Closed, RawClient, frame

HALF_OPEN = 1_000
SLOW_BODIES = 1_000
NEVER_PONGING = 50
SLOW_READERS = 5
LOOPS = 10
OFFENDER: Final = "203.0.113.66"
"""The address that the offender is said to have, by the proxy that this machine is taken for."""


class Outcomes(Counter[str]):
    """How offenders were refused, how often; told where one is new."""

    def __missing__(self, how: str) -> int:
        _say({**self, how: 1})
        return 0


def _say(value: object) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


_outcomes = Outcomes()
_BROKEN = (Closed, OSError, asyncio.IncompleteReadError, TimeoutError, AssertionError)


async def _status(reader: asyncio.StreamReader) -> str:
    """The status and code of an HTTP answer, after which the connection is of no more use."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    body = await reader.read(4_096)
    code = json.loads(body)["code"] if body.startswith(b"{") else ""
    return f"{head.split(' ')[1]} {code}"


async def half_open(port: int, _token: str) -> None:
    """Begins a request and never ends it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {PATH} HTTP/1.1\r\nHost: loc".encode())
    try:
        _outcomes[await _status(reader)] += 1
    finally:
        writer.transport.abort()


async def slow_body(port: int, token: str) -> None:
    """Announces a message and sends a byte of it every second."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = (
        f"POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n"
        "Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n"
    )
    writer.write(head.encode())
    answer = asyncio.create_task(_status(reader))
    try:
        while not answer.done():
            writer.write(b" ")
            await asyncio.wait({answer}, timeout=1)
        _outcomes[await answer] += 1
    finally:
        answer.cancel()
        writer.transport.abort()
    await asyncio.sleep(random.uniform(2.5, 7.5))  # who is told to wait comes back too


async def slow_reader(port: int, token: str) -> None:
    """Follows everything and reads nothing, until the server has had enough."""
    plain = socket.socket()
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    plain.setblocking(False)
    await asyncio.get_running_loop().sock_connect(plain, ("127.0.0.1", port))
    client = RawClient(*await asyncio.open_connection(sock=plain, limit=2**20))
    status, _, _ = await client.upgrade()
    assert status == 101
    await client.connect(token)
    client.answers_pings = False
    client.writer.transport.pause_reading()  # type: ignore[attr-defined]
    await asyncio.sleep(4)
    client.writer.transport.resume_reading()  # type: ignore[attr-defined]
    try:
        while True:
            await client.read_more()
    except Closed as closed:
        _outcomes[f"close {closed.code}"] += 1
    finally:
        client.cut()


async def flooder(port: int, token: str) -> None:
    """Sends as fast as the socket takes it, and comes back when it is thrown out."""
    client = await RawClient.open(port, X_Forwarded_For=OFFENDER)
    await client.connect(token)
    command = {"id": 7, "rpc": {"method": "message.send", "data": {"type": "private", "to": "x"}}}
    burst = frame(TEXT, b"\n".join([json.dumps(command).encode()] * 50))

    async def write() -> None:
        while True:
            client.writer.write(burst)
            await client.writer.drain()
            await asyncio.sleep(0.01)  # 5,000 commands a second: what two thousand may is passed

    writing = asyncio.create_task(write())
    try:
        while True:
            await client.read_more()
            for line in client.lines:
                if "error" in line:
                    _outcomes[f"error {line['error']['code']}"] += 1
            client.lines.clear()
    except Closed as closed:
        _outcomes[f"close {closed.code}"] += 1
    finally:
        writing.cancel()
        await asyncio.wait([writing])
        client.cut()


async def reconnecting(port: int, token: str) -> None:
    """Connects, and goes away at once."""
    client = await RawClient.dial(port)
    try:
        status, _, body = await client.upgrade(X_Forwarded_For=OFFENDER)
        if status == 101:
            await client.connect(token)
            _outcomes["connected"] += 1
        else:
            _outcomes[f"{status} {json.loads(body)['code']}"] += 1
    finally:
        client.cut()
    await asyncio.sleep(0.01)


async def never_ponging(port: int, token: str) -> None:
    """Reads everything and answers no ping."""
    client = await RawClient.open(port)
    client.answers_pings = False
    await client.connect(token)
    try:
        while True:
            await client.read_more()
            client.lines.clear()
    except Closed as closed:
        _outcomes[f"close {closed.code}"] += 1
    finally:
        client.cut()


KINDS: Final[dict[str, tuple[Callable[[int, str], Awaitable[None]], int]]] = {
    "slow readers": (slow_reader, SLOW_READERS),
    "a flooder": (flooder, 1),
    "half-open handshakes": (half_open, HALF_OPEN),
    "slow bodies": (slow_body, SLOW_BODIES),
    "a reconnect loop": (reconnecting, LOOPS),
    "clients that never pong": (never_ponging, NEVER_PONGING),
}


async def _again_and_again(kind: str, port: int, token: str) -> None:
    while True:
        try:
            await KINDS[kind][0](port, token)
        except _BROKEN as error:
            _outcomes[type(error).__name__] += 1
            await asyncio.sleep(0.1)


async def main(kind: str, port: int) -> None:
    loop = asyncio.get_running_loop()
    tokens = json.loads(sys.stdin.readline())
    tasks = [
        asyncio.create_task(_again_and_again(kind, port, tokens[n % len(tokens)]))
        for n in range(KINDS[kind][1])
    ]
    await asyncio.sleep(2)  # what abuses is under way by then, and nothing tells so
    _say("begun")
    await loop.run_in_executor(None, sys.stdin.read)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    _say(_outcomes)


if __name__ == "__main__":
    # It shares a core with the clients that measure, who must not wait for it: not even the moment
    # for which a merely nice process keeps the core.
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    with suppress(KeyboardInterrupt):
        asyncio.run(main(sys.argv[1], int(sys.argv[2])))
