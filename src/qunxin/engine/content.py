"""What a message may hold: a list of typed segments, checked and encoded once.

Nothing that a sender wrote travels on as they wrote it: it is decoded here, checked, and encoded
again, so that no frame can break another reader's stream.
"""

from __future__ import annotations

import hashlib
from typing import Any, Final, TypeAlias

import msgspec

from qunxin.errors import QunxinError
from qunxin.model import MAX_INTEGER, is_valid_id

MAX_SEGMENTS: Final = 200
MAX_DEPTH: Final = 32
"""Nesting of a custom segment's data."""
MAX_KEY_LENGTH: Final = 128


class Text(msgspec.Struct, frozen=True, tag="text", forbid_unknown_fields=True):
    """Plain text, any Unicode."""

    text: str


class Mention(msgspec.Struct, frozen=True, tag="mention", forbid_unknown_fields=True):
    """A user who is addressed; ``*`` is everyone."""

    user: str


class Image(
    msgspec.Struct, frozen=True, tag="image", omit_defaults=True, forbid_unknown_fields=True
):
    """A picture by its address; sizes in pixels."""

    url: str
    name: str | None = None
    width: int | None = None
    height: int | None = None


class File(msgspec.Struct, frozen=True, tag="file", omit_defaults=True, forbid_unknown_fields=True):
    """A file by its address; size in bytes."""

    url: str
    name: str
    size: int | None = None


class Reply(msgspec.Struct, frozen=True, tag="reply", forbid_unknown_fields=True):
    """The message answered, by its position in the same conversation."""

    position: int


class Custom(msgspec.Struct, frozen=True, tag="custom", forbid_unknown_fields=True):
    """The application's own: a name and any JSON."""

    name: str
    data: Any


Segment: TypeAlias = Text | Mention | Image | File | Reply | Custom

_encode = msgspec.json.Encoder().encode


def check_content(text: str | None, content: Any, max_bytes: int) -> bytes:
    """The content as canonical JSON bytes.

    Exactly one of `text` (short for one text segment) and `content` (a list of segments, as
    structs or plain objects) is given. Raises `invalid_request` or `message_too_large`.
    """
    if (text is None) == (content is None):
        raise QunxinError("invalid_request", detail="give either text or content")
    segments = [Text(text)] if text is not None else _segments(content)
    if not segments or all(isinstance(part, Text) and not part.text for part in segments):
        raise QunxinError("invalid_request", detail="the message is empty")
    for segment in segments:
        _check_segment(segment)
    try:
        encoded = _encode(segments)
    except (UnicodeEncodeError, TypeError, OverflowError) as error:
        raise QunxinError("invalid_request", detail=f"content: {error}") from None
    if len(encoded) > max_bytes:
        raise QunxinError("message_too_large", size=len(encoded), limit=max_bytes)
    return encoded


def check_key(key: str | None) -> str | None:
    """An idempotency key: 1 to 128 characters, encodable; None stays None."""
    if key is None:
        return None
    if not 1 <= len(key) <= MAX_KEY_LENGTH:
        raise QunxinError("invalid_request", detail=f"key: 1 to {MAX_KEY_LENGTH} characters")
    try:
        key.encode()
    except UnicodeEncodeError:
        raise QunxinError("invalid_request", detail="key: not valid Unicode") from None
    return key


def content_digest(content: bytes) -> bytes:
    """16 bytes by which a repeat with other content is told apart (BLAKE2b, RFC 7693)."""
    return hashlib.blake2b(content, digest_size=16).digest()


def _segments(content: Any) -> list[Segment]:
    if not isinstance(content, list) or len(content) > MAX_SEGMENTS:
        raise QunxinError("invalid_request", detail=f"content: a list of at most {MAX_SEGMENTS}")
    plain = [msgspec.to_builtins(part) if isinstance(part, msgspec.Struct) else part
             for part in content]  # fmt: skip
    try:
        return msgspec.convert(plain, list[Segment])
    except msgspec.ValidationError as error:
        raise QunxinError("invalid_request", detail=f"content: {error}") from None


def _check_segment(segment: Segment) -> None:
    if isinstance(segment, Mention) and segment.user != "*" and not is_valid_id(segment.user):
        raise QunxinError("invalid_request", detail="mention: not a user id")
    if isinstance(segment, Reply) and not 1 <= segment.position <= MAX_INTEGER:
        raise QunxinError("invalid_request", detail="reply: not a position")
    if isinstance(segment, Custom):
        _check_json(segment.data, MAX_DEPTH)


def _check_json(value: Any, depth: int) -> None:
    """Plain JSON, at most `depth` deep, integers that every client can hold."""
    if depth < 0:
        raise QunxinError("invalid_request", detail=f"custom: nested deeper than {MAX_DEPTH}")
    if isinstance(value, dict):
        for key, part in value.items():
            if not isinstance(key, str):
                raise QunxinError("invalid_request", detail="custom: names must be strings")
            _check_json(part, depth - 1)
    elif isinstance(value, list):
        for part in value:
            _check_json(part, depth - 1)
    elif isinstance(value, int) and abs(value) > MAX_INTEGER:
        raise QunxinError("invalid_request", detail="custom: integers stay below 2^53")
