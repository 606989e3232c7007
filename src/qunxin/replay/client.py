"""One participant: a device over a real WebSocket, which comes back by itself and catches up.

It behaves as the SDKs do: it never filters, never reorders and never asks twice for what it has,
so that whatever the server does wrong stands in its record.
"""

from __future__ import annotations

import asyncio
import random
from array import array
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import msgspec
from picows import (
    WSCloseCode,
    WSError,
    WSFrame,
    WSListener,
    WSMsgType,
    WSTransport,
    ws_connect,
)

from qunxin.errors import ERRORS, QunxinError
from qunxin.replay.api import ApiRefused
from qunxin.replay.lines import Known, LineReader, connect_command, rpc_command
from qunxin.replay.records import RELOADED, Journal, Observation, Observations, Record
from qunxin.tasks import TaskSet
from qunxin.wire.codes import ERROR_NUMBERS
from qunxin.wire.device import Fault, Push, ServerLine, Subscribed, Welcome, read_line
from qunxin.wire.frames import PONG

_TOKEN_EXPIRED: Final = 109
_CONNECT_ID: Final = 1
_PAGE: Final = 1000
_FIRST_BACKOFF_SECONDS: Final = 0.05
_LAST_BACKOFF_SECONDS: Final = 1.0
_MAX_FRAME_BYTES: Final = 64 * 1024 * 1024
_CODES: Final = {number: code for code, number in ERROR_NUMBERS.items()}


class ConnectionBroken(Exception):  # noqa: N818 - a fact of life here, not an error
    """The connection ended, or there was none: the outcome of what was asked is unknown."""


class Refused(Exception):  # noqa: N818
    """The server answered with an error."""

    def __init__(self, fault: Fault) -> None:
        self.fault = fault
        super().__init__(f"{fault.code} {fault.message}")

    @property
    def code(self) -> str:
        """The error's code; its number where no error has that, as that of a disconnect."""
        return _CODES.get(self.fault.code, str(self.fault.code))

    def as_error(self) -> QunxinError:
        """The error of that code, in the server's own words; `cannot_start` for a disconnect."""
        if self.code not in ERRORS:
            return QunxinError("cannot_start", detail=f"a device was sent away: {self}")
        before = ERRORS[self.code].english.partition("{")[0]
        return QunxinError(self.code, detail=self.fault.message.removeprefix(before))


class Surroundings:
    """What all participants of a run share."""

    def __init__(
        self,
        address: Callable[[], str],
        token: Callable[[str], Awaitable[str]],
        lines: LineReader,
        observations: Observations,
        journal: Journal,
        clock: Callable[[], float],
        *,
        call_seconds: float = 15.0,
    ) -> None:
        self.address = address
        """The WebSocket's URL."""
        self.token = token
        """Makes a fresh token for a user."""
        self.lines = lines
        self.observations = observations
        self.journal = journal
        self.clock = clock
        self.call_seconds = call_seconds
        """How long a reply may take before the connection counts as broken."""
        self.latencies = array("f")
        """Seconds from sending to seeing, for every message that came over a connection that was
        there when it was sent."""
        self.connections = 0


class Stream:
    """Where the device stands in one conversation."""

    __slots__ = ("ended_at", "epoch", "held", "position", "repeated", "subscribed", "through")

    def __init__(self) -> None:
        self.position = 0
        self.epoch = ""
        self.subscribed = False
        self.held: list[Known] | None = None
        """What came live while older entries are being loaded; None where nothing is."""
        self.through = 0
        """Up to where they are being loaded."""
        self.ended_at = 0
        """The last position to be read, as the inbox told."""
        self.repeated: int | None = None
        """A subscription that the server began below what the device has or is loading, as it
        did not know of that, has been repeated up to here."""


