"""The HTTP gateway's settings: limits and times, each with its unit in its name."""

from __future__ import annotations

import msgspec


class HttpSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Defaults suit a server on the loopback, or behind a proxy whose name is an allowed host."""

    allowed_hosts: tuple[str, ...] = ()
    """Names this server answers to, beside loopback and the address connected to; ``*``: all."""
    allowed_origins: tuple[str, ...] = ()
    """Other sites whose pages may use this server (CORS); ``*``: all."""
    max_body_bytes: int = 1024 * 1024
    """Of a request; enough for 10,000 of the longest ids at once."""
    max_header_bytes: int = 32 * 1024
    """Of a request, its first line included."""
    max_nesting: int = 40
    """Depth of a JSON body; the content of a message has a limit of its own below it."""
    max_requests_in_flight: int = 1_000
    """Being carried out; beyond it: `overloaded`."""
    max_bodies_in_flight: int = 4_000
    """Requests whose body is still coming; beyond it: `overloaded`."""
    max_requests_per_user: int = 64
    """Coming, and again being carried out, with users' own tokens; beyond it that user is
    `rate_limited`."""
    request_deadline_seconds: float = 15.0
    """For a body to arrive and its answer to be made; after it a request is answered 408,
    `overloaded` (nothing was begun) or `outcome_unknown`."""
    header_deadline_seconds: float = 10.0
    """For a request's headers to arrive, from the first byte or the connection's start."""
    body_grace_seconds: float = 5.0
    """For a body to begin to come; after it, on average, it must come at the rate below."""
    min_body_bytes_per_second: int = 8 * 1024
    write_deadline_seconds: float = 30.0
    """For a client to take what it asked for; a connection that stalls longer is cut."""
    drain_bytes: int = 8 * 1024 * 1024
    """How much of a refused body is read on, so that the client comes to read the refusal."""
    drain_seconds: float = 2.0
    """How long that goes on, and how long a client that sends more than that is left waiting with
    the refusal before it is cut off."""
