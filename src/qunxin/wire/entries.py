"""An entry as it crosses the network: one flat JSON object, the same over HTTP and realtime."""

from __future__ import annotations

import msgspec

from qunxin.model import Entry


class _Message(msgspec.Struct, frozen=True, omit_defaults=True):
    type: str
    conversation: str
    position: int
    time: int
    sender: str | None = msgspec.field(default=None, name="from")
    key: str | None = None
    content: msgspec.Raw | None = None
    recalled: int | None = None


_encode = msgspec.json.Encoder().encode


def encode_entry(entry: Entry) -> bytes:
    """The entry as JSON text, without a newline in it.

    A message has `from` (not where the operator broadcasts), `key` where it was given, and
    `content`, or `recalled` and no content. An event has its facts beside `type`,
    `conversation`, `position` and `time`.
    """
    if not entry.is_message:
        return _encode(
            {
                "type": entry.type,
                "conversation": entry.conversation,
                "position": entry.position,
                "time": entry.time,
                **(entry.body or {}),
            }
        )
    return _encode(
        _Message(
            type=entry.type,
            conversation=entry.conversation,
            position=entry.position,
            time=entry.time,
            sender=entry.sender,
            key=entry.key,
            content=entry.content,
            recalled=entry.recalled,
        )
    )
