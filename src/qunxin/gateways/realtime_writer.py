"""What everybody's connections are written with: all that is ready in one turn of the loop goes out
in one write for each session, and each distinct run of bytes is built once.

There is one writer for each framing, so that the sessions which it flushes together share one
encoding.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Protocol

from qunxin.engine.sink import Delivery
from qunxin.wire.codes import FAILED, Disconnect
from qunxin.wire.framing import Framing

_log = logging.getLogger("qunxin.realtime")

Pending = Delivery | bytes
"""A delivery, or a piece of our own in the session's format."""


class Written(Protocol):
    """What a writer sees of a session."""

    open: bool
    pending: list[Pending]
    ping_wanted: bool
    sent: int
    check_at: int

    def write(self, data: bytes, /) -> None: ...
    def note_ping(self, frame_bytes: int) -> None: ...
    def check_sent(self) -> None: ...
    def disconnect(self, disconnect: Disconnect) -> None: ...


class Writer:
    """The sessions of one framing that have something to say. All calls on the loop."""

    def __init__(self, framing: Framing) -> None:
        self.framing = framing
        self.format = framing.format
        self._loop = asyncio.get_running_loop()
        self._dirty: list[Written] = []

    def add_dirty(self, session: Written) -> None:
        """Have what is pending for `session` written at the end of this turn."""
        if not self._dirty:
            self._loop.call_soon(self._flush)
        self._dirty.append(session)

    def _flush(self) -> None:
        """Everything that became ready in this turn, one write for each session.

        The usual case, one delivery shared by a thousand sessions, is spelt out here: its frame
        is built once, and each session costs one write and two additions.
        """
        sessions, self._dirty = self._dirty, []
        joined: dict[tuple[object, ...], bytes] = {}
        shared: Pending | None = None
        frame, size = b"", 0
        for session in sessions:
            pending = session.pending
            if len(pending) != 1 or session.ping_wanted or not session.open:
                self._flush_several(session, joined)
                continue
            item = pending[0]
            pending.clear()
            try:
                if item is not shared:
                    frame = self._frame_of(item)
                    shared, size = item, len(frame)
                session.write(frame)
            except Exception:  # noqa: BLE001 - one connection must not hold up the others
                _fail(session)
                continue
            session.sent = sent = session.sent + size
            if sent > session.check_at:
                session.check_sent()

    def flush_one(self, session: Written) -> None:
        """Write what is pending for one session now."""
        self._flush_several(session, {})

    def _flush_several(self, session: Written, joined: dict[tuple[object, ...], bytes]) -> None:
        """What is pending in one or few frames, with a ping at the end where one is wanted.
        Sessions with the same things pending share the bytes through `joined`."""
        items, ping = tuple(session.pending), session.ping_wanted
        session.pending.clear()
        if not session.open or not (items or ping):
            return
        try:
            frame = joined.get((ping, *items))
            if frame is None:
                frame = joined[ping, *items] = self._join(items, ping)
            if ping:
                session.note_ping(len(frame))
            session.write(frame)
        except Exception:  # noqa: BLE001 - one connection must not hold up the others
            _fail(session)
            return
        session.sent += len(frame)
        if session.sent > session.check_at:
            session.check_sent()

    def _payload_of(self, item: Pending) -> bytes:
        """Encoded; what becomes of a delivery is kept with it, once for each format."""
        if not isinstance(item, Delivery):
            return item
        payload = item.encoded.get(self.format.name)
        if payload is None:
            payload = self.format.publications(item.conversation, item.entries)
            item.encoded[self.format.name] = payload
        return payload

    def _frame_of(self, item: Pending) -> bytes:
        """The whole frame, or frames; those of a delivery are kept with it."""
        if not isinstance(item, Delivery):
            return self.framing.build((item,))
        frame = item.encoded.get(self.framing.name)
        if frame is None:
            frame = item.encoded[self.framing.name] = self.framing.build((self._payload_of(item),))
        return frame

    def _join(self, items: tuple[Pending, ...], ping: bool) -> bytes:
        payloads = [self._payload_of(item) for item in items]
        if ping:
            payloads.append(self.format.ping)
        return self.framing.build(payloads)


def _fail(session: Written) -> None:
    _log.exception("a connection could not be written to")
    session.pending.clear()
    session.disconnect(FAILED)
