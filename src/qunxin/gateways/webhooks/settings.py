"""How webhooks are sent: times, bounds, and where they may go."""

from __future__ import annotations

import msgspec


class WebhookSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Defaults suit a receiver on the internet."""

    webhook_networks: tuple[str, ...] = ()
    """Networks that are no part of the public internet and may be sent to, in CIDR notation."""
    webhook_timeout_seconds: float = 15.0
    """Of one attempt, from the look-up of the name to the answer's headers."""
    webhook_max_connections: int = 4
    """Attempts at once for one webhook, each of another conversation."""
    webhook_retry_max_seconds: float = 300.0
    """The longest pause between two attempts, unless the receiver asks for a longer one."""
    webhook_retry_first_seconds: float = 1.0
    """The first pause; each one doubles."""
    webhook_window_events: int = 500
    """Events known of one webhook at once, by name only; when so many wait, the outbox is not read
    on. So many are kept with its place, too."""
    webhook_progress_seconds: float = 1.0
    """How often progress is written; what was taken since then may be sent again after a
    crash."""
