"""Lines in, lines out: what is decoded, what is refused, and that refusing costs little."""

from __future__ import annotations

import json
import time
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qunxin.model import MAX_INTEGER
from qunxin.wire.frames import (
    MAX_CHANNELS,
    MAX_DEPTH,
    MAX_LINES,
    BadLine,
    Nothing,
    decode_any,
    decode_command,
    encode_error,
    encode_join_push,
    encode_leave_push,
    encode_reply,
    encode_rpc_reply,
    encode_subscribe_push,
    encode_unsubscribe_push,
    find_id,
    is_too_deep,
    one_line,
    split_lines,
)

WORDS = "早安 👩\u200d👩\u200d👧 مرحبا \u202eabc\u202c\u2028\n\r\t\x00"
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-MAX_INTEGER, MAX_INTEGER) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def decode(value: Any) -> Any:
    return decode_command(json.dumps(value, ensure_ascii=False).encode())


def test_every_command_is_decoded_under_its_kind() -> None:
    """As the SDKs write them: unknown fields are passed over, zero values may be missing."""
    lines: dict[str, dict[str, Any]] = {
        "connect": {
            "token": WORDS,
            "name": "js",
            "version": "5.8.0",
            "data": [1],
            "subs": {"群": {"recover": True, "epoch": "e", "offset": 3}, "x": {}},
            "headers": {"Accept-Language": "zh"},
            "flag": 1,
        },
        "subscribe": {
            "channel": "群",
            "recover": True,
            "offset": 1,
            "epoch": "e",
            "flag": 1,
            "join_leave": True,
        },
        "unsubscribe": {"channel": "群"},
        "publish": {"channel": "群", "data": {"text": WORDS}},
        "history": {"channel": "群", "limit": -1, "since": {"offset": 1}, "reverse": True},
        "rpc": {"method": "message.send", "data": None},
        "refresh": {"token": WORDS},
        "presence": {"channel": "群"},
        "presence_stats": {"channel": "群"},
        "sub_refresh": {"channel": "群", "token": ""},
        "ping": {},
    }
    for kind, body in lines.items():
        found = decode({"id": MAX_INTEGER, kind: body, "新字段": [1]})
        assert not isinstance(found, BadLine), found
        assert found[0] == kind
        assert found[1].id == MAX_INTEGER
    assert decode({"send": {"data": 1}})[0] == "send"


@pytest.mark.parametrize(
    ("line", "number"),
    [
        (b"", 0),
        (b"null", 0),
        (b"[]", 0),
        (b'"' + WORDS.encode() + b'"', 0),
        (b'{"id":5}', 5),
        (b'{"id":5,"rpc":null}', 5),
        (b'{"id":5,"rpc":{},"ping":{}}', 5),
        (b'{"id":0,"ping":{}}', 0),
        (b'{"id":-1,"ping":{}}', 0),
        (b'{"id":true,"ping":{}}', 0),
        (b'{"id":1.5,"ping":{}}', 0),
        (b'{"id":9007199254740992,"ping":{}}', 0),
        (b'{"id":1e300,"ping":{}}', 0),
        (b'{"id":' + b"9" * 10_000 + b',"ping":{}}', 0),
        (b'{"id":5,"subscribe":{"channel":""}}', 5),
        (b'{"id":5,"subscribe":{"channel":"' + b"x" * 300 + b'"}}', 5),
        (b'{"id":5,"subscribe":{"channel":"x","offset":-1}}', 5),
        (b'{"id":5,"rpc":{"data":"a\nb"}}', 5),
        (b'{"id":5,"rpc":{"data":"\\ud83d"}}', 5),
        (b'{"rpc":{"data":"\\ud83d"},"id":5}', 5),
        (b'{"id":5,"rpc":{"data":' + b"[" * 100_000, 5),
        (b'{"rpc":{"data":' + b'{"a":' * 500 + b"1" + b"}" * 501 + b',"id":5}', 5),
        (b'{"id":5,"rpc":{"data":[' + b"[]," * 20_000 + b"1]}}", 5),
        (b"\xff\xfe", 0),
    ],
)
def test_what_is_no_command_says_whom_to_answer(line: bytes, number: int) -> None:
    found = decode_command(line)
    assert isinstance(found, BadLine)
    assert found.id == number
    assert found.detail


def test_a_connect_of_too_many_headers_is_refused() -> None:
    """While it waits to be let in each of them takes far more memory than its text."""
    for count, is_taken in ((MAX_CHANNELS, True), (MAX_CHANNELS + 1, False)):
        found = decode({"id": 5, "connect": {"headers": {f"茶{n}": "" for n in range(count)}}})
        assert isinstance(found, BadLine) is not is_taken


