"""Message types: step 1, one table. A type is said by the sender and never guessed."""

from __future__ import annotations

from typing import Final, NamedTuple

from qunxin.engine.routing import BroadcastStrategy, GroupStrategy, PrivateStrategy, Strategy
from qunxin.errors import QunxinError
from qunxin.model import MessageType


class MessageTypeSpec(NamedTuple):
    """One row: a type, its routing strategy, and the row of the access table that says who may
    send it."""

    type: MessageType
    strategy: Strategy
    operation: str


MESSAGE_TYPES: Final[dict[str, MessageTypeSpec]] = {
    spec.type: spec
    for spec in (
        MessageTypeSpec(MessageType.PRIVATE, PrivateStrategy(), "message.send.private"),
        MessageTypeSpec(MessageType.GROUP, GroupStrategy(), "message.send.group"),
        MessageTypeSpec(MessageType.BROADCAST, BroadcastStrategy(), "message.send.broadcast"),
    )
}


def check_message_type(value: object) -> MessageTypeSpec:
    """The row of that type; anything else, a missing type too, is `unknown_message_type`."""
    spec = MESSAGE_TYPES.get(value) if isinstance(value, str) else None
    if spec is None:
        raise QunxinError("unknown_message_type")
    return spec
