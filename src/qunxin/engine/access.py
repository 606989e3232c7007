"""Who may do what: one table, operation by caller.

Every door (embedded, HTTP, realtime) asks here, and the reference page and the cell-by-cell
test are made from the same rows. Pure: the parts that need the store (is this user an admin
there?) become a `Fence` on the command, judged in the commit's own transaction.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final, NamedTuple

import msgspec

from qunxin.errors import QunxinError
from qunxin.model import Role
from qunxin.store.commands import Fence


class Scope(StrEnum):
    """What an API key may be allowed to do."""

    USERS = "users"
    GROUPS = "groups"
    MESSAGES = "messages"
    BROADCASTS = "broadcasts"
    READ = "read"
    TOKENS = "tokens"
    KEYS = "keys"
    WEBHOOKS = "webhooks"


ALL_SCOPES: Final = frozenset(Scope)
DEFAULT_SCOPES: Final = ALL_SCOPES - {Scope.KEYS, Scope.WEBHOOKS}
"""What a key gets unless it is told otherwise: all but making other keys, and webhooks, which
see every conversation."""


class Caller(msgspec.Struct, frozen=True):
    """Who asks: a user with their own token, or an API key with scopes.

    A key may act for any user; which one, each operation's own argument says (`from`).
    """

    user: str | None = None
    scopes: frozenset[Scope] = frozenset()
    key_id: str | None = None

    @property
    def is_key(self) -> bool:
        return self.user is None

    @classmethod
    def as_user(cls, user: str) -> Caller:
        return cls(user=user)

    @classmethod
    def as_key(cls, scopes: frozenset[Scope], key_id: str | None = None) -> Caller:
        return cls(scopes=scopes, key_id=key_id)


SYSTEM: Final = Caller.as_key(ALL_SCOPES, "system")
"""The embedding program itself: may do everything a key may."""


class Anyone(StrEnum):
    """What a user with their own token needs, where it is not a role in the group."""

    SELF = "self"
    """Only about themself."""
    USER = "any user"
    """Nothing more than being a user."""
    NOBODY = "nobody"
    """Users may not at all."""
    AUTHOR = "author, or admin"
    """The message's author; in a group owners and admins too."""


class Rule(NamedTuple):
    """One row: the scope a key needs, and what a user needs."""

    operation: str
    scope: Scope
    user: Role | Anyone
    note: str = ""


_RULES = (
    Rule("user.put", Scope.USERS, Anyone.SELF, "own name only; the state is for keys"),
    Rule("user.get", Scope.READ, Anyone.USER, "the state: of themself only"),
    Rule("user.list", Scope.USERS, Anyone.NOBODY),
    Rule("user.erase", Scope.USERS, Anyone.SELF),
    Rule("user.block", Scope.USERS, Anyone.SELF),
    Rule("user.unblock", Scope.USERS, Anyone.SELF),
    Rule("user.blocks", Scope.READ, Anyone.SELF),
    Rule("user.conversations", Scope.READ, Anyone.SELF),
    Rule("user.sessions", Scope.READ, Anyone.SELF),
    Rule("user.end_sessions", Scope.USERS, Anyone.SELF),
    Rule("user.end_session", Scope.USERS, Anyone.SELF),
    Rule("group.create", Scope.GROUPS, Anyone.SELF, "as its owner"),
    Rule("group.update", Scope.GROUPS, Role.ADMIN),
    Rule("group.get", Scope.READ, Role.MEMBER),
    Rule("group.list", Scope.GROUPS, Anyone.NOBODY),
    Rule("group.members", Scope.READ, Role.MEMBER),
    Rule("group.presence", Scope.READ, Role.MEMBER),
    Rule("group.dissolve", Scope.GROUPS, Role.OWNER),
    Rule("member.add", Scope.GROUPS, Role.ADMIN),
    Rule("member.remove", Scope.GROUPS, Role.ADMIN, "of a lower role; owners: anyone"),
    Rule("member.leave", Scope.GROUPS, Anyone.SELF),
    Rule("member.mute", Scope.GROUPS, Role.ADMIN, "of a lower role; owners: anyone"),
    Rule("member.set_role", Scope.GROUPS, Role.OWNER),
    Rule("message.send.private", Scope.MESSAGES, Anyone.SELF, "as themself, to any user"),
    Rule("message.send.group", Scope.MESSAGES, Role.MEMBER, "as themself"),
    Rule("message.send.broadcast", Scope.BROADCASTS, Anyone.NOBODY),
    Rule("message.recall", Scope.MESSAGES, Anyone.AUTHOR, "the author within the window"),
    Rule("message.deliveries", Scope.READ, Anyone.AUTHOR),
    Rule("conversation.entries", Scope.READ, Anyone.SELF, "within the own entitlement"),
    Rule("cursor.read", Scope.MESSAGES, Anyone.SELF),
    Rule("token.create", Scope.TOKENS, Anyone.NOBODY),
    Rule("token.revoke", Scope.TOKENS, Anyone.SELF),
    Rule("token.revoke_all", Scope.TOKENS, Anyone.SELF),
    Rule("key.create", Scope.KEYS, Anyone.NOBODY),
    Rule("key.list", Scope.KEYS, Anyone.NOBODY),
    Rule("key.revoke", Scope.KEYS, Anyone.NOBODY),
    Rule("webhook.create", Scope.WEBHOOKS, Anyone.NOBODY, "sees every conversation"),
    Rule("webhook.list", Scope.WEBHOOKS, Anyone.NOBODY),
    Rule("webhook.get", Scope.WEBHOOKS, Anyone.NOBODY),
    Rule("webhook.change", Scope.WEBHOOKS, Anyone.NOBODY),
    Rule("webhook.rotate", Scope.WEBHOOKS, Anyone.NOBODY),
    Rule("webhook.replay", Scope.WEBHOOKS, Anyone.NOBODY),
    Rule("webhook.delete", Scope.WEBHOOKS, Anyone.NOBODY),
)

RULES: Final[dict[str, Rule]] = {rule.operation: rule for rule in _RULES}


def check_access(caller: Caller, operation: str, *, about: str | None = None) -> None:
    """Refuse what no state of the store could allow.

    `about` is the user whom the operation concerns or acts for, where there is one. Where the
    rule asks for a role or for authorship the caller passes, and `fence` carries the rest.
    """
    rule = RULES[operation]
    if caller.is_key:
        if rule.scope not in caller.scopes:
            raise QunxinError("forbidden", detail=f"this key lacks the scope {rule.scope}")
        return
    if rule.user is Anyone.NOBODY:
        raise QunxinError("forbidden", detail=f"{operation} needs an API key")
    if rule.user is not Anyone.USER and about is not None and about != caller.user:
        raise QunxinError("forbidden", detail="you may act for yourself only")


def acting_user(caller: Caller, acting: str | None) -> str | None:
    """Who acts: the user themself, or whom a key names (None: the key itself)."""
    return acting if caller.is_key else caller.user


def fence(caller: Caller, operation: str, acting: str | None = None) -> Fence | None:
    """The condition on the store that the rule asks for: on the caller, or, for a key that acts
    for a user (`acting`), on that user. None where there is none."""
    rule = RULES[operation]
    actor = acting_user(caller, acting)
    if actor is None or not isinstance(rule.user, Role):
        return None
    return Fence(actor, rule.user, above_target=operation in _ABOVE_TARGET)


_ABOVE_TARGET = frozenset({"member.remove", "member.mute"})