def test_of_a_ping_nothing_is_kept() -> None:
    found = decode({"id": 5, "ping": {f"茶{n}": WORDS for n in range(1_000)}})
    assert not isinstance(found, BadLine)
    assert found[1].ping == Nothing()


@given(st.binary(max_size=400))
def test_decoding_never_raises_on_bytes(line: bytes) -> None:
    decode_command(line)
    assert find_id(line) >= 0
    for part in split_lines(line) or []:
        assert b"\n" not in part


@given(json_values)
def test_any_json_in_the_place_of_data_comes_through(value: Any) -> None:
    """Raw data is neither changed nor judged here; decoded, it is what was sent."""
    found = decode({"id": 1, "rpc": {"method": "m", "data": value}})
    if isinstance(found, BadLine):
        assert "\\ud" in json.dumps(value)
        return
    assert decode_any(bytes(found[1].rpc.data)) == value


@pytest.mark.parametrize(
    "data", [b"{", b"1e400", b'"\\ud83d"', b"\xff", b"[" * 100_000, b"9" * 5000]
)
def test_what_is_no_json_value_is_a_value_error(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        decode_any(data)


def test_depth_is_counted_outside_of_strings() -> None:
    for opening, closing in ((b"[", b"]"), (b'{"a":', b"}")):
        deep = opening * MAX_DEPTH + b"1" + closing * MAX_DEPTH
        assert not is_too_deep(deep)
        assert is_too_deep(opening + deep + closing)
    assert not is_too_deep(b'"' + b"[" * 1000 + b'"')
    assert not is_too_deep(b'"\\"' + b"[" * 1000 + b'"')
    assert is_too_deep(b'"\\\\"' + b"[" * 1000 + b'"')
    assert not is_too_deep(b"[" + b"[]," * 5000 + b"1]")


@pytest.mark.parametrize(
    "line",
    [
        b"[" * 2**20,
        b"[]" * 2**19,
        b'{"a":' * 200_000,
        b'"' + b'\\"' * 2**19,
        b'"' * 2**20 + b"[" * 100,
        b"[" * 60 + b" " * 2**20 + b"]" * 60 + b"[]" * 10,
        (b'"' + b"\\" * 99) * 10_000 + b"[" * 100,
    ],
)
def test_bombs_are_refused_in_little_time(line: bytes) -> None:
    """A megabyte made to be slow costs well under a tenth of a second."""
    started = time.process_time()
    assert isinstance(decode_command(line), BadLine)
    assert time.process_time() - started < 0.1


def test_lines_are_split_and_their_number_is_bounded() -> None:
    assert split_lines(b"a\n\nb\r\n \n") == [b"a", b"b\r"]
    assert split_lines(b"\n" * (MAX_LINES - 1)) == []
    assert split_lines(b"a\n" * MAX_LINES) == [b"a"] * MAX_LINES
    assert split_lines(b"a\n" * (MAX_LINES + 1)) is None


@given(json_values)
def test_what_is_sent_is_always_one_line(value: Any) -> None:
    try:
        pretty = json.dumps(value, indent=2, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return
    raw = msgspec.Raw(pretty)
    lines = [
        encode_reply(7, "history", {"data": raw}),
        encode_rpc_reply(7, pretty),
        encode_subscribe_push("群:茶\n", {"data": raw}),
        one_line(pretty),
    ]
    for line in lines:
        assert b"\n" not in line
        json.loads(line)
    assert json.loads(lines[1]) == {"id": 7, "rpc": {"data": value}}


def test_errors_and_unsubscribes_have_the_keys_that_sdks_need() -> None:
    assert json.loads(encode_error(3, 1300, "请稍后", temporary=True)) == {
        "id": 3,
        "error": {"code": 1300, "message": "请稍后", "temporary": True},
    }
    assert json.loads(encode_error(3, 1000, ""))["error"] == {"code": 1000, "message": ""}
    assert json.loads(encode_unsubscribe_push("群", 2101, "removed")) == {
        "push": {"channel": "群", "unsubscribe": {"code": 2101, "reason": "removed"}}
    }
    info = {"user": "乙", "client": "c"}
    assert json.loads(encode_join_push("群", "c", "乙")) == {
        "push": {"channel": "群", "join": {"info": info}}
    }
    assert json.loads(encode_leave_push("群", "c", "乙")) == {
        "push": {"channel": "群", "leave": {"info": info}}
    }
