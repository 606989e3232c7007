"""What must be true, in lists and dicts: a reference for scenarios, written from the promises.

Slow, plain and without any idea of transactions, caches or devices: each operation gives the
outcome that it must have, and the logs grow as they must.
"""

from __future__ import annotations

from typing import Any, Final, TypeAlias

import msgspec

BROADCAST: Final = "broadcast:all"

Facts: TypeAlias = dict[str, Any]
"""What must stand in an entry: its type, and the facts of that type."""


class Refused(Exception):  # noqa: N818 - an outcome
    """The code of the refusal that must come."""

    def __init__(self, code: str) -> None:
        self.code = code
        super().__init__(code)


class Stay(msgspec.Struct):
    """One stay of one user in one conversation."""

    joined: int
    first: int
    last: int | None = None

    def shows(self, position: int) -> bool:
        return self.first <= position and (self.last is None or position <= self.last)

    def counts(self, position: int) -> bool:
        """Whether its user is in the audience there."""
        return self.joined <= position and (self.last is None or position <= self.last)


class ModelGroup(msgspec.Struct):
    members: dict[str, str]
    """To their roles."""
    history: str
    require: str
    version: int = 1
    dissolved: bool = False
    muted: bool = False
    muted_members: set[str] = msgspec.field(default_factory=set)


class Sent(msgspec.Struct, frozen=True):
    """What the receipt must say."""

    conversation: str
    position: int
    members: int
    unreachable: dict[str, str]
    membership_version: int


