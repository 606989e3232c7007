"""The nouns: what an entry says of its content."""

import msgspec

from qunxin.model import Entry


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