class Participant:
    """One user's only device."""

    def __init__(self, user: str, around: Surroundings) -> None:
        self.user = user
        self.record = Record()
        self.streams: dict[str, Stream] = {}
        self._around = around
        self._token = ""
        self._link: _Link | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._refusal: Refused | ApiRefused | None = None
        self._changed = asyncio.Event()
        self._loads = TaskSet()

    # --- being online -----------------------------------------------------------------------

    @property
    def online(self) -> bool:
        return self._link is not None

    async def go_online(self) -> None:
        """Connected on return, and from then on comes back by itself. Raises `Refused` where
        the server will not have this user, `ApiRefused` where it makes no token for them."""
        if self._keeper is None or self._keeper.done():
            self._refusal = None
            self._keeper = asyncio.create_task(self._keep(), name=f"participant {self.user}")
        while self._link is None:
            if self._refusal is not None:
                raise self._refusal
            await self._change()

    async def go_offline(self) -> None:
        """No connection on return, and none until `go_online`."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.wait([self._keeper])
            self._keeper = None

    async def wait_ended(self) -> None:
        """Return once the server has ended this participant's connection for good."""
        while self._keeper is not None and not self._keeper.done():
            await asyncio.wait([self._keeper])

    async def _keep(self) -> None:
        backoff = _FIRST_BACKOFF_SECONDS
        while True:
            link = _Link(self, self._around)
            try:
                await self._open(link)
                backoff = _FIRST_BACKOFF_SECONDS
                await link.closed.wait()
            except Refused as refused:
                if refused.fault.code == _TOKEN_EXPIRED:
                    self._token = ""
                elif not refused.fault.temporary:
                    self._refuse(refused)
                    return
            except ApiRefused as refused:
                self._refuse(refused)
                return
            except (ConnectionBroken, OSError, WSError, TimeoutError):
                pass  # the server is away: try again below
            finally:
                await self._drop(link)
            if link.ended_for_good is not None:
                self._refuse(Refused(link.ended_for_good))
                return
            await asyncio.sleep(backoff * random.uniform(0.5, 1.0))  # noqa: S311
            backoff = min(2 * backoff, _LAST_BACKOFF_SECONDS)

    async def _open(self, link: _Link) -> None:
        if not self._token:
            self._token = await self._around.token(self.user)
        async with asyncio.timeout(self._around.call_seconds):
            await link.open()
            self.record.began(self._around.clock())
            await link.connect(self._token, self._positions())
        self._around.connections += 1

    def _positions(self) -> dict[str, tuple[str, int]]:
        return {
            conversation: (stream.epoch, stream.position)
            for conversation, stream in self.streams.items()
            if stream.epoch
        }

    async def _drop(self, link: _Link) -> None:
        link.abort()
        self._link = None
        await self._loads.close()
        for stream in self.streams.values():
            stream.held = stream.repeated = None
        self._tell()

    def _refuse(self, refused: Refused | ApiRefused) -> None:
        self._refusal = refused
        self._tell()

    # --- asking -----------------------------------------------------------------------------

    async def call(self, method: str, data: Any) -> bytes:
        """The reply's data as JSON. Raises `Refused`, or `ConnectionBroken` where the outcome is
        unknown."""
        link = self._link
        if link is None:
            raise ConnectionBroken
        try:
            async with asyncio.timeout(self._around.call_seconds):
                return await link.call(method, data)
        except TimeoutError:
            link.abort()
            raise ConnectionBroken from None

    # --- catching up ------------------------------------------------------------------------

    async def caught_up(self, targets: Mapping[str, int], quiet_seconds: float) -> bool:
        """True once every conversation of `targets` has come to the position there; False once
        nothing has arrived for `quiet_seconds` of being connected."""
        while not self.has_reached(targets):
            seen = len(self.record.numbers)
            try:
                async with asyncio.timeout(quiet_seconds):
                    await self._change()
            except TimeoutError:
                if self._refusal is not None or (self.online and seen == len(self.record.numbers)):
                    return False
        return True

    def has_reached(self, targets: Mapping[str, int]) -> bool:
        for conversation, position in targets.items():
            stream = self.streams.get(conversation)
            if stream is None or stream.position < position or stream.held is not None:
                return False
        return True

    def _tell(self) -> None:
        self._changed.set()

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()

    # --- what the server says ---------------------------------------------------------------

    def connected(self, link: _Link, reply: Welcome) -> None:
        """The connect reply: every conversation there is, and where each goes on."""
        self._link = link
        for stream in self.streams.values():
            stream.subscribed = False
        for conversation, start in reply.subs.items():
            self.subscribed(conversation, start)
        for conversation, stream in list(self.streams.items()):
            self._load_rest(conversation, stream)  # what the last connection did not live to see
        self._tell()

    def disconnected(self, link: _Link) -> None:
        """Nothing can be asked from this moment on."""
        if self._link is link:
            self._link = None

    def subscribed(self, conversation: str, start: Subscribed, *, repeats: bool = False) -> None:
        """`repeats`: the server was not asked to begin anywhere, and says itself where it does;
        what the device has of it already is passed over."""
        stream = self._stream(conversation)
        stream.subscribed = True
        if stream.epoch not in ("", start.epoch):
            self._forget(conversation, stream)
        stream.epoch = start.epoch
        is_below = stream.held is not None or start.offset < stream.position
        stream.repeated = start.offset if repeats and is_below else None
        if start.offset > stream.position:
            self._load(conversation, stream, start.offset)

    def _forget(self, conversation: str, stream: Stream) -> None:
        """Another history: what the device has of this conversation is worth nothing."""
        gone = Observation(conversation, 0, RELOADED)
        self.record.add(self._around.observations.number(gone), self._around.clock())
        stream.position = 0
        stream.ended_at = 0

    def _stream(self, conversation: str) -> Stream:
        stream = self.streams.get(conversation)
        if stream is None:
            stream = self.streams[conversation] = Stream()
        return stream

    def pushed(self, push: Push) -> None:
        if push.subscribe is not None:
            self.subscribed(push.channel, push.subscribe, repeats=True)
        elif push.unsubscribe is not None:
            stream = self._stream(push.channel)
            stream.subscribed = False
            self._load_rest(push.channel, stream)
        self._tell()

    def see(self, known: Known, now: float) -> None:
        """One entry, live or loaded."""
        stream = self.streams.get(known.channel) or self._stream(known.channel)
        if stream.held is not None:
            stream.held.append(known)
        else:
            self._take(known, stream, now)

    def _take(self, known: Known, stream: Stream, now: float) -> None:
        if stream.repeated is not None and stream.repeated < known.offset <= stream.position:
            stream.repeated = known.offset
            return
        self.record.add(known.number, now)
        if known.first == stream.position + 1 or (known.offset > stream.position and known.at_home):
            stream.position = known.offset
        if known.ends:
            lost = self._stream(known.seen.other)
            lost.ended_at = max(lost.ended_at, known.seen.last)
            self._load_rest(known.seen.other, lost)

    def arrived(self) -> None:
        """A frame was taken whole."""
        self._changed.set()

    # --- loading ----------------------------------------------------------------------------

    def _load_rest(self, conversation: str, stream: Stream) -> None:
        """What was missed of a conversation that is the user's no more."""
        if not stream.subscribed and stream.position < stream.ended_at and stream.held is None:
            self._load(conversation, stream, stream.ended_at)

    def _load(self, conversation: str, stream: Stream, through: int) -> None:
        if stream.held is not None:
            stream.through = max(stream.through, through)
            return
        stream.held, stream.through = [], through
        self._loads.start(
            f"load {conversation} of {self.user}", self._load_pages(conversation, stream)
        )

    async def _load_pages(self, conversation: str, stream: Stream) -> None:
        """Everything up to `stream.through`, then what came live meanwhile."""
        try:
            while stream.position < stream.through:
                await self._load_page(conversation, stream)
        except ConnectionBroken:
            return
        except Refused as refused:
            self._around.journal.faults.append(
                f"{self.user} may not read {conversation}: {refused}"
            )
        now, held = self._around.clock(), stream.held or ()
        stream.held = None
        for known in held:
            self._take(known, stream, now)
        self._load_rest(conversation, stream)
        self._tell()

    async def _load_page(self, conversation: str, stream: Stream) -> None:
        before, through = stream.position, stream.through
        page = await self.read(conversation, before, through)
        now = self._around.clock()
        for known in page:
            self._take(known, stream, now)
        if stream.position == before:  # nothing for this reader there
            stream.position = through

    async def read(self, conversation: str, after: int, through: int | None) -> list[Known]:
        """Entries from a page that begins after `after`, none above `through`."""
        limit = _PAGE if through is None else min(_PAGE, through - after)
        question = {"conversation": conversation, "after": after, "limit": limit}
        data = msgspec.json.decode(await self.call("conversation.entries", question))
        stream = self._stream(conversation)
        stream.epoch = stream.epoch or data["epoch"]
        known = [self._around.lines.entry(conversation, entry) for entry in data["entries"]]
        return [one for one in known if through is None or one.offset <= through]


