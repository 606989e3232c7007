"""The realtime protocol described for machines and people: an AsyncAPI 3 document, made from the
tables and the schema that the code itself runs on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from qunxin.gateways.realtime_settings import EMULATION_PATH, EVENTS_PATH, PATH, STREAM_PATH
from qunxin.version import VERSION
from qunxin.wire import realtime_pb2
from qunxin.wire.codes import Disconnect, ProtocolError
from qunxin.wire.session import ACCEPTED, State


class CommandRow(NamedTuple):
    """What a command is for."""

    summary: str
    chinese: str
    description: str


COMMANDS: Final[dict[str, CommandRow]] = {
    "connect": CommandRow(
        "Begin the session",
        "建立会话",
        "The first command. `subs` says where the client stands in each conversation, `data` the "
        "same for a program that has only just started, and `join_leave` of which groups it is to "
        "be told who comes and goes. The reply lists every subscription.",
    ),
    "subscribe": CommandRow(
        "Follow one more conversation",
        "订阅会话",
        "For those beyond the most recent ones. One that is followed already answers 105, unless "
        "`recover` asks for it from a position: it then goes on there. With `join_leave` in a "
        "group, who comes and goes is told.",
    ),
    "unsubscribe": CommandRow("Stop following a conversation", "取消订阅", "The inbox goes on."),
    "publish": CommandRow(
        "Send a message",
        "发送消息",
        "Its type and recipient are those of the channel. The reply is empty: who wants the "
        "receipt uses `rpc`.",
    ),
    "rpc": CommandRow(
        "Call an operation",
        "调用操作",
        "`method` is the name of an operation, `data` its fields, the reply's `data` its result.",
    ),
    "history": CommandRow(
        "Read a conversation",
        "读取历史",
        "From `since` onward, or backwards with `reverse`; at most 1,000 entries. Without a limit "
        "the position alone. `since` of another epoch answers 112.",
    ),
    "presence": CommandRow(
        "Who follows a group",
        "在线成员",
        "For its members; at most 1,000 devices. Other conversations answer 108.",
    ),
    "presence_stats": CommandRow(
        "How many follow a group", "在线人数", "Devices, and users, for its members."
    ),
    "refresh": CommandRow("Give a new token", "更新令牌", "Of the same user, before the old ends."),
    "sub_refresh": CommandRow(
        "Give a new subscription token", "更新订阅令牌", "Subscriptions have none."
    ),
    "ping": CommandRow("Ask whether the server is there", "客户端心跳", "Answered at once."),
    "send": CommandRow(
        "Send without an answer", "无回复发送", "It has no reply, so only the end tells."
    ),
}
"""Every kind of command."""

PUSHES: Final[dict[str, str]] = {
    "pub": "An entry. Positions of a conversation only rise, each comes once.",
    "join": "A device has come to a group; for those who asked with `join_leave`.",
    "leave": "A device has gone from a group; for those who asked with `join_leave`.",
    "subscribe": "The user has come into a conversation; its entries follow.",
    "unsubscribe": "The user is out of a conversation; the entry that says so came before.",
    "disconnect": "Why the connection is about to end, where no close frame can say it.",
}
"""Every kind of push."""

CHANNELS: Final[dict[str, tuple[str, str]]] = {
    "websocket": (
        PATH,
        "JSON in text frames; with the subprotocol `centrifuge-protobuf` Protobuf in binary ones.",
    ),
    "http_stream": (
        STREAM_PATH,
        "POST with the first command, JSON or Protobuf; replies and pushes are streamed.",
    ),
    "sse": (
        EVENTS_PATH,
        "GET with the first command in `cf_connect`; replies and pushes come as events, JSON.",
    ),
    "emulation": (EMULATION_PATH, "POST with the further commands of a stream."),
}
"""Every way in: its address, and what goes over it."""


class FieldRow(NamedTuple):
    """A field of a message in both encodings."""

    name: str
    number: int
    type: str


_TYPES: Final = {
    FieldDescriptor.TYPE_BOOL: "boolean",
    FieldDescriptor.TYPE_STRING: "string",
    FieldDescriptor.TYPE_BYTES: "JSON",
    FieldDescriptor.TYPE_INT32: "integer",
    FieldDescriptor.TYPE_UINT32: "integer",
    FieldDescriptor.TYPE_UINT64: "integer",
}


def message(name: str) -> Descriptor:
    """A message of the schema."""
    found: Descriptor = realtime_pb2.DESCRIPTOR.message_types_by_name[name]
    return found


def part(whole: str, kind: str) -> Descriptor | None:
    """What stands under `kind` in a `Command`, `Reply` or `Push`; None where nothing does."""
    field = message(whole).fields_by_name.get(kind)
    found: Descriptor | None = None if field is None else field.message_type
    return found


def field_rows(descriptor: Descriptor) -> Iterator[FieldRow]:
    """The fields of a message, by number."""
    for field in descriptor.fields:
        yield FieldRow(field.name, field.number, _type_name(field))


def _type_name(field: FieldDescriptor) -> str:
    kind = field.message_type
    if kind is None:
        return _TYPES[field.type]
    if kind.GetOptions().map_entry:
        return f"{_type_name(kind.fields_by_name['value'])} by name"
    return f"list of {kind.name}" if field.is_repeated else str(kind.name)


def answer_to(kind: str) -> str:
    """What becomes of a command in a session that has connected."""
    verdict = ACCEPTED[State.NEW if kind == "connect" else State.CONNECTED][kind]
    if isinstance(verdict, Disconnect):
        return f"ends the connection ({verdict.code})"
    if isinstance(verdict, ProtocolError):
        return f"error {verdict.number}"
    return "answered"


# --- the document -----------------------------------------------------------------------------


def asyncapi() -> dict[str, Any]:
    """The whole document: from the server's side, which receives commands and sends pushes."""
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Qunxin realtime",
            "version": VERSION,
            "description": "The Centrifugo client protocol, version 2, as it is spoken here.",
        },
        "defaultContentType": "application/json",
        "channels": {name: _channel(name) for name in CHANNELS},
        "operations": dict([*_commands(), *_pushes()]),
        "components": {"messages": _messages(), "schemas": _schemas()},
    }


