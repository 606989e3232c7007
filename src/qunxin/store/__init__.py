"""The store's contract: the one truth about users, groups, entries, memberships and cursors.

A store is one door for writing, `commit`, and a handful of snapshot reads. Commands are plain
values; a command carries the conditions under which it may happen, and the store judges them
inside its own transaction, where no cache can be stale. `qunxin.testing.store` holds the suite
that every store passes.

The values are in `qunxin.store.commands`, `qunxin.store.results` and `qunxin.store.reads`, those
of `export_records` and `import_records` in `qunxin.records`.

What a store does not promise: to answer within a time (the engine gives commits a deadline, reads
none), to deliver anything to anybody, to know who is connected.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from qunxin.model import ApiKey, Cursor, DeliveryState, Group, Member, SignIn, User, Webhook
from qunxin.records import RecordStore
from qunxin.store.commands import Command
from qunxin.store.reads import (
    ConversationRow,
    EventRead,
    GroupsPage,
    LedgerPage,
    LogPage,
    MemberKeys,
    MembersPage,
    OutboxEvent,
    OutboxItem,
    OutboxPage,
    UnreachableSet,
    UsersPage,
)
from qunxin.store.results import Outcome


class Store(RecordStore, Protocol):
    """Calls may run side by side from tasks of one loop. A call that is cancelled may still take
    effect. A store that cannot work raises `store_unavailable` (nothing took effect) or
    `outcome_unknown` (it may have)."""

    @property
    def epoch(self) -> str:
        """Names this history: another one after a restore, and wherever a tail that was once
        answered for may have been lost. Known once open."""
        ...

    async def open(self) -> None:
        """Bring the schema up to date and be ready. Refused where another process owns it."""
        ...

    async def close(self) -> None:
        """Finish what was handed in, release everything. Recalled content is in no file."""
        ...

    async def commit(self, commands: Sequence[Command]) -> Sequence[Outcome]:
        """Carry out `commands` in order as one durable transaction; one outcome each, in order.

        On return everything that was `Done` has been fsynced. A refused command changes nothing
        and disturbs no neighbour; each sees what those before it did.
        """
        ...

    async def read_log(
        self,
        conversation: str,
        reader: str | None,
        *,
        after: int = 0,
        before: int | None = None,
        limit: int = 100,
        max_bytes: int = 256 * 1024,
        newest: bool = False,
    ) -> LogPage:
        """Entries with `after` < position < `before`: the first `limit` of them, or with
        `newest` the last. `reader` None sees all. Stops at `max_bytes` of content (never
        without at least one entry). An unknown conversation is an empty page."""
        ...

    async def read_heads(self, conversations: Sequence[str]) -> dict[str, int]:
        """The last position of each; 0 where it is unknown or empty."""
        ...

    async def read_user(self, user: str) -> User | None: ...

    async def read_sign_in(self, user: str, token: str | None = None) -> SignIn | None:
        """The account, erased or not, and what is refused to its tokens, the one with the id
        `token` among them; None where there never was one."""
        ...

    async def read_group(self, group: str) -> Group | None: ...

    async def list_users(self, *, cursor: str | None = None, limit: int = 100) -> UsersPage:
        """Accounts that are not erased, by integer key, `limit` at most, from the opaque
        `cursor`."""
        ...

    async def list_groups(self, *, cursor: str | None = None, limit: int = 100) -> GroupsPage:
        """Groups that are not dissolved, likewise."""
        ...

    async def read_member(self, group: str, user: str) -> Member | None:
        """The current membership, or None."""
        ...

    async def list_members(
        self, group: str, *, cursor: str | None = None, limit: int = 100
    ) -> MembersPage:
        """Current members by integer key, `limit` at most, from the opaque `cursor`."""
        ...

    async def read_member_keys(self, group: str) -> MemberKeys: ...

    async def read_unreachable(self) -> UnreachableSet: ...

    async def list_blocked(self, user: str) -> tuple[str, ...]: ...

    async def list_conversations(
        self, user: str, *, cursor: str | None = None, limit: int = 200
    ) -> tuple[tuple[ConversationRow, ...], str | None]:
        """Groups the user is in, private conversations and the broadcasts (never the inbox),
        most recent entry first, with the cursor of the next page."""
        ...

    async def read_conversations(
        self, user: str, conversations: Sequence[str]
    ) -> tuple[ConversationRow, ...]:
        """The rows of those among `conversations` that the user is in now (inbox included)."""
        ...

    async def read_cursor(self, user: str, conversation: str) -> Cursor:
        """Zeros where nothing is known."""
        ...

    async def list_deliveries(
        self,
        conversation: str,
        position: int,
        *,
        state: DeliveryState | None = None,
        cursor: str | None = None,
        limit: int = 100,
        without: Sequence[str] = (),
        counted: bool = True,
    ) -> LedgerPage | None:
        """The ledger of one message; None where there is no such message. Counts cover the whole
        audience whatever `state` is asked for, the users in `without` left out everywhere; they
        are left empty where not `counted`, which spares reading all. An event has no ledger."""
        ...

    async def read_api_keys(self) -> tuple[ApiKey, ...]: ...

    async def read_webhooks(self) -> tuple[Webhook, ...]:
        """Oldest first, with their secrets."""
        ...

    async def read_outbox(self, after: int, *, limit: int = 500) -> OutboxPage:
        """The entries of all conversations in the order of their commits, `limit` at most; a page
        may be empty while `through` is below `head`.

        The log itself is the outbox, so a send pays nothing for it. Serials rise, within a
        conversation with the positions, and once a page reached `through` no entry ever appears
        at or below it. One writer whose rows grow at the end gives that by itself. A store with
        several writers must read only below its oldest open transaction (on PostgreSQL: rows
        ordered by transaction id, then number, with an id below `pg_snapshot_xmin`).
        """
        ...

    async def read_outbox_at(self, serials: Sequence[int]) -> tuple[OutboxItem, ...]:
        """The entries that pages of the outbox had at those serials, ascending. A serial of none
        is left out."""
        ...

    async def read_events(
        self,
        asked: Sequence[EventRead],
        *,
        named: int = 100,
        audience: int = 10_000,
        max_bytes: int = 256 * 1024,
    ) -> tuple[OutboxEvent, ...]:
        """The first of the `asked` entries of the outbox, in that order and all of one snapshot;
        recalled messages are tombstones. At most `named` of the queued are named; in groups of
        more than `audience` members they are not counted.

        Never without at least one, it stops before the content exceeds `max_bytes` or the
        members of the messages' groups together `audience`: so one read stays as short as
        that of one event may be.
        """
        ...

    async def find_serial(self, time: int) -> int:
        """The serial below the first entry whose time is `time` or later; the last serial where
        there is none. May read the whole log."""
        ...

    async def backup(self, path: Path) -> None:
        """Write a whole, consistent copy to `path` while commits go on. A store opened from it
        has a new epoch."""
        ...