class _Link(WSListener):
    """One WebSocket of one participant."""

    def __init__(self, participant: Participant, around: Surroundings) -> None:
        super().__init__()
        self.closed = asyncio.Event()
        self.ended_for_good: Fault | None = None
        self._participant = participant
        self._around = around
        self._recall = around.lines.recall
        self._sent = around.journal.sent
        self._transport: WSTransport | None = None
        self._replies: dict[int, asyncio.Future[Any]] = {}
        self._last_id = 0
        self._ready_at = float("inf")
        self._parts: list[bytes] = []

    async def open(self) -> None:
        await ws_connect(lambda: self, self._around.address(), max_frame_size=_MAX_FRAME_BYTES)

    async def connect(self, token: str, positions: dict[str, tuple[str, int]]) -> None:
        self._last_id = _CONNECT_ID
        await self._ask(_CONNECT_ID, connect_command(_CONNECT_ID, token, positions))

    async def call(self, method: str, data: Any) -> bytes:
        self._last_id += 1
        result: bytes = await self._ask(self._last_id, rpc_command(self._last_id, method, data))
        return result

    async def _ask(self, number: int, command: bytes) -> Any:
        if self._transport is None:
            raise ConnectionBroken
        future = self._replies[number] = asyncio.get_running_loop().create_future()
        self._transport.send(WSMsgType.TEXT, command)
        try:
            return await future
        finally:
            self._replies.pop(number, None)

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.disconnect(graceful=False)

    # --- the listener -----------------------------------------------------------------------

    def on_ws_connected(self, transport: WSTransport) -> None:
        self._transport = transport

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == WSMsgType.CLOSE:
            self._note_end(frame.get_close_code(), frame.get_close_reason() or "")
            transport.send_close()
            transport.disconnect()
        elif not frame.fin or self._parts:
            self._parts.append(frame.get_payload_as_bytes())
            if frame.fin:
                payload, self._parts = b"".join(self._parts), []
                self._take(transport, payload)
        elif frame.msg_type == WSMsgType.TEXT:
            self._take(transport, frame.get_payload_as_bytes())

    def on_ws_disconnected(self, transport: WSTransport) -> None:  # noqa: ARG002
        self._transport = None
        self._participant.disconnected(self)
        for future in self._replies.values():
            if not future.done():
                future.set_exception(ConnectionBroken())
        self.closed.set()

    def _take(self, transport: WSTransport, payload: bytes) -> None:
        now = self._around.clock()
        for line in payload.split(b"\n"):
            known = self._recall(line)
            if known is not None:
                self._see(known, now)
            elif line:
                self._read(transport, line, now)
        self._participant.arrived()

    def _see(self, known: Known, now: float) -> None:
        self._participant.see(known, now)
        if known.message >= 0 and self._sent[known.message] > self._ready_at:
            self._around.latencies.append(now - self._sent[known.message])

    def _read(self, transport: WSTransport, line: bytes, now: float) -> None:
        try:
            self._heed(transport, read_line(line), line, now)
        except msgspec.DecodeError as error:
            self._around.journal.faults.append(f"not the protocol: {line[:200]!r} ({error})")
            self.abort()

    def _heed(self, transport: WSTransport, said: ServerLine, line: bytes, now: float) -> None:
        push = said.push
        if said.is_ping:
            transport.send(WSMsgType.TEXT, PONG)
        elif push is None:
            self._answer(said)
        elif push.pub is not None:
            if push.pub.offset:  # without one it is no entry, but a notice
                self._see(self._around.lines.publication(push.channel, push.pub, line), now)
        elif push.disconnect is not None:
            self._note_end(push.disconnect.code, push.disconnect.reason)
        else:
            self._participant.pushed(push)

    def _answer(self, said: ServerLine) -> None:
        future = self._replies.get(said.id)
        if future is None or future.done():
            return
        if said.error is not None:
            future.set_exception(Refused(said.error))
            return
        if said.connect is not None:
            self._ready_at = self._around.clock()
            self._participant.connected(self, said.connect)
        future.set_result(b"null" if said.rpc is None else bytes(said.rpc.data))

    def _note_end(self, code: WSCloseCode | int, reason: str) -> None:
        """picows gives the codes it does not know as plain numbers."""
        code = code.value if isinstance(code, WSCloseCode) else code
        if 3500 <= code < 4000 or 4500 <= code < 5000:
            self.ended_for_good = Fault(code, reason)
