"""The engine's settings: limits and times, each with its unit in its name."""

from __future__ import annotations

import msgspec


class EngineSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Defaults suit one node on a small machine; every queue and cache has its bound here."""

    max_message_bytes: int = 65_536
    """Of the content, as JSON in UTF-8."""
    recall_window_seconds: int = 120
    """How long an author may recall; owners and admins always may."""
    max_group_members: int = 1_000_000
    max_members_per_call: int = 10_000
    recent_conversations: int = 200
    """How many conversations a new session is subscribed to by itself, beside inbox and
    broadcasts."""
    max_subscriptions: int = 1_000
    """Of one session."""
    commit_queue_commands: int = 10_000
    """Waiting for the next transaction; beyond it: `overloaded`."""
    commit_queue_bytes: int = 64 * 1024 * 1024
    """Content waiting for the next transaction; beyond it: `overloaded`."""
    commit_batch_commands: int = 500
    """At most so many commands share a transaction."""
    commit_deadline_seconds: float = 10.0
    """After it a command that was not handed to the store answers `overloaded`, one that was
    answers `outcome_unknown`."""
    recovery_budget_entries: int = 20_000
    """What a connection begins with of missed entries, over all its conversations; one that it
    follows later, on demand or because its user came into it, is given so many for itself. Beyond
    it a conversation must be reloaded."""
    catchup_page_entries: int = 500
    catchup_page_bytes: int = 256 * 1024
    fanout_slice_sessions: int = 2_000
    """A larger audience is served in slices of so many sessions, others between them."""
    join_leave_clients: int = 1_000
    """In a group that more devices follow nobody is told who comes and goes; 0: nobody ever is."""
    join_leave_seconds: float = 1.0
    """How long comings and goings are gathered before they are told."""
    member_cache_groups: int = 1_000
    cursor_flush_seconds: float = 1.0
    user_sends_per_minute: int = 12_000
    """Messages of one user with their own token; 0, here and below, is no limit. What a whole
    minute or hour may bring may also come at once."""
    user_groups_per_hour: int = 200
    user_invitations_per_hour: int = 50_000
    """Members that one user adds."""
    user_connections: int = 100
    """Sessions of one user at once on this node."""
    key_sends_per_minute: int = 1_000_000
    """Messages of one API key, for whomever it acts."""
    key_groups_per_hour: int = 1_000_000
    key_invitations_per_hour: int = 100_000_000
    erased_sweep_days: int = 30
    """After so many days an erased user is removed from the groups that still list them."""
    webhook_networks: tuple[str, ...] = ()
    """Networks that are no part of the public internet and may be named in a webhook's address, in
    CIDR notation."""
    live_queue_entries: int = 10_000
    """Entries that an embedded live stream holds for a slow consumer before it is ended."""
