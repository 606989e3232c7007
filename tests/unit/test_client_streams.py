"""The client's pure parts: where a device stands, recalls on the way, pauses, addresses, errors."""

from __future__ import annotations

import msgspec
import pytest

from qunxin.client import results as client_results
from qunxin.client.backoff import Backoff
from qunxin.client.conversations import Conversations
from qunxin.client.events import Handed
from qunxin.client.inflow import Inflow
from qunxin.client.link import websocket_address
from qunxin.client.refusals import RefusedError, closed_for_good, comes_back
from qunxin.client.results import ConversationView, RoleName
from qunxin.client.streams import Begin, GapError, Stream, known_positions, without_recalled
from qunxin.engine.sink import Position
from qunxin.errors import ERRORS, QunxinError
from qunxin.gateways.operations import responses
from qunxin.model import Entry
from qunxin.wire.codes import DISCONNECTS, ERROR_NUMBERS
from qunxin.wire.device import Ended, Fault, Subscribed, encode_command, read_frame
from qunxin.wire.entries import decode_entry, encode_entry
from qunxin.wire.frames import MAX_CHANNELS, decode_command

TEA = "group:tea"
CONTENT = msgspec.Raw('[{"type":"text","text":"早安 👩\u200d👩\u200d👧 مرحبا"}]'.encode())


def _message(position: int, content: msgspec.Raw | None = CONTENT) -> Entry:
    return Entry(TEA, position, "group", 1_764_547_200_000, "alice", "键", content)


def _event(position: int, kind: str, **body: object) -> Entry:
    return Entry(TEA, position, kind, 0, body=dict(body))


def _followed(position: int, epoch: str = "e") -> Stream:
    stream = Stream(TEA, epoch, position)
    assert stream.begin(Subscribed(position, epoch, True, True)) is Begin.FOLLOW
    return stream


# --- streams ----------------------------------------------------------------------------------


def test_each_position_is_taken_once() -> None:
    """A repeat is passed over; a hidden range counts as all that it covers."""
    stream = _followed(3)
    assert stream.take(_message(4)) == _message(4)
    assert stream.take(_message(4)) is None
    assert stream.take(_event(7, "hidden", first=5, last=7)) is not None
    overlapping = stream.take(_event(9, "hidden", first=6, last=9))
    assert overlapping is not None
    assert overlapping.body == {"first": 8, "last": 9}
    assert stream.received == 9


def test_a_gap_is_never_taken() -> None:
    """It would be a silent loss."""
    stream = _followed(3)
    with pytest.raises(GapError):
        stream.take(_message(5))
    assert stream.received == 3


def test_a_new_conversation_begins_where_the_server_says() -> None:
    """And what the inbox told of the joining counts only where there is no subscription."""
    stream = Stream(TEA)
    stream.join(8)
    assert stream.received == 7
    assert stream.begin(Subscribed(2, "e")) is Begin.FOLLOW
    assert (stream.handed, stream.received) == (2, 2)


def test_a_new_conversation_is_loaded_from_the_joining_that_the_inbox_told_of() -> None:
    """Where another device of the user has proved to have more; unless that is too much."""
    stream = Stream(TEA)
    stream.join(3)
    assert stream.begin(Subscribed(9, "e")) is Begin.LOAD
    assert (stream.handed, stream.received, stream.handed_epoch) == (2, 2, "e")
    long_ago = Stream(TEA)
    long_ago.join(3)
    assert long_ago.begin(Subscribed(50_000, "e")) is Begin.RELOAD


@pytest.mark.parametrize(
    ("stream", "begin"),
    [
        (Stream(TEA, "e", 3, 9), Begin.LOAD),
        (Stream(TEA, "", 0, 9), Begin.LOAD),
        (Stream(TEA, "e", 9, 9), Begin.FOLLOW),
        (Stream(TEA, "e", 3), Begin.FOLLOW),
        (Stream(TEA), Begin.FOLLOW),
        (Stream(TEA, ended_at=9), Begin.RELOAD),
        (Stream(TEA, "e", 3, 50_000), Begin.RELOAD),
        (Stream(TEA, "other", 3, 9), Begin.RELOAD),
    ],
    ids=[
        "some is missing",
        "from the joining",
        "nothing is missing",
        "not left",
        "not known and not left",
        "nothing is known",
        "a hole too large to load",
        "another history",
    ],
)
def test_what_is_missing_of_a_conversation_that_was_left(stream: Stream, begin: Begin) -> None:
    """It is loaded within bounds, or the program is told; and neither twice."""
    assert stream.end("e") is begin
    if begin is Begin.RELOAD:
        assert (stream.received, stream.epoch) == (stream.ended_at, "e")
        assert stream.end("e") is Begin.FOLLOW


