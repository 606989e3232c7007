"""From lines to events: what a device makes of everything that the server sends.

What arrives is put in order, each position once, and waits in the `Inflow`; holes that a
subscription leaves are loaded from the log first. What the program takes is noted as handed to
it.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final, NamedTuple

import msgspec

from qunxin.client.conversations import Conversations
from qunxin.client.events import Handed, Reload
from qunxin.client.inflow import Inflow, Pong
from qunxin.client.link import Link, LinkBrokenError
from qunxin.client.refusals import RefusedError
from qunxin.client.results import ConversationView, EntryList
from qunxin.client.signals import Signal
from qunxin.client.streams import (
    Begin,
    GapError,
    Stream,
    handed_positions,
    known_positions,
    recall_in,
    without_recalled,
)
from qunxin.engine.sink import Position
from qunxin.model import Conversation, ConversationKind, Entry, EventType
from qunxin.tasks import TaskSet
from qunxin.wire.device import Ended, Push, Subscribed, Welcome
from qunxin.wire.entries import decode_entry
from qunxin.wire.frames import StreamPosition

_log = logging.getLogger("qunxin.client")

_PAGE: Final = 1_000
_MAX_HELD: Final = 50_000
"""Events that wait for the program. The server stops far below, as nothing is answered; one that
does not is left, and asked again later."""

_view_decoder = msgspec.json.Decoder(ConversationView | None)
_page_decoder = msgspec.json.Decoder(EntryList)


class Recalls:
    """Recalls that arrive while a page of a log is being read: the page may be older."""

    def __init__(self) -> None:
        self._reads: list[dict[tuple[str, int], int]] = []

    def note(self, recall: Entry) -> None:
        name = recall_in(recall)
        for read in self._reads if name is not None else ():
            read[name] = recall.position  # type: ignore[index]  # not None, by the line above

    @contextmanager
    def during(self) -> Iterator[Mapping[tuple[str, int], int]]:
        """Gathers those that arrive inside the block."""
        read: dict[tuple[str, int], int] = {}
        self._reads.append(read)
        try:
            yield read
        finally:
            self._reads.remove(read)


class _KeptPong(NamedTuple):
    """The answer to a ping, and what stood before that ping and waits for older entries: lists
    that are empty once it waits for the program."""

    pong: Pong
    behind: list[list[Entry]]


class Receiver:
    """One device's streams, from the first connection to the last. All calls on the loop.

    `admit` takes over a connection; `begun` is told of each conversation that is followed for the
    first time, as soon as it is."""

    def __init__(
        self,
        changed: Signal,
        admit: Callable[[Link, str], bool],
        begun: Callable[[Stream], None],
        on_failure: Callable[[str, BaseException], None],
    ) -> None:
        self.user = ""
        self.streams: dict[str, Stream] = {}
        self.inflow = Inflow()
        self.conversations = Conversations()
        self.recalls = Recalls()
        self._changed = changed
        self._admit = admit
        self._begun = begun
        self._epoch = ""
        """The server's, as the last subscription told it."""
        self._pongs: deque[_KeptPong] = deque()
        self._loads = TaskSet(on_failure)

    def restore(self, conversation: str, epoch: str, position: int, ended_at: int) -> None:
        """What the file knows of a conversation."""
        self.streams[conversation] = Stream(conversation, epoch, position, ended_at)

    def positions(self) -> dict[str, StreamPosition]:
        return known_positions(self.streams)

    def handed(self) -> dict[str, Position]:
        return handed_positions(self.streams)

    def follows(self, conversation: str) -> bool:
        """Whether entries of `conversation` come by themselves."""
        stream = self.streams.get(conversation)
        return stream is not None and stream.subscribed

    def hand(self, item: Handed) -> None:
        """`item` goes to the program now."""
        if item.at is not None:
            self._stream(item.conversation).hand(item.at)
        if isinstance(item.event, Entry):
            self.conversations.apply(item.event, self.user)

    def disconnected(self) -> None:
        """What was not handed on is given up: the next connection is asked for it again."""
        self.inflow.clear()
        self._pongs.clear()
        for stream in self.streams.values():
            stream.restart()
        self._changed.send()

    async def close(self) -> None:
        await self._loads.close()

    # --- what the server says ----------------------------------------------------------------

    def welcomed(self, link: Link, welcome: Welcome) -> None:
        """The connect reply lists everything that is followed from now on."""
        inboxes = (name for name in welcome.subs if name.startswith("inbox:"))
        if not self._admit(link, next(inboxes, "inbox:").partition(":")[2]):
            return
        for conversation, start in welcome.subs.items():
            self.subscribed(link, conversation, start)
        for stream in list(self.streams.values()):
            self._load_rest(link, stream)

    def pushed(self, link: Link, push: Push) -> None:
        if push.pub is not None:
            stream = self.streams.get(push.channel)
            if push.pub.offset and stream is not None and stream.subscribed:
                self._arrive(link, stream, decode_entry(push.pub.data))
        elif push.subscribe is not None:
            self.subscribed(link, push.channel, push.subscribe)
        elif push.unsubscribe is not None:
            stream = self._stream(push.channel)
            stream.subscribed = False
            self.conversations.remove(push.channel)
            self._load_rest(link, stream)

    def pinged(self, link: Link) -> None:
        """Answered when the program is done with everything before it: what is held while older
        entries are loaded is among that."""
        held = [stream.held for stream in self.streams.values() if stream.held]
        self._pongs.append(_KeptPong(link.pong, held))
        self._put_pongs()

    def _put_pongs(self) -> None:
        """In the order of the pings, as a pong answers the oldest."""
        while self._pongs and not any(self._pongs[0].behind):
            self.inflow.put_pong(self._pongs.popleft().pong)
        self._changed.send()

    def subscribed(self, link: Link, conversation: str, start: Subscribed) -> None:
        """A subscription begins: of the connect reply, of a push, or one that was asked for."""
        stream = self._stream(conversation)
        is_new = not stream.handed_epoch
        self._epoch = start.epoch
        begin = stream.begin(start)
        if begin is Begin.RELOAD:
            self._tell_reload(stream, start.offset)
        elif begin is Begin.LOAD:
            self._load(link, stream, start.offset)
        if is_new and stream.handed_epoch:
            self._begun(stream)
        view = _view_decoder.decode(start.data)
        parsed = Conversation.parse(conversation)
        if view is not None and parsed is not None and parsed.kind is not ConversationKind.INBOX:
            self.conversations.put(view)
        self._changed.send()

    # --- entries -----------------------------------------------------------------------------

    def _stream(self, conversation: str) -> Stream:
        stream = self.streams.get(conversation)
        if stream is None:
            stream = self.streams[conversation] = Stream(conversation)
        return stream

    def _arrive(self, link: Link, stream: Stream, entry: Entry) -> None:
        """An entry that came live."""
        if recall_in(entry) is not None:
            self.inflow.erase(entry)
            self.recalls.note(entry)
        if stream.held is not None:
            stream.held.append(entry)
        else:
            self._queue(link, stream, entry)

    def _queue(self, link: Link, stream: Stream, arrived: Entry) -> None:
        entry = stream.take(arrived)
        if entry is None:
            return
        at = Position(stream.epoch, entry.position)
        self.inflow.put(Handed(entry, stream.conversation, at))
        self._note_membership(link, entry)
        self._changed.send()
        if len(self.inflow) > _MAX_HELD:
            link.abort(Ended(1008, "the program does not take what arrives"))

    def _note_membership(self, link: Link, entry: Entry) -> None:
        """What the inbox tells of conversations that the user came into or left."""
        body = entry.body or {}
        if entry.type == EventType.MEMBER:
            self._stream(body["conversation_joined"]).join(body["joined"])
        elif entry.type == EventType.CEASED:
            stream = self._stream(body["conversation_left"])
            stream.ended_at = max(stream.ended_at, body["last"])
            self._load_rest(link, stream)

    def _tell_reload(self, stream: Stream, position: int) -> None:
        event = Reload(stream.conversation, stream.epoch, position)
        at = Position(stream.epoch, position)
        self.inflow.put(Handed(event, stream.conversation, at))
        self._changed.send()

    # --- loading -----------------------------------------------------------------------------

    def _load_rest(self, link: Link, stream: Stream) -> None:
        """What has not come of a conversation that is the user's no more."""
        end = stream.end(self._epoch)
        if end is Begin.RELOAD:
            self._tell_reload(stream, stream.ended_at)
        elif end is Begin.LOAD:
            self._load(link, stream, stream.ended_at)

    def _load(self, link: Link, stream: Stream, through: int) -> None:
        if stream.held is not None:
            stream.through = max(stream.through, through)
            return
        stream.held, stream.through = [], through
        work = self._load_pages(link, stream, stream.held)
        self._loads.start(f"load {stream.conversation}", work)

    async def _load_pages(self, link: Link, stream: Stream, held: list[Entry]) -> None:
        """Everything up to `stream.through`, then what came live meanwhile. Where that cannot be
        now, the connection ends, and the next one meets the same."""
        try:
            await self._fill(link, stream, held)
        except LinkBrokenError:
            return
        except GapError as gap:
            link.abort(Ended(1002, f"not the protocol: {gap}"))
        except RefusedError as refused:
            link.abort(Ended(1013, f"cannot read {stream.conversation}: {refused}"))

    async def _fill(self, link: Link, stream: Stream, held: list[Entry]) -> None:
        """Raises a refusal that a repeat can mend."""
        try:
            while stream.held is held and stream.received < stream.through:
                await self._load_page(link, stream, held)
        except RefusedError as refused:
            if refused.retryable:
                raise
            if stream.held is held:
                self._give_up_loading(stream, refused)
        if stream.held is held:
            stream.held = None
            for entry in held:
                self._queue(link, stream, entry)
            self._load_rest(link, stream)
        held.clear()
        self._put_pongs()

    async def _load_page(self, link: Link, stream: Stream, held: list[Entry]) -> None:
        after = stream.received
        limit = min(_PAGE, stream.through - after)
        asked = {"conversation": stream.conversation, "after": after, "limit": limit}
        with self.recalls.during() as recalls:
            reply = await link.call("conversation.entries", asked)
        if stream.held is not held:
            return
        page = _page_decoder.decode(reply)
        entries = without_recalled((decode_entry(raw) for raw in page.entries), recalls)
        for entry in entries:
            if entry.position <= stream.through:
                self._queue(link, stream, entry)
        if stream.received == after:  # nothing there is for this reader
            stream.received = stream.through

    def _give_up_loading(self, stream: Stream, refused: RefusedError) -> None:
        """The program is told that it cannot have what is missing."""
        _log.warning("cannot read %s: %s", stream.conversation, refused)
        stream.received = stream.through
        self._tell_reload(stream, stream.through)
