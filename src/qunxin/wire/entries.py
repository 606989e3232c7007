"""An entry as it crosses the network: one flat JSON object, the same over HTTP and realtime."""

from __future__ import annotations

from typing import Any

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


class _Read(msgspec.Struct, frozen=True):
    """A message as it is read: msgspec knows no raw value that may also be absent."""

    type: str
    conversation: str
    position: int
    time: int
    sender: str | None = msgspec.field(default=None, name="from")
    key: str | None = None
    content: msgspec.Raw = msgspec.Raw()
    recalled: int | None = None


_message_decoder = msgspec.json.Decoder(_Read)
_event_decoder = msgspec.json.Decoder(dict[str, Any])


def decode_entry(data: bytes | msgspec.Raw) -> Entry:
    """The entry that `encode_entry` made this of. Raises `msgspec.ValidationError` where it is
    none; types and fields that are not known yet are kept in `body`."""
    read = _message_decoder.decode(data)
    entry = Entry(read.conversation, read.position, read.type, read.time)
    if not entry.is_message:
        body = _event_decoder.decode(data)
        for name in ("type", "conversation", "position", "time"):
            del body[name]
        return msgspec.structs.replace(entry, body=body)
    return msgspec.structs.replace(
        entry,
        sender=read.sender,
        key=read.key,
        content=read.content.copy() if bytes(read.content) else None,
        recalled=read.recalled,
    )
