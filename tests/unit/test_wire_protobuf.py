"""The Protobuf form beside the JSON form: the same commands and answers, the SDKs' numbers."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from centrifuge.protocol import client_pb2
from google.protobuf.descriptor import Descriptor
from google.protobuf.json_format import MessageToDict
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame
from websockets.protocol import CLIENT, Protocol

from qunxin.model import MAX_INTEGER, Entry
from qunxin.wire import codes, realtime_pb2
from qunxin.wire.format import JSON
from qunxin.wire.frames import BadLine
from qunxin.wire.framing import WEBSOCKET_PROTOBUF
from qunxin.wire.messages import MessageAssembler, Opcode
from qunxin.wire.protobuf import PROTOBUF, decode_command, split_messages
from qunxin.wire.session import A_PONG, Received, TooLarge

ROOT = Path(__file__).parents[2]
WORDS = "早安 👩\u200d👩\u200d👧 مرحبا \u202eabc\u202c\u2028\n"

THEIR_NAMES = {
    "OfChannel": "UnsubscribeRequest",
    "Nothing": "PingRequest",
    "Emulation": "EmulationRequest",
    "Gained": "Subscribe",
    "Lost": "Unsubscribe",
}


def delimited(message: bytes) -> bytes:
    """With its length before it, written without the code under test."""
    size, head = len(message), bytearray()
    while size > 0x7F:
        head.append(size & 0x7F | 0x80)
        size >>= 7
    return bytes([*head, size]) + message


def theirs(name: str) -> Descriptor:
    """The SDK's message of the same kind."""
    known: dict[str, Descriptor] = client_pb2.DESCRIPTOR.message_types_by_name
    for candidate in (THEIR_NAMES.get(name, ""), f"{name}Request", f"{name.upper()}Request"):
        if candidate in known:
            return known[candidate]
    return known[{"RpcResult": "RPCResult"}.get(name, name)]


def reply_of(piece: bytes) -> dict[str, Any]:
    """One piece as the SDK's own schema reads it."""
    parts = split_messages(piece)
    assert parts is not None
    (part,) = parts
    found: dict[str, Any] = MessageToDict(
        client_pb2.Reply.FromString(part), preserving_proto_field_name=True
    )
    return found


# --- the schema -------------------------------------------------------------------------------


def test_what_is_committed_is_what_the_compiler_makes_of_the_schema(tmp_path: Path) -> None:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path}
    subprocess.run([ROOT / ".ci/protobuf", tmp_path], check=True, env=environment)
    for name in ("realtime_pb2.py", "realtime_pb2.pyi"):
        place = Path("qunxin/wire", name)
        assert (tmp_path / place).read_text() == (ROOT / "src" / place).read_text()


def test_every_field_has_the_sdks_number_and_type() -> None:
    for name, ours in realtime_pb2.DESCRIPTOR.message_types_by_name.items():
        for field in ours.fields:
            their = theirs(name).fields_by_name[field.name]
            assert (field.number, field.type) == (their.number, their.type), f"{name}.{field.name}"


# --- in ---------------------------------------------------------------------------------------

COMMANDS: list[dict[str, Any]] = [
    {
        "connect": {
            "token": WORDS,
            "name": "dart",
            "data": {"positions": {"群": {"offset": 1}}},
            "subs": {
                "群": {"recover": True, "epoch": "e", "offset": MAX_INTEGER},
                "x": {"join_leave": True},
            },
            "headers": {"Accept-Language": "zh"},
        }
    },
    {"subscribe": {"channel": "群", "recover": True, "offset": 1, "epoch": "e"}},
    {"subscribe": {"channel": "群", "join_leave": True}},
    {"unsubscribe": {"channel": "群"}},
    {"publish": {"channel": "群", "data": {"text": WORDS}}},
    {"history": {"channel": "群", "limit": -1, "since": {"offset": 1}, "reverse": True}},
    {"rpc": {"method": "message.send", "data": {"text": WORDS * 4000}}},
    {"rpc": {}},
    {"refresh": {"token": WORDS}},
    {"presence": {"channel": "群"}},
    {"presence_stats": {"channel": "群"}},
    {"sub_refresh": {"channel": "群", "token": "t"}},
    {"ping": {}},
    {"send": {}},
]


def as_theirs(value: Any) -> Any:
    """A command as the SDK's constructor takes it: `data` as bytes."""
    if not isinstance(value, dict):
        return value
    return {
        key: json.dumps(one).encode() if key == "data" else as_theirs(one)
        for key, one in value.items()
    }


