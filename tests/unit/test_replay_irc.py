"""Reading the logs of a replay."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from qunxin.model import is_valid_id
from qunxin.replay.irc import all_users, decode, read_log, user_id
from qunxin.replay.pace import due_times
from qunxin.replay.plan import Action, ActionKind, Named, plan_plain

_ROOT = Path(__file__).parents[2]
_SAMPLES = _ROOT / "tests" / "data" / "irc"
_WHOLE = _ROOT.parent / "shared" / "data" / "irc"

_TABLE = {
    "2004-12-25.train-c.raw.txt": (236, 1165, 244, 32, 8, 12, 115521),
    "2005-10-07.train-c.raw.txt": (194, 1231, 197, 34, 13, 24, 111161),
    "2006-05-15.train-c.raw.txt": (210, 1245, 214, 25, 11, 14, 120700),
    "2006-08-23.train-a.raw.txt": (253, 1367, 262, 35, 6, 14, 176245),
    "2007-02-15.train-c.raw.txt": (334, 1094, 342, 45, 7, 3, 146808),
    "2008-02-07.train-c.raw.txt": (202, 1479, 202, 0, 21, 0, 159192),
    "2009-05-08.train-c.raw.txt": (164, 1474, 164, 1, 26, 0, 141233),
    "2010-08-29.train-a.raw.txt": (179, 1404, 179, 1, 24, 0, 147486),
    "2012-02-03.train-a.raw.txt": (184, 1195, 184, 1, 47, 0, 113638),
    "2013-05-07.train-a.raw.txt": (142, 1109, 142, 1, 38, 0, 92895),
    "2014-01-08.train-c.raw.txt": (115, 1455, 115, 2, 45, 0, 72209),
    "2015-10-19.train-b.raw.txt": (149, 1050, 149, 1, 48, 2, 95964),
}

_has_whole_logs = pytest.mark.skipif(not _WHOLE.is_dir(), reason="the whole logs are not here")


@_has_whole_logs
def test_the_whole_logs_give_the_known_totals() -> None:
    """Every number of every file, and the totals over all of them."""
    logs = {name: read_log(decode((_WHOLE / name).read_bytes())) for name in _TABLE}
    assert {name: tuple(log.totals) for name, log in logs.items()} == _TABLE
    assert len(list(all_users(logs.values()))) == 2261
    assert sum(log.totals.messages for log in logs.values()) == 15_268
    plan = plan_plain([Named(name, name, log) for name, log in logs.items()])
    assert plan.expected_deliveries == 1_493_052
    assert plan.accepted_messages == 15_268
    assert plan.log_users == len(plan.users) == 2261


def test_the_samples_give_their_totals() -> None:
    """What the tests of whole replays rest on."""
    totals = {
        path.name: tuple(read_log(decode(path.read_bytes())).totals)
        for path in _SAMPLES.glob("*.txt")
    }
    assert totals == {
        "2006-08-23.sample.raw.txt": (28, 57, 28, 1, 1, 1, 848),
        "2010-08-29.sample.raw.txt": (13, 35, 13, 0, 1, 0, 240),
        "茶馆.txt": (5, 9, 6, 3, 2, 2, 21),
    }


def _told(text: str) -> list[tuple[str, str, str]]:
    return [(step.kind.value, step.user, step.text) for step in read_log(text).steps]


def test_both_forms_of_a_line_are_read() -> None:
    """Messages, actions, and both ways to tell of joins and leaves."""
    assert _told("=== a [x@y]  has joined #t\n[09:00]  * a 挥手\n=== a [x@y]  has left #t []") == [
        ("join", "a", "a"),
        ("message", "a", "挥手"),
        ("leave", "a", ""),
    ]
    assert _told("=== b entered the room.\n=== b was kicked off #t by c (x)") == [
        ("join", "b", "b"),
        ("leave", "b", ""),
    ]


def test_who_speaks_unannounced_joins_just_before() -> None:
    assert _told("[09:00] <😀> hi") == [
        ("join", "q._f0_9f_98_80", "😀"),
        ("message", "q._f0_9f_98_80", "hi"),
    ]


def test_white_space_alone_is_skipped_and_joins_nobody() -> None:
    log = read_log("[09:00] <a> \u3000 \n[09:00]  * a  \nsomething else\n\n")
    assert log.steps == ()
    assert log.totals.skipped == 3


def test_a_repeated_join_and_the_leave_of_a_stranger_do_nothing() -> None:
    assert _told("=== a entered the room.\n=== a entered the room.\n=== b left the room.") == [
        ("join", "a", "a")
    ]


def test_who_comes_back_is_the_same_user() -> None:
    text = "[09:00] <a> 1\n=== a left the room.\n[09:01] <a> 2"
    assert [user for kind, user, _ in _told(text) if kind == "join"] == ["a", "a"]


def test_a_nick_left_by_renaming_is_a_new_person() -> None:
    text = "[09:00] <a> 1\n=== a is now known as b\n[09:01] <a> 2\n[09:02] <b> 3"
    assert [(user, said) for kind, user, said in _told(text) if kind == "message"] == [
        ("a", "1"),
        ("a.2", "2"),
        ("a", "3"),
    ]


def test_the_bearer_of_a_taken_nick_leaves_first() -> None:
    text = "[09:00] <a> 1\n[09:00] <b> 2\n=== a is now known as b\n[09:01] <b> 3"
    assert _told(text)[4:] == [("leave", "b", ""), ("rename", "a", "b"), ("message", "a", "3")]


def test_renaming_to_the_same_nick_is_nothing() -> None:
    assert _told("[09:00] <a> 1\n=== a is now known as a")[2:] == []


def test_a_message_is_due_to_all_present_but_its_author() -> None:
    log = read_log("[09:00] <a> 1\n[09:00] <b> 2\n[09:00] <c> 3\n=== a left the room.\n[1:0] x")
    assert log.totals.deliveries == 0 + 1 + 2


def test_what_happens_before_any_time_is_told_happens_at_the_first() -> None:
    log = read_log("=== a entered the room.\n[23:59] <b> 1\n=== a left the room.\n[00:01] <b> 2")
    assert [step.minute for step in log.steps] == [1439, 1439, 1439, 1439, 1]


_nicks = st.text(min_size=1, max_size=40)


@given(st.lists(st.tuples(_nicks, st.integers(1, 50)), min_size=2, max_size=8, unique=True))
@example([("a", 1), ("a", 2), ("a.2", 1), ("q._", 1), ("_", 1), ("_5f", 1)])
@example([("长" * 40, 1), ("长" * 39 + "短", 1)])
def test_every_person_has_an_id_of_their_own(people: list[tuple[str, int]]) -> None:
    """Any nicks: valid ids, and no two the same, with a tag and without."""
    for tag in ("", "0a1b2c3d"):
        ids = [user_id(nick, ordinal, tag) for nick, ordinal in people]
        assert all(is_valid_id(one) for one in ids)
        assert len(set(ids)) == len(people)


def test_plain_nicks_are_their_own_ids() -> None:
    assert user_id("kleedrac") == "kleedrac"


def test_times_are_spread_over_the_minute_and_go_on_past_midnight() -> None:
    minutes = [1438, 1438, 1439, 0]
    actions = [Action(ActionKind.SEND, minute) for minute in minutes]
    assert due_times(actions, 1.0) == [0.0, 30.0, 60.0, 120.0]
    assert due_times(actions, 20.0) == [0.0, 1.5, 3.0, 6.0]
    assert due_times(actions, None) == [0.0] * 4


def test_leaves_and_joins_bound_what_a_member_is_due() -> None:
    """The plan's own words for it: slots of the group's chronicle."""
    text = "[09:00] <a> 1\n[09:00] <b> 2\n=== b left the room.\n[09:01] <a> 3\n[09:02] <b> 4"
    plan = plan_plain([Named("茶", "茶", read_log(text))])
    chronicle = plan.chronicles["group:茶"]
    kinds = [slot.type for slot in chronicle.slots]
    began = ["created", "joined", "group", "joined", "group"]
    assert kinds == [*began, "left", "group", "joined", "group"]
    assert chronicle.expected("a") == [1, 2, 3, 4, 5, 6, 7, 8]
    assert chronicle.expected("b") == [3, 4, 5, 7, 8]
    assert plan.expected_deliveries == 0 + 1 + 0 + 1
