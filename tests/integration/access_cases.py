"""The access table, cell by cell: a request for every row, and what the row says of each caller.

The expected outcomes are made from `RULES` itself, so that a new row, or a changed one, is tested
or fails for the want of a request here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec
from doors import Door, Json

from qunxin.engine.access import ALL_SCOPES, RULES, Anyone, Rule, Scope
from qunxin.model import Role

ROLES: Final = {"owner": Role.OWNER, "admin": Role.ADMIN, "member": Role.MEMBER}
PEOPLE: Final = ("self", *ROLES, "former", "outsider")

ALLOWED: Final = "allowed"
HOOK: Final[Json] = {"url": "https://localhost:9/钩子", "events": ["group.dissolved"]}
"""Nothing is ever sent to it: the address is private."""


class World(msgspec.Struct, frozen=True):
    """A group and its people. `self` is a plain member: the one whom an operation is about, and
    the author of the message."""

    people: dict[str, str]
    stranger: str
    """A user without a part in anything."""
    sleeper: str
    """A member who is suspended."""
    group: str
    position: int
    """Of a message by `self` in the group."""
    unused: str
    """An id that nothing has yet."""
    api_key: str
    """The public id of a key that nobody uses."""
    webhook: str = ""
    """The id of a webhook, where the rule is about one."""

    def __getattr__(self, name: str) -> str:
        return self.people[name]

    @property
    def subject(self) -> str:
        return self.people["self"]

    @property
    def conversation(self) -> str:
        return f"group:{self.group}"


async def make_world(door: Door, api_key: str, webhook: str = "") -> World:
    """Everyone whom the table speaks of, around one group."""
    names = await door.users(*PEOPLE)
    people = dict(zip(PEOPLE, names, strict=True))
    stranger, sleeper = await door.users("stranger", "sleeper")
    within = [*(people[name] for name in ("self", "admin", "member", "former")), sleeper]
    group = await door.group("茶".encode().hex(), people["owner"], *within)
    await door.change_member(group, people["admin"], role="admin")
    sent = await door.send("group", group, people["self"], "谁可以？ 🔐")
    await door.remove(group, people["former"])
    await door.call("user.put", {"user": sleeper, "state": "suspended"})
    (unused,) = door.ids("unused")
    return World(people, stranger, sleeper, group, sent.position, unused, api_key, webhook)


def about_the_sleeper(world: World) -> tuple[World, World]:
    """The same world where requests are about who is suspended, and where what `self` does is done
    to them."""
    done_to = msgspec.structs.replace(world, stranger=world.sleeper)
    people = {**world.people, "self": world.sleeper}
    return msgspec.structs.replace(done_to, people=people), done_to


Request = Callable[[World], tuple[str, Json]]

REQUESTS: Final[dict[str, Request]] = {
    "user.put": lambda w: ("user.put", {"user": w.subject, "name": "新名字 ✍🏽"}),
    "user.get": lambda w: ("user.get", {"user": w.subject}),
    "user.list": lambda _: ("user.list", {"limit": 1}),
    "user.erase": lambda w: ("user.erase", {"user": w.subject}),
    "user.block": lambda w: ("user.block", {"user": w.subject, "blocked": w.stranger}),
    "user.unblock": lambda w: ("user.unblock", {"user": w.subject, "blocked": w.stranger}),
    "user.blocks": lambda w: ("user.blocks", {"user": w.subject}),
    "user.conversations": lambda w: ("user.conversations", {"user": w.subject}),
    "user.sessions": lambda w: ("user.sessions", {"user": w.subject}),
    "user.end_sessions": lambda w: ("user.end_sessions", {"user": w.subject}),
    "user.end_session": lambda w: ("user.end_session", {"user": w.subject, "session": "无 none"}),
    "group.create": lambda w: ("group.put", {"group": w.unused, "owner": w.subject}),
    "group.update": lambda w: ("group.put", {"group": w.group, "name": "新群名"}),
    "group.get": lambda w: ("group.get", {"group": w.group}),
    "group.list": lambda _: ("group.list", {"limit": 1}),
    "group.members": lambda w: ("group.members", {"group": w.group}),
    "group.presence": lambda w: ("group.presence", {"group": w.group}),
    "group.dissolve": lambda w: ("group.dissolve", {"group": w.group}),
    "member.add": lambda w: ("member.add", {"group": w.group, "users": [w.stranger]}),
    "member.remove": lambda w: ("member.remove", {"group": w.group, "user": w.subject}),
    "member.leave": lambda w: ("member.remove", {"group": w.group, "user": w.subject}),
    "member.mute": lambda w: (
        "member.change",
        {"group": w.group, "user": w.subject, "muted": True},
    ),
    "member.set_role": lambda w: (
        "member.change",
        {"group": w.group, "user": w.subject, "role": "admin"},
    ),
    "message.send.private": lambda w: (
        "message.send",
        {"type": "private", "to": w.stranger, "from": w.subject, "text": "私下 🤫"},
    ),
    "message.send.group": lambda w: (
        "message.send",
        {"type": "group", "to": w.group, "text": "大家好 👋🏽"},
    ),
    "message.send.broadcast": lambda _: ("message.send", {"type": "broadcast", "text": "全体 📣"}),
    "message.recall": lambda w: (
        "message.recall",
        {"conversation": w.conversation, "position": w.position},
    ),
    "message.deliveries": lambda w: (
        "message.deliveries",
        {"conversation": w.conversation, "position": w.position},
    ),
    "conversation.entries": lambda w: (
        "conversation.entries",
        {"conversation": f"inbox:{w.subject}", "as": w.subject},
    ),
    "cursor.read": lambda w: (
        "cursor.read",
        {"user": w.subject, "conversation": w.conversation, "position": w.position},
    ),
    "token.create": lambda w: ("token.create", {"user": w.subject}),
    "token.revoke": lambda w: ("token.revoke", {"user": w.subject, "id": "令牌 🎫"}),
    "token.revoke_all": lambda w: ("token.revoke_all", {"user": w.subject}),
    "key.create": lambda _: ("key.create", {"name": "新密钥 🔑", "scopes": ["keys"]}),
    "key.list": lambda _: ("key.list", {}),
    "key.revoke": lambda w: ("key.revoke", {"id": w.api_key}),
    "webhook.create": lambda _: ("webhook.create", HOOK),
    "webhook.list": lambda _: ("webhook.list", {}),
    "webhook.get": lambda w: ("webhook.get", {"id": w.webhook}),
    "webhook.change": lambda w: ("webhook.change", {"id": w.webhook, "paused": True}),
    "webhook.rotate": lambda w: ("webhook.rotate", {"id": w.webhook}),
    "webhook.replay": lambda w: ("webhook.replay", {"id": w.webhook, "since": 0}),
    "webhook.delete": lambda w: ("webhook.delete", {"id": w.webhook}),
}
"""For each row of the table: an operation, and its fields where `self` is whom it is about."""

ACTING_FIELD: Final = {
    "group.get": "as",
    "group.members": "as",
    "group.presence": "as",
    "message.deliveries": "as",
}
"""Where an operation names the user for whom a key acts; elsewhere it is `from`."""

_NEEDS_SENDER: Final = "message.send.group"


def key_fields(operation: str, rule: Rule, fields: Json, world: World) -> Json:
    """The fields as a key gives them: somebody has to be the sender of a group's message."""
    if rule.operation == _NEEDS_SENDER:
        return {**fields, ACTING_FIELD.get(operation, "from"): world.owner}
    return fields