def comparable(value: Any) -> Any:
    """A decoded command as plain objects."""
    if isinstance(value, msgspec.Raw):
        return json.loads(bytes(value)) if bytes(value) else None
    if isinstance(value, msgspec.Struct):
        return {n: comparable(getattr(value, n)) for n in value.__struct_fields__}
    if isinstance(value, dict):
        return {key: comparable(one) for key, one in value.items()}
    return value


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: next(iter(command)))
def test_a_command_means_the_same_in_both_forms(command: dict[str, Any]) -> None:
    message = client_pb2.Command(id=7)
    for kind, body in command.items():
        part = getattr(message, kind)
        part.SetInParent()
        for name, value in as_theirs(body).items():
            if name == "subs":
                for channel, position in value.items():
                    part.subs[channel].MergeFrom(client_pb2.SubscribeRequest(**position))
            elif name == "headers":
                part.headers.update(value)
            elif name == "since":
                part.since.MergeFrom(client_pb2.StreamPosition(**value))
            else:
                setattr(part, name, value)
    (found,) = _read(PROTOBUF.read(delimited(message.SerializeToString()), 10**6))
    line = json.dumps({"id": 7, **command}, ensure_ascii=False).encode()
    (expected,) = _read(JSON.read(line, 10**6))
    assert isinstance(found, tuple)
    assert isinstance(expected, tuple)
    assert found[0] == expected[0]
    assert comparable(found[1]) == comparable(expected[1])


def _read(found: Any) -> list[Any]:
    assert isinstance(found, list), found
    return found


def test_a_message_is_read_piece_by_piece() -> None:
    """Pongs, commands, those that are wrong or too long, in order."""
    ping = client_pb2.Command(id=1, ping={})
    large = client_pb2.Command(id=300, rpc={"data": "大".encode() * 100})
    two = client_pb2.Command(id=4, ping={}, presence={"channel": "群"})
    deep = client_pb2.Command(id=6, publish={"channel": "群", "data": b"[" * 40 + b"{" * 40})
    parts = [message.SerializeToString() for message in (ping, large, two, deep)]
    pong, command, too_large, bad, too_deep, last = _read(
        PROTOBUF.read(b"\x00" + b"".join(map(delimited, parts)) + b"\x00", 120)
    )
    assert pong is A_PONG
    assert last is A_PONG
    assert isinstance(command, Received)
    assert (command.kind, command.size) == ("ping", len(parts[0]))
    assert isinstance(too_large, TooLarge)
    assert (too_large.id, too_large.size) == (300, len(parts[1]))
    assert isinstance(bad, BadLine)
    assert bad.id == 4
    assert isinstance(too_deep, BadLine)
    assert too_deep.id == 6


def test_a_position_beyond_what_numbers_can_hold_is_refused_under_its_id() -> None:
    far = client_pb2.Command(id=8, subscribe={"channel": "群", "offset": MAX_INTEGER + 1})
    bad = decode_command(far.SerializeToString())
    assert isinstance(bad, BadLine)
    assert bad.id == 8


@pytest.mark.parametrize("kind", ["subs", "headers"])
def test_a_connect_of_too_many_parts_is_refused_before_it_is_taken_apart(kind: str) -> None:
    """A megabyte of them would hold the loop for half a second."""
    connect = client_pb2.ConnectRequest()
    for index in range(100_000):
        if kind == "subs":
            connect.subs[f"群{index:x}"].SetInParent()
        else:
            connect.headers[f"茶{index:x}"] = ""
    crowded = client_pb2.Command(id=9, connect=connect).SerializeToString()
    bad = decode_command(crowded)
    assert isinstance(bad, BadLine)
    assert (bad.id, "too many parts" in bad.detail) == (9, True)


@pytest.mark.parametrize(
    ("written", "number"),
    [(b"\xff\xff\xff\xff\x7f", 2**32 - 1), (b"\x87\x80\x80\x80\x10", 7)],
)
def test_an_id_of_too_many_bits_can_be_answered(written: bytes, number: int) -> None:
    """Whether the rest of the command is valid or not, under the number that the SDK reads."""
    for rest in (b"", b"\x6a\xff"):
        bad = decode_command(b"\x08" + written + rest)
        assert isinstance(bad, BadLine)
        assert bad.id == number
        assert reply_of(PROTOBUF.error(bad.id, 1000, WORDS))["id"] == number


@pytest.mark.parametrize(
    "message",
    [b"\x05\x08", b"\xff" * 6, b"\x01\xff", b"\x02\x08\x00", b"\x00" * 1001, b"\x80"],
)
def test_what_nobody_can_be_answered_for_ends_the_connection(message: bytes) -> None:
    assert PROTOBUF.read(message, 1000) is codes.BAD_REQUEST