class Model:
    """Users, groups and logs as the promises have them."""

    def __init__(self, broadcasts: int = 0, *, counts_broadcasts: bool = True) -> None:
        self.users: dict[str, str] = {}
        self.blocks: set[tuple[str, str]] = set()
        self.groups: dict[str, ModelGroup] = {}
        self.logs: dict[str, list[Facts]] = {BROADCAST: [{} for _ in range(broadcasts)]}
        self.stays: dict[str, dict[str, list[Stay]]] = {BROADCAST: {}}
        self.outcomes: dict[tuple[str | None, str, str], tuple[Sent, str]] = {}
        self.read: dict[tuple[str, str], int] = {}
        self.counts_broadcasts = counts_broadcasts
        """False: others use the same store, so that its accounts cannot be counted."""

    # --- logs --------------------------------------------------------------------------------

    def head(self, conversation: str) -> int:
        return len(self.logs.get(conversation, []))

    def _append(self, conversation: str, type_: str, **facts: Any) -> int:
        self.logs.setdefault(conversation, []).append({"type": type_, **facts})
        return self.head(conversation)

    def _tell(self, user: str, type_: str, **facts: Any) -> None:
        self._append(f"inbox:{user}", type_, **facts)

    def _enter(self, conversation: str, user: str, stay: Stay) -> None:
        self.stays.setdefault(conversation, {}).setdefault(user, []).append(stay)

    def own(self, user: str) -> list[str]:
        """Every conversation that the user is in now."""
        names = [name for name, people in self.stays.items()
                 if user in people and people[user][-1].last is None]  # fmt: skip
        return [f"inbox:{user}", *names]

    def ever(self, user: str) -> list[str]:
        """Every conversation that the user was ever in."""
        return [f"inbox:{user}", *(n for n, people in self.stays.items() if user in people)]

    def stays_of(self, user: str, conversation: str) -> list[Stay]:
        if conversation == f"inbox:{user}":
            return [Stay(1, 1)]
        return self.stays.get(conversation, {}).get(user, [])

    def view(self, user: str, conversation: str) -> dict[int, Facts | None]:
        """Every position that the user may know of: the entry, or None where it is hidden."""
        stays = self.stays_of(user, conversation)
        if not stays:
            return {}
        end = self.head(conversation) if stays[-1].last is None else stays[-1].last
        log = self.logs.get(conversation, [])
        return {
            position: log[position - 1] if any(stay.shows(position) for stay in stays) else None
            for position in range(1, end + 1)
        }

    def audience(self, conversation: str, position: int) -> set[str]:
        """Whom a message is for."""
        people = self.stays.get(conversation, {})
        return {u for u, stays in people.items() if any(s.counts(position) for s in stays)}

    # --- people ------------------------------------------------------------------------------

    def create_user(self, user: str) -> None:
        self.users[user] = "active"
        after = self.head(BROADCAST) + 1
        self._enter(BROADCAST, user, Stay(after, after))

    def set_state(self, user: str, state: str) -> None:
        self._check_account(user)
        if self.users[user] != state:
            self.users[user] = state
            self._tell(user, "account", state=state)

    def erase(self, user: str) -> None:
        self.set_state(user, "erased")
        self.blocks = {pair for pair in self.blocks if user not in pair}
        self.read = {pair: at for pair, at in self.read.items() if pair[0] != user}

    def set_block(self, user: str, blocked: str, *, on: bool) -> None:
        self._check_account(user)
        self._check_account(blocked)
        if on:
            self.blocks.add((user, blocked))
        else:
            self.blocks.discard((user, blocked))

    def _check_account(self, user: str) -> None:
        if user not in self.users:
            raise Refused("user_not_found")
        if self.users[user] == "erased":
            raise Refused("user_erased")

    # --- groups ------------------------------------------------------------------------------

    def create_group(
        self, group: str, owner: str, members: list[str], history: str, require: str
    ) -> None:
        if group in self.groups:
            raise Refused("group_dissolved")
        if self.users.get(owner, "erased") == "erased":
            raise Refused("user_not_found")
        people = {owner: "owner"}
        for user in members:
            if self.users.get(user, "erased") != "erased":
                people.setdefault(user, "member")
        self.groups[group] = ModelGroup(people, history, require)
        self._append(f"group:{group}", "created", users=sorted(people))
        for user in people:
            self._join(group, user, 1)

    def _join(self, group: str, user: str, joined: int) -> None:
        first = 1 if self.groups[group].history == "full" else joined
        self._enter(f"group:{group}", user, Stay(joined, first))
        self._tell(user, "member", conversation_joined=f"group:{group}", joined=joined)

    def _active(self, group: str) -> ModelGroup:
        if group not in self.groups:
            raise Refused("group_not_found")
        if self.groups[group].dissolved:
            raise Refused("group_dissolved")
        return self.groups[group]

    def add(self, group: str, users: list[str]) -> dict[str, str]:
        found = self._active(group)
        results, added = {}, []
        for user in dict.fromkeys(users):
            if self.users.get(user, "erased") == "erased":
                results[user] = "user_not_found"
            elif user in found.members:
                results[user] = "already_member"
            else:
                results[user] = "added"
                added.append(user)
        if added:
            found.members |= dict.fromkeys(added, "member")
            found.version = self._append(f"group:{group}", "joined", users=sorted(added))
            for user in added:
                self._join(group, user, found.version)
        return results

    def remove(self, group: str, user: str, reason: str) -> None:
        found = self._active(group)
        if user not in found.members:
            raise Refused("not_a_member")
        owners = [name for name, role in found.members.items()
                  if role == "owner" and self.users[name] != "erased"]  # fmt: skip
        if owners == [user] and len(found.members) > 1:
            raise Refused("last_owner")
        del found.members[user]
        found.muted_members.discard(user)
        found.version = self._append(f"group:{group}", "left", users=[user], reason=reason)
        self._leave(f"group:{group}", user, found.version, reason)

    def _leave(self, conversation: str, user: str, last: int, reason: str) -> None:
        self.stays[conversation][user][-1].last = last
        self._tell(user, "ceased", conversation_left=conversation, last=last, reason=reason)

    def dissolve(self, group: str) -> None:
        found = self._active(group)
        last = self._append(f"group:{group}", "dissolved")
        for user in found.members:
            self._leave(f"group:{group}", user, last, "dissolved")
        found.dissolved = True

    def mute_group(self, group: str, *, on: bool) -> None:
        found = self._active(group)
        if found.muted != on:
            found.muted = on
            self._append(f"group:{group}", "changed", muted=on)

    def mute_member(self, group: str, user: str, *, on: bool) -> None:
        found = self._active(group)
        if user not in found.members:
            raise Refused("not_a_member")
        if (user in found.muted_members) != on:
            (found.muted_members.add if on else found.muted_members.discard)(user)
            self._append(f"group:{group}", "changed", user=user, member_muted=on)

    # --- messages ----------------------------------------------------------------------------

    def send(
        self, type_: str, to: str | None, sender: str | None, text: str, key: str | None,
        require: str | None,
    ) -> tuple[Sent, bool]:  # fmt: skip
        """The receipt, and whether it is a repeat."""
        name = self._address(type_, to, sender)
        if key is not None and (sender, name, key) in self.outcomes:
            return self._repeat(sender, name, key, text), True
        if type_ == "group":
            sent = self._judge_group(str(to), name, sender, require)
        elif type_ == "private":
            sent = self._judge_private(str(to), name, sender, require)
        else:
            sent = self._judge_broadcast(sender, require)
        if type_ == "private" and name not in self.stays:
            self._begin_private(name)
        self._append(name, type_, sender=sender, text=text, key=key)
        if key is not None:
            self.outcomes[sender, name, key] = (sent, text)
        return sent, False

    def _address(self, type_: str, to: str | None, sender: str | None) -> str:
        if type_ == "private":
            if to == sender:
                raise Refused("invalid_request")
            one, other = sorted((str(to), str(sender)))
            return f"private:{one}~{other}"
        return BROADCAST if type_ == "broadcast" else f"group:{to}"

    def _repeat(self, sender: str | None, name: str, key: str, text: str) -> Sent:
        sent, first = self.outcomes[sender, name, key]
        recalled = "recalled" in self.logs[name][sent.position - 1]
        if not recalled and first != text:
            raise Refused("idempotency_conflict")
        return sent

    def _check_sender(self, sender: str | None) -> None:
        if sender is None:
            return
        self._check_account(sender)
        if self.users[sender] == "suspended":
            raise Refused("user_suspended")

    def _judge_group(self, group: str, name: str, sender: str | None, require: str | None) -> Sent:
        found = self._active(group)
        self._check_sender(sender)
        if sender not in found.members:
            raise Refused("not_a_member")
        if sender in found.muted_members:
            raise Refused("member_muted")
        if found.muted and found.members[sender] == "member":
            raise Refused("group_muted")
        missing = self._missing(set(found.members))
        self._check_reach(missing, len(found.members) - 1, require or found.require)
        return Sent(name, self.head(name) + 1, len(found.members), missing, found.version)

    def _judge_private(self, to: str, name: str, sender: str | None, require: str | None) -> Sent:
        if to not in self.users:
            raise Refused("user_not_found")
        self._check_sender(sender)
        if (to, sender) in self.blocks:
            raise Refused("blocked")
        missing = self._missing({to})
        self._check_reach(missing, 1, require or "reachable")
        return Sent(name, self.head(name) + 1, 2, missing, 0)

    def _judge_broadcast(self, sender: str | None, require: str | None) -> Sent:
        self._check_sender(sender)
        accounts = {user for user, state in self.users.items() if state != "erased"}
        missing = self._missing(accounts)
        if self.counts_broadcasts:
            others = len(accounts) - (sender is not None)
            self._check_reach(missing, others, require or "reachable")
        return Sent(BROADCAST, self.head(BROADCAST) + 1, len(accounts), missing, 0)

    def _missing(self, people: set[str]) -> dict[str, str]:
        reasons = {"suspended": "suspended", "erased": "not_found"}
        states = {user: self.users[user] for user in people}
        return {user: reasons[state] for user, state in states.items() if state in reasons}

    def _check_reach(self, missing: dict[str, str], others: int, require: str) -> None:
        if missing and (require == "all" or len(missing) >= others):
            raise Refused("members_unreachable")

    def _begin_private(self, name: str) -> None:
        for user in name.removeprefix("private:").split("~"):
            self._enter(name, user, Stay(1, 1))
            self._tell(user, "contact", conversation_joined=name)

    def recall(self, conversation: str, position: int) -> tuple[int, bool]:
        """By the author or a key: where the recall stands, and whether it is a repeat."""
        log = self.logs.get(conversation, [])
        entry = log[position - 1] if 1 <= position <= len(log) else {}
        if "text" not in entry:
            raise Refused("entry_not_found")
        if "recalled" in entry:
            recalled: int = entry["recalled"]
            return recalled, True
        kind, _, group = conversation.partition(":")
        if kind == "group" and self.groups[group].dissolved:
            raise Refused("group_dissolved")
        entry["recalled"] = self._append(conversation, "recalled", target=position)
        return entry["recalled"], False

    def mark_read(self, user: str, conversation: str, position: int) -> None:
        self._check_account(user)
        if conversation not in self.own(user):
            raise Refused("conversation_not_found")
        at = min(position, self.head(conversation))
        self.read[user, conversation] = max(at, self.read.get((user, conversation), 0))
