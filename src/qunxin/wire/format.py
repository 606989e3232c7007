"""What both encodings of the protocol can do, and JSON as the first of them.

Everything above speaks of commands, replies and pushes; a format turns them into bytes and back.
The pieces that go out, `line` in JSON and length and message in Protobuf, are put together into
payloads, and a payload can be taken apart again at their borders.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final, Protocol

from qunxin.model import Entry
from qunxin.wire import frames
from qunxin.wire.codec import encode_publications, lines_within
from qunxin.wire.codes import Disconnect
from qunxin.wire.session import Line, read_message


class Format(Protocol):
    """One encoding. No method keeps anything; what goes out is always whole pieces."""

    @property
    def name(self) -> str:
        """Under which a delivery keeps what was encoded."""
        ...

    @property
    def ping(self) -> bytes:
        """A ping, and the whole message that answers one."""
        ...

    def read(self, message: bytes, max_line_bytes: int) -> list[Line] | Disconnect:
        """The commands and pongs of one message, in order. Those that cannot be answered, having
        no id, end the connection, and so do too many of them."""
        ...

    def reply(self, command_id: int, kind: str, result: Any) -> bytes:
        """The answer to a command of `kind`: a struct or a mapping."""
        ...

    def rpc_reply(self, command_id: int, data: bytes) -> bytes:
        """The answer to an `rpc`: `data` is JSON text."""
        ...

    def error(
        self, command_id: int, number: int, message: str, *, temporary: bool = False
    ) -> bytes:
        """The refusal of a command. `temporary` tells SDKs that a repeat can help."""
        ...

    def subscribe_push(self, channel: str, subscription: Any) -> bytes:
        """Adds a server-side subscription."""
        ...

    def unsubscribe_push(self, channel: str, number: int, reason: str) -> bytes:
        """Ends a server-side subscription."""
        ...

    def join_push(self, channel: str, client: str, user: str) -> bytes:
        """A device has come."""
        ...

    def leave_push(self, channel: str, client: str, user: str) -> bytes:
        """A device has gone."""
        ...

    def disconnect_push(self, disconnect: Disconnect) -> bytes:
        """Says why the connection is about to end, where no close frame can."""
        ...

    def publications(self, channel: str, entries: Iterable[Entry]) -> bytes:
        """A payload of one `pub` push for each entry, in order, its position as the offset."""
        ...

    def join(self, payloads: Sequence[bytes]) -> bytes:
        """One payload of several."""
        ...

    def split(self, payload: bytes, max_bytes: int) -> list[bytes]:
        """Several payloads of one, each within `max_bytes` unless a single piece is longer."""
        ...


class JsonFormat:
    """One object a line."""

    name: Final = "json"
    ping: Final = frames.PING

    def read(self, message: bytes, max_line_bytes: int) -> list[Line] | Disconnect:
        return read_message(message, max_line_bytes)

    def reply(self, command_id: int, kind: str, result: Any) -> bytes:
        return frames.encode_reply(command_id, kind, result)

    def rpc_reply(self, command_id: int, data: bytes) -> bytes:
        return frames.encode_rpc_reply(command_id, data)

    def error(
        self, command_id: int, number: int, message: str, *, temporary: bool = False
    ) -> bytes:
        return frames.encode_error(command_id, number, message, temporary=temporary)

    def subscribe_push(self, channel: str, subscription: Any) -> bytes:
        return frames.encode_subscribe_push(channel, subscription)

    def unsubscribe_push(self, channel: str, number: int, reason: str) -> bytes:
        return frames.encode_unsubscribe_push(channel, number, reason)

    def join_push(self, channel: str, client: str, user: str) -> bytes:
        return frames.encode_join_push(channel, client, user)

    def leave_push(self, channel: str, client: str, user: str) -> bytes:
        return frames.encode_leave_push(channel, client, user)

    def disconnect_push(self, disconnect: Disconnect) -> bytes:
        return frames.encode_disconnect_push(disconnect.code, disconnect.reason)

    def publications(self, channel: str, entries: Iterable[Entry]) -> bytes:
        return b"\n".join(encode_publications(channel, entries))

    def join(self, payloads: Sequence[bytes]) -> bytes:
        return b"\n".join(payloads)

    def split(self, payload: bytes, max_bytes: int) -> list[bytes]:
        return lines_within(payload.split(b"\n"), max_bytes)


JSON: Final[Format] = JsonFormat()
