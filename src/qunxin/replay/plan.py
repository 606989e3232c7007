"""What a replay does, and what everybody is entitled to see of it. Pure.

A plan has one lane for each log: its actions happen one after another, lanes side by side. Every
conversation is written by one lane only, so its log is known before anything runs: a chronicle,
whose slots are the entries in the order that they must have. What the server adds at run time is
the position of each slot, and that is taken from the receipts the clients were given.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, NamedTuple

from qunxin.model import BROADCAST, Conversation, EventType, MessageType
from qunxin.replay.irc import IrcLog, Step, StepKind, all_users, user_id

NO_SLOT: Final = -1


class ActionKind(Enum):
    JOIN = "join"
    LEAVE = "leave"
    REMOVE = "remove"
    RENAME = "rename"
    SEND = "send"
    RECALL = "recall"
    SUSPEND = "suspend"
    REACTIVATE = "reactivate"


class Action(NamedTuple):
    """One step of a lane. `user` acts or is acted on; `message` is an index into the plan's
    messages; `slot` the place in the chronicle of what it appends."""

    kind: ActionKind
    minute: int
    user: str = ""
    group: str = ""
    text: str = ""
    message: int = -1
    slot: int = NO_SLOT


class Message(NamedTuple):
    """One message to be sent. A broadcast is sent by the operator, in the name of `author`.

    `refusals` not empty: it must be refused, with one of these codes, and nobody may ever see it.
    """

    number: int
    type: MessageType
    to: str
    conversation: str
    author: str
    text: str
    key: str
    slot: int = NO_SLOT
    refusals: frozenset[str] = frozenset()


class Slot(NamedTuple):
    """One entry of a chronicle: a message (its index) or an event (`message` -1)."""

    type: str
    message: int = -1
    target: int = NO_SLOT
    """For a recall: the slot of the message."""


class Stay(NamedTuple):
    """Slots that a user may see, both ends included; `last` None: until the end."""

    first: int
    last: int | None


@dataclass
class Chronicle:
    """The log of one conversation as it must come to be, and who may see which part of it."""

    slots: list[Slot] = field(default_factory=list)
    stays: dict[str, list[Stay]] = field(default_factory=dict)

    def append(self, slot: Slot) -> int:
        self.slots.append(slot)
        return len(self.slots) - 1

    def begin(self, user: str, slot: int) -> None:
        self.stays.setdefault(user, []).append(Stay(slot, None))

    def end(self, user: str, slot: int) -> None:
        stays = self.stays[user]
        stays[-1] = stays[-1]._replace(last=slot)

    def expected(self, user: str) -> list[int]:
        """Every slot that `user` must see, in order."""
        head = len(self.slots) - 1
        seen: list[int] = []
        for stay in self.stays.get(user, ()):
            last = head if stay.last is None else stay.last
            seen.extend(range(stay.first, last + 1))
        return seen


class GroupPlan(NamedTuple):
    """A group to be made before anything else happens."""

    group: str
    name: str
    owner: str
    members: tuple[str, ...]
    slot: int


@dataclass
class Plan:
    """Everything decided before the first byte is sent."""

    users: dict[str, str]
    """Participants and the names they begin with."""
    owners: dict[str, str]
    """Accounts that own the groups; they have no connection."""
    groups: list[GroupPlan]
    lanes: list[list[Action]]
    messages: list[Message]
    chronicles: dict[str, Chronicle]
    expected_deliveries: int
    """Message and member, for every message and everybody entitled to it but its author."""
    log_users: int
    """How many of the participants the logs speak of."""
    skipped_lines: int
    """Lines of the logs that tell of nothing that can be played."""

    @property
    def accepted_messages(self) -> int:
        return sum(not message.refusals for message in self.messages)


class Named(NamedTuple):
    """One log with the id and the name that its group gets."""

    group: str
    name: str
    log: IrcLog


class PlanBuilder:
    """Plays the membership of all groups in its head while actions are added."""

    def __init__(self, logs: Sequence[Named], tag: str = "") -> None:
        self.logs = logs
        self.tag = tag
        self.users = _first_names(logs)
        self.owners: dict[str, str] = {}
        self.groups: list[GroupPlan] = []
        self.lanes: list[list[Action]] = [[] for _ in logs]
        self.messages: list[Message] = []
        self.chronicles: dict[str, Chronicle] = {}
        self._log_users = len(self.users)

    def build(self) -> Plan:
        return Plan(
            users=self.users,
            owners=self.owners,
            groups=self.groups,
            lanes=self.lanes,
            messages=self.messages,
            chronicles=self.chronicles,
            expected_deliveries=self._count_deliveries(),
            log_users=self._log_users,
            skipped_lines=sum(named.log.totals.skipped for named in self.logs),
        )

    # --- what may be added ------------------------------------------------------------------

    def chronicle(self, conversation: str) -> Chronicle:
        return self.chronicles.setdefault(conversation, Chronicle())

    def make_group(self, group: str, name: str, owner: str, members: Iterable[str] = ()) -> None:
        chronicle = self.chronicle(f"group:{group}")
        slot = chronicle.append(Slot(EventType.CREATED))
        named = tuple(members)
        for member in (owner, *named):
            chronicle.begin(member, slot)
        self.groups.append(GroupPlan(group, name, owner, named, slot))

    def is_member(self, group: str, user: str) -> bool:
        stays = self.chronicle(f"group:{group}").stays.get(user, [])
        return any(stay.last is None for stay in stays)

    def join(self, lane: int, minute: int, group: str, user: str) -> None:
        chronicle = self.chronicle(f"group:{group}")
        slot = chronicle.append(Slot(EventType.JOINED))
        chronicle.begin(user, slot)
        self._add(lane, Action(ActionKind.JOIN, minute, user=user, group=group, slot=slot))

    def leave(
        self, lane: int, minute: int, group: str, user: str, kind: ActionKind = ActionKind.LEAVE
    ) -> None:
        chronicle = self.chronicle(f"group:{group}")
        slot = chronicle.append(Slot(EventType.LEFT))
        chronicle.end(user, slot)
        self._add(lane, Action(kind, minute, user=user, group=group, slot=slot))

    def rename(self, lane: int, minute: int, user: str, name: str) -> None:
        self._add(lane, Action(ActionKind.RENAME, minute, user=user, text=name))

    def set_state(self, lane: int, minute: int, user: str, kind: ActionKind) -> None:
        self._add(lane, Action(kind, minute, user=user))

    def send(
        self,
        lane: int,
        minute: int,
        type: MessageType,  # noqa: A002  (the field's own word)
        to: str,
        author: str,
        text: str,
        refusals: frozenset[str] = frozenset(),
    ) -> Message:
        """Add one message; its audience is whoever is entitled at this point."""
        conversation = _conversation(type, to, author)
        slot = NO_SLOT
        number = len(self.messages)
        if not refusals:
            slot = self.chronicle(conversation).append(Slot(type, number))
            self._open(conversation, type, to, author)
        key = f"{self.tag or 'm'}.{lane}.{number}"
        message = Message(number, type, to, conversation, author, text, key, slot, refusals)
        self.messages.append(message)
        self._add(lane, Action(ActionKind.SEND, minute, user=author, message=number))
        return message

    def recall(self, lane: int, minute: int, message: Message, actor: str) -> None:
        """`actor`: the author over their own connection, or the owner of the group."""
        slot = self.chronicle(message.conversation).append(
            Slot(EventType.RECALLED, target=message.slot)
        )
        action = Action(ActionKind.RECALL, minute, user=actor, message=message.number, slot=slot)
        self._add(lane, action)

    def play(self, lane: int, step: Step) -> Message | None:
        """Add one step of the lane's own log; the message, where it is one."""
        group = self.logs[lane].group
        if step.kind is StepKind.JOIN:
            self.join(lane, step.minute, group, step.user)
            if step.text != self.users[step.user]:
                self.rename(lane, step.minute, step.user, step.text)
        elif step.kind is StepKind.LEAVE:
            self.leave(lane, step.minute, group, step.user)
        elif step.kind is StepKind.RENAME:
            self.rename(lane, step.minute, step.user, step.text)
        else:
            return self.send(lane, step.minute, MessageType.GROUP, group, step.user, step.text)
        return None

    # --- inside -----------------------------------------------------------------------------

    def _add(self, lane: int, action: Action) -> None:
        self.lanes[lane].append(action)

    def _open(
        self,
        conversation: str,
        type: MessageType,  # noqa: A002
        to: str,
        author: str,
    ) -> None:
        """Private and broadcast conversations begin, for all they concern, with the first
        message."""
        chronicle = self.chronicles[conversation]
        if type is MessageType.GROUP or chronicle.stays:
            return
        concerned = (author, to) if type is MessageType.PRIVATE else tuple(self.users)
        for user in concerned:
            chronicle.begin(user, 0)

    def _count_deliveries(self) -> int:
        return sum(
            sum(
                chronicle.slots[slot].message >= 0
                and self.messages[chronicle.slots[slot].message].author != user
                for slot in chronicle.expected(user)
            )
            for chronicle in self.chronicles.values()
            for user in chronicle.stays
            if user in self.users
        )


