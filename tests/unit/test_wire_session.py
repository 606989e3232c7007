"""The state table and the pings, as conversations; the code tables, complete; frames, whole."""

from __future__ import annotations

import itertools
import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame
from websockets.protocol import CLIENT, Protocol

from qunxin.engine.sink import CloseReason
from qunxin.errors import ERRORS
from qunxin.gateways.realtime_session import CLOSE_REASONS
from qunxin.model import Entry
from qunxin.wire import codes
from qunxin.wire.codec import (
    close_frame,
    encode_publications,
    lines_within,
    pong_frame,
    text_frame,
)
from qunxin.wire.frames import BadLine
from qunxin.wire.messages import MessageAssembler
from qunxin.wire.session import (
    A_PONG,
    ACCEPTED,
    KINDS,
    OutstandingPing,
    ProtocolSession,
    Received,
    State,
    TooLarge,
    Verdict,
    read_message,
)

WORDS = "早安 👩\u200d👩\u200d👧 مرحبا \u202eabc\u202c\u2028"


# --- codes ------------------------------------------------------------------------------------


def test_every_error_has_a_number_of_its_own_in_its_tiers_block() -> None:
    assert set(codes.ERROR_NUMBERS) == set(ERRORS)
    numbers = list(codes.ERROR_NUMBERS.values())
    assert len(set(numbers)) == len(numbers)
    for code, number in codes.ERROR_NUMBERS.items():
        if code not in codes.PROTOCOL_OWN:
            block = codes.BLOCKS[ERRORS[code].tier]
            assert block <= number < block + 100
    own = {code: codes.ERROR_NUMBERS[code] for code in codes.PROTOCOL_OWN}
    assert own == {"token_expired": 109, "unknown_method": 104}


def test_every_disconnect_is_in_the_free_range_with_words_that_sdks_take_as_such() -> None:
    named = [value for value in vars(codes).values() if isinstance(value, codes.Disconnect)]
    assert sorted(named) == sorted(codes.DISCONNECTS)
    assert len({one.code for one in named}) == len(named)
    for one in named:
        assert 4000 <= one.code <= 4999
        assert one.comes_back == (one.code < 4500)
        assert 0 < len(one.reason.encode()) <= 123
        with pytest.raises(json.JSONDecodeError):
            json.loads(one.reason)


def test_every_reason_of_the_engine_is_told_and_all_but_three_come_back() -> None:
    assert set(CLOSE_REASONS) == set(CloseReason)
    for_good = {reason for reason, one in CLOSE_REASONS.items() if not one.comes_back}
    assert for_good == {CloseReason.SUSPENDED, CloseReason.ERASED, CloseReason.SESSIONS_ENDED}


# --- states -----------------------------------------------------------------------------------


def test_the_table_answers_for_every_state_and_kind() -> None:
    assert set(ACCEPTED) == set(State)
    assert all(set(row) == set(KINDS) for row in ACCEPTED.values())


def test_a_session_from_connect_to_its_end() -> None:
    session: ProtocolSession[str] = ProtocolSession()
    assert session.judge("connect") is Verdict.HANDLE
    assert session.judge("rpc") is codes.CONNECT_FIRST
    session.state = State.CONNECTED
    assert session.judge("rpc") is Verdict.HANDLE
    assert session.judge("connect") is codes.ALREADY_CONNECTED
    assert session.judge("sub_refresh") is codes.NOT_AVAILABLE
    assert session.judge("send") is codes.NO_REPLY_COMMAND
    session.close()
    assert {session.judge(kind) for kind in KINDS} == {Verdict.IGNORE}


def test_the_first_command_is_connect_and_no_second_one_waits_beside_it() -> None:
    """What SDKs write behind `connect`, before they know whether they are admitted, waits."""
    session: ProtocolSession[str] = ProtocolSession()
    for kind in set(KINDS) - {"connect"}:
        assert session.receive(kind) is codes.CONNECT_FIRST
    assert session.receive("connect") is None
    assert session.judge("connect") is Verdict.HANDLE
    assert session.receive("connect") is codes.ALREADY_CONNECTED
    for kind in set(KINDS) - {"connect"}:
        assert session.receive(kind) is None
    session.state = State.CONNECTED
    assert {session.receive(kind) for kind in KINDS} == {None}
    session.close()
    assert {session.receive(kind) for kind in KINDS} == {None}


def test_a_refused_client_is_not_listened_to() -> None:
    session: ProtocolSession[str] = ProtocolSession()
    session.state = State.REFUSED
    assert session.judge("connect") is Verdict.IGNORE


@given(st.lists(st.sampled_from(["ping", "pong"])))
def test_each_pong_answers_the_oldest_ping_and_one_too_many_is_an_error(steps: list[str]) -> None:
    session: ProtocolSession[int] = ProtocolSession()
    sent = answered = 0
    for step in steps:
        if step == "ping":
            session.ping(sent, 100 * sent, float(sent))
            sent += 1
            continue
        found = session.pong()
        if answered == sent:
            assert found is codes.UNASKED_PONG
        else:
            assert isinstance(found, OutstandingPing)
            assert (found.mark, found.sent_bytes) == (answered, 100 * answered)
            answered += 1


