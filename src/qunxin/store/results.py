"""What became of a command: what `Store.commit` answers with."""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from qunxin.errors import QunxinError
from qunxin.model import ApiKey, Entry, Group, Member, Reach, User, Webhook


class UserResult(msgspec.Struct, frozen=True):
    user: User
    created: bool


class MemberResult(msgspec.Struct, frozen=True):
    """What became of one named user: `added`, `removed`, `already_member`, `user_not_found`."""

    user: str
    result: str


class GroupResult(msgspec.Struct, frozen=True):
    group: Group
    created: bool
    results: tuple[MemberResult, ...] = ()


class MembersResult(msgspec.Struct, frozen=True):
    membership_version: int
    results: tuple[MemberResult, ...]


class Posted(msgspec.Struct, frozen=True):
    """A message's final place. `reach.members` counts the audience, the sender included (for a
    broadcast: every account that is not erased)."""

    position: int
    time: int
    reach: Reach
    duplicate: bool = False


class Recalled(msgspec.Struct, frozen=True):
    position: int
    """Of the recall entry."""
    time: int
    duplicate: bool = False


Result: TypeAlias = (
    UserResult
    | User
    | GroupResult
    | Group
    | MembersResult
    | Member
    | Posted
    | Recalled
    | ApiKey
    | Webhook
    | int
    | None
)


class Done(msgspec.Struct, frozen=True):
    """A command that happened: its result, and what it appended, of each conversation in order
    of position."""

    result: Result
    entries: tuple[Entry, ...] = ()


Outcome: TypeAlias = Done | QunxinError
