"""The nouns: what an entry says of its content, what a cursor says of positions."""

from itertools import product

import msgspec

from qunxin.model import Cursor, Entry


def test_an_entry_gives_its_text_and_segments() -> None:
    """Segments come back as plain objects in order; the text is theirs alone, joined."""
    parts = [
        {"type": "mention", "user": "bob"},
        {"type": "text", "text": "你好"},
        {"type": "text", "text": " 👋🏽"},
    ]
    content = msgspec.json.encode(parts)
    entry = Entry("group:tea", 1, "group", 1, "alice", content=msgspec.Raw(content))
    assert list(entry.segments) == parts
    assert entry.text == "你好 👋🏽"


def test_a_tombstone_and_an_event_have_no_text() -> None:
    """Nothing is made up where there is no content."""
    tombstone = Entry("group:tea", 1, "group", 1, "alice", recalled=2)
    event = Entry("group:tea", 2, "recalled", 1, body={"by": "alice", "target": 1})
    assert [(e.text, e.segments, e.is_message) for e in (tombstone, event)] == [
        ("", (), True),
        ("", (), False),
    ]


def _known(cursor: Cursor) -> set[int]:
    """Every position that the cursor says is had, by its definition alone."""
    missed = range(cursor.missed_from, cursor.missed_to + 1)
    return {*range(1, cursor.delivered + 1)} - {*missed} | {*range(1, cursor.read + 1)}


def _cursors(highest: int) -> list[Cursor]:
    """All that there can be, settled or not."""
    ends = range(highest + 1)
    return [
        Cursor("鲍勃", "group:茶", *numbers)
        for numbers in product(ends, ends, ends, ends)
        if (numbers[2] == 0) == (numbers[3] == 0)
    ]


def test_a_settled_cursor_says_the_same() -> None:
    """`read` is at most `delivered`, and what is missed lies between them, or nothing is."""
    for cursor in _cursors(4):
        same = cursor.settled()
        assert _known(same) == _known(cursor)
        assert same.read == cursor.read
        assert same.delivered == max(cursor.delivered, cursor.read)
        if same.missed_to:
            assert same.read < same.missed_from <= same.missed_to <= same.delivered
        else:
            assert same.missed_from == 0


def test_merged_cursors_never_say_more_than_either() -> None:
    """What neither of two knows is missed, from its first position to its last."""
    for one, other in product(_cursors(3), repeat=2):
        known = _known(one) | _known(other)
        merged = one.merged(other)
        assert merged == merged.settled() == other.merged(one)
        assert merged.read == max(one.read, other.read)
        assert merged.delivered == max(one.settled().delivered, other.settled().delivered)
        unknown = {*range(1, merged.delivered + 1)} - known
        hole = {*range(min(unknown), max(unknown) + 1)} if unknown else set()
        assert _known(merged) == {*range(1, merged.delivered + 1)} - hole
