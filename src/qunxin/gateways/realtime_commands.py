"""What each command of the realtime protocol does: from its struct to the engine and back.

Every handler raises `QunxinError` for a refusal, answered under the command's id.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Final, Protocol

import msgspec
from msgspec import Meta

from qunxin.clock import Clock
from qunxin.engine import Engine
from qunxin.engine.access import Caller
from qunxin.engine.buckets import Buckets
from qunxin.engine.results import EntriesPage, Presence
from qunxin.engine.session import Session
from qunxin.engine.sink import Position
from qunxin.engine.tokens import TokenMark
from qunxin.errors import LANGUAGES, QunxinError, best_language
from qunxin.gateways.operations import OPERATIONS, Operation, Services, TokenIssuer
from qunxin.gateways.operations.wording import in_words
from qunxin.gateways.realtime_entrance import Entrance
from qunxin.gateways.realtime_session import RealtimeSession
from qunxin.gateways.realtime_settings import RealtimeSettings
from qunxin.gateways.realtime_views import Subscription, subscription_view
from qunxin.model import Conversation, ConversationKind
from qunxin.version import VERSION
from qunxin.wire.codes import (
    ALREADY_SUBSCRIBED,
    NOT_AVAILABLE,
    UNRECOVERABLE_POSITION,
    Disconnect,
    ProtocolError,
)
from qunxin.wire.entries import encode_entry
from qunxin.wire.frames import (
    MAX_CHANNELS,
    Channel,
    Command,
    Connect,
    History,
    OfChannel,
    StreamPosition,
    decode_any,
)
from qunxin.wire.session import State, Verdict

_log = logging.getLogger("qunxin.realtime")

_MAX_CLIENT_LENGTH: Final = 64
_MAX_HISTORY: Final = 1_000
_MAX_PRESENT: Final = 1_000
_VERSION: Final = f"qunxin {VERSION}"
_SEND: Final = OPERATIONS["message.send"]
_encode = msgspec.json.Encoder().encode


class Identity(Protocol):
    """What a valid token says."""

    @property
    def user(self) -> str: ...
    @property
    def expires_at_ms(self) -> int: ...
    @property
    def token(self) -> TokenMark: ...


class Tokens(TokenIssuer, Protocol):
    """Makes and checks users' tokens."""

    async def verify_token(self, token: str) -> Identity:
        """Whom a token is for. Raises `token_expired` or `unauthenticated`; whether it was
        revoked is for the engine to say."""
        ...


class ConnectData(msgspec.Struct):
    """What `connect.data` may hold of ours: the positions of a device that has only just
    started, the language of error texts, and of which groups the device wants to be told who
    comes and goes (true: of all). The rest is the application's own."""

    positions: dict[str, StreamPosition] | None = None
    language: str | None = None
    join_leave: bool | Annotated[set[Channel], Meta(max_length=MAX_CHANNELS)] = False


class Welcome(msgspec.Struct, omit_defaults=True):
    """The reply to `connect`."""

    client: str
    version: str
    ping: int
    pong: bool
    subs: dict[str, Subscription]
    expires: bool = False
    ttl: int = 0
    session: str = ""
    """What commands name that cannot come over the connection itself, and the node they go to."""
    node: str = ""


