"""The client: one user's device, which comes back by itself and loses nothing."""

from __future__ import annotations

import asyncio
import logging
import ssl as tls
import uuid
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from qunxin.client.backoff import Backoff
from qunxin.client.events import Event, Handed
from qunxin.client.file import ClientFile, StoredPosition, written
from qunxin.client.following import follow_all
from qunxin.client.keeper import Keeper
from qunxin.client.link import Link, LinkBrokenError, websocket_address
from qunxin.client.operations import Operations
from qunxin.client.outbox import Outbox, OutboxStoppedError, Posted
from qunxin.client.receiver import Receiver
from qunxin.client.refusals import RefusedError, UnansweredError, check_encodable, check_message
from qunxin.client.results import ConversationView
from qunxin.client.signals import Signal
from qunxin.client.streams import Stream
from qunxin.client.tokens import Tokens, TokenSource
from qunxin.engine.results import Receipt
from qunxin.engine.sink import Position
from qunxin.errors import QunxinError
from qunxin.model import Cursor, Entry, EventType, JsonObject, MessageType, Require
from qunxin.tasks import TaskSet
from qunxin.wire.device import Ended

_log = logging.getLogger("qunxin.client")

_COUNTED: Final = 1_000


class Client(Operations):
    """Made by `connect`, used with ``async with``; all calls on one loop.

    Sending never waits for the connection to be kept: a message is in the outbox first. Events
    are taken by iterating, by one task at a time. Asking for the next event says that the
    program is done with the one before; only then is its position kept and its delivery proven.
    """

    def __init__(
        self,
        url: str,
        token: TokenSource,
        outbox: Path | None,
        positions: Mapping[str, Position] | None,
        *,
        language: str,
        patience_seconds: float,
        max_reconnect_seconds: float,
        ssl: tls.SSLContext | None,
    ) -> None:
        self._changed = Signal()
        self._file = ClientFile(outbox)
        self._receiver = Receiver(self._changed, self._admit, self._begun, self._failed)
        self.recalls = self._receiver.recalls
        self._keeper = Keeper(
            websocket_address(url),
            Tokens(token),
            self._receiver,
            self._changed,
            language=language,
            call_seconds=min(patience_seconds, 20.0),
            max_reconnect_seconds=max_reconnect_seconds,
            ssl=ssl,
        )
        self._outbox = Outbox(self._file, self._send_once, self._tell, self._failed)
        self._positions = positions
        self._patience_seconds = patience_seconds
        self._tasks = TaskSet(self._failed)
        self._in_hand: Handed | None = None
        self._handling = False
        self._owner = ""
        self._closed = False

    # --- life --------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        contents = await self._file.open()
        self._owner = self._receiver.user = contents.user
        for stored in contents.positions:
            at = self._start_of(stored)
            self._receiver.restore(stored.conversation, at.epoch, at.position, stored.ended_at)
        for name, given in (self._positions or {}).items():
            if name not in self._receiver.streams:
                self._receiver.restore(name, given.epoch, given.position, 0)
        self._outbox.restore(contents.outbox)
        self._tasks.start("connection", self._keeper.run())
        return self

    def _start_of(self, stored: StoredPosition) -> Position:
        """From where a conversation is followed: as the program says, where it keeps positions
        itself and has one of this conversation."""
        given = None if self._positions is None else self._positions.get(stored.conversation)
        return given or Position(stored.epoch, stored.position)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Without an error, the event in hand counts as done, unless `run` is still at it. What
        is in the outbox stays in its file."""
        self._closed = True
        try:
            if kind is None and not self._handling:
                await self._finish()
        finally:
            await self._tasks.close()
            self._keeper.close()
            await self._outbox.close()
            await self._receiver.close()
            await self._file.close()
            self._changed.send()

    @property
    def user(self) -> str:
        """Whose device this is; empty until the first connection or the file has told."""
        return self._receiver.user

    @property
    def connected(self) -> bool:
        return self._keeper.link is not None

    @property
    def trouble(self) -> str:
        """Why there is no connection at the moment; empty while there is one."""
        return self._keeper.trouble

    async def wait_connected(self) -> None:
        """Return while there is a connection. Raises the error that ended all connecting, or
        `outcome_unknown` where the client is closed before."""
        await self._keeper.ready()

    def _admit(self, link: Link, user: str) -> bool:
        """Take over a connection that the server has admitted; not one of another user, whose
        outbox and positions these are not."""
        if self._owner not in ("", user):
            detail = f"{self._file.path} belongs to {self._owner}, and the token to {user}"
            self._keeper.fail(QunxinError("forbidden", detail=detail))
            link.abort(Ended(1000, "another user"))
            return False
        if not self._owner:
            self._owner = self._receiver.user = user
            self._tasks.start("owner of the file", written(self._file.belong_to(user)))
        self._keeper.welcome(link)
        self._tasks.start("follow all", follow_all(link, self._receiver))
        return True

    def _begun(self, stream: Stream) -> None:
        """From there on nothing of a conversation is left out, over restarts too, and also where
        nothing of it comes in this run."""
        if self._file.path is not None:
            at = StoredPosition(stream.conversation, stream.handed_epoch, stream.handed, 0)
            self._tasks.start("begin a conversation", written(self._file.begin(at)))

    def _failed(self, _name: str, _error: BaseException) -> None:
        """A defect, logged whole by its task."""
        self._keeper.fail(QunxinError("internal"))

    # --- sending -----------------------------------------------------------------------------

    async def send(
        self,
        type: MessageType | str,  # noqa: A002 - the word of the protocol
        to: str | None,
        text: str | None = None,
        *,
        content: list[JsonObject] | None = None,
        key: str | None = None,
        require: Require | None = None,
    ) -> Receipt:
        """Send, and wait for as long as it takes until the message is accepted. Raises the
        refusal, or `invalid_request` at once for arguments of a wrong type and what is no text
        (half of a surrogate pair). Cancelling (`asyncio.timeout`) gives up the waiting, not the
        message: a refusal that is not raised here then comes as an `Unsent` event."""
        posted = self._new(type, to, text, content=content, key=key, require=require)
        with posted.awaited():
            await self._outbox.post(posted)
            return await posted.receipt()

    async def post(
        self,
        type: MessageType | str,  # noqa: A002
        to: str | None,
        text: str | None = None,
        *,
        content: list[JsonObject] | None = None,
        key: str | None = None,
        require: Require | None = None,
    ) -> Posted:
        """Put a message into the outbox; it is on the disk on return, where there is a file.

        Messages to one recipient are sent in the order in which they were posted. `key` is made
        where none is given. What is sent is what `content` held at the call. A refusal that nobody
        waits for comes as an `Unsent` event. Raises `invalid_request` for arguments of a wrong
        type and what is no text (half of a surrogate pair).
        """
        posted = self._new(type, to, text, content=content, key=key, require=require)
        await self._outbox.post(posted)
        return posted

    def _new(self, type: str, to: str | None, text: str | None, **more: Any) -> Posted:  # noqa: A002
        if self._closed:
            raise RuntimeError("the client is closed")
        more["key"] = more["key"] or uuid.uuid4().hex
        optional = {"to": to, "text": text, **more}
        given = {name: value for name, value in optional.items() if value is not None}
        return Posted(check_message({"type": type, **given}))

    @property
    def unsent(self) -> int:
        """Messages in the outbox whose outcome is not known yet."""
        return len(self._outbox)

    async def wait_sent(self) -> None:
        """Return once every message of the outbox was accepted or refused."""
        await self._outbox.wait_empty()

    async def _send_once(self, message: JsonObject) -> bytes:
        try:
            link = await self._keeper.ready()
        except QunxinError as error:
            raise OutboxStoppedError(error) from error
        return await link.call("message.send", message)

    # --- receiving ---------------------------------------------------------------------------

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        """The next event. Ends when the client is closed; raises the error for which the server
        will not have this user any more."""
        self._handling = False
        while not self._closed:
            await self._finish()
            item = self._receiver.inflow.take()
            if isinstance(item, Handed):
                return self._hand(item)
            if item is not None:
                await item()
            elif self._keeper.error is not None:
                raise self._keeper.error
            else:
                await self._changed.wait()
        raise StopAsyncIteration

    async def run(self, handle: Callable[[Event], Awaitable[None] | None]) -> None:
        """Call `handle` with one event after the other. What it raises comes out here, and its
        event comes again, at the next `run` or the next start."""
        while True:
            unfinished = self._in_hand if self._handling and not self._closed else None
            try:
                event = await anext(self) if unfinished is None else unfinished.event
            except StopAsyncIteration:
                return
            self._handling = True
            handling = handle(event)
            if handling is not None:
                await handling
            self._handling = False

    def _hand(self, item: Handed) -> Event:
        self._receiver.hand(item)
        self._in_hand = item
        return item.event

    async def _finish(self) -> None:
        """The program is done with the event in hand."""
        item, self._in_hand = self._in_hand, None
        if item is None:
            return
        if item.unsent:
            await self._file.remove(item.unsent)
        elif item.at is not None and self._file.path is not None:
            ended_at = self._receiver.streams[item.conversation].ended_at
            at = StoredPosition(item.conversation, item.at.epoch, item.at.position, ended_at)
            await self._file.stand(at, **_membership(item.event))

    def _tell(self, handed: Handed) -> None:
        self._receiver.inflow.put(handed)
        self._changed.send()

    @property
    def positions(self) -> Mapping[str, Position]:
        """Where the program stands in each conversation that is followed or was, the event in hand
        included. A program that keeps all of them with its own data, and gives them to `connect`,
        gets each event exactly once, whatever is killed when."""
        return self._receiver.handed()

    # --- conversations -----------------------------------------------------------------------

    @property
    def conversations(self) -> tuple[ConversationView, ...]:
        """The user's conversations, the most recent first."""
        return self._receiver.conversations.listed()

    def follows(self, conversation: str) -> bool:
        """Whether its entries come by themselves: not while there is no connection, and not
        beyond the number that the server has set."""
        return self._receiver.follows(conversation)

    async def mark_read(self, conversation: str, position: int) -> Cursor:
        """The user has read everything up to `position`; the ledgers of others will say so."""
        cursor = await self._mark_read(conversation, position)
        row = self._receiver.conversations.get(conversation)
        unread = 0
        if row is not None and position < row.head:
            unread = await self._count_unread(conversation, position)
        self._receiver.conversations.read(conversation, position, unread)
        return cursor

    async def _count_unread(self, conversation: str, position: int) -> int:
        """Messages of others above `position` that the list knows of: what is above its head is
        counted when it is handed to the program. Where that comes to be above the page which was
        read meanwhile, the page is read again."""
        while True:
            page = await self.history(conversation, after=position, limit=_COUNTED)
            row = self._receiver.conversations.get(conversation)
            head = 0 if row is None else row.head
            if head <= page.head or page.next_after is not None:
                known = [e for e in page.entries if e.position <= head]
                return sum(e.is_message and e.sender != self.user for e in known)

    # --- asking ------------------------------------------------------------------------------

    async def _call(self, method: str, fields: dict[str, Any]) -> bytes:
        """Repeated while that can help, for `patience_seconds`. Raises `RefusedError`, or
        `UnansweredError`."""
        if self._closed:
            raise RuntimeError("the client is closed")
        check_encodable(fields)
        last: RefusedError | None = None
        backoff = Backoff()
        try:
            async with asyncio.timeout(self._patience_seconds):
                while True:
                    link = await self._keeper.ready()
                    try:
                        return await link.call(method, fields)
                    except LinkBrokenError:
                        continue
                    except RefusedError as refused:
                        if not refused.retryable:
                            raise
                        last = refused
                    await asyncio.sleep(backoff.next_seconds(last.retry_after))
        except TimeoutError:
            detail = self.trouble or "no answer"
            raise last or UnansweredError(
                f"{method}, after {self._patience_seconds:g} s: {detail}"
            ) from None