@given(st.binary(max_size=200))
def test_no_bytes_raise(message: bytes) -> None:
    found = PROTOBUF.read(message, 150)
    assert found is codes.BAD_REQUEST or isinstance(found, list)
    decode_command(message)


def test_binary_frames_only() -> None:
    def after(*frames: tuple[int, bool, bytes]) -> object:
        assembler = MessageAssembler(10, Opcode.BINARY)
        return [assembler.take(*frame) for frame in frames][-1]

    assert after((2, True, b"\xff")) == b"\xff"
    assert after((2, False, b"\xff"), (0, True, b"\xfe")) == b"\xff\xfe"
    assert after((1, True, b"x")) is codes.TEXT_FRAME
    assert after((2, True, b"x" * 11)) is codes.FRAME_TOO_LARGE


# --- out --------------------------------------------------------------------------------------


def test_what_is_answered_is_read_by_the_sdks_schema() -> None:
    error = reply_of(PROTOBUF.error(3, 1201, WORDS, temporary=True))
    assert error == {"id": 3, "error": {"code": 1201, "message": WORDS, "temporary": True}}
    result = reply_of(PROTOBUF.rpc_reply(2**31, '{"茶":1}'.encode()))
    assert result["id"] == 2**31
    assert base64.b64decode(result["rpc"]["data"]).decode() == '{"茶":1}'
    view = {"epoch": "e", "offset": 4, "recoverable": True, "data": {"name": WORDS}}
    gained = reply_of(PROTOBUF.subscribe_push("群", view))["push"]
    assert gained["channel"] == "群"
    assert gained["subscribe"]["offset"] == "4"
    lost = reply_of(PROTOBUF.unsubscribe_push("群", 2101, "removed"))["push"]
    assert lost == {"channel": "群", "unsubscribe": {"code": 2101, "reason": "removed"}}
    info = {"user": "乙", "client": "c"}
    for kind, piece in (
        ("join", PROTOBUF.join_push("群", "c", "乙")),
        ("leave", PROTOBUF.leave_push("群", "c", "乙")),
    ):
        assert reply_of(piece) == {"push": {"channel": "群", kind: {"info": info}}}
    assert reply_of(PROTOBUF.reply(1, "ping", {})) == {"id": 1, "ping": {}}
    welcome = {"client": "c", "ping": 25, "pong": True, "subs": {"群": view, "空": {}}}
    connect = reply_of(PROTOBUF.reply(1, "connect", welcome))["connect"]
    assert set(connect["subs"]) == {"群", "空"}
    pages = {"publications": [{"data": msgspec.Raw(b"{}"), "offset": 1}], "offset": 2}
    assert reply_of(PROTOBUF.reply(1, "history", pages))["history"] == {
        "publications": [{"data": "e30=", "offset": "1"}],
        "offset": "2",
    }


def test_publications_carry_the_entry_that_json_carries() -> None:
    content = msgspec.Raw(json.dumps([{"type": "text", "text": WORDS}], indent=1).encode())
    entry = Entry("group:茶", 7, "group", 5, "alice", "钥匙", content)
    (piece,) = split_messages(PROTOBUF.publications("group:茶", (entry,))) or []
    push = client_pb2.Reply.FromString(piece).push
    assert (push.channel, push.pub.offset) == ("group:茶", 7)
    line = json.loads(JSON.publications("group:茶", (entry,)))
    assert json.loads(push.pub.data) == line["push"]["pub"]["data"]


@given(st.lists(st.binary(max_size=300), max_size=30), st.integers(1, 700))
def test_a_payload_is_split_between_messages(messages: list[bytes], bound: int) -> None:
    payload = b"".join(map(delimited, messages))
    payloads = PROTOBUF.split(payload, bound)
    assert b"".join(payloads) == payload
    for one in payloads:
        parts = split_messages(one)
        assert parts is not None
        assert len(one) <= bound or len(parts) == 1


def test_a_large_payload_goes_in_several_whole_binary_frames() -> None:
    piece = delimited(b"\x1a\x00" * 40_000)
    client = Protocol(CLIENT, max_size=None)
    client.receive_data(WEBSOCKET_PROTOBUF.build([piece] * 5))
    frames = [event for event in client.events_received() if isinstance(event, Frame)]
    assert [frame.opcode for frame in frames] == [0x2, 0x2]
    assert [bytes(frame.data) for frame in frames] == [piece * 3, piece * 2]
