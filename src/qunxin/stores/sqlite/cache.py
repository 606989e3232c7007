"""What the writer thread remembers between transactions, so that a message costs few reads.

Coherent by construction: only the writer thread writes, it drops whatever a command changes
(`drop_user`, `drop_conversation`), and forgets everything when a transaction is rolled back.
Bounded: over the limits everything is forgotten, between two transactions.
"""

from __future__ import annotations

from typing import Final

from qunxin.model import GroupState, Reach, Require, UserState

CONVERSATIONS_LIMIT: Final = 20_000
USERS_LIMIT: Final = 200_000
STAYS_LIMIT: Final = 200_000


class CachedUser:
    """The part of an account that judging a message needs."""

    __slots__ = ("key", "state", "user")

    def __init__(self, user: str, key: int, state: UserState) -> None:
        self.user = user
        self.key = key
        self.state = state


class CachedStay:
    """A current member's role and mute."""

    __slots__ = ("muted", "role")

    def __init__(self, role: int, muted: bool) -> None:
        self.role = role
        self.muted = muted


class CachedGroup:
    """The part of a group that judging a message needs."""

    __slots__ = ("members", "membership_version", "muted", "require", "state")

    def __init__(
        self, state: GroupState, require: Require, muted: bool, members: int, version: int
    ) -> None:
        self.state = state
        self.require = require
        self.muted = muted
        self.members = members
        self.membership_version = version


class CachedConversation:
    """A log's head, and what is needed to judge a message to it.

    `stays` and `blocks` are by the integer key of the user. `kept_reach` is the last reach that
    stands in the table `reaches`.
    """

    __slots__ = ("blocks", "group", "head", "kept_reach", "key", "name", "parts", "reach", "stays")

    def __init__(
        self, name: str, key: int, head: int, group: CachedGroup | None, parts: tuple[str, ...]
    ) -> None:
        self.name = name
        self.key = key
        self.head = head
        self.group = group
        self.parts = parts
        self.stays: dict[int, CachedStay | None] = {}
        self.blocks: dict[int, bool] = {}
        self.reach: Reach | None = None
        self.kept_reach: Reach | None = None


class Cache:
    """Users and conversations by name."""

    def __init__(self) -> None:
        self.users: dict[str, CachedUser] = {}
        self.conversations: dict[str, CachedConversation] = {}
        self.stays = 0

    def drop_user(self, user: str) -> None:
        self.users.pop(user, None)

    def drop_conversation(self, name: str) -> None:
        self.conversations.pop(name, None)

    def clear(self) -> None:
        self.users.clear()
        self.conversations.clear()
        self.stays = 0

    def trim(self) -> None:
        """Forget everything where there is too much of anything."""
        if (
            len(self.users) > USERS_LIMIT
            or len(self.conversations) > CONVERSATIONS_LIMIT
            or self.stays > STAYS_LIMIT
        ):
            self.clear()
