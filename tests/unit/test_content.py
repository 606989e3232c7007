"""What a message may hold."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qunxin.engine.content import (
    MAX_DEPTH,
    MAX_SEGMENTS,
    Mention,
    Text,
    check_content,
    check_key,
    content_digest,
)
from qunxin.errors import QunxinError

TEXTS = ["你好，群信", "👩‍👩‍👧‍👦🏳️‍🌈", "שלום עולם", "مرحبا", "a\nb\u2028c\x00d", " "]


def refusal(**content: object) -> QunxinError:
    with pytest.raises(QunxinError) as caught:
        check_content(content.get("text"), content.get("content"), 65_536)  # type: ignore[arg-type]
    return caught.value


@pytest.mark.parametrize("text", TEXTS)
def test_text_is_short_for_one_text_segment(text: str) -> None:
    """Text alone and a list of one text segment are the same bytes, and come back whole."""
    encoded = check_content(text, None, 65_536)
    assert encoded == check_content(None, [{"type": "text", "text": text}], 65_536)
    assert encoded == check_content(None, [Text(text)], 65_536)
    assert json.loads(encoded) == [{"type": "text", "text": text}]


@given(st.text(min_size=1))
def test_any_unicode_text_survives_or_is_refused(text: str) -> None:
    """Every text that UTF-8 can carry comes back unchanged and holds no raw line break."""
    encoded = check_content(text, None, 1_000_000)
    assert b"\n" not in encoded
    assert json.loads(encoded)[0]["text"] == text


def test_every_kind_of_segment_is_taken() -> None:
    """All segment types keep their fields."""
    segments = [
        {"type": "mention", "user": "alice"},
        {"type": "mention", "user": "*"},
        {"type": "text", "text": "看这个 👀"},
        {"type": "image", "url": "https://example.org/猫.png", "width": 640},
        {"type": "file", "url": "https://example.org/a.pdf", "name": "报告.pdf", "size": 12},
        {"type": "reply", "position": 7},
        {"type": "custom", "name": "vote", "data": {"选项": ["是", "否", None, 1.5]}},
    ]
    assert json.loads(check_content(None, segments, 65_536)) == segments


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"text": "a", "content": [Text("a")]},
        {"text": ""},
        {"content": []},
        {"content": [{"type": "text", "text": ""}]},
        {"content": "text"},
        {"content": [{"type": "nothing"}]},
        {"content": [{"type": "text"}]},
        {"content": [{"type": "text", "text": 5}]},
        {"content": [{"type": "text", "text": "a", "more": 1}]},
        {"content": [Mention("not an id!")]},
        {"content": [{"type": "reply", "position": 0}]},
        {"content": [{"type": "reply", "position": 2**53}]},
        {"content": [{"type": "custom", "name": "n", "data": 2**53}]},
        {"content": [{"type": "custom", "name": "n", "data": {1: 2}}]},
        {"content": [{"type": "text", "text": "a"}] * (MAX_SEGMENTS + 1)},
        {"text": "lone \ud800 surrogate"},
    ],
)
def test_what_is_not_valid_is_named(content: dict[str, object]) -> None:
    """Nonsense is `invalid_request` with a detail, never another exception."""
    error = refusal(**content)
    assert error.code == "invalid_request"
    assert error.facts["detail"]


def test_nesting_has_a_bound() -> None:
    """Custom data may nest to the bound and no deeper, however deep it is."""

    def nested(depth: int) -> object:
        value: object = "底"
        for _ in range(depth):
            value = [value]
        return value

    check_content(None, [{"type": "custom", "name": "n", "data": nested(MAX_DEPTH)}], 65_536)
    for depth in (MAX_DEPTH + 1, 500):
        error = refusal(content=[{"type": "custom", "name": "n", "data": nested(depth)}])
        assert error.code == "invalid_request"


def test_size_counts_bytes_not_characters() -> None:
    """The limit is on the encoded content: one byte more is refused with both numbers."""
    overhead = len(check_content("x", None, 100)) - 1
    text = "群" * ((65_536 - overhead) // 3)
    spare = 65_536 - overhead - len(text.encode())
    assert len(check_content(text + "x" * spare, None, 65_536)) == 65_536
    with pytest.raises(QunxinError) as caught:
        check_content(text + "x" * (spare + 1), None, 65_536)
    assert caught.value.code == "message_too_large"
    assert caught.value.facts == {"size": 65_537, "limit": 65_536}


@pytest.mark.parametrize("key", ["", "k" * 129, "\ud800"])
def test_keys_have_bounds(key: str) -> None:
    """A key is 1 to 128 characters of valid Unicode."""
    with pytest.raises(QunxinError, match="key"):
        check_key(key)
    assert check_key("钥" * 128) == "钥" * 128
    assert check_key(None) is None


def test_digest_tells_content_apart() -> None:
    """Equal content has an equal digest, other content another one; 16 bytes."""
    one, other = (check_content(text, None, 100) for text in ("茶", "茶 "))
    assert content_digest(one) == content_digest(one)
    assert content_digest(one) != content_digest(other)
    assert len(content_digest(one)) == 16