def _conversation(
    type: MessageType,  # noqa: A002
    to: str,
    author: str,
) -> str:
    if type is MessageType.GROUP:
        return str(Conversation.group(to))
    if type is MessageType.PRIVATE:
        return str(Conversation.private(author, to))
    return str(BROADCAST)


def _first_names(logs: Sequence[Named]) -> dict[str, str]:
    """Every participant with the nick they first bore."""
    names: dict[str, str] = {}
    for named in logs:
        for step in named.log.steps:
            if step.kind is StepKind.JOIN:
                names.setdefault(step.user, step.text)
    return {user: names[user] for user in all_users(named.log for named in logs)}


def owner_id(group: str, tag: str = "") -> str:
    """The account that owns a lane's groups. No nick encodes to it: a nick's own dots would be
    escaped."""
    return user_id("owner", 1, tag) + ".of." + group[:40].rstrip("._-@")


def plan_plain(logs: Sequence[Named], tag: str = "") -> Plan:
    """The logs and nothing else."""
    builder = PlanBuilder(logs, tag)
    begin_groups(builder)
    for lane, named in enumerate(logs):
        for step in named.log.steps:
            builder.play(lane, step)
    return builder.build()


def begin_groups(builder: PlanBuilder) -> None:
    """One group for each log, owned by an account that the logs do not know."""
    for named in builder.logs:
        owner = owner_id(named.group, builder.tag)
        builder.owners[owner] = f"Owner of {named.name}"
        builder.make_group(named.group, named.name, owner)