@pytest.mark.parametrize(
    "start",
    [Subscribed(9, "other"), Subscribed(9, "e", True, False), Subscribed(50_000, "e")],
    ids=["another history", "not recovered", "a hole too large to load"],
)
def test_what_cannot_be_filled_in_is_to_be_reloaded(start: Subscribed) -> None:
    """Until the program has been told, the device says that it stands where it stood."""
    stream = Stream(TEA, "e", 3)
    assert stream.begin(start) is Begin.RELOAD
    assert (stream.received, stream.handed, stream.handed_epoch) == (start.offset, 3, "e")
    stream.restart()
    assert (stream.received, stream.epoch) == (3, "e")


def test_a_hole_below_a_subscription_is_loaded() -> None:
    """And a subscription that begins below what the device has repeats, which is passed over."""
    assert Stream(TEA, "e", 3).begin(Subscribed(5, "e")) is Begin.LOAD
    assert Stream(TEA, "e", 7).begin(Subscribed(5, "e")) is Begin.FOLLOW


def test_a_restart_gives_up_what_was_not_handed_on() -> None:
    """It is asked for again."""
    stream = _followed(3)
    stream.take(_message(4))
    stream.take(_message(5))
    stream.hand(Position("e", 4))
    stream.restart()
    assert (stream.received, stream.subscribed) == (4, False)
    assert known_positions({TEA: stream})[TEA].offset == 4


def test_a_connection_is_told_as_much_as_it_takes() -> None:
    """Conversations that the user has left go last."""
    streams = {f"group:g{n}": Stream(f"group:g{n}", "e", 1, 9) for n in range(MAX_CHANNELS)}
    streams[TEA] = Stream(TEA, "e", 1)
    known = known_positions(streams)
    assert len(known) == MAX_CHANNELS
    assert TEA in known


def test_a_page_older_than_a_recall_shows_a_tombstone() -> None:
    """Of the message that was recalled, and of no other."""
    first, second = without_recalled([_message(1), _message(2)], {(TEA, 2): 5})
    assert first == _message(1)
    assert (second.content, second.recalled, second.sender) == (None, 5, "alice")


def test_a_recall_finds_what_waits() -> None:
    """Content that was recalled before the program took it is not handed out."""
    inflow = Inflow()
    for position in (1, 2):
        inflow.put(Handed(_message(position), TEA, Position("e", position)))
    inflow.put(Handed(_event(3, "recalled", by="alice", target=2), TEA, Position("e", 3)))
    taken = [item.event for _ in range(3) if isinstance(item := inflow.take(), Handed)]
    assert [event.content for event in taken if isinstance(event, Entry)] == [CONTENT, None, None]
    assert inflow.take() is None


# --- the wire ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "entry",
    [
        _message(1),
        Entry(TEA, 2, "group", 5, "alice", None, None, recalled=9),
        _event(3, "joined", by="alice", users=["bob"], keys=[3], count=1),
        _event(4, "a type of later", fact="事实 👋🏽"),
    ],
    ids=["message", "tombstone", "event", "unknown"],
)
def test_entries_come_back_as_they_went(entry: Entry) -> None:
    """What a device reads is what the server wrote."""
    assert decode_entry(encode_entry(entry)) == entry


def test_what_a_device_says_is_what_a_server_reads() -> None:
    """Both ends of the wire are in one place, and fit."""
    line = encode_command(7, "rpc", {"method": "message.send", "data": {"text": "换\n行"}})
    read = decode_command(line.encode())
    assert isinstance(read, tuple)
    assert (read[0], read[1].id) == ("rpc", 7)


