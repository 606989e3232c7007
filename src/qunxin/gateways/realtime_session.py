"""One realtime connection: the engine's sink on one side, frames on the other.

What is to be written is gathered in `pending` and leaves with the gateway's next flush, all that
is ready in one write. Every byte written counts until a pong proves that it arrived; the bound on
those bytes is the bound on what one slow client can make the server hold.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Final, Protocol, TypeAlias

from qunxin.engine.buckets import TokenBucket
from qunxin.engine.proofs import Mark
from qunxin.engine.session import Session
from qunxin.engine.sink import CloseReason, Comings, Delivery, SubscriptionStart
from qunxin.errors import QunxinError
from qunxin.gateways.connection import Outlet
from qunxin.gateways.realtime_queue import CommandQueue
from qunxin.gateways.realtime_settings import CONNECT_BYTES, RealtimeSettings
from qunxin.gateways.realtime_views import encode_comings, subscription_view
from qunxin.gateways.realtime_writer import Pending, Writer
from qunxin.wire import codes
from qunxin.wire.codes import Disconnect
from qunxin.wire.frames import BadLine
from qunxin.wire.messages import MessageAssembler, Opcode
from qunxin.wire.session import Line, Pong, ProtocolSession, Received, State, TooLarge

_log = logging.getLogger("qunxin.realtime")

CLOSE_REASONS: Final = {
    CloseReason.SUSPENDED: codes.SUSPENDED,
    CloseReason.ERASED: codes.ERASED,
    CloseReason.SESSIONS_ENDED: codes.SESSIONS_ENDED,
    CloseReason.SLOW: codes.SLOW,
    CloseReason.SHUTTING_DOWN: codes.SHUTTING_DOWN,
    CloseReason.FAILED: codes.FAILED,
}

PingMark: TypeAlias = tuple[Mark | None, tuple[asyncio.Future[None], ...]]
"""What a pong proves to the engine, and who waits for it."""


class SessionOwner(Protocol):
    """What a session needs of the gateway that it belongs to."""

    @property
    def settings(self) -> RealtimeSettings: ...
    @property
    def now(self) -> Callable[[], float]: ...
    @property
    def closing(self) -> bool: ...

    def commands_of(self, session: RealtimeSession) -> CommandQueue: ...
    def ended(
        self, session: RealtimeSession, engine_session: Session | None, code: int | None
    ) -> None: ...
    def refused(self, code: str) -> None: ...


class RealtimeSession:
    """Made for each connection when its upgrade was accepted. All calls on the loop.

    `open` becomes false when the connection ends from either side; from then on nothing is
    written or handled.
    """

    __slots__ = (
        "_add_dirty",
        "_assembler",
        "_connection",
        "_gateway",
        "_last_ping",
        "_ping_sent",
        "_proven",
        "_waiters",
        "_writer",
        "budget",
        "check_at",
        "commands",
        "deadline",
        "engine_session",
        "expires_at_ms",
        "format",
        "language",
        "open",
        "pending",
        "ping_wanted",
        "protocol",
        "sent",
        "stream",
        "write",
    )

    def __init__(
        self,
        gateway: SessionOwner,
        connection: Outlet,
        writer: Writer,
        language: str,
        now: float,
        stream: str = "",
    ) -> None:
        settings = gateway.settings
        self._gateway = gateway
        self._add_dirty = writer.add_dirty
        self._connection = connection
        self._writer = writer
        self._assembler = MessageAssembler(settings.max_frame_bytes, writer.framing.opcode)
        rate = settings.commands_per_second
        self.budget = TokenBucket(rate, 2 * rate, now)
        """Its own until it is connected, and then its user's."""
        self._last_ping = now
        self._ping_sent = 0
        self._proven = 0
        self._waiters: list[asyncio.Future[None]] = []
        self.format = writer.format
        self.language = language
        self.stream = stream
        """The secret under which commands come, where they cannot come over the connection."""
        self.open = True
        self.protocol: ProtocolSession[PingMark] = ProtocolSession()
        self.commands = gateway.commands_of(self)
        self.engine_session: Session | None = None
        self.deadline = now + settings.connect_timeout_seconds
        """For the `connect` command, and for a refused client to leave."""
        self.expires_at_ms: int | None = None
        self.pending: list[Pending] = []
        """What leaves with the next flush."""
        self.write = connection.write
        self.sent = 0
        """Bytes written, in all."""
        self.check_at = settings.ping_every_bytes
        """When `sent` passes this, `check_sent` has something to do."""
        self.ping_wanted = False
        """The next frame carries a ping at its end."""

    # --- what the engine says (the sink) -----------------------------------------------------

    def deliver(self, delivery: Delivery) -> None:
        pending = self.pending
        if not pending:
            self._add_dirty(self)
        pending.append(delivery)

    def subscribed(self, start: SubscriptionStart) -> None:
        self.send(self.format.subscribe_push(start.conversation, subscription_view(start)))

    def unsubscribed(self, conversation: str, reason: str) -> None:
        number = codes.UNSUBSCRIBE_NUMBERS.get(reason, codes.UNSUBSCRIBE_NUMBERS["left"])
        self.send(self.format.unsubscribe_push(conversation, number, reason))

    def came(self, comings: Comings) -> None:
        payload = comings.encoded.get(self.format.name)
        if payload is None:
            payload = comings.encoded[self.format.name] = encode_comings(self.format, comings)
        self.send(payload)

    def close(self, reason: CloseReason) -> None:
        self.disconnect(CLOSE_REASONS[reason])

    async def drained(self) -> None:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if not self.open:
            waiter.cancel()
        else:
            self._waiters.append(waiter)
            self.ping_now()
        await waiter

    # --- what the client sends (the receiver) ------------------------------------------------

    def received(self, opcode: int, fin: bool, payload: bytes) -> None:
        self._guard(lambda: self._receive(opcode, fin, payload))

    def take(self, message: bytes) -> None:
        """A whole message that did not come over the connection."""
        self._guard(lambda: self._take_whole(message, self._gateway.now()))

    def _guard(self, receive: Callable[[], None]) -> None:
        if not self.open:
            return
        try:
            receive()
        except Exception:  # noqa: BLE001 - a defect must not reach the library that reads
            _log.exception("a frame could not be handled")
            self.disconnect(codes.FAILED)

    def broken(self, disconnect: Disconnect) -> None:
        self.disconnect(disconnect, readable=False)

    def lost(self) -> None:
        self._end()

    def _receive(self, opcode: int, fin: bool, payload: bytes) -> None:
        now = self._gateway.now()
        if not fin or opcode != self._writer.framing.opcode:
            self._charge(now)
        if opcode == Opcode.PING:
            self._connection.pong(payload)
            return
        message = self._assembler.take(opcode, fin, payload)
        if isinstance(message, Disconnect):
            self.disconnect(message)
        elif message is not None:
            self._take_whole(message, now)

    def _take_whole(self, message: bytes, now: float) -> None:
        if message == self.format.ping:
            self._take_pong()
        else:
            self._take_message(message, now)

    def _take_message(self, message: bytes, now: float) -> None:
        is_new = self.protocol.state is State.NEW
        limit = CONNECT_BYTES if is_new else self._gateway.settings.max_line_bytes
        lines = self.format.read(message, limit)
        if isinstance(lines, Disconnect):
            self.disconnect(lines)
            return
        if not lines:
            self._charge(now)
        for line in lines:
            if not self.open:
                return
            self._take_line(line, limit, now)

    def _take_line(self, line: Line, limit: int, now: float) -> None:
        if isinstance(line, Pong):
            self._take_pong()
            return
        allowed = self._charge(now)
        if isinstance(line, BadLine):
            self.refuse(line.id, QunxinError("invalid_request", detail=line.detail))
        elif isinstance(line, TooLarge):
            self.refuse(line.id, QunxinError("message_too_large", size=line.size, limit=limit))
        else:
            self._take_command(line, allowed)

    def _take_command(self, line: Received, allowed: bool) -> None:
        """Have it wait for its turn, unless it ends the connection or is refused at once."""
        ending = self.protocol.receive(line.kind)
        if ending is not None:
            self.disconnect(ending)
        elif self._gateway.closing:
            self._refuse_line(line, QunxinError("shutting_down"))
        elif line.kind != "connect" and line.size > self._gateway.settings.max_line_bytes:
            limit = self._gateway.settings.max_line_bytes
            error = QunxinError("message_too_large", size=line.size, limit=limit)
            self._refuse_line(line, error)
        elif not allowed or not self.commands.add(line):
            seconds = max(0.1, round(self.budget.seconds_to_next, 3))
            self._refuse_line(line, QunxinError("rate_limited", retry_after=seconds))

    def _charge(self, now: float) -> bool:
        """Count one command or idle frame; far too many end the connection."""
        if self.budget.charge(now):
            return True
        if self.budget.is_abused:
            self.disconnect(codes.TOO_MANY_COMMANDS)
        return False

    def _refuse_line(self, line: Received, error: QunxinError) -> None:
        """An error for `send` would have no id, and what has none is a ping to SDKs: it ends as it
        would if its turn came."""
        if line.kind == "send":
            verdict = self.protocol.judge(line.kind)
            if isinstance(verdict, Disconnect):
                self.disconnect(verdict)
            return
        self.refuse(line.command.id, error)
        if line.kind == "connect":
            self.let_leave()

    # --- replies -----------------------------------------------------------------------------

    def send(self, piece: bytes) -> None:
        """Have a piece in the session's format leave with the next flush, behind what is
        pending."""
        if not self.open:
            return
        if not self.pending:
            self._add_dirty(self)
        self.pending.append(piece)

    def reply(self, command_id: int, kind: str, result: Any) -> None:
        """Answer a command of `kind`."""
        self.send(self.format.reply(command_id, kind, result))

    def refuse(self, command_id: int, error: QunxinError, *, temporary: bool = False) -> None:
        """Answer a command with an error of ours; `temporary` where a repeat can help although
        the error itself does not say so. Nothing happens, and nothing is counted, where the
        connection is over."""
        if not self.open:
            return
        text = error.text(self.language)
        if error.retry_after is not None:
            text += f" ({error.retry_after:g} s)"
        self._gateway.refused(error.code)
        number = codes.ERROR_NUMBERS[error.code]
        temporary = temporary or error.retryable
        self.send(self.format.error(command_id, number, text, temporary=temporary))

    # --- pings and what they prove -----------------------------------------------------------

    def ping_now(self) -> None:
        """Have a ping leave with the next flush, whatever else there is to send."""
        self.ping_wanted = True
        if not self.pending:
            self._add_dirty(self)

    def note_ping(self, frame_bytes: int) -> None:
        """A ping is at the end of the frame of so many bytes that is about to be written."""
        mark = None if self.engine_session is None else self.engine_session.mark()
        waiters, self._waiters = tuple(self._waiters), []
        now = self._gateway.now()
        self._ping_sent = self.sent + frame_bytes
        self.protocol.ping((mark, waiters), self._ping_sent, now)
        self._last_ping = now
        self.ping_wanted = False
        self._plan_check()

    def _take_pong(self) -> None:
        if self.protocol.state is State.NEW:
            self.disconnect(codes.CONNECT_FIRST)
            return
        if self.protocol.state is State.REFUSED:
            return
        ping = self.protocol.pong()
        if isinstance(ping, Disconnect):
            self.disconnect(ping)
            return
        self._proven = ping.sent_bytes
        mark, waiters = ping.mark
        if mark is not None and self.engine_session is not None:
            self.engine_session.prove(mark)
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)
        self._plan_check()

    def _plan_check(self) -> None:
        settings = self._gateway.settings
        self.check_at = max(self._proven + settings.max_unsent_bytes, self.sent)
        if not self.ping_wanted:
            self.check_at = min(self.check_at, self._ping_sent + settings.ping_every_bytes)

    def check_sent(self) -> None:
        """Called when `sent` has passed `check_at`: end a client too far behind, ping one that
        was given much since its last ping."""
        if self._is_slow():
            self.disconnect(codes.SLOW)
        elif self.protocol.state is State.CONNECTED:
            if not self.protocol.pings:
                self.ping_now()
            self.ping_wanted = True
            self._plan_check()

    def _is_slow(self) -> bool:
        """Whether too much is unproven. A burst may pass the bound for a moment, or one member
        who sends much at once would end all the others' connections; it shows in the age of the
        oldest ping whether the client keeps up."""
        settings, unproven = self._gateway.settings, self.sent - self._proven
        if unproven <= settings.max_unsent_bytes:
            return False
        if unproven > settings.max_burst_bytes:
            return True
        pings = self.protocol.pings
        return bool(pings) and self._gateway.now() - pings[0].sent_at > settings.slow_seconds

    # --- once a second -----------------------------------------------------------------------

    def sweep(self, now: float, now_ms: int) -> None:
        """Keep the deadlines, and see that a ping is due in time."""
        overdue = self._overdue(now, now_ms)
        if overdue is not None:
            self.disconnect(overdue)
        elif self.protocol.state is State.CONNECTED:
            self._sweep_ping(now - self._last_ping)

    def let_leave(self) -> None:
        """Listen no more to a client whose `connect` was refused, and give it the time to read
        that and leave: SDKs close by themselves."""
        if self.protocol.state is State.CONNECTING:
            self.protocol.state = State.REFUSED
            self.deadline = self._gateway.now() + self._gateway.settings.connect_timeout_seconds

    def _overdue(self, now: float, now_ms: int) -> Disconnect | None:
        settings, state = self._gateway.settings, self.protocol.state
        if state is State.CONNECTED:
            pings = self.protocol.pings
            if pings and now - pings[0].sent_at > settings.pong_timeout_seconds:
                return codes.NO_PONG
            if self._is_slow():
                return codes.SLOW
            if self.expires_at_ms is not None:
                over_ms = now_ms - self.expires_at_ms
                if over_ms > settings.expiry_grace_seconds * 1000:
                    return codes.TOKEN_EXPIRED
        elif state is not State.CONNECTING and now > self.deadline:
            return codes.CONNECT_TIMEOUT if state is State.NEW else codes.REFUSED
        return None

    def _sweep_ping(self, since: float) -> None:
        """After the spacing the next frame takes a ping along; one sweep later it goes alone
        where there is something to prove, or where the interval is over."""
        settings = self._gateway.settings
        if since < settings.ping_spacing_seconds:
            return
        if not self.ping_wanted:
            self.ping_wanted = True
        elif self.sent > self._ping_sent or since >= settings.ping_interval_seconds - 2.0:
            self.ping_now()

    # --- the end -----------------------------------------------------------------------------

    def disconnect(self, disconnect: Disconnect, *, readable: bool = True) -> None:
        """Write what is pending, then end the connection with a code. May be repeated."""
        if not self.open:
            return
        _log.debug("closing a connection: %d %s", disconnect.code, disconnect.reason)
        self.ping_wanted = False
        self._writer.flush_one(self)
        if self.open:
            self._connection.close(disconnect, readable=readable)
            self._end(disconnect.code)

    def _end(self, code: int | None = None) -> None:
        """Let go of everything; the engine's session is closed in the background."""
        if not self.open:
            return
        self.open = False
        waiters = [waiter for ping in self.protocol.pings for waiter in ping.mark[1]]
        for waiter in (*waiters, *self._waiters):
            waiter.cancel()
        self.protocol.close()
        self.commands.close()
        session, self.engine_session = self.engine_session, None
        self._gateway.ended(self, session, code)