class Commands:
    """The handlers, for all sessions of one gateway."""

    def __init__(
        self, engine: Engine, tokens: Tokens, settings: RealtimeSettings, clock: Clock
    ) -> None:
        self._engine = engine
        self._tokens = tokens
        self._settings = settings
        self._clock = clock
        self._services = Services(engine, tokens)
        self.node = secrets.token_hex(8)
        """This node's name, another one after each start."""
        self._loop = asyncio.get_running_loop()
        rate = settings.commands_per_second
        self._budgets = Buckets(rate, 2 * rate)
        """One for each user, whichever connection spends it: who was thrown out for too many
        commands owes them still when they come back."""
        self._entrance = Entrance(
            max_guests=settings.max_connecting, wait_seconds=settings.connect_wait_seconds
        )
        self._handlers: dict[str, Callable[[RealtimeSession, Command], Awaitable[None]]] = {
            "subscribe": self._subscribe,
            "unsubscribe": self._unsubscribe,
            "publish": self._publish,
            "history": self._history,
            "rpc": self._rpc,
            "refresh": self._refresh,
            "ping": self._ping,
            "presence": self._presence,
            "presence_stats": self._presence_stats,
        }

    async def handle(self, session: RealtimeSession, kind: str, command: Command) -> None:
        """Carry out one command and have its answer sent. Never raises."""
        verdict = session.protocol.judge(kind)
        if isinstance(verdict, Disconnect):
            session.disconnect(verdict)
        elif isinstance(verdict, ProtocolError):
            _refuse(session, command, verdict)
        elif verdict is Verdict.HANDLE:
            handler = self._connect if kind == "connect" else self._handlers[kind]
            try:
                await handler(session, command)
            except QunxinError as error:
                session.refuse(command.id, error)
            except Exception:  # noqa: BLE001 - a defect: logged whole, shown as internal
                _log.exception("%s failed", kind)
                session.refuse(command.id, QunxinError("internal"))

    def ended(self, session: RealtimeSession) -> None:
        """The connection is over; what it waits for is not done for it any more."""
        self._entrance.leave(session)

    def close(self) -> None:
        """Let no device in any more; those that wait are told at once to come back."""
        self._entrance.close()

    # --- connecting --------------------------------------------------------------------------

    async def _connect(self, session: RealtimeSession, command: Command) -> None:
        """Admit the client, or refuse it and let it leave."""
        request = command.connect or Connect()
        try:
            identity = await self._tokens.verify_token(request.token)
            data = _connect_data(request.data)
            positions = self._read_connect(session, request, data)
            entered = await self._enter(session, request, identity, positions)
        except Exception:
            session.let_leave()
            raise
        if not session.open:
            await entered.close()
            return
        entered.ask_comings(_asked_comings(request, data))
        self._welcome(session, command.id, entered, identity)

    def _read_connect(
        self, session: RealtimeSession, request: Connect, data: ConnectData
    ) -> dict[str, Position]:
        """The positions that the client gives, those of this run of the SDK before stored ones;
        and the language it wants."""
        accepted = {name.lower(): value for name, value in (request.headers or {}).items()}
        if data.language in LANGUAGES:
            session.language = data.language
        elif "accept-language" in accepted:
            session.language = best_language(accepted["accept-language"])
        positions = {
            name: Position(stored.epoch, stored.offset)
            for name, stored in (data.positions or {}).items()
        }
        for name, known in (request.subs or {}).items():
            if known.recover:
                positions[name] = Position(known.epoch, known.offset)
        return positions

    async def _enter(
        self,
        session: RealtimeSession,
        request: Connect,
        identity: Identity,
        positions: dict[str, Position],
    ) -> Session:
        client = f"{request.name} {request.version}".strip()[:_MAX_CLIENT_LENGTH]
        async with self._entrance.let_in(session, identity.user):
            return await self._engine.connect(
                identity.user, session, positions=positions, client=client, token=identity.token
            )

    def _welcome(
        self, session: RealtimeSession, command_id: int, entered: Session, identity: Identity
    ) -> None:
        """Reply, and only then let entries flow."""
        session.engine_session = entered
        session.budget = self._budgets.of(entered.user, self._loop.time())
        session.protocol.state = State.CONNECTED
        session.expires_at_ms = identity.expires_at_ms
        welcome = Welcome(
            client=entered.id,
            version=_VERSION,
            ping=max(1, round(self._settings.ping_interval_seconds)),
            pong=True,
            subs={start.conversation: subscription_view(start) for start in entered.starts},
            expires=True,
            ttl=self._ttl(identity),
            session=session.stream,
            node=session.stream and self.node,
        )
        session.reply(command_id, "connect", welcome)
        entered.start()

    async def _refresh(self, session: RealtimeSession, command: Command) -> None:
        """A new token in time. SDKs give up after an expired one unless told that it is
        temporary: the next one that they fetch may be good."""
        token = "" if command.refresh is None else command.refresh.token
        try:
            identity = await self._tokens.verify_token(token)
        except QunxinError as error:
            session.refuse(command.id, error, temporary=error.code == "token_expired")
            return
        if identity.user != _engine_session(session).user:
            raise QunxinError("forbidden", detail="the token is another user's")
        await _engine_session(session).renew(identity.token)
        session.expires_at_ms = identity.expires_at_ms
        result = {"client": _engine_session(session).id, "version": _VERSION,
                  "expires": True, "ttl": self._ttl(identity)}  # fmt: skip
        session.reply(command.id, "refresh", result)

    def _ttl(self, identity: Identity) -> int:
        return max(1, (identity.expires_at_ms - self._clock.now_ms()) // 1000)

    # --- subscriptions -----------------------------------------------------------------------

    async def _subscribe(self, session: RealtimeSession, command: Command) -> None:
        request, engine_session = command.subscribe, _engine_session(session)
        if request is None:
            raise QunxinError("invalid_request", detail="subscribe: missing")
        name, comings = request.channel, request.join_leave
        position = Position(request.epoch, request.offset) if request.recover else None
        if not engine_session.subscribed(name):
            start = await engine_session.subscribe(name, position, comings=comings)
        elif position is None or engine_session.is_inbox(name):
            _refuse(session, command, ALREADY_SUBSCRIBED)
            return
        else:
            start = await engine_session.take_over(name, position, comings=comings)
        session.reply(command.id, "subscribe", subscription_view(start))
        engine_session.resume(request.channel)

    async def _unsubscribe(self, session: RealtimeSession, command: Command) -> None:
        if command.unsubscribe is not None:
            _engine_session(session).unsubscribe(command.unsubscribe.channel)
        session.reply(command.id, "unsubscribe", {})

    # --- operations --------------------------------------------------------------------------

    async def _rpc(self, session: RealtimeSession, command: Command) -> None:
        method = "" if command.rpc is None else command.rpc.method
        operation = OPERATIONS.get(method)
        if command.rpc is None or operation is None:
            raise QunxinError("unknown_method", method=method)
        request = _decode_request(operation, bytes(command.rpc.data))
        response = await operation.run(self._services, _caller(session), request)
        session.send(session.format.rpc_reply(command.id, _encode(response)))

    async def _publish(self, session: RealtimeSession, command: Command) -> None:
        """`message.send` to the conversation: its kind is the message's type."""
        if command.publish is None:
            raise QunxinError("invalid_request", detail="publish: missing")
        user = _engine_session(session).user
        named = _addressed(command.publish.channel, user)
        body = _plain(bytes(command.publish.data))
        for field, value in named.items():
            if body.setdefault(field, value) != value:
                raise QunxinError("invalid_request", detail=f"{field}: the channel says {value}")
        await _SEND.run(self._services, Caller.as_user(user), _SEND.decode(body))
        session.reply(command.id, "publish", {})

    async def _history(self, session: RealtimeSession, command: Command) -> None:
        """Without a limit the position only. A position of another epoch is refused, so that
        nobody reads on in another history unawares."""
        request = command.history
        if request is None:
            raise QunxinError("invalid_request", detail="history: missing")
        if request.since is not None and request.since.epoch not in ("", self._engine.epoch):
            _refuse(session, command, UNRECOVERABLE_POSITION)
            return
        page = await self._read_history(request, _caller(session))
        entries = page.entries if request.limit else ()
        shown = [
            {"data": msgspec.Raw(encode_entry(entry)), "offset": entry.position}
            for entry in (reversed(entries) if request.reverse else entries)
        ]
        result = {"publications": shown, "epoch": page.epoch, "offset": page.head}
        session.reply(command.id, "history", result)

    async def _read_history(self, request: History, caller: Caller) -> EntriesPage:
        asked = request.limit or 1
        limit = _MAX_HISTORY if asked < 0 else min(asked, _MAX_HISTORY)
        after = before = None
        if request.reverse:
            before = None if request.since is None else max(1, request.since.offset)
        else:
            after = 0 if request.since is None else request.since.offset
        return await self._engine.entries(
            request.channel, after=after, before=before, limit=limit, caller=caller
        )

    async def _presence(self, session: RealtimeSession, command: Command) -> None:
        """All of them, by session: the protocol has no pages, so too many are refused."""
        found = await self._present(session, command, command.presence, _MAX_PRESENT)
        if found is None:
            return
        if found.clients > _MAX_PRESENT:
            detail = f"over {_MAX_PRESENT} are present; ask presence_stats or group.presence"
            raise QunxinError("invalid_request", detail=detail)
        present = {one.session: {"client": one.session, "user": one.user} for one in found.present}
        session.reply(command.id, "presence", {"presence": present})

    async def _presence_stats(self, session: RealtimeSession, command: Command) -> None:
        found = await self._present(session, command, command.presence_stats, 1)
        if found is not None:
            result = {"num_clients": found.clients, "num_users": found.users}
            session.reply(command.id, "presence_stats", result)

    async def _present(
        self, session: RealtimeSession, command: Command, asked: OfChannel | None, limit: int
    ) -> Presence | None:
        """Who follows a group; of other conversations nobody is told, and None comes back."""
        conversation = Conversation.parse("" if asked is None else asked.channel)
        if conversation is None:
            raise QunxinError("conversation_not_found")
        if conversation.kind is not ConversationKind.GROUP:
            _refuse(session, command, NOT_AVAILABLE)
            return None
        return await self._engine.presence(
            conversation.parts[0], limit=limit, caller=_caller(session)
        )

    async def _ping(self, session: RealtimeSession, command: Command) -> None:
        session.reply(command.id, "ping", {})


def _refuse(session: RealtimeSession, command: Command, error: ProtocolError) -> None:
    session.send(session.format.error(command.id, error.number, error.message))


def _engine_session(session: RealtimeSession) -> Session:
    """The session of a connected client. It may have ended while a command waited."""
    if session.engine_session is None:
        raise QunxinError("shutting_down")
    return session.engine_session


def _caller(session: RealtimeSession) -> Caller:
    return Caller.as_user(_engine_session(session).user)


def _connect_data(data: bytes | msgspec.Raw) -> ConnectData:
    """What is ours in `connect.data`; anything but an object is the application's alone."""
    text = bytes(data)
    if not text.lstrip().startswith(b"{"):
        return ConnectData()
    try:
        return _connect_data_decoder.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise QunxinError("invalid_request", detail=f"connect.data: {error}") from None


def _asked_comings(request: Connect, data: ConnectData) -> bool | set[str]:
    """Of which groups the client wants to be told who comes and goes; True for all."""
    if data.join_leave is True:
        return True
    asked = {name for name, known in (request.subs or {}).items() if known.join_leave}
    return asked | (data.join_leave or set())


_connect_data_decoder = msgspec.json.Decoder(ConnectData)
_request_decoders = {
    name: msgspec.json.Decoder(operation.request) for name, operation in OPERATIONS.items()
}


def _decode_request(operation: Operation, data: bytes) -> Any:
    try:
        return _request_decoders[operation.name].decode(data or b"{}")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise QunxinError("invalid_request", detail=in_words(error)) from None


def _plain(data: bytes) -> dict[str, Any]:
    try:
        value = decode_any(data)
    except ValueError as error:
        raise QunxinError("invalid_request", detail=f"data: {error}") from None
    if not isinstance(value, dict):
        raise QunxinError("invalid_request", detail="data: an object with text or content")
    return value


def _addressed(channel: str, user: str) -> dict[str, str]:
    """Type and recipient of a message to the conversation `channel` by `user`."""
    conversation = Conversation.parse(channel)
    if conversation is None or conversation.kind is ConversationKind.INBOX:
        raise QunxinError("conversation_not_found")
    if conversation.kind is ConversationKind.PRIVATE:
        if user not in conversation.parts:
            raise QunxinError("conversation_not_found")
        one, other = conversation.parts
        return {"type": str(conversation.kind), "to": other if one == user else one}
    return {"type": str(conversation.kind), "to": conversation.parts[0]}
