"""Scenarios that hypothesis makes up: everything that people and devices do, in any order, beside
the reference model."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Coroutine
from typing import Any, TypeVar

from doors import At, Device, Door, Refusal
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from model_reference import BROADCAST, Model, Refused, Sent
from state_checks import Observer

from qunxin.engine.results import Receipt

PEOPLE = 5
TEXTS = ("早上好 ☀️", "מה שלומך؟", "👩‍👩‍👧‍👦 家人")
KEYS = ("键一", "键二")

T = TypeVar("T")

person = st.integers(0, PEOPLE - 1)
people = st.lists(person, min_size=1, max_size=PEOPLE, unique=True)
a_group = st.integers(0, 2)
a_text = st.sampled_from(TEXTS)
a_key = st.sampled_from((None, *KEYS))
a_require = st.sampled_from((None, None, "reachable", "all"))


class Scenario(RuleBasedStateMachine):
    """One conversation of hypothesis with one door."""

    def __init__(self, door: Door, *, restarts: bool, alone: bool) -> None:
        super().__init__()
        self.door = door
        self.restarts = restarts
        """Whether this door may be closed and opened again within a scenario."""
        self.alone = alone
        """Whether nobody else uses the store."""
        self.runner = asyncio.Runner()
        self.model = Model()
        self.people: list[str] = []
        self.groups: list[str] = []
        self.observer = Observer(door, self.model)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    @initialize(history=st.sampled_from(("joined", "full")), online=people)
    def begin(self, history: str, online: list[int]) -> None:
        """People who know each other, since most is about them."""
        self.run(self._begin())
        self.create_group(0, 0, [1, 2, 3], history, "reachable")
        for user in online:
            self.connect(user)

    async def _begin(self) -> None:
        await self.door.open()
        head = (await self.door.page(BROADCAST, limit=1)).head
        self.model = Model(head, counts_broadcasts=self.alone)
        self.observer = Observer(self.door, self.model)
        self.people = self.door.ids(*(f"u{n}" for n in range(PEOPLE)))
        self.groups = [*self.door.ids("g0", "g1"), self.people[0]]
        for user in self.people:
            await self.door.put_user(user)
            self.model.create_user(user)

    def teardown(self) -> None:
        try:
            if self.people:
                self.run(self.observer.check_everything())
        finally:
            self.run(self._close())
            self.runner.close()

    async def _close(self) -> None:
        try:
            await self.door.close_devices()
        finally:
            await self.door.close()

    # --- one operation, in the model and through the door ------------------------------------

    def both(
        self, expected: Any, asked: Coroutine[Any, Any, T], own: str | None = None
    ) -> T | None:
        """Both refuse with the same code, or neither does; what the door answered. `own` is the
        user with whose token the door asks, where it is not a key's."""
        code, answer = self.run(_answered(asked))
        if isinstance(expected, Refused):
            assert code in _as_seen(expected.code, own=own is not None), code
        else:
            assert code is None
        return answer

    def judge(self, operation: str, *args: Any, **kwargs: Any) -> Any:
        """What the model says: the value, or the refusal as a value."""
        try:
            return getattr(self.model, operation)(*args, **kwargs)
        except Refused as refused:
            return refused

    # --- messages ----------------------------------------------------------------------------

    @rule(user=person, group=a_group, text=a_text, key=a_key, require=a_require)
    def send_to_group(
        self, user: int, group: int, text: str, key: str | None, require: str | None
    ) -> None:
        self._send("group", self.groups[group], self.people[user], text, key, require)

    @rule(user=person, to=person, text=a_text, key=a_key)
    def send_privately(self, user: int, to: int, text: str, key: str | None) -> None:
        self._send("private", self.people[to], self.people[user], text, key, None)

    @rule(user=st.one_of(st.none(), person), text=a_text)
    def broadcast(self, user: int | None, text: str) -> None:
        sender = None if user is None else self.people[user]
        self._send("broadcast", None, sender, text, None, None)

    @rule(user=person, group=a_group, type_=st.sampled_from((None, "groups", "私聊")))
    def send_without_a_type(self, user: int, group: int, type_: str | None) -> None:
        asked = self.door.send(type_, self.groups[group], self.people[user], "去哪里")
        self.both(Refused("unknown_message_type"), asked, self._own(self.people[user]))

    def _own(self, user: str | None) -> str | None:
        """Whose token the door uses; a key speaks for those who may not connect."""
        return self.door.acts_as(user)

    def _send(
        self, type_: str, to: str | None, sender: str | None, text: str, key: str | None,
        require: str | None,
    ) -> None:  # fmt: skip
        expected = self.judge("send", type_, to, sender, text, key, require)
        own = None if type_ == "broadcast" else self._own(sender)
        asked = self._asked(type_, to, sender, text, key, require)
        receipt = self.both(expected, asked, own)
        if receipt is not None:
            sent, duplicate = expected
            self._check_receipt(receipt, sent, own, duplicate=duplicate)

    def _asked(
        self, type_: str, to: str | None, sender: str | None, text: str, key: str | None,
        require: str | None,
    ) -> Coroutine[Any, Any, Receipt]:  # fmt: skip
        if type_ == "broadcast":
            return self._broadcast(sender, text)
        return self.door.send(type_, to, sender, text, key=key, require=require)

    async def _broadcast(self, sender: str | None, text: str) -> Receipt:
        """A broadcast needs a key, at every door."""
        return await self.door.send_by_key("broadcast", None, sender, text)

    def _check_receipt(
        self, receipt: Receipt, sent: Sent, own: str | None, *, duplicate: bool
    ) -> None:
        assert (receipt.conversation, receipt.position) == (sent.conversation, sent.position)
        assert receipt.duplicate == duplicate
        if sent.conversation == BROADCAST and not self.alone:
            return
        missing = self._shown(sent, own)
        assert {one.user: str(one.reason) for one in receipt.unreachable} == missing
        assert (receipt.members, receipt.unreachable_count) == (sent.members, len(missing))
        assert receipt.grade == ("partial" if missing else "complete")
        if sent.conversation.startswith("group:"):
            assert receipt.membership_version == sent.membership_version

    def _shown(self, sent: Sent, own: str | None) -> dict[str, str]:
        """The reasons as the sender may see them."""
        group = self.model.groups.get(sent.conversation.removeprefix("group:"))
        role = None if group is None or own is None else group.members.get(own)
        if own is None or role in ("owner", "admin"):
            return sent.unreachable
        return {
            user: "unavailable" if reason == "suspended" else reason
            for user, reason in sent.unreachable.items()
        }

    @rule(group=a_group, text=a_text, count=st.integers(2, 6))
    def talk(self, group: int, text: str, count: int) -> None:
        """A member says the same several times at once."""
        name = self.groups[group]
        sender = self._speaker(name)
        if sender is None:
            return
        expected = [self.judge("send", "group", name, sender, text, None, None)[0].position
                    for _ in range(count)]  # fmt: skip
        sends = [self.door.send("group", name, sender, text) for _ in range(count)]
        receipts = self.run(_together(sends))
        assert sorted(receipt.position for receipt in receipts) == expected

    def _speaker(self, group: str) -> str | None:
        """Somebody who can be heard in the group by others."""
        found = self.model.groups.get(group)
        for user in [] if found is None or found.dissolved else found.members:
            try:
                copy.deepcopy(self.model).send("group", group, user, "试", None, None)
            except Refused:
                continue
            return user
        return None

    @rule(group=a_group, user=person, text=a_text)
    def in_and_out(self, group: int, user: int, text: str) -> None:
        """A member is removed and added again at once, and something is said meanwhile."""
        found = self.model.groups.get(self.groups[group])
        if found is None or found.dissolved or self.people[user] not in found.members:
            return
        self.remove(group, user, leaves=False)
        self.talk(group, text, 2)
        self.add(group, [user])
        self.talk(group, text, 2)

    @rule(data=st.data(), by_author=st.booleans())
    def recall(self, data: st.DataObject, *, by_author: bool) -> None:
        name = data.draw(st.sampled_from(list(self.model.logs)), label="conversation")
        head = self.model.head(name)
        floor = self.observer.floor(name)
        if head == floor:
            return
        above = data.draw(st.integers(1, head - floor), label="position above the floor")
        position = floor + above
        author = self.model.logs[name][position - 1].get("sender") if by_author else None
        expected = self.judge("recall", name, position)
        answer = self.both(expected, self.door.recall(name, position, author), self._own(author))
        if answer is not None:
            assert (answer.position, answer.duplicate) == expected
            self.observer.recalled(name, position)

    @rule(user=person, data=st.data())
    def read(self, user: int, data: st.DataObject) -> None:
        reader = self.people[user]
        name = data.draw(st.sampled_from(self.model.ever(reader)), label="conversation")
        floor = self.observer.floor(name)
        ahead = self.model.head(name) - floor + 1
        position = floor + data.draw(st.integers(0, ahead), label="position above the floor")
        expected = self.judge("mark_read", reader, name, position)
        self.both(expected, self.door.mark_read(reader, name, position))

    # --- groups ------------------------------------------------------------------------------

    @rule(
        group=a_group,
        owner=person,
        members=people,
        history=st.sampled_from(("joined", "full")),
        require=st.sampled_from(("reachable", "reachable", "all")),
    )
    def create_group(
        self, group: int, owner: int, members: list[int], history: str, require: str
    ) -> None:
        name = self.groups[group]
        known = self.model.groups.get(name)
        if known is not None and not known.dissolved:
            return
        users = [self.people[one] for one in members]
        asked = self.door.put_group(
            name, owner=self.people[owner], members=users, history=history, require=require
        )
        expected = self.judge("create_group", name, self.people[owner], users, history, require)
        self.both(expected, asked)

    @rule(group=a_group, users=people)
    def add(self, group: int, users: list[int]) -> None:
        name, added = self.groups[group], [self.people[one] for one in users]
        active = [user for user in added if self.model.users[user] != "erased"]
        if not active:
            return
        expected = self.judge("add", name, active)
        change = self.both(expected, self.door.add(name, *active))
        if change is not None:
            assert {row.user: row.result for row in change.results} == expected
            assert change.membership_version == self.model.groups[name].version

    @rule(group=a_group, user=person, leaves=st.booleans())
    def remove(self, group: int, user: int, *, leaves: bool) -> None:
        name, removed = self.groups[group], self.people[user]
        expected = self.judge("remove", name, removed, "left" if leaves else "removed")
        asked = self.door.remove(name, removed, by=removed if leaves else None)
        change = self.both(expected, asked)
        if change is not None:
            assert change.membership_version == self.model.groups[name].version

    @precondition(lambda self: sum(not g.dissolved for g in self.model.groups.values()) > 1)
    @rule(group=a_group)
    def dissolve(self, group: int) -> None:
        expected = self.judge("dissolve", self.groups[group])
        self.both(expected, self.door.dissolve(self.groups[group]))

    @rule(group=a_group, on=st.booleans())
    def mute_group(self, group: int, *, on: bool) -> None:
        name = self.groups[group]
        if name in self.model.groups:
            expected = self.judge("mute_group", name, on=on)
            self.both(expected, self.door.put_group(name, muted=on))

    @rule(group=a_group, user=person, on=st.booleans())
    def mute_member(self, group: int, user: int, *, on: bool) -> None:
        name, muted = self.groups[group], self.people[user]
        expected = self.judge("mute_member", name, muted, on=on)
        self.both(expected, self.door.change_member(name, muted, muted=on))

    # --- people ------------------------------------------------------------------------------

    @rule(user=person, state=st.sampled_from(("active", "suspended", "active")))
    def set_state(self, user: int, state: str) -> None:
        changed = self.people[user]
        expected = self.judge("set_state", changed, state)
        self.both(expected, self.door.put_user(changed, state=state))
        self._note_states()

    @precondition(lambda self: list(self.model.users.values()).count("erased") < 2)
    @rule(user=person)
    def erase(self, user: int) -> None:
        expected = self.judge("erase", self.people[user])
        self.both(expected, self.door.erase(self.people[user]))
        self._note_states()

    def _note_states(self) -> None:
        states = self.model.users.items()
        self.door.inactive = {user for user, state in states if state != "active"}

    @rule(user=person, blocked=person, on=st.booleans())
    def block(self, user: int, blocked: int, *, on: bool) -> None:
        pair = self.people[user], self.people[blocked]
        if user == blocked or self.model.users[pair[1]] == "erased":
            return
        expected = self.judge("set_block", *pair, on=on)
        self.both(expected, self.door.block(*pair, on=on))

    # --- devices -----------------------------------------------------------------------------

    @rule(user=person)
    def connect(self, user: int) -> None:
        """A device that knows nothing yet."""
        self._connect(self.people[user], {})

    @precondition(lambda self: bool(self.observer.stored))
    @rule(data=st.data())
    def reconnect(self, data: st.DataObject) -> None:
        """A device that was here before, from where it stood."""
        index = data.draw(st.integers(0, len(self.observer.stored) - 1), label="device")
        user, positions = self.observer.stored.pop(index)
        self._connect(user, positions)

    def _connect(self, user: str, positions: dict[str, At]) -> None:
        state = self.model.users[user]
        if state != "active":
            if self.door.pushes:
                self.both(Refused(f"user_{state}"), self.door.device(user, positions))
            return
        device: Device = self.run(self.door.device(user, positions))
        self.observer.note_what_was_given()
        self.observer.connected(device, positions)

    @precondition(lambda self: bool(self.observer.online))
    @rule(data=st.data())
    def disconnect(self, data: st.DataObject) -> None:
        index = data.draw(st.integers(0, len(self.observer.online) - 1), label="device")
        self.run(self.observer.disconnect(index))

    @rule()
    def settle(self) -> None:
        """Everybody who is online has everything that is due."""
        self.run(self.observer.settle())

    @precondition(lambda self: self.restarts)
    @rule()
    def restart(self) -> None:
        self.run(self.observer.restart())

    # --- always ------------------------------------------------------------------------------

    @invariant()
    def nothing_is_out_of_order(self) -> None:
        """Every device's record follows on, entry by entry, and agrees with the model."""
        self.observer.check_records()


async def _together(sends: list[Coroutine[Any, Any, Receipt]]) -> list[Receipt]:
    return list(await asyncio.gather(*sends))


async def _answered(asked: Coroutine[Any, Any, T]) -> tuple[str | None, T | None]:
    try:
        return None, await asked
    except Refusal as refusal:
        return refusal.code, None


def _as_seen(code: str, *, own: bool) -> set[str]:
    """A user's own token is not told of a group that they were never in."""
    if own and code == "blocked":
        return {"members_unreachable"}
    veiled = {"not_a_member", "group_dissolved"} if own else set()
    return {code, "group_not_found"} if code in veiled else {code}
