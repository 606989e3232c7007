"""The user's list of conversations, kept up to date by what is handed to the program."""

from __future__ import annotations

import msgspec

from qunxin.client.results import ConversationView, RoleName
from qunxin.model import Entry, EventType


class Conversations:
    """The server tells the list at each connect; entries above a row's head carry it on."""

    def __init__(self) -> None:
        self._rows: dict[str, ConversationView] = {}

    def listed(self) -> tuple[ConversationView, ...]:
        """The most recent first."""
        rows = self._rows.values()
        return tuple(sorted(rows, key=lambda row: (row.time, row.conversation), reverse=True))

    def get(self, conversation: str) -> ConversationView | None:
        return self._rows.get(conversation)

    def put(self, row: ConversationView) -> None:
        """What the server says; it may be ahead of what was handed on."""
        self._rows[row.conversation] = row

    def put_if_newer(self, row: ConversationView) -> None:
        """What the server said a moment ago, while entries went on arriving."""
        known = self._rows.get(row.conversation)
        if known is None or row.head >= known.head:
            self._rows[row.conversation] = row

    def keep_only(self, conversations: set[str]) -> None:
        """Forget the others: the user is in them no more."""
        self._rows = {name: row for name, row in self._rows.items() if name in conversations}

    def remove(self, conversation: str) -> None:
        self._rows.pop(conversation, None)

    def apply(self, entry: Entry, user: str) -> None:
        """An entry is handed to the program."""
        row = self._rows.get(entry.conversation)
        if row is None or entry.position <= row.head or entry.type == EventType.HIDDEN:
            return
        unread = row.unread + (entry.is_message and entry.sender != user)
        row = msgspec.structs.replace(
            row, head=entry.position, time=max(row.time, entry.time), unread=unread
        )
        self._rows[entry.conversation] = _changed(row, entry, user)

    def read(self, conversation: str, position: int, unread: int) -> None:
        """The user has read up to `position`, and `unread` messages stand above it."""
        row = self._rows.get(conversation)
        if row is not None:
            row = msgspec.structs.replace(row, read=max(row.read, position), unread=unread)
            self._rows[conversation] = row


def _changed(row: ConversationView, entry: Entry, user: str) -> ConversationView:
    """`row` after a group got another name, or the user another role."""
    if entry.type != EventType.CHANGED or entry.body is None:
        return row
    if "name" in entry.body:
        row = msgspec.structs.replace(row, name=entry.body["name"])
    if entry.body.get("role") and entry.body.get("user") == user:
        row = msgspec.structs.replace(row, role=RoleName(entry.body["role"]))
    return row
