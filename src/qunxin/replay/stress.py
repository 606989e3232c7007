"""What a stress replay adds to the logs, all of it drawn from the seed. Pure.

* Owners remove members and add them again before they next do anything.
* Members write to each other in private; some write to users who are named like a group.
* Groups named like users: who bears the name is not in the group, and gets none of it.
* Users are suspended, sit out, and come back before they next do anything.
* Messages are recalled, by their authors at once or by owners later.
* The operator broadcasts to everybody, in the name of an owner.
* Messages that must be refused: by who was just removed, to a group's name in private, to a
  user's name as a group, to somebody suspended.

Every conversation stays with one lane, so that its order is known.
"""

from __future__ import annotations

import random
from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import Final

from qunxin.model import MessageType
from qunxin.replay.plan import ActionKind, Message, Named, Plan, PlanBuilder, begin_groups

_REMOVALS: Final = 15
_SUSPENSIONS: Final = 6
_PRIVATES: Final = 50
_SIDE_MESSAGES: Final = 40
_RECALLS: Final = 30
_BROADCASTS: Final = 10
_SIDE_MEMBERS: Final = 8
_LATER_STEPS: Final = 60
"""How many steps after it a message is recalled at most."""

_NOT_MEMBER: Final = frozenset({"not_a_member", "group_not_found"})
_NO_GROUP: Final = frozenset({"group_not_found"})
_NO_USER: Final = frozenset({"user_not_found"})
_AWAY: Final = frozenset({"members_unreachable", "user_suspended"})

_TEXTS: Final = (
    " ",
    "你好，群里的朋友们",
    "\U0001f469\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466 👋🏽",
    "שלום לכולם \u200f(right to left)",
    "مرحبا بالجميع",
    'quotes " and \\ and \u2028 and \x00 and \n a new line',
    '{"push":{"channel":"group:x","pub":{"offset":1}}}\n{}',
    "長" * 2_000,
    "x" * 20_000,
)


def plan_stress(logs: Sequence[Named], seed: int, tag: str = "") -> Plan:
    """The logs with everything above, the same for the same seed."""
    builder = PlanBuilder(logs, tag)
    begin_groups(builder)
    namesakes = _namesakes(builder)
    pairs: set[tuple[str, str]] = set()
    lanes = [_Lane(builder, lane, seed, pairs, namesakes) for lane in range(len(logs))]
    for lane in lanes:
        lane.make_side_groups()
    for lane in lanes:
        lane.plan()
    return builder.build()


def _namesakes(builder: PlanBuilder) -> dict[int, str]:
    """A user named like the group of every second lane; in no group, and only written to in
    private."""
    names = {lane: named.group for lane, named in enumerate(builder.logs) if lane % 2 == 0}
    for user in names.values():
        builder.users[user] = f"Named like a group: {user}"
    return names


