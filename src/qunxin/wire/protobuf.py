"""The protocol in Protobuf: the same commands, replies and pushes, in other bytes.

`realtime.proto` is the schema. Fields bear the names that they have in JSON, so one walk over a
message makes what the JSON decoder makes, and the same structs check it; one walk over a struct
fills the message that answers. `data` is JSON text in both formats.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message

from qunxin.model import Entry
from qunxin.wire import realtime_pb2
from qunxin.wire.codes import BAD_REQUEST, Disconnect
from qunxin.wire.entries import encode_entry
from qunxin.wire.frames import (
    MAX_CHANNELS,
    MAX_DEPTH,
    MAX_LINES,
    BadLine,
    Command,
    check_command,
    is_too_deep,
)
from qunxin.wire.session import A_PONG, Line, Received, TooLarge

_MAX_LENGTH_BYTES: Final = 5
_ID_FIRST: Final = 0x08
"""The key of `Command.id`, which SDKs write first."""
_ID_MASK: Final = 2**32 - 1

_encode_json = msgspec.json.Encoder().encode


class ProtobufFormat:
    """Each message with its length before it, as a varint."""

    name: Final = "protobuf"
    ping: Final = b"\x00"

    def read(self, message: bytes, max_line_bytes: int) -> list[Line] | Disconnect:
        parts = split_messages(message)
        if parts is None or len(parts) > MAX_LINES:
            return BAD_REQUEST
        read: list[Line] = []
        for part in parts:
            one = _read_part(part, max_line_bytes)
            if isinstance(one, BadLine | TooLarge) and not one.id:
                return BAD_REQUEST
            read.append(one)
        return read

    def reply(self, command_id: int, kind: str, result: Any) -> bytes:
        reply = realtime_pb2.Reply(id=command_id)
        part = getattr(reply, kind)
        part.SetInParent()
        _fill(part, result)
        return _delimited(reply)

    def rpc_reply(self, command_id: int, data: bytes) -> bytes:
        return _delimited(realtime_pb2.Reply(id=command_id, rpc=realtime_pb2.RpcResult(data=data)))

    def error(
        self, command_id: int, number: int, message: str, *, temporary: bool = False
    ) -> bytes:
        error = realtime_pb2.Error(code=number, message=message, temporary=temporary)
        return _delimited(realtime_pb2.Reply(id=command_id, error=error))

    def subscribe_push(self, channel: str, subscription: Any) -> bytes:
        gained = realtime_pb2.Gained()
        _fill(gained, subscription)
        return _push(realtime_pb2.Push(channel=channel, subscribe=gained))

    def unsubscribe_push(self, channel: str, number: int, reason: str) -> bytes:
        lost = realtime_pb2.Lost(code=number, reason=reason)
        return _push(realtime_pb2.Push(channel=channel, unsubscribe=lost))

    def join_push(self, channel: str, client: str, user: str) -> bytes:
        info = realtime_pb2.ClientInfo(user=user, client=client)
        return _push(realtime_pb2.Push(channel=channel, join=realtime_pb2.Join(info=info)))

    def leave_push(self, channel: str, client: str, user: str) -> bytes:
        info = realtime_pb2.ClientInfo(user=user, client=client)
        return _push(realtime_pb2.Push(channel=channel, leave=realtime_pb2.Leave(info=info)))

    def disconnect_push(self, disconnect: Disconnect) -> bytes:
        push = realtime_pb2.Disconnect(code=disconnect.code, reason=disconnect.reason)
        return _push(realtime_pb2.Push(disconnect=push))

    def publications(self, channel: str, entries: Iterable[Entry]) -> bytes:
        return b"".join(_publication(channel, entry) for entry in entries)

    def join(self, payloads: Sequence[bytes]) -> bytes:
        return b"".join(payloads)

    def split(self, payload: bytes, max_bytes: int) -> list[bytes]:
        payloads: list[bytes] = []
        first = place = 0
        while place < len(payload):
            size, start = _read_length(payload, place)
            if place > first and start + size - first > max_bytes:
                payloads.append(payload[first:place])
                first = place
            place = start + size
        return [*payloads, payload[first:]]


PROTOBUF: Final = ProtobufFormat()


def split_messages(payload: bytes) -> list[bytes] | None:
    """The messages without their lengths; None where the lengths do not fit, or there are more
    than `MAX_LINES`."""
    parts: list[bytes] = []
    place = 0
    while place < len(payload):
        size, start = _read_length(payload, place)
        place = start + size
        if size < 0 or place > len(payload) or len(parts) > MAX_LINES:
            return None
        parts.append(payload[start:place])
    return parts


def _read_length(payload: bytes, place: int) -> tuple[int, int]:
    """The varint at `place` and where what it counts begins; -1 where there is none."""
    size = shift = 0
    for byte in payload[place : place + _MAX_LENGTH_BYTES]:
        size |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return size, place + shift // 7
    return -1, place


def _length(size: int) -> bytes:
    written = bytearray()
    while size > 0x7F:
        written.append(size & 0x7F | 0x80)
        size >>= 7
    written.append(size)
    return bytes(written)


# --- in ---------------------------------------------------------------------------------------


def _read_part(part: bytes, max_bytes: int) -> Line:
    if not part:
        return A_PONG
    if len(part) > max_bytes:
        return TooLarge(find_id(part), len(part))
    decoded = decode_command(part)
    return decoded if isinstance(decoded, BadLine) else Received(*decoded, len(part))


def find_id(part: bytes) -> int:
    """The `id` of a message that may be no valid command, where it is the first field, as SDKs
    write it; else 0. Of a number that is too long for an id its last 32 bits count, as they do
    wherever Protobuf is read."""
    if part[:1] != bytes([_ID_FIRST]):
        return 0
    return max(0, _read_length(part, 1)[0]) & _ID_MASK


def decode_command(part: bytes) -> tuple[str, Command] | BadLine:
    """The command and its kind. Never raises, whatever the bytes are."""
    try:
        message = realtime_pb2.Command.FromString(part)
        command = msgspec.convert(_plain(message), Command)
    except (DecodeError, msgspec.ValidationError) as error:
        return BadLine(find_id(part), str(error) or "not a command")
    except _TooDeep:
        return BadLine(find_id(part), f"nested deeper than {MAX_DEPTH}, or made of too many parts")
    return check_command(command)


def decode_emulation(body: bytes) -> tuple[str, str, bytes]:
    """The node, the session and the commands of an emulation request. Raises `ValueError`."""
    try:
        message = realtime_pb2.Emulation.FromString(body)
    except DecodeError as error:
        raise ValueError(str(error)) from None
    return message.node, message.session, message.data


class _TooDeep(Exception):  # noqa: N818 - says what the data is; it leaves this module never
    pass


def _plain(message: Message) -> dict[str, Any]:
    """The fields that are set, by name; `data` as the JSON text that it is."""
    return {field.name: _plain_value(value) for field, value in message.ListFields()}


def _plain_value(value: Any) -> Any:
    if isinstance(value, bytes):
        if is_too_deep(value):
            raise _TooDeep
        return msgspec.Raw(value)
    if isinstance(value, Message):
        return _plain(value)
    if isinstance(value, Mapping):
        if len(value) > MAX_CHANNELS:  # before anything is made of each of them
            raise _TooDeep
        return {key: _plain_value(one) for key, one in value.items()}
    return value


# --- out --------------------------------------------------------------------------------------


def _fill(message: Message, value: Any) -> None:
    """Set each field of `message` from what `value`, a struct or a mapping, has under its name."""
    for field in message.DESCRIPTOR.fields:
        item = _item(value, field.name)
        if item is None:
            continue
        if field.message_type is not None:
            _fill_messages(getattr(message, field.name), item)
        elif field.type == FieldDescriptor.TYPE_BYTES:
            setattr(message, field.name, _json_text(item))
        else:
            setattr(message, field.name, item)


def _fill_messages(target: Any, item: Any) -> None:
    """Messages by name, or one after another: no result holds a single one."""
    if isinstance(item, Mapping):
        for key, one in item.items():
            _fill(target[key], one)
    else:
        for one in item:
            _fill(target.add(), one)


def _item(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, Mapping) else getattr(value, name, None)


def _json_text(value: Any) -> bytes:
    return bytes(value) if isinstance(value, msgspec.Raw) else _encode_json(value)


def _publication(channel: str, entry: Entry) -> bytes:
    pub = realtime_pb2.Publication(data=encode_entry(entry), offset=entry.position)
    return _push(realtime_pb2.Push(channel=channel, pub=pub))


def _push(push: realtime_pb2.Push) -> bytes:
    return _delimited(realtime_pb2.Reply(push=push))


def _delimited(reply: realtime_pb2.Reply) -> bytes:
    encoded = reply.SerializeToString()
    return _length(len(encoded)) + encoded
