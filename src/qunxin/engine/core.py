"""What every family of operations stands on: the store, the committer, and the veil."""

from __future__ import annotations

from typing import Any

import msgspec

from qunxin.clock import Clock
from qunxin.engine.access import RULES, Caller, fence
from qunxin.engine.commit import Committer
from qunxin.engine.quotas import Quotas
from qunxin.engine.settings import EngineSettings
from qunxin.errors import QunxinError
from qunxin.model import (
    ID_RULE,
    NAME_RULE,
    Conversation,
    ConversationKind,
    Member,
    Reason,
    Role,
    Unreachable,
    is_one_line,
    is_valid_id,
)
from qunxin.observe import Tracer
from qunxin.store import Store
from qunxin.store.commands import Command
from qunxin.store.results import Result


class Core:
    """Shared parts of the engine. `Engine` sets them; the operations use them."""

    store: Store
    settings: EngineSettings
    clock: Clock
    committer: Committer
    quotas: Quotas
    tracer: Tracer

    async def commit(self, command: Command, caller: Caller, group: str | None = None) -> Result:
        """Commit and give the result; a refusal is shown as `caller` may see it."""
        try:
            return (await self.committer.run(command)).result
        except QunxinError as error:
            raise await self.veil(error, caller, group) from None

    async def veil(self, error: QunxinError, caller: Caller, group: str | None) -> QunxinError:
        """The refusal without what `caller` must not learn.

        A user's own token is not told of a group that they were never in; reasons that concern
        other people's accounts are for keys, owners and admins. Whom the recipient of a private
        message has blocked is told the same, word for word, as when the account is suspended.
        """
        facts = {name: value for name, value in error.facts.items() if name != "former"}
        shown = QunxinError(error.code, retry_after=error.retry_after, **facts)
        if caller.user is None:
            return shown
        if error.code == "blocked":
            return _as_unreachable(str(facts["user"]))
        if "unreachable" in facts:
            named = msgspec.convert(facts["unreachable"], tuple[Unreachable, ...])
            seen = msgspec.to_builtins(await self.shown_reasons(named, caller, group))
            return QunxinError(error.code, **{**facts, "unreachable": list(seen)})
        if group is None:
            return shown
        if error.code == "group_not_found":
            return QunxinError("group_not_found")  # word for word as for a group to be hidden
        about_caller = error.code == "not_a_member" and facts.get("user") == caller.user
        if (error.code == "group_dissolved" or about_caller) and not await self.was_member(
            group, caller.user
        ):
            return QunxinError("group_not_found")
        return shown

    async def was_member(self, group: str, user: str) -> bool:
        """Whether `user` is or ever was in the group."""
        page = await self.store.read_log(str(Conversation.group(group)), user, limit=1)
        return bool(page.intervals)

    async def shown_reasons(
        self, named: tuple[Unreachable, ...], caller: Caller, group: str | None
    ) -> tuple[Unreachable, ...]:
        """The reasons as `caller` may see them: all of them for keys, owners and admins."""
        if not named or caller.user is None:
            return named
        member = await self.store.read_member(group, caller.user) if group else None
        if member is not None and member.role >= Role.ADMIN:
            return named
        return veiled_all(named)

    async def check_role(self, caller: Caller, operation: str, group: str, acting: str | None) -> (
        Member | None
    ):  # fmt: skip
        """Refuse a read of a group that the access table does not allow; the caller's membership
        where they have one."""
        condition = fence(caller, operation, acting)
        found = await self.store.read_group(group)
        if found is None:
            raise QunxinError("group_not_found")
        if found.state == "dissolved":
            raise await self.veil(QunxinError("group_dissolved"), caller, group)
        if condition is None:
            return None
        member = await self.store.read_member(group, condition.actor)
        if member is None:
            error = QunxinError("not_a_member", user=condition.actor)
            raise await self.veil(error, caller, group)
        if member.role < condition.role:
            raise QunxinError("forbidden", detail=f"{operation} needs {RULES[operation].user}")
        return member


def veiled(reason: Reason) -> Reason:
    """What plain members are shown in place of a reason."""
    return Reason.UNAVAILABLE if reason in (Reason.SUSPENDED, Reason.BLOCKED) else reason


def veiled_all(named: tuple[Unreachable, ...]) -> tuple[Unreachable, ...]:
    """What plain members are shown in place of these."""
    return tuple(msgspec.structs.replace(one, reason=veiled(one.reason)) for one in named)


def _as_unreachable(user: str) -> QunxinError:
    """What a sender is shown in place of `blocked`."""
    named = {"user": user, "reason": str(Reason.UNAVAILABLE)}
    return QunxinError("members_unreachable", members=2, unreachable_count=1, unreachable=[named])


def check_id(field: str, value: Any) -> str:
    """A valid user or group id, or `invalid_request`."""
    if not is_valid_id(value):
        raise QunxinError("invalid_request", detail=f"{field}: {ID_RULE}")
    return str(value)


def check_name(name: str, max_length: int) -> str:
    """A name for people: any Unicode on one line, not empty; or `invalid_request`."""
    if not 1 <= len(name) <= max_length:
        raise QunxinError("invalid_request", detail=f"name: 1 to {max_length} characters")
    if not is_one_line(name):
        raise QunxinError("invalid_request", detail=f"name: {NAME_RULE}")
    try:
        name.encode()
    except UnicodeEncodeError:
        raise QunxinError("invalid_request", detail="name: not valid Unicode") from None
    return name


def check_conversation(name: Any) -> Conversation:
    """The conversation of that name, or `conversation_not_found`."""
    found = Conversation.parse(name) if isinstance(name, str) else None
    if found is None:
        raise QunxinError("conversation_not_found")
    return found


def group_of(conversation: Conversation) -> str | None:
    """The group whose log it is, None for other conversations."""
    return conversation.parts[0] if conversation.kind is ConversationKind.GROUP else None


def check_limit(limit: int, highest: int) -> int:
    """A page size from 1 to `highest`."""
    if not 1 <= limit <= highest:
        raise QunxinError("invalid_request", detail=f"limit: 1 to {highest}")
    return limit