class _Lane:
    """One lane's additions: drawn first, then merged into the log's steps."""

    def __init__(
        self,
        builder: PlanBuilder,
        lane: int,
        seed: int,
        pairs: set[tuple[str, str]],
        namesakes: dict[int, str],
    ) -> None:
        self._builder = builder
        self._lane = lane
        self._chance = random.Random(f"stress {seed} {lane}")  # noqa: S311 - repeatable
        self._pairs = pairs
        self._own_pairs: set[tuple[str, str]] = set()
        self._namesakes = namesakes
        self._group = builder.logs[lane].group
        self._owner = next(g.owner for g in builder.groups if g.group == self._group)
        self._steps = builder.logs[lane].log.steps
        self._acts = _own_steps(builder.logs[lane])
        self._elsewhere = {
            step.user
            for other, named in enumerate(builder.logs)
            if other != lane
            for step in named.log.steps
        }
        self._away: set[str] = set()
        """Suspended now."""
        self._out: set[str] = set()
        """Removed now."""
        self._sides: list[tuple[str, tuple[str, ...]]] = []
        self._recent: list[tuple[Message, int]] = []
        self._due: dict[int, list[Callable[[], None]]] = {}
        self._index = 0
        self._minute = 0

    # --- drawing ----------------------------------------------------------------------------

    def make_side_groups(self) -> None:
        """Two groups that bear the names of people of this log who are not in them."""
        people = list(self._acts)
        for user in self._chance.sample(people, min(2, len(people))):
            if any(user == group for group, _ in self._sides) or self._is_taken(user):
                continue
            others = [person for person in people if person != user]
            members = tuple(self._chance.sample(others, min(_SIDE_MEMBERS, len(others))))
            if members:
                self._builder.make_group(user, f"群 {user}", self._owner, members)
                self._sides.append((user, members))

    def _is_taken(self, group: str) -> bool:
        return any(made.group == group for made in self._builder.groups)

    def plan(self) -> None:
        """Merge everything with the log's own steps."""
        self._draw(_REMOVALS, self._remove)
        self._draw(_SUSPENSIONS, self._suspend)
        self._draw(_PRIVATES, self._write_privately)
        self._draw(_SIDE_MESSAGES, self._write_aside)
        self._draw(_RECALLS, self._recall)
        self._draw(2, self._write_to_namesake)
        self._draw(2, self._write_to_nobody)
        if self._lane == 0:
            self._draw(_BROADCASTS, self._broadcast)
        for index, step in enumerate(self._steps):
            self._minute = step.minute
            self._run_due(index)
            message = self._builder.play(self._lane, step)
            if message is not None:
                self._recent.append((message, self._minute))
        self._run_due(len(self._steps))

    def _draw(self, most: int, addition: Callable[[], None]) -> None:
        """Place `addition` at random steps: `most` times, fewer in short logs."""
        steps = len(self._steps)
        for _ in range(min(most, 1 + steps // 10)):
            self._at(self._chance.randrange(steps + 1), addition)

    def _at(self, index: int, addition: Callable[[], None]) -> None:
        self._due.setdefault(index, []).append(addition)

    def _run_due(self, index: int) -> None:
        self._index = index
        additions = self._due.get(index, [])
        while additions:  # an addition may place its own end at this very step
            additions.pop(0)()

    # --- who can --------------------------------------------------------------------------

    def _next_act(self, user: str) -> int:
        """The next of the log's steps that `user` takes."""
        acts = self._acts[user]
        place = bisect_left(acts, self._index)
        return acts[place] if place < len(acts) else len(self._steps)

    def _before_next_act(self, user: str) -> int:
        """A step after this one, at which it is early enough to be back."""
        return self._chance.randint(self._index + 1, self._next_act(user))

    def _idle(self) -> list[str]:
        """Who is free, and not the one to act next."""
        return [user for user in self._free() if self._next_act(user) > self._index]

    def _free(self) -> list[str]:
        """Members who are neither out nor away."""
        return [
            user
            for user in self._acts
            if user not in self._out
            and user not in self._away
            and self._builder.is_member(self._group, user)
        ]

    def _pick(self, candidates: Sequence[str]) -> str | None:
        return self._chance.choice(candidates) if candidates else None

    def _text(self) -> str:
        return self._chance.choice(_TEXTS)

    def _say(
        self,
        kind: MessageType,
        to: str,
        author: str,
        refusals: frozenset[str] = frozenset(),
    ) -> None:
        message = self._builder.send(
            self._lane, self._minute, kind, to, author, self._text(), refusals
        )
        if not refusals and kind is not MessageType.BROADCAST:
            self._recent.append((message, self._minute))

    # --- additions ------------------------------------------------------------------------

    def _remove(self) -> None:
        user = self._pick(self._idle())
        if user is None:
            return
        builder, group = self._builder, self._group
        builder.leave(self._lane, self._minute, group, user, ActionKind.REMOVE)
        self._out.add(user)
        if self._chance.random() < 0.5:
            self._say(MessageType.GROUP, group, user, _NOT_MEMBER)

        def add_again() -> None:
            builder.join(self._lane, self._minute, group, user)
            self._out.discard(user)

        self._at(self._before_next_act(user), add_again)

    def _suspend(self) -> None:
        """Only people of one log: no other lane counts on them."""
        user = self._pick([one for one in self._idle() if one not in self._elsewhere])
        if user is None:
            return
        self._builder.set_state(self._lane, self._minute, user, ActionKind.SUSPEND)
        self._away.add(user)
        author = self._pick(self._free())
        if author is not None:
            self._say(MessageType.PRIVATE, user, author, _AWAY)

        def come_back() -> None:
            self._builder.set_state(self._lane, self._minute, user, ActionKind.REACTIVATE)
            self._away.discard(user)

        self._at(self._before_next_act(user), come_back)

    def _write_privately(self) -> None:
        free = self._free()
        if len(free) < 2:
            return
        known = [pair for pair in sorted(self._own_pairs) if {*pair} <= {*free}]
        one, other = (
            self._chance.choice(known)
            if known and self._chance.random() < 0.5
            else sorted(self._chance.sample(free, 2))
        )
        if not self._claim(one, other):
            return
        author, to = self._chance.sample((one, other), 2)
        self._say(MessageType.PRIVATE, to, author)

    def _claim(self, one: str, other: str) -> bool:
        """Whether the conversation of these two is this lane's."""
        pair = (min(one, other), max(one, other))
        if pair not in self._pairs:
            self._pairs.add(pair)
            self._own_pairs.add(pair)
        return pair in self._own_pairs

    def _write_aside(self) -> None:
        if not self._sides:
            return
        group, members = self._chance.choice(self._sides)
        author = self._pick([one for one in members if one not in self._away])
        if author is not None:
            self._say(MessageType.GROUP, group, author)

    def _write_to_namesake(self) -> None:
        author = self._pick(self._free())
        namesake = self._namesakes.get(self._lane)
        if author is not None and namesake is not None and self._claim(author, namesake):
            self._say(MessageType.PRIVATE, namesake, author)

    def _write_to_nobody(self) -> None:
        author = self._pick(self._free())
        if author is None:
            return
        if self._lane not in self._namesakes:
            self._say(MessageType.PRIVATE, self._group, author, _NO_USER)
        if not self._is_taken(author):
            self._say(MessageType.GROUP, author, author, _NO_GROUP)

    def _broadcast(self) -> None:
        self._say(MessageType.BROADCAST, "all", self._owner)

    def _recall(self) -> None:
        recent = [one for one in self._recent[-_LATER_STEPS:] if self._recallers(*one)]
        if not recent:
            return
        message, minute = chosen = self._chance.choice(recent)
        self._recent.remove(chosen)
        actor = self._chance.choice(self._recallers(message, minute))
        self._builder.recall(self._lane, self._minute, message, actor)

    def _recallers(self, message: Message, minute: int) -> list[str]:
        """The owner of the group at any time, the author within the minute."""
        author = message.author
        in_group = message.type is MessageType.GROUP
        may = [self._owner] if in_group else []
        is_in = not in_group or self._builder.is_member(message.to, author)
        if minute == self._minute and author not in self._away and is_in:
            may.append(author)
        return may


def _own_steps(named: Named) -> dict[str, list[int]]:
    """For each person of a log, the indices of their steps."""
    acts: dict[str, list[int]] = {}
    for index, step in enumerate(named.log.steps):
        acts.setdefault(step.user, []).append(index)
    return acts
