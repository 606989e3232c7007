"""What the realtime gateway can be told."""

from __future__ import annotations

from typing import Final, Literal

import msgspec

PATH: Final = "/connection/websocket"
STREAM_PATH: Final = "/connection/http_stream"
EVENTS_PATH: Final = "/connection/sse"
EMULATION_PATH: Final = "/emulation"
CONNECT_BYTES: Final = 1024 * 1024
"""What a `connect` command may hold: it lists the positions of all conversations."""


class RealtimeSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Defaults suit one node; every queue of a connection has its bound here."""

    websocket_backend: Literal["picows", "websockets"] = "picows"
    allowed_hosts: tuple[str, ...] = ()
    """Names under which clients may address this node, beside the loopback ones."""
    allowed_origins: tuple[str, ...] = ()
    """Web origins whose pages may connect, beside the node's own."""
    max_message_bytes: int = 65_536
    """Content of one message, as JSON in UTF-8."""
    max_connections: int = 20_000
    max_connecting: int = 200
    """`connect` commands that wait or are in work; others are told to come back after a while."""
    connect_wait_seconds: float = 4.0
    """How long a `connect` command waits for those before it; then it is told to come back after a
    while. SDKs give up after 5 seconds."""
    max_unsent_bytes: int = 4 * 1024 * 1024
    """Written to one connection and not yet proven, by a pong, to have arrived. A connection that
    stays beyond it for `slow_seconds` is ended with a code that makes it come back and catch
    up."""
    slow_seconds: float = 2.0
    ping_interval_seconds: float = 25.0
    """The longest time between two pings to a connection."""
    ping_spacing_seconds: float = 3.0
    """The shortest time between two pings that only prove deliveries."""
    ping_every_bytes: int = 256 * 1024
    """A busy connection is pinged after so much was written to it."""
    pong_timeout_seconds: float = 10.0
    connect_timeout_seconds: float = 10.0
    """From the upgrade to the `connect` command, and for a client whose `connect` was refused to
    leave."""
    expiry_grace_seconds: float = 10.0
    """How long a connection outlives its token, for the refresh to arrive."""
    linger_seconds: float = 2.0
    """From a close frame, or the last words of a stream, to the cut, for the client to read it and
    answer."""
    shutdown_timeout_seconds: float = 10.0
    commands_per_second: float = 2_000.0
    """Of one user, whichever connections they come by, twice as many at once; beyond it:
    `rate_limited`."""
    max_pending_commands: int = 256
    """Waiting for their turn in one connection; beyond it: `rate_limited`."""
    max_pending_bytes: int = 1024 * 1024
    """How long the lines of one connection's commands, waiting and under way, may be together,
    `connect` not counted; beyond it: `rate_limited`."""
    max_sends_at_once: int = 64
    """Messages of one connection that may share its next transactions."""

    @property
    def max_burst_bytes(self) -> int:
        """Unproven bytes that end a connection at once. They are mostly frames that all readers
        of a group share."""
        return 16 * self.max_unsent_bytes

    @property
    def max_line_bytes(self) -> int:
        """One command after `connect`: a message, every character of it escaped, and the rest."""
        return 2 * self.max_message_bytes + 16 * 1024

    @property
    def max_frame_bytes(self) -> int:
        """The hard limit: longer frames and messages end the connection unread."""
        return max(CONNECT_BYTES, 4 * self.max_line_bytes)
