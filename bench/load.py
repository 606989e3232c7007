"""The load: N WebSocket connections in one process, W messages in flight, everything counted.

A sender's next message leaves when its last one was answered and has come back on the sender's
own connection, so exactly W are outstanding at any time (a closed loop). Senders and a few
probes read every frame at once and time it; all others only count (`sweep.py`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Final

import msgspec
from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

from sweep import Swept, sweep

TEXT_BYTES: Final = 200
PING: Final = b"{}"
PROBES: Final = 8
CONNECTS_AT_ONCE: Final = 32
DRAIN_SECONDS: Final = 15.0
QUIET_SECONDS: Final = 0.5


class Entry(msgspec.Struct):
    key: str = ""


class Publication(msgspec.Struct):
    data: Entry
    offset: int = 0


class Push(msgspec.Struct):
    channel: str = ""
    pub: Publication | None = None


class Line(msgspec.Struct):
    """What is read of a line; a ping is a line with neither `id` nor `push`."""

    id: int = 0
    push: Push | None = None
    connect: msgspec.Raw = msgspec.Raw()
    error: msgspec.Raw = msgspec.Raw()


_decoder = msgspec.json.Decoder(Line)


def message_text() -> str:
    """`TEXT_BYTES` bytes of UTF-8, Chinese for the most part."""
    text = "今晚七点老地方见，带上上次说的那本书 📖 see you! "
    while len((text + "好").encode()) <= TEXT_BYTES:
        text += "好"
    return text + "." * (TEXT_BYTES - len(text.encode()))


class Timings:
    """What senders and probes of one server saw, and what went wrong there."""

    def __init__(self) -> None:
        self.faults: list[str] = []
        self.sent_at: dict[str, float] = {}
        self.ack_seconds: list[float] = []
        self.delivery_seconds: list[float] = []
        self.frames = 0

    def clear(self) -> None:
        """Begin to time and count anew."""
        self.ack_seconds.clear()
        self.delivery_seconds.clear()
        self.frames = 0


class Member(WSListener):
    """One connection. Counts what it reads here until `hand_over`, if that is called."""

    transport: WSTransport

    def __init__(self, timings: Timings) -> None:
        self.timings = timings
        self.welcomed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.leaving = False
        self.swept: Swept | None = None
        self._lines = 0
        self._size = 0

    @property
    def lines(self) -> int:
        """Pushes received."""
        return self._lines + (0 if self.swept is None else self.swept.stream.lines)

    @property
    def size(self) -> int:
        """Bytes of all text frames received."""
        return self._size + (0 if self.swept is None else self.swept.stream.size)

    def hand_over(self) -> Swept:
        """From now on a sweep reads this connection."""
        self.swept = Swept(self.transport, self.answer_ping)
        return self.swept

    def on_ws_connected(self, transport: WSTransport) -> None:
        self.transport = transport

    def on_ws_frame(self, _transport: WSTransport, frame: WSFrame) -> None:
        payload = frame.get_payload_as_bytes()
        if frame.msg_type == WSMsgType.CLOSE:
            self.timings.faults.append(f"closed: {frame.get_close_code()}")
        elif self.welcomed.done():
            self._size += len(payload)
            self.timings.frames += 1
            now = time.perf_counter()
            for line in payload.split(b"\n"):
                self.take(_decoder.decode(line), now)
        else:
            self._check_welcome(payload)

    def on_ws_disconnected(self, _transport: WSTransport) -> None:
        if not self.leaving:
            self.timings.faults.append("disconnected")

    def take(self, line: Line, now: float) -> None:
        if line.push is not None:
            self._lines += 1
            if line.push.pub is not None:
                self.delivered(line.push.pub.data.key, now)
        elif line.id == 0:
            self.answer_ping()

    def delivered(self, key: str, now: float) -> None:
        sent = self.timings.sent_at.get(key)
        if sent is not None:
            self.timings.delivery_seconds.append(now - sent)

    def write(self, command: bytes) -> None:
        self.transport.send(WSMsgType.TEXT, command)

    def answer_ping(self) -> None:
        self.write(PING)

    def _check_welcome(self, payload: bytes) -> None:
        line = _decoder.decode(payload.split(b"\n")[0])
        if bytes(line.connect):
            self.welcomed.set_result(None)
        else:
            self.welcomed.set_exception(RuntimeError(f"not admitted: {payload[:300]!r}"))


class Sender(Member):
    """A member that keeps messages in flight from `start` to `finish`."""

    def __init__(self, timings: Timings, name: str) -> None:
        super().__init__(timings)
        self.sent = 0
        self._name = name
        self._sending = False
        self._number = 1
        self._unanswered: dict[int, str] = {}
        self._returned: set[str] = set()
        self._answered: set[str] = set()
        self._tail = msgspec.json.encode(message_text()) + b"}}}"

    @property
    def outstanding(self) -> int:
        return len(self._unanswered) + len(self._answered)

    def start(self, window: int) -> None:
        self._sending = True
        for _ in range(window):
            self._send()

    def finish(self) -> None:
        """Send no more; what is outstanding still comes in."""
        self._sending = False

    def take(self, line: Line, now: float) -> None:
        if line.id:
            self._acknowledge(line, now)
        else:
            super().take(line, now)

    def delivered(self, key: str, now: float) -> None:
        super().delivered(key, now)
        if key in self._answered:
            self._answered.discard(key)
            self._complete()
        elif key.startswith(self._name):
            self._returned.add(key)

    def _acknowledge(self, line: Line, now: float) -> None:
        if bytes(line.error):
            self.timings.faults.append(f"refused: {bytes(line.error)!r}")
            return
        key = self._unanswered.pop(line.id)
        self.timings.ack_seconds.append(now - self.timings.sent_at[key])
        if key in self._returned:
            self._returned.discard(key)
            self._complete()
        else:
            self._answered.add(key)

    def _complete(self) -> None:
        if self._sending:
            self._send()

    def _send(self) -> None:
        self._number += 1
        self.sent += 1
        key = f"{self._name}{self._number}"
        self._unanswered[self._number] = key
        head = (
            f'{{"id":{self._number},"rpc":{{"method":"message.send","data":'
            f'{{"type":"group","to":"bench","key":"{key}","text":'
        )
        self.timings.sent_at[key] = time.perf_counter()
        self.write(head.encode() + self._tail)


class Crowd:
    """All connections to one server: senders, probes spread among the members, the rest."""

    def __init__(self, url: str, tokens: Sequence[str], senders: int) -> None:
        self.timings = Timings()
        self._url = url
        self._tokens = tokens
        self._members: list[Member] = []
        self._senders: list[Sender] = []
        self._sweep: asyncio.Task[None] | None = None
        self._before = 0
        total = len(tokens)
        self._sender_indices = {index * total // senders for index in range(senders)}
        self._probe_indices = {(index * 2 + 1) * total // (PROBES * 2) for index in range(PROBES)}

    async def connect(self) -> None:
        """Return once every connection was admitted and has what was there for it before."""
        gate = asyncio.Semaphore(CONNECTS_AT_ONCE)
        total = len(self._tokens)
        await asyncio.gather(*(self._connect_one(gate, index) for index in range(total)))
        await self._settle()
        timed = self._sender_indices | self._probe_indices
        plain = [member for index, member in enumerate(self._members) if index not in timed]
        self._sweep = asyncio.create_task(sweep([member.hand_over() for member in plain]))

    def deliveries(self) -> int:
        """Pushes received since everybody was connected, by everybody together."""
        return sum(member.lines for member in self._members) - self._before

    def size(self) -> int:
        """Bytes received so far."""
        return sum(member.size for member in self._members)

    def start(self, window: int) -> None:
        """Have `window` messages in flight from now on, spread over the senders."""
        self.timings.sent_at.clear()
        for index, sender in enumerate(self._senders):
            sender.start((window + len(self._senders) - 1 - index) // len(self._senders))

    async def drain(self) -> None:
        """Stop sending; return once everybody has everything that was ever sent, exactly once.
        Raises if that does not come about."""
        for sender in self._senders:
            sender.finish()
        expected = len(self._members) * sum(sender.sent for sender in self._senders)
        deadline = time.monotonic() + DRAIN_SECONDS
        while self.deliveries() < expected or any(s.outstanding for s in self._senders):
            self.check()
            if time.monotonic() > deadline:
                break
            await asyncio.sleep(0.02)
        if self.deliveries() != expected:
            raise RuntimeError(f"{self.deliveries()} deliveries in place of {expected}")

    def check(self) -> None:
        """Raise if anything has gone wrong on any connection."""
        if self._sweep is not None and self._sweep.done():
            self._sweep.result()
        if self.timings.faults:
            raise RuntimeError("; ".join(self.timings.faults[:3]))

    async def close(self) -> None:
        if self._sweep is not None:
            self._sweep.cancel()
            await asyncio.wait([self._sweep])
        for member in self._members:
            member.leaving = True
            member.transport.disconnect(graceful=False)
            if member.swept is not None:
                member.swept.close()
        await asyncio.sleep(0)

    async def _settle(self) -> None:
        """Wait until nothing has come in for half a second; what has come does not count."""
        before = -1
        while before != self._before:
            before = self._before
            await asyncio.sleep(QUIET_SECONDS)
            self._before = sum(member.lines for member in self._members)

    async def _connect_one(self, gate: asyncio.Semaphore, index: int) -> None:
        member = self._make(index)
        async with gate:
            await ws_connect(lambda: member, self._url, max_frame_size=64 * 1024 * 1024)
            token = msgspec.json.encode(self._tokens[index]).decode()
            member.write(f'{{"id":1,"connect":{{"token":{token},"name":"bench"}}}}'.encode())
            await asyncio.wait_for(member.welcomed, 10)

    def _make(self, index: int) -> Member:
        member = Member(self.timings)
        if index in self._sender_indices:
            member = Sender(self.timings, f"s{index}-")
            self._senders.append(member)
        self._members.append(member)
        return member