def test_a_frame_of_several_lines() -> None:
    """Pings among pushes keep their place; what is not known is passed over."""
    frame = b'{"push":{"channel":"c","pub":{"data":1,"offset":2},"new":1}}\n{}\n\n{"id":3,"rpc":{}}'
    push, ping, reply = read_frame(frame)
    assert push.push is not None
    assert (push.is_ping, ping.is_ping, reply.id) == (False, True, 3)


def test_a_device_knows_every_error() -> None:
    """Its number leads back to code, tier and advice, with the server's own words."""
    for code, number in ERROR_NUMBERS.items():
        error = RefusedError(Fault(number, "文字", ERRORS[code].retryable))
        assert (error.code, error.retryable) == (code, ERRORS[code].retryable)
        assert (error.text(), error.tier) == ("文字", ERRORS[code].tier)
    unknown = RefusedError(Fault(4711, "something new", temporary=True))
    assert (unknown.code, unknown.retryable, unknown.number) == ("internal", True, 4711)


def test_a_device_comes_back_where_the_server_wants_it() -> None:
    """The same answer at both ends; a code for good has an error of the family."""
    for disconnect in DISCONNECTS:
        assert comes_back(disconnect.code) is disconnect.comes_back
        if not disconnect.comes_back:
            error = closed_for_good(Ended(*disconnect), "alice")
            assert isinstance(error, QunxinError)
            assert not error.retryable
    assert comes_back(1006)
    assert not comes_back(3500)


@pytest.mark.parametrize(
    "name",
    [
        "ConversationView",
        "ConversationList",
        "EntryList",
        "Ledger",
        "MemberView",
        "MemberList",
        "SavedGroup",
    ],
)
def test_results_have_the_fields_that_the_server_gives(name: str) -> None:
    """Nothing is missing, nothing is made up."""
    ours, theirs = getattr(client_results, name), getattr(responses, name)
    assert set(ours.__struct_fields__) == set(theirs.__struct_fields__)
    assert [*client_results.RoleName] == [*responses.RoleName]


# --- small parts ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "address"),
    [
        ("http://127.0.0.1:8000", "ws://127.0.0.1:8000/connection/websocket"),
        ("https://chat.example.org/", "wss://chat.example.org/connection/websocket"),
        ("wss://chat.example.org/im/ws?v=1", "wss://chat.example.org/im/ws?v=1"),
    ],
)
def test_addresses(given: str, address: str) -> None:
    """A server's bare address is enough; one with a path is taken as it is."""
    assert websocket_address(given) == address


@pytest.mark.parametrize("given", ["", "chat.example.org", "ftp://x", "http://"])
def test_what_is_no_address_is_refused(given: str) -> None:
    """At once, with what was given."""
    with pytest.raises(QunxinError) as refused:
        websocket_address(given)
    assert repr(given) in refused.value.text()


def test_pauses_grow_within_a_bound() -> None:
    """Never below what an error advises, never much above the bound, short again after success."""
    backoff = Backoff(0.1, 2.0)
    pauses = [backoff.next_seconds() for _ in range(30)]
    assert all(0.05 <= pause <= 2.0 for pause in pauses)
    assert pauses[-1] >= 1.0
    assert backoff.next_seconds(5.0) >= 5.0
    backoff.reset()
    assert backoff.next_seconds() <= 0.1


def test_the_list_follows_the_entries() -> None:
    """Unread counts messages of others above what the server's row knew already."""
    listed = Conversations()
    listed.put(ConversationView(TEA, "茶", 3, 10, 1, RoleName.MEMBER, 3, 3, 2))
    for entry in (_message(3), _message(4), _event(5, "changed", by="alice", name="新 🍵")):
        listed.apply(entry, "bob")
    listed.apply(Entry(TEA, 6, "group", 5, "bob"), "bob")
    listed.apply(_event(7, "changed", by="alice", user="bob", role="admin"), "bob")
    (row,) = listed.listed()
    assert (row.head, row.unread, row.name, row.role) == (7, 3, "新 🍵", RoleName.ADMIN)
    listed.put_if_newer(ConversationView(TEA, "旧", 4, 10, 1, None, 3, 3, 0))
    assert listed.get(TEA) == row
    listed.read(TEA, 7, 0)
    assert listed.listed()[0].unread == 0
    listed.keep_only(set())
    assert listed.listed() == ()
