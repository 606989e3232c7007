"""Steps 1 and 2: a message's type, and the conversation it is routed to."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qunxin.engine.message_types import MESSAGE_TYPES, check_message_type
from qunxin.errors import QunxinError
from qunxin.model import BROADCAST, Conversation, ConversationKind, MessageType, is_valid_id

IDS = st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9_@-]{0,62}[A-Za-z0-9])?", fullmatch=True)


def test_every_type_has_a_row() -> None:
    """The table is complete: one row for each message type."""
    assert set(MESSAGE_TYPES) == {str(kind) for kind in MessageType}


@pytest.mark.parametrize("value", [None, "", "Group", "channel", 1, "inbox", "群", [], "group "])
def test_a_type_is_never_guessed(value: object) -> None:
    """Missing or unknown: the error of its own."""
    with pytest.raises(QunxinError) as caught:
        check_message_type(value)
    assert caught.value.code == "unknown_message_type"


@given(IDS, IDS)
def test_each_strategy_leads_to_its_own_kind(sender: str, to: str) -> None:
    """Whatever the names are, a type leads to a conversation of its own kind."""
    group = MESSAGE_TYPES["group"].strategy.plan(to, sender)
    assert group == Conversation.group(to)
    broadcast = MESSAGE_TYPES["broadcast"].strategy.plan(None, sender)
    assert broadcast == BROADCAST
    if sender != to:
        private = MESSAGE_TYPES["private"].strategy.plan(to, sender)
        assert private.kind is ConversationKind.PRIVATE
        assert set(private.parts) == {sender, to}
        assert private == MESSAGE_TYPES["private"].strategy.plan(sender, to)


@given(IDS, IDS)
def test_names_lead_back_to_their_conversation(one: str, other: str) -> None:
    """A conversation's name says which conversation it is, and no other."""
    for conversation in (
        Conversation.group(one),
        Conversation.inbox(one),
        BROADCAST,
        Conversation.private(one, other),
    ):
        if conversation.kind is ConversationKind.PRIVATE and one == other:
            assert Conversation.parse(str(conversation)) is None
        else:
            assert Conversation.parse(str(conversation)) == conversation


@pytest.mark.parametrize(
    "name",
    ["", "tea", "group:", "group:a b", "private:b~a", "private:a", "private:a~a", "broadcast:x",
     "inbox:", "news:all", "group:..", "group:群"],
)  # fmt: skip
def test_other_names_are_no_conversations(name: str) -> None:
    """What no conversation can be called parses to None."""
    assert Conversation.parse(name) is None


@pytest.mark.parametrize(
    ("kind", "to", "sender"),
    [
        ("group", None, "alice"),
        ("group", "两", "alice"),
        ("group", "tea", None),
        ("private", "alice", "alice"),
        ("private", "-a", "alice"),
        ("private", "bob", None),
        ("broadcast", "tea", "alice"),
        ("broadcast", "all", "!"),
    ],
)
def test_an_address_that_cannot_be_is_refused(
    kind: str, to: str | None, sender: str | None
) -> None:
    """An impossible address is `invalid_request`; it is not tried as anything else."""
    with pytest.raises(QunxinError) as caught:
        MESSAGE_TYPES[kind].strategy.plan(to, sender)
    assert caught.value.code == "invalid_request"


@pytest.mark.parametrize(
    ("value", "valid"),
    [
        ("a", True),
        ("a" * 64, True),
        ("a" * 65, False),
        ("a.b_c@d-e", True),
        ("a..b", False),
        (".a", False),
        ("a-", False),
        ("", False),
        ("a\n", False),
        ("é", False),
        (7, False),
        (None, False),
    ],
)
def test_ids_at_their_limits(value: object, valid: bool) -> None:
    """1 to 64 characters, plain at both ends, without two dots in a row."""
    assert is_valid_id(value) is valid