def _channel(name: str) -> dict[str, Any]:
    address, description = CHANNELS[name]
    return {
        "address": address,
        "description": description,
        "messages": {one: {"$ref": f"#/components/messages/{one}"} for one in _messages()},
    }


def _commands() -> Iterator[tuple[str, dict[str, Any]]]:
    channel = {"$ref": "#/channels/websocket"}
    for kind, row in COMMANDS.items():
        described: dict[str, Any] = {
            "action": "receive",
            "channel": channel,
            "summary": row.summary,
            "description": f"{row.description} {answer_to(kind).capitalize()}.",
            "messages": [{"$ref": f"#/channels/websocket/messages/{kind}"}],
        }
        if part("Reply", kind) is not None:
            messages = [{"$ref": f"#/channels/websocket/messages/{kind}_reply"}]
            described["reply"] = {"channel": channel, "messages": messages}
        yield kind, described


def _pushes() -> Iterator[tuple[str, dict[str, Any]]]:
    for kind, summary in PUSHES.items():
        yield (
            f"{kind}_push",
            {
                "action": "send",
                "channel": {"$ref": "#/channels/websocket"},
                "summary": summary,
                "messages": [{"$ref": f"#/channels/websocket/messages/{kind}_push"}],
            },
        )


def _messages() -> dict[str, Any]:
    made: dict[str, Any] = {}
    for kind in COMMANDS:
        made[kind] = _wrapped(kind, {"id": {"type": "integer"}, kind: _ref("Command", kind)})
        if part("Reply", kind) is not None:
            reply = {"id": {"type": "integer"}, kind: _ref("Reply", kind)}
            made[f"{kind}_reply"] = _wrapped(f"{kind} reply", reply)
    for kind in PUSHES:
        push = {"channel": {"type": "string"}, kind: _ref("Push", kind)}
        whole = {"push": {"type": "object", "properties": push}}
        made[f"{kind}_push"] = _wrapped(f"{kind} push", whole)
    error = {"id": {"type": "integer"}, "error": {"$ref": "#/components/schemas/Error"}}
    made["error"] = _wrapped("error", error)
    return made


def _wrapped(title: str, properties: dict[str, Any]) -> dict[str, Any]:
    return {"title": title, "payload": {"type": "object", "properties": properties}}


def _ref(whole: str, kind: str) -> dict[str, str]:
    found = part(whole, kind)
    return {"$ref": f"#/components/schemas/{'Nothing' if found is None else found.name}"}


def _schemas() -> dict[str, Any]:
    return {
        name: {"type": "object", "properties": {f.name: _schema(f) for f in descriptor.fields}}
        for name, descriptor in sorted(realtime_pb2.DESCRIPTOR.message_types_by_name.items())
    }


def _schema(field: FieldDescriptor) -> dict[str, Any]:
    """A field as JSON has it, with its number in Protobuf."""
    return {**_value_schema(field), "x-protobuf-number": field.number}


def _value_schema(field: FieldDescriptor) -> dict[str, Any]:
    kind = field.message_type
    if kind is None:
        return {} if field.type == FieldDescriptor.TYPE_BYTES else {"type": _TYPES[field.type]}
    if kind.GetOptions().map_entry:
        return {
            "type": "object",
            "additionalProperties": _value_schema(kind.fields_by_name["value"]),
        }
    one = {"$ref": f"#/components/schemas/{kind.name}"}
    return {"type": "array", "items": one} if field.is_repeated else one
