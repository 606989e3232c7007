"""What a device hands to its program, one by one: entries, and what else has to be told."""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from qunxin.engine.sink import Position
from qunxin.errors import QunxinError
from qunxin.model import Entry, JsonObject


class Reload(msgspec.Struct, frozen=True):
    """What this device missed of `conversation` cannot be filled in: it was away too long, or the
    server was restored from a backup. Read as much of it as you show with `history`; entries
    above `position` follow by themselves. Where the epoch has changed, forget what you have."""

    conversation: str
    epoch: str
    position: int


class Unsent(msgspec.Struct, frozen=True):
    """A message of the outbox that was refused while nobody waited for its receipt. `message` is
    what was to be sent; nobody ever gets it."""

    message: JsonObject
    error: QunxinError

    @property
    def key(self) -> str:
        return str(self.message["key"])


Event: TypeAlias = Entry | Reload | Unsent


class Handed(msgspec.Struct):
    """An event on its way to the program, and what is to be kept once it is done with it."""

    event: Event
    conversation: str = ""
    at: Position | None = None
    """Where the device stands in `conversation` after it."""
    unsent: int = 0
    """The row of the outbox that it ends."""