def _membership(event: Event) -> dict[str, tuple[str, int]]:
    """What the inbox's event says of a stay, for the file."""
    if isinstance(event, Entry) and event.body is not None:
        if event.type == EventType.MEMBER:
            return {"joined": (event.body["conversation_joined"], event.body["joined"] - 1)}
        if event.type == EventType.CEASED:
            return {"left": (event.body["conversation_left"], event.body["last"])}
    return {}


def _check_arguments(url: object, language: object, *seconds: object) -> None:
    """Outside input: a program without types is told at once."""
    for name, value in (("url", url), ("language", language)):
        if not isinstance(value, str):
            detail = f"{name}: {type(value).__name__} is no text"
            raise QunxinError("invalid_request", detail=detail)
        check_encodable({name: value})
    for value in seconds:
        if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
            detail = f"{value!r} is no time in seconds above 0"
            raise QunxinError("invalid_request", detail=detail)


def connect(
    url: str,
    token: TokenSource,
    *,
    outbox: str | Path | None = None,
    positions: Mapping[str, Position] | None = None,
    language: str = "en",
    patience_seconds: float = 30.0,
    max_reconnect_seconds: float = 20.0,
    ssl: tls.SSLContext | None = None,
) -> Client:
    """A client of the server at `url`, for ``async with``.

    It connects in the background and again after every break: entering does not wait
    (`wait_connected` does), and messages can be posted before. `token` is a user's token, or a
    function that fetches a fresh one whenever it is needed; without the function the client ends
    when the token does. `outbox` is the client's file: the messages not yet accepted, and how far
    the program has got; one process at a time. Without it both end with the client. `positions`
    take the place of those in the file; a conversation that they lack goes on from the file's.
    `language` (`en`, `zh`) is that of error texts. `patience_seconds` is how long a question waits
    for its answer, `max_reconnect_seconds` the longest pause between two tries to connect.

    Raises `invalid_request` where `url` is no address or `token` neither a text nor a function, and
    for other arguments of a wrong type; entering raises `cannot_start` where the
    file cannot be used.
    """
    _check_arguments(url, language, patience_seconds, max_reconnect_seconds)
    path = None if outbox is None else Path(outbox)
    return Client(
        url,
        token,
        path,
        positions,
        language=language,
        patience_seconds=patience_seconds,
        max_reconnect_seconds=max_reconnect_seconds,
        ssl=ssl,
    )