def test_a_message_is_read_line_by_line() -> None:
    """Pongs, commands, lines that are wrong or too long, in order."""
    long = json.dumps({"id": 3, "rpc": {"data": "大" * 100}}, ensure_ascii=False)
    message = f'{{}}\n{{"id":1,"ping":{{}}}}\n{long}\n{{"id":4}}\n {{}} '.encode()
    lines = read_message(message, 200)
    assert isinstance(lines, list)
    pong, command, large, bad, last = lines
    assert pong is A_PONG
    assert last is A_PONG
    assert isinstance(command, Received)
    assert (command.kind, command.size) == ("ping", len(b'{"id":1,"ping":{}}'))
    assert isinstance(large, TooLarge)
    assert (large.id, large.size) == (3, len(long.encode()))
    assert isinstance(bad, BadLine)
    assert bad.id == 4


@pytest.mark.parametrize(
    "message", [b"x", WORDS.encode(), b'{"id":0}', b'{"a":1}', b'{}\n{"id":1', b"{}\n" * 1001]
)
def test_a_line_that_nobody_can_be_answered_for_ends_the_connection(message: bytes) -> None:
    assert read_message(message, 1000) is codes.BAD_REQUEST


# --- frames and messages ----------------------------------------------------------------------


def parsed(data: bytes) -> list[Frame]:
    """The frames as another implementation reads them."""
    client = Protocol(CLIENT, max_size=None)
    client.receive_data(data)
    assert client.parser_exc is None
    return [event for event in client.events_received() if isinstance(event, Frame)]


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65_535, 65_536, 300_000])
def test_frames_are_what_another_implementation_reads(size: int) -> None:
    payload = ("群" * size).encode()[:size]
    found = parsed(text_frame(payload) + pong_frame(payload[:125]))
    assert [bytes(frame.data) for frame in found] == [payload, payload[:125]]
    assert all(frame.fin for frame in found)


def test_a_close_frame_keeps_its_reason_within_bounds() -> None:
    (found,) = parsed(close_frame(4001, "慢" * 60))
    assert found.data[:2] == (4001).to_bytes(2, "big")
    assert bytes(found.data[2:]).decode() == "慢" * 41


@given(st.lists(st.text(min_size=1, max_size=30), min_size=1, max_size=40), st.integers(1, 200))
def test_lines_go_into_payloads_in_order_and_within_the_bound(texts: list[str], bound: int) -> None:
    lines = [json.dumps(text).encode() for text in texts]
    payloads = lines_within(lines, bound)
    assert b"\n".join(payloads).split(b"\n") == lines
    assert all(len(payload) <= bound + 1 or b"\n" not in payload for payload in payloads)


@given(st.text(), st.lists(st.integers(0, 200), max_size=6))
def test_fragments_become_the_message_they_were(text: str, cuts: list[int]) -> None:
    message = text.encode("utf-8", "replace")
    edges = [0, *sorted(min(cut, len(message)) for cut in cuts), len(message)]
    assembler = MessageAssembler(10_000)
    results = []
    for index, (start, end) in enumerate(itertools.pairwise(edges)):
        last = index == len(edges) - 2
        results.append(assembler.take(1 if index == 0 else 0, last, message[start:end]))
    assert results[:-1] == [None] * (len(results) - 1)
    assert results[-1] == message


def test_fragments_that_break_a_rule() -> None:
    def after(*frames: tuple[int, bool, bytes]) -> object:
        assembler = MessageAssembler(10)
        return [assembler.take(*frame) for frame in frames][-1]

    assert after((0, True, b"x")) is codes.BAD_FRAME
    assert after((1, False, b"x"), (1, True, b"x")) is codes.BAD_FRAME
    assert after((2, True, b"x")) is codes.BINARY_FRAME
    assert after((2, False, b"x")) is codes.BINARY_FRAME
    assert after((1, False, b"x"), (2, True, b"x")) is codes.BAD_FRAME
    assert after((3, True, b"x")) is codes.BAD_FRAME
    assert after((1, True, b"x" * 11)) is codes.FRAME_TOO_LARGE
    assert after((1, False, b"x" * 6), (0, False, b"x" * 5)) is codes.FRAME_TOO_LARGE
    assert after((1, True, "群".encode()[:2])) is codes.INVALID_UTF8
    assert after((1, False, "群".encode()[:2]), (0, True, "群".encode()[2:])) == "群".encode()


# --- entries ----------------------------------------------------------------------------------


def test_publications_carry_entry_and_offset_one_line_each() -> None:
    """Whatever stands in the content, even JSON text with newlines in it."""
    content = msgspec.Raw(json.dumps([{"type": "text", "text": WORDS + "\n"}], indent=1).encode())
    message = Entry("group:tea", 7, "group", 1_764_000_000_000, "alice", "钥匙", content)
    event = Entry("group:tea", 8, "left", 5, body={"users": ["bob"], "reason": "removed"})
    lines = encode_publications("group:tea", (message, event))
    assert not any(b"\n" in line for line in lines)
    first, second = (json.loads(line)["push"] for line in lines)
    assert first["channel"] == "group:tea"
    assert first["pub"]["offset"] == first["pub"]["data"]["position"] == 7
    assert first["pub"]["data"]["content"] == [{"type": "text", "text": WORDS + "\n"}]
    assert second["pub"]["data"] == {
        "type": "left",
        "conversation": "group:tea",
        "position": 8,
        "time": 5,
        "users": ["bob"],
        "reason": "removed",
    }
