"""The verdict: what everybody saw, against what the plan entitles them to. Pure.

Five faults are counted, each for one participant and one entry:

* *lost*: an entry they were entitled to and never saw;
* *duplicated*: an entry seen once too often;
* *reordered*: an entry out of the log's order (the fewest that would have to move), or, where
  the order is right, one whose position is not the one its sender was told;
* *misrouted*: an entry seen in a conversation it was not sent to, or that nobody sent;
* *leaked*: an entry seen by someone not entitled to it: before joining, after leaving, in a
  conversation never theirs, refused, or recalled before their device connected.

An entry that a participant saw in the wrong conversation only is misrouted, and not lost too.
Entries are messages and events alike; `delivered` counts messages, and not those to their own
authors.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Final

from qunxin.model import BROADCAST, EventType
from qunxin.replay.plan import NO_SLOT, Chronicle, Message, Plan
from qunxin.replay.records import RELOADED, Journal, Observation, Observations, Record

_NAMED_LIMIT: Final = 20


@dataclass
class Findings:
    """Counts over all participants, and the first few faults in words."""

    delivered: int = 0
    lost: int = 0
    duplicated: int = 0
    reordered: int = 0
    misrouted: int = 0
    leaked: int = 0
    examples: list[str] = field(default_factory=list)

    @property
    def faults(self) -> int:
        return self.lost + self.duplicated + self.reordered + self.misrouted + self.leaked

    def add(self, other: Findings) -> None:
        for name in (f.name for f in fields(self) if f.name != "examples"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.examples.extend(other.examples[: _NAMED_LIMIT - len(self.examples)])

    def note(self, text: str) -> None:
        if len(self.examples) < _NAMED_LIMIT:
            self.examples.append(text)


@dataclass(frozen=True)
class _Reading:
    """What one observation turned out to be, whoever saw it."""

    conversation: str
    """Of the slot; the channel where there is none."""
    slot: int
    """`NO_SLOT` where no entry of the plan fits."""
    message: int = -1
    misrouted: bool = False
    refused: bool = False
    misplaced: bool = False
    exposed: bool = False
    """Shows the content of a message that is recalled at some time."""
    ignored: bool = False


class Judge:
    """Reads every observation once, then each participant's record.

    `shared`: others use the server too, so that there may be broadcasts that are not of the plan.
    """

    def __init__(
        self, plan: Plan, journal: Journal, observations: Observations, *, shared: bool = False
    ) -> None:
        self._shared = shared
        self._plan = plan
        self._journal = journal
        self._by_key = {message.key: message for message in plan.messages}
        self._slots = {
            conversation: {position: slot for slot, position in positions.items()}
            for conversation, positions in journal.positions.items()
        }
        self._recalls = _recalls(plan)
        self._observations = observations.all
        self._readings = [self._read(observation) for observation in observations.all]

    def judge(self, records: Mapping[str, Record]) -> Findings:
        findings = Findings()
        for user in self._plan.users:
            findings.add(self._judge_user(user, records.get(user) or Record()))
        return findings

    # --- one observation --------------------------------------------------------------------

    def _read(self, seen: Observation) -> _Reading:
        if seen.type in (EventType.HIDDEN, RELOADED) or seen.channel.startswith("inbox:"):
            return _Reading(seen.channel, NO_SLOT, ignored=True)
        if self._shared and seen.channel == str(BROADCAST) and self._is_of_others(seen):
            return _Reading(seen.channel, NO_SLOT, ignored=True)
        return self._read_message(seen) if seen.is_message else self._read_event(seen)

    def _is_of_others(self, seen: Observation) -> bool:
        if seen.is_message:
            return seen.key not in self._by_key
        return seen.offset not in self._slots.get(seen.channel, {})

    def _read_message(self, seen: Observation) -> _Reading:
        message = self._by_key.get(seen.key or "")
        if message is None or not self._is_what_was_sent(seen, message):
            return _Reading(seen.channel, NO_SLOT, misrouted=True)
        at_home = seen.channel == seen.conversation == message.conversation
        told = self._journal.position(message.conversation, message.slot)
        return _Reading(
            message.conversation,
            message.slot,
            message.number,
            misrouted=not at_home or seen.type != message.type,
            refused=bool(message.refusals),
            misplaced=told not in (0, seen.offset) or seen.offset != seen.position,
            exposed=seen.text is not None and message.number in self._recalls,
        )

    def _is_what_was_sent(self, seen: Observation, message: Message) -> bool:
        """The author's own words, or the tombstone of a message that was recalled."""
        if seen.sender != message.author:
            return False
        if seen.recalled is None:
            return seen.text == message.text
        recall = self._recalls.get(message.number, NO_SLOT)
        told = self._journal.position(message.conversation, recall)
        return seen.text is None and recall != NO_SLOT and told in (0, seen.recalled)

    def _read_event(self, seen: Observation) -> _Reading:
        slot = self._slots.get(seen.channel, {}).get(seen.offset, NO_SLOT)
        chronicle = self._plan.chronicles.get(seen.channel)
        if chronicle is None or slot == NO_SLOT or seen.conversation != seen.channel:
            return _Reading(seen.channel, NO_SLOT, misrouted=True)
        planned = chronicle.slots[slot]
        target = self._journal.position(seen.channel, planned.target)
        of_another = planned.type == EventType.RECALLED and target != seen.target
        if planned.type != seen.type or of_another:
            return _Reading(seen.channel, NO_SLOT, misrouted=True)
        return _Reading(seen.channel, slot, misplaced=seen.offset != seen.position)

    # --- one participant --------------------------------------------------------------------

    def _judge_user(self, user: str, record: Record) -> Findings:
        findings = Findings()
        seen: dict[str, list[int]] = {}
        misplaced: Counter[str] = Counter()
        astray: set[tuple[str, int]] = set()
        for index, number in enumerate(record.numbers):
            reading = self._readings[number]
            if reading.ignored:
                self._judge_ignored(user, number, seen, findings)
            elif reading.misrouted:
                findings.misrouted += 1
                astray.add((reading.conversation, reading.slot))
                findings.note(f"misrouted to {user}: {self._observations[number]}")
            elif reading.refused:
                findings.leaked += 1
                findings.note(f"refused, yet seen by {user}: {self._observations[number]}")
            else:
                seen.setdefault(reading.conversation, []).append(reading.slot)
                misplaced[reading.conversation] += reading.misplaced
                if reading.exposed:
                    self._judge_exposed(user, record, index, reading, findings)
        for conversation in sorted(self._conversations(user) | seen.keys()):
            slots = seen.get(conversation, [])
            self._judge_conversation(user, conversation, slots, misplaced, astray, findings)
        return findings

    def _conversations(self, user: str) -> set[str]:
        return {name for name, log in self._plan.chronicles.items() if user in log.stays}

    def _judge_ignored(
        self, user: str, number: int, seen: dict[str, list[int]], findings: Findings
    ) -> None:
        observation = self._observations[number]
        if observation.type == RELOADED:
            seen.pop(observation.channel, None)
        elif observation.channel.startswith("inbox:") and observation.channel != f"inbox:{user}":
            findings.leaked += 1
            findings.note(f"another's inbox seen by {user}: {observation}")

    def _judge_exposed(
        self, user: str, record: Record, index: int, reading: _Reading, findings: Findings
    ) -> None:
        """Content may be seen on a connection that was there before the recall was accepted."""
        accepted = self._journal.recalled.get(reading.message)
        if accepted is None:
            return
        starts = [start for start, _ in record.connections]
        connection = bisect_right(starts, index) - 1
        if connection >= 0 and record.connections[connection][1] > accepted:
            findings.leaked += 1
            findings.note(f"recalled, yet seen by {user}: {reading.conversation} {reading.slot}")

    def _judge_conversation(
        self,
        user: str,
        conversation: str,
        seen: list[int],
        misplaced: Mapping[str, int],
        astray: set[tuple[str, int]],
        findings: Findings,
    ) -> None:
        chronicle = self._plan.chronicles[conversation]
        expected = self._due(chronicle, conversation, user)
        if seen == expected:
            findings.reordered += misplaced[conversation]
            findings.delivered += self._count_messages(chronicle, user, expected)
            return
        entitled = set(expected)
        counts = Counter(seen)
        right = [slot for slot in dict.fromkeys(seen) if slot in entitled]
        lost = [s for s in expected if s not in counts and (conversation, s) not in astray]
        leaked = [slot for slot in counts if slot not in entitled]
        again = {slot: count - 1 for slot, count in counts.items() if count > 1}
        findings.lost += len(lost)
        findings.leaked += len(leaked)
        findings.duplicated += sum(again.values())
        findings.reordered += _moved(right) or misplaced[conversation]
        findings.delivered += self._count_messages(chronicle, user, right)
        _note(findings, user, conversation, lost=lost, leaked=leaked, duplicated=again)

    def _due(self, chronicle: Chronicle, conversation: str, user: str) -> list[int]:
        """What the plan entitles `user` to; of events, only those known to have happened."""
        expected = chronicle.expected(user)
        known = self._journal.positions.get(conversation, {})
        if len(known) == len(chronicle.slots):
            return expected
        return [s for s in expected if s in known or chronicle.slots[s].message >= 0]

    def _count_messages(self, chronicle: Chronicle, user: str, slots: Iterable[int]) -> int:
        messages = self._plan.messages
        return sum(
            chronicle.slots[slot].message >= 0
            and messages[chronicle.slots[slot].message].author != user
            for slot in slots
        )


def _recalls(plan: Plan) -> dict[int, int]:
    """Message to the slot of its recall."""
    return {
        chronicle.slots[slot.target].message: index
        for chronicle in plan.chronicles.values()
        for index, slot in enumerate(chronicle.slots)
        if slot.type == EventType.RECALLED
    }


def _moved(slots: Sequence[int]) -> int:
    """The fewest that would have to move for `slots`, all different, to be ascending."""
    tails: list[int] = []
    for slot in slots:
        place = bisect_left(tails, slot)
        tails[place : place + 1] = [slot]
    return len(slots) - len(tails)


def _note(findings: Findings, user: str, conversation: str, **faults: Iterable[int]) -> None:
    for fault, slots in faults.items():
        named = list(slots)
        if named:
            findings.note(f"{fault} by {user} in {conversation}: slots {named[:10]}")
