"""The protocol's state machine, without I/O: what may come when, and which pong proves what.

One table says which command is accepted in which state. Pings and pongs are counted: each ping
carries a mark of what was written before it, and the pong that answers it proves the mark.
"""

from __future__ import annotations

from collections import deque
from enum import Enum, auto
from typing import Final, Generic, NamedTuple, TypeAlias, TypeVar

from qunxin.wire.codes import (
    ALREADY_CONNECTED,
    BAD_REQUEST,
    CONNECT_FIRST,
    NO_REPLY_COMMAND,
    NOT_AVAILABLE,
    UNASKED_PONG,
    Disconnect,
    ProtocolError,
)
from qunxin.wire.frames import PONG, BadLine, Command, decode_command, find_id, split_lines

MarkT = TypeVar("MarkT")


class State(Enum):
    """Where a connection stands. `CONNECTING`: its `connect` has come and is not answered yet.
    `REFUSED`: its `connect` was refused, and the client, which knows, is about to leave."""

    NEW = auto()
    CONNECTING = auto()
    CONNECTED = auto()
    REFUSED = auto()
    CLOSED = auto()


class Verdict(Enum):
    HANDLE = auto()
    IGNORE = auto()


_Judgement: TypeAlias = Verdict | ProtocolError | Disconnect

KINDS: Final = (
    "connect",
    "subscribe",
    "unsubscribe",
    "publish",
    "history",
    "rpc",
    "refresh",
    "ping",
    "presence",
    "presence_stats",
    "sub_refresh",
    "send",
)

_NEW: dict[str, _Judgement] = dict.fromkeys(KINDS, CONNECT_FIRST)
_NEW["connect"] = Verdict.HANDLE
# Whatever came behind `connect` waits until that is answered: then another row counts.
_CONNECTING = _NEW | {"send": NO_REPLY_COMMAND}
_CONNECTED: dict[str, _Judgement] = dict.fromkeys(KINDS, Verdict.HANDLE)
_CONNECTED["connect"] = ALREADY_CONNECTED
_CONNECTED["sub_refresh"] = NOT_AVAILABLE
# The end is all that can tell the program: SDKs call `send` done when it is written, and there is
# no reply to it. For good, so that the mistake is seen at once; a device that came back would lose
# one message after the other unnoticed. Centrifugo ends the connection for good too (3508).
_CONNECTED["send"] = NO_REPLY_COMMAND
_OVER: dict[str, _Judgement] = dict.fromkeys(KINDS, Verdict.IGNORE)

ACCEPTED: Final[dict[State, dict[str, _Judgement]]] = {
    State.NEW: _NEW,
    State.CONNECTING: _CONNECTING,
    State.CONNECTED: _CONNECTED,
    State.REFUSED: _OVER,
    State.CLOSED: _OVER,
}
"""The one table: for each state and kind of command, whether it is handled, ignored, refused with
an error of the protocol, or ends the connection."""


class Received(NamedTuple):
    """A command as it came."""

    kind: str
    command: Command
    size: int
    """Bytes of its line, or of its message: all of them stay in memory with the command where its
    `data` is a part of them."""


class TooLarge:
    """A command longer than the limit, answered and passed over."""

    __slots__ = ("id", "size")

    def __init__(self, command_id: int, size: int) -> None:
        self.id = command_id
        self.size = size


class Pong:
    """The client's answer to the oldest ping."""


A_PONG: Final = Pong()

Line: TypeAlias = Received | BadLine | TooLarge | Pong


def read_message(message: bytes, max_line_bytes: int) -> list[Line] | Disconnect:
    """The commands and pongs of one text message, in order.

    A line that cannot be answered, having no id, ends the connection, and so do too many lines.
    """
    if message == PONG:
        return [A_PONG]
    lines = split_lines(message)
    if lines is None:
        return BAD_REQUEST
    read: list[Line] = []
    for line in lines:
        one = _read_line(line, max_line_bytes)
        if isinstance(one, BadLine | TooLarge) and not one.id:
            return BAD_REQUEST
        read.append(one)
    return read


def _read_line(line: bytes, max_line_bytes: int) -> Line:
    if line.strip() == PONG:
        return A_PONG
    if len(line) > max_line_bytes:
        return TooLarge(find_id(line), len(line))
    decoded = decode_command(line)
    return decoded if isinstance(decoded, BadLine) else Received(*decoded, len(line))


class OutstandingPing(Generic[MarkT]):
    """A ping not yet answered: what its pong will prove."""

    __slots__ = ("mark", "sent_at", "sent_bytes")

    def __init__(self, mark: MarkT, sent_bytes: int, sent_at: float) -> None:
        self.mark = mark
        self.sent_bytes = sent_bytes
        """Written to the connection up to the ping, in all."""
        self.sent_at = sent_at


class ProtocolSession(Generic[MarkT]):
    """One connection's state and its outstanding pings, oldest first."""

    __slots__ = ("pings", "state")

    def __init__(self) -> None:
        self.state = State.NEW
        self.pings: deque[OutstandingPing[MarkT]] = deque()

    def receive(self, kind: str) -> Disconnect | None:
        """Why a command of `kind` ends the connection as soon as it comes; None where it may wait
        for its turn. The first must be `connect`, and while that is under way no second one is
        kept beside it."""
        if self.state is State.CONNECTING and kind == "connect":
            return ALREADY_CONNECTED
        if self.state is State.NEW:
            if kind != "connect":
                return CONNECT_FIRST
            self.state = State.CONNECTING
        return None

    def judge(self, kind: str) -> _Judgement:
        """What becomes of a command of `kind` whose turn is now."""
        return ACCEPTED[self.state][kind]

    def ping(self, mark: MarkT, sent_bytes: int, sent_at: float) -> None:
        """Note that a ping has been written."""
        self.pings.append(OutstandingPing(mark, sent_bytes, sent_at))

    def pong(self) -> OutstandingPing[MarkT] | Disconnect:
        """The ping that the pong just received answers."""
        return self.pings.popleft() if self.pings else UNASKED_PONG

    def close(self) -> None:
        """Nothing is accepted any more."""
        self.state = State.CLOSED
        self.pings.clear()
