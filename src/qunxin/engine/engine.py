"""The engine: every operation of Qunxin, without a transport.

`qunxin.open` gives one over SQLite; a server gives one to its gateways. All methods run on one
event loop and may be called side by side. For everything that can be foreseen they raise
`QunxinError` and nothing else. `caller` says who asks (`SYSTEM`, the embedding program, unless
told otherwise); `acting` names the user for whom an API key acts.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Self

from qunxin.broker import Broker
from qunxin.clock import Clock, SystemClock
from qunxin.engine.access import SYSTEM, Caller, check_access
from qunxin.engine.comings import ComingsIndex
from qunxin.engine.commit import Committer
from qunxin.engine.core import check_id, check_limit
from qunxin.engine.cursors import CursorBuffer
from qunxin.engine.directory import DirectoryOperations
from qunxin.engine.fanout import Fanout
from qunxin.engine.gate import ReadGate
from qunxin.engine.keyring import KeyOperations
from qunxin.engine.live import Live
from qunxin.engine.membership import MemberCache
from qunxin.engine.messages import MAX_PAGE, MessageOperations
from qunxin.engine.publishing import Publisher
from qunxin.engine.quotas import Quotas
from qunxin.engine.results import Presence, SessionInfo
from qunxin.engine.session import GAINS_AT_ONCE, Session
from qunxin.engine.settings import EngineSettings
from qunxin.engine.sink import CloseReason, Position, Sink
from qunxin.engine.tokens import TokenMark, plan_revocation, sign_in
from qunxin.engine.webhooks import WebhookOperations
from qunxin.errors import QunxinError
from qunxin.model import BROADCAST, Conversation, User
from qunxin.observe import NULL_TRACER, NullObserver, Observer, Tracer
from qunxin.store import Store
from qunxin.store.commands import (
    Command,
    EndSessions,
    EraseUser,
    PutUser,
    SweepErased,
)
from qunxin.store.results import Done
from qunxin.tasks import TaskSet

_log = logging.getLogger("qunxin.engine")
_SWEEP_SECONDS = 3_600
_DAY_MS = 86_400_000
_ANSWERS_WITHIN_SECONDS = 5.0
_FULL_SECONDS = 10.0
"""After which a device asks again where its user has too many connected."""

Watcher = Callable[[Sequence[tuple[Command, Done]]], None]


class Engine(DirectoryOperations, MessageOperations, KeyOperations, WebhookOperations):
    """One node's engine over a store and a broker, which it opens and closes.

    Used with ``async with``, or `open` and `close`.
    """

    def __init__(
        self,
        store: Store,
        broker: Broker,
        *,
        settings: EngineSettings | None = None,
        clock: Clock | None = None,
        observer: Observer | None = None,
        tracer: Tracer | None = None,
    ) -> None:
        self.store = store
        self.settings = settings or EngineSettings()
        self.clock = clock or SystemClock()
        self.observer: Observer = observer or NullObserver()
        self.tracer: Tracer = tracer or NULL_TRACER
        self.tasks = TaskSet()
        self.fanout = Fanout(
            broker, self.observer, self.settings.fanout_slice_sessions, self.tracer
        )
        self.comings = ComingsIndex(self.fanout, self.tasks, self.settings)
        self.gains = asyncio.Semaphore(GAINS_AT_ONCE)
        """Sessions take their turns at it to read what their users came into."""
        self._publisher = Publisher(broker.publish, self.fanout.audience)
        self.committer = Committer(
            store,
            self.settings,
            self.clock,
            self.observer,
            on_done=self._after_commit,
            on_next=self._publisher.release,
        )
        self.cursors = CursorBuffer(self.committer, self.settings.cursor_flush_seconds)
        self.member_cache = MemberCache(store, self.tasks, self.settings.member_cache_groups)
        self.quotas = Quotas(self.settings, self.clock)
        self.gate = ReadGate()
        self._broker = broker
        self._sessions: dict[str, dict[str, Session]] = {}
        self._session_count = 0
        self._closing = False
        self._watchers: list[Watcher] = []

    # --- life --------------------------------------------------------------------------------

    async def open(self) -> None:
        """Open store and broker and begin. Raises `store_unavailable`, for example where another
        process owns the database."""
        await self.store.open()
        await self._broker.open(self.fanout.handle)
        self.committer.open(self.tasks)
        await self.member_cache.read_unreachable()
        self.tasks.start("cursors", self.cursors.run())
        self.tasks.start("sweep", self._sweep())

    async def close(self) -> None:
        """Refuse what is new, answer what was accepted and hand it to the sessions in step, end
        them, close the store."""
        if self._closing:
            return
        self._closing = True
        await self.cursors.flush()
        await self.committer.close()
        for session in self._all_sessions():
            session.end(CloseReason.SHUTTING_DOWN)
        await self.tasks.close()
        await self._broker.close()
        await self.store.close()

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    @property
    def epoch(self) -> str:
        """Names the store's present history."""
        return self.store.epoch

    async def healthy(self) -> bool:
        """Whether this node takes work: its store answers in time, and kept the last transaction
        (of the last ten seconds)."""
        if self._closing or self.committer.failing:
            return False
        try:
            async with asyncio.timeout(_ANSWERS_WITHIN_SECONDS):
                await self.store.read_heads([str(BROADCAST)])
        except (QunxinError, TimeoutError):
            return False
        return True

    # --- after a commit ----------------------------------------------------------------------

    def _after_commit(self, done: Sequence[tuple[Command, Done]]) -> None:
        """Tell caches and publisher of a durable batch, in its order."""
        if any(isinstance(command, PutUser | EraseUser | SweepErased) for command, _ in done):
            self.member_cache.refresh_unreachable()
        entries = [entry for _, outcome in done for entry in outcome.entries]
        self.member_cache.apply(entries)
        self._publisher.add(entries)
        for watcher in self._watchers:
            watcher(done)

    def watch(self, watcher: Watcher) -> Callable[[], None]:
        """Call `watcher` with every durable batch of this node from now on, in order, on the
        loop, until what is returned is called. It must return at once and must not raise."""
        self._watchers.append(watcher)
        return lambda: self._watchers.remove(watcher)

    def connected_to(self, conversation: str, position: int) -> tuple[str, ...]:
        """The users with a session on this node that was handed the entry at `position`, or is
        in step and so is about to be."""
        return self.fanout.holders(conversation, position)

    async def _sweep(self) -> None:
        """Once an hour: take long erased users out of the groups that still list them."""
        days = self.settings.erased_sweep_days
        while True:
            removed = 1
            while removed:
                before = self.clock.now_ms() - days * _DAY_MS
                try:
                    result = (await self.committer.run(SweepErased(before))).result
                except QunxinError as error:
                    if error.code == "shutting_down":
                        return
                    _log.warning("the sweep waits for the next hour: %s", error.code)
                    break
                removed = result if isinstance(result, int) else 0
            await asyncio.sleep(_SWEEP_SECONDS)

    # --- sessions ----------------------------------------------------------------------------

    async def connect(
        self,
        user: str,
        sink: Sink,
        *,
        positions: Mapping[str, Position] | None = None,
        client: str = "",
        token: TokenMark | None = None,
    ) -> Session:
        """A new session of `user`; entries flow to `sink` after `Session.start`.

        `positions` is where the device says it stands, by conversation; unknown ones are passed
        over; `token` is what the device came with, where it needed one. Raises `user_not_found`,
        `user_erased`, `user_suspended`, `token_revoked`, `rate_limited` (too many of
        this user's are connected), `shutting_down`; where the device must reload something that
        no other has, which is committed first, what `Committer.run` raises.
        """
        check_id("user", user)
        if self._closing:
            raise QunxinError("shutting_down")
        limit = self.settings.user_connections
        if limit and len(self._sessions.get(user, {})) >= limit:
            raise QunxinError("rate_limited", retry_after=_FULL_SECONDS, quota="user_connections")
        now = self.clock.now_ms()
        session = Session(self, secrets.token_hex(8), user, sink, client, now, token)
        self._sessions.setdefault(user, {})[session.id] = session
        self._session_count += 1
        try:
            await session.prepare(positions or {})
        except BaseException:
            await session.close()
            raise
        self.observer.sessions_changed(self._session_count)
        return session

    def listen(self, user: str, *, positions: Mapping[str, Position] | None = None) -> Live:
        """What `user` receives, live, for the embedding program: ``async with`` and
        ``async for``."""
        return Live(self, user, positions or {}, self.settings.live_queue_entries)

    def session_closed(self, session: Session) -> None:
        """Called by each session once, when it has left the index."""
        own = self._sessions.get(session.user, {})
        if own.pop(session.id, None) is None:
            return
        if not own:
            del self._sessions[session.user]
        self._session_count -= 1
        self.observer.sessions_changed(self._session_count)

    def _all_sessions(self) -> list[Session]:
        return [session for own in self._sessions.values() for session in own.values()]

    def sessions(self, user: str, *, caller: Caller = SYSTEM) -> tuple[SessionInfo, ...]:
        """The user's devices connected to this node, oldest first."""
        check_access(caller, "user.sessions", about=user)
        return tuple(
            SessionInfo(s.id, s.user, s.connected, s.client, s.conversations)
            for s in self._sessions.get(user, {}).values()
        )

    async def presence(
        self,
        group: str,
        *,
        limit: int = 100,
        acting: str | None = None,
        caller: Caller = SYSTEM,
    ) -> Presence:
        """Who has a device on this node that follows the group: members alone may know. Counts
        are of all, devices are named up to `limit`."""
        check_access(caller, "group.presence")
        check_limit(limit, MAX_PAGE)
        await self.check_role(caller, "group.presence", check_id("group", group), acting)
        return self.fanout.presence(str(Conversation.group(group)), limit)

    async def end_sessions(self, user: str, *, caller: Caller = SYSTEM) -> None:
        """End every live session of `user`, on every node: on return those here have ended, the
        others do as their node learns of it. The user may connect again."""
        check_access(caller, "user.end_sessions", about=user)
        await self.commit(EndSessions(check_id("user", user)), caller)
        self._end_those_with(user, None)

    def end_session(self, user: str, session: str, *, caller: Caller = SYSTEM) -> bool:
        """End one session of `user` on this node; False where there is none of that id. The
        device may connect again."""
        check_access(caller, "user.end_session", about=user)
        found = self._sessions.get(user, {}).get(session)
        if found is None:
            return False
        found.end(CloseReason.SESSIONS_ENDED)
        return True

    # --- tokens ------------------------------------------------------------------------------

    async def sign_in(self, user: str, token: TokenMark | None) -> User:
        """The account, where it may act and `token` is not revoked. Raises `user_not_found`,
        `user_erased`, `user_suspended`, `token_revoked`."""
        return await sign_in(self.store, check_id("user", user), token)

    async def revoke_tokens(
        self, user: str, token: str | None = None, *, caller: Caller = SYSTEM
    ) -> None:
        """Refuse one token of `user` by its id, or all that were issued until now. On return it
        is durable, and the sessions here that came with them have ended; other nodes follow. Of a
        user 1,000 ids are remembered: one more, and all that was issued until the oldest of them
        was revoked is refused in its place."""
        operation = "token.revoke_all" if token is None else "token.revoke"
        check_access(caller, operation, about=user)
        await self.commit(plan_revocation(check_id("user", user), token), caller)
        self._end_those_with(user, token)

    def _end_those_with(self, user: str, token: str | None) -> None:
        for session in list(self._sessions.get(user, {}).values()):
            if session.came_with(token):
                session.end(CloseReason.SESSIONS_ENDED)