def scopes_of(rule: Rule, *, others: bool) -> frozenset[Scope]:
    """Only the scope that the rule asks for, or all but that one."""
    only = frozenset({rule.scope})
    return ALL_SCOPES - only if others else only


def expected(rule: Rule, who: str) -> str:
    """What the row says of a user with their own token: allowed, or the code of the refusal."""
    if rule.operation == "member.leave" and who != "self":
        return expected(RULES["member.remove"], who)
    if rule.operation == "member.remove" and who == "self":
        return expected(RULES["member.leave"], who)
    if isinstance(rule.user, Role):
        return _by_role(rule.user, who)
    if rule.user is Anyone.AUTHOR:
        return _by_authorship(who)
    allowed = rule.user is Anyone.USER or (rule.user is Anyone.SELF and who == "self")
    return ALLOWED if allowed else "forbidden"


def _by_role(needed: Role, who: str) -> str:
    if who == "former":
        return "not_a_member"
    if who == "outsider":
        return "group_not_found"
    return ALLOWED if ROLES.get(who, Role.MEMBER) >= needed else "forbidden"


def _by_authorship(who: str) -> str:
    if who == "outsider":
        return "conversation_not_found"
    return ALLOWED if who in ("self", "owner", "admin") else "forbidden"


def expected_of_key(rule: Rule, who: str) -> str:
    """What the row says of a key that acts for a user: the same, and outsiders are told the
    truth."""
    outcome = _by_role(rule.user, who) if isinstance(rule.user, Role) else ALLOWED
    return "not_a_member" if outcome == "group_not_found" else outcome
