"""Routing strategies: step 2, one per message type.

A strategy is pure: a message's address in, the conversation that is its audience out, or a
refusal. It looks nothing up: whether the conversation exists and admits the sender is judged in
the commit's own transaction, so that no name is ever tried as something it was not said to be.
"""

from __future__ import annotations

from typing import Protocol

from qunxin.errors import QunxinError
from qunxin.model import BROADCAST, Conversation, is_valid_id


class Strategy(Protocol):
    """How messages of one type find their conversation."""

    def plan(self, to: str | None, sender: str | None) -> Conversation:
        """The one conversation that a message from `sender` to `to` belongs to."""
        ...


class PrivateStrategy:
    """The conversation of two users. `to` is a user, whatever groups are named like it."""

    def plan(self, to: str | None, sender: str | None) -> Conversation:
        recipient, author = _check_id("to", to), _check_id("from", sender)
        if recipient == author:
            raise QunxinError("invalid_request", detail="to: a private message needs somebody else")
        return Conversation.private(author, recipient)


class GroupStrategy:
    """The group's conversation. `to` is a group, whatever users are named like it."""

    def plan(self, to: str | None, sender: str | None) -> Conversation:
        _check_id("from", sender)
        return Conversation.group(_check_id("to", to))


class BroadcastStrategy:
    """The one conversation that every user reads."""

    def plan(self, to: str | None, sender: str | None) -> Conversation:
        if to not in (None, "all"):
            raise QunxinError("invalid_request", detail='to: a broadcast goes to "all"')
        if sender is not None:
            _check_id("from", sender)
        return BROADCAST


def _check_id(field: str, value: str | None) -> str:
    if value is None:
        raise QunxinError("invalid_request", detail=f"{field}: missing")
    if not is_valid_id(value):
        raise QunxinError("invalid_request", detail=f"{field}: not a valid id")
    return value
