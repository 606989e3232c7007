"""The judge of a replay: perfect records pass, and whatever is wrong with one is found."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qunxin.model import EventType
from qunxin.replay.irc import decode, read_log
from qunxin.replay.judge import Findings, Judge
from qunxin.replay.plan import Named, Plan, Slot, plan_plain
from qunxin.replay.records import RELOADED, Journal, Observation, Observations, Record
from qunxin.replay.stress import plan_stress

_SAMPLES = sorted((Path(__file__).parents[1] / "data" / "irc").glob("*.txt"))
_LOGS = [
    Named(f"g{number}", path.name, read_log(decode(path.read_bytes())))
    for number, path in enumerate(_SAMPLES)
]
_PLAIN = plan_plain(_LOGS)
_STRESSED = plan_stress(_LOGS, seed=1)
_COUNTS = ("lost", "duplicated", "reordered", "misrouted", "leaked")


@dataclass
class World:
    """What a perfect server would have made of a plan, to be spoilt."""

    plan: Plan
    journal: Journal = field(init=False)
    seen: dict[str, list[Observation]] = field(init=False)
    connected: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.journal = Journal(len(self.plan.messages))
        for conversation, chronicle in self.plan.chronicles.items():
            for slot in range(len(chronicle.slots)):
                self.journal.place(conversation, slot, slot + 1)
        self.seen = {
            user: [
                self.observation(conversation, slot)
                for conversation, chronicle in self.plan.chronicles.items()
                for slot in chronicle.expected(user)
            ]
            for user in self.plan.users
        }

    def observation(self, conversation: str, index: int) -> Observation:
        slot = self.plan.chronicles[conversation].slots[index]
        at = (conversation, index + 1, slot.type, conversation, index + 1)
        if slot.message < 0:
            return Observation(*at, target=slot.target + 1)
        message = self.plan.messages[slot.message]
        return Observation(*at, message.author, message.key, message.text)

    def findings(self) -> Findings:
        observations = Observations()
        records = {}
        for user, seen in self.seen.items():
            record = records[user] = Record()
            record.began(self.connected.get(user, 0.0))
            for when, observation in enumerate(seen):
                record.add(observations.number(observation), float(when))
        return Judge(self.plan, self.journal, observations).judge(records)

    def counts(self) -> dict[str, int]:
        """The faults that are not zero."""
        found = self.findings()
        return {name: getattr(found, name) for name in _COUNTS if getattr(found, name)}


def _someone(world: World, chance: random.Random, entries: int = 1) -> str:
    """A user with at least so many messages in one group."""
    return chance.choice([user for user in world.seen if len(_messages(world, user)) >= entries])


def _messages(world: World, user: str) -> list[int]:
    """Where in the record of `user` a message to their group stands."""
    return [
        index
        for index, one in enumerate(world.seen[user])
        if one.type == "group" and one.channel == world.seen[user][0].channel
    ]


@pytest.mark.parametrize("plan", [_PLAIN, _STRESSED], ids=["plain", "stress"])
def test_a_perfect_record_passes(plan: Plan) -> None:
    """Nothing is found where nothing is wrong, and everything counts as delivered."""
    found = World(plan).findings()
    assert found == Findings(delivered=plan.expected_deliveries)


@given(st.integers(0, 10_000))
def test_a_lost_entry_is_found(seed: int) -> None:
    chance, world = random.Random(seed), World(_PLAIN)
    user = _someone(world, chance)
    del world.seen[user][chance.randrange(len(world.seen[user]))]
    assert world.counts() == {"lost": 1}


@given(st.integers(0, 10_000))
def test_a_doubled_entry_is_found(seed: int) -> None:
    """At any later place: a copy that comes late is no disorder."""
    chance, world = random.Random(seed), World(_PLAIN)
    seen = world.seen[_someone(world, chance)]
    index = chance.randrange(len(seen))
    seen.insert(chance.randint(index + 1, len(seen)), seen[index])
    assert world.counts() == {"duplicated": 1}


@given(st.integers(0, 10_000))
def test_two_swapped_entries_are_found(seed: int) -> None:
    chance, world = random.Random(seed), World(_PLAIN)
    user = _someone(world, chance, entries=2)
    index = chance.choice(_messages(world, user)[:-1])
    seen = world.seen[user]
    seen[index], seen[index + 1] = seen[index + 1], seen[index]
    assert world.counts() == {"reordered": 1}


@given(st.integers(0, 10_000))
def test_an_entry_of_the_time_before_joining_is_found(seed: int) -> None:
    chance, world = random.Random(seed), World(_PLAIN)
    late = [user for user, seen in world.seen.items() if seen[0].position > 2]
    user = chance.choice(late)
    first = world.seen[user][0]
    earlier = chance.randrange(1, first.position - 1)
    world.seen[user].insert(0, world.observation(first.channel, earlier))
    assert world.counts() == {"leaked": 1}


@given(st.integers(0, 10_000))
def test_an_entry_of_a_strange_group_is_found(seed: int) -> None:
    chance, world = random.Random(seed), World(_PLAIN)
    user = _someone(world, chance)
    own = {one.channel for one in world.seen[user]}
    other = chance.choice([name for name in _PLAIN.chronicles if name not in own])
    slot = chance.randrange(1, len(_PLAIN.chronicles[other].slots))
    world.seen[user].append(world.observation(other, slot))
    assert world.counts() == {"leaked": 1}


@given(st.integers(0, 10_000), st.booleans())
def test_a_message_in_another_conversation_is_found(seed: int, moved: bool) -> None:
    """Whether it came there as well, or there instead."""
    chance, world = random.Random(seed), World(_PLAIN)
    user = _someone(world, chance)
    seen = world.seen[user]
    index = chance.choice(_messages(world, user))
    wrong = seen[index]._replace(channel="group:elsewhere", conversation="group:elsewhere")
    if moved:
        seen[index] = wrong
    else:
        seen.insert(index, wrong)
    assert world.counts() == {"misrouted": 1}


def test_words_that_nobody_sent_are_found() -> None:
    """Altered content is no delivery of what was sent, and nobody sent the other."""
    world = World(_PLAIN)
    user = _someone(world, random.Random(1))
    index = _messages(world, user)[0]
    world.seen[user][index] = world.seen[user][index]._replace(text="别的话")
    assert world.counts() == {"lost": 1, "misrouted": 1}


def test_another_sender_is_found() -> None:
    world = World(_PLAIN)
    user = _someone(world, random.Random(1))
    index = _messages(world, user)[0]
    world.seen[user][index] = world.seen[user][index]._replace(sender="mallory")
    assert world.counts() == {"lost": 1, "misrouted": 1}


def test_a_position_that_is_not_the_receipts_is_found() -> None:
    """The order is right and the number is not: the same message, another name."""
    world = World(_PLAIN)
    user = _someone(world, random.Random(1))
    index = _messages(world, user)[0]
    seen = world.seen[user]
    seen[index] = seen[index]._replace(offset=9_999, position=9_999)
    assert world.counts() == {"reordered": 1}


def test_a_hidden_range_is_no_excuse_for_a_loss() -> None:
    world = World(_PLAIN)
    seen = world.seen[_someone(world, random.Random(1))]
    gone = seen[5]
    seen[5] = Observation(gone.channel, gone.offset, EventType.HIDDEN, first=gone.offset)
    assert world.counts() == {"lost": 1}


def test_anothers_inbox_is_leaked() -> None:
    world = World(_PLAIN)
    user, other = list(world.seen)[:2]
    world.seen[user].append(Observation(f"inbox:{user}", 1, EventType.MEMBER))
    assert world.counts() == {}
    world.seen[user].append(Observation(f"inbox:{other}", 1, EventType.MEMBER))
    assert world.counts() == {"leaked": 1}


def test_what_a_device_was_told_to_throw_away_does_not_count() -> None:
    """After a reload the conversation begins anew; what is missing then is lost."""
    world = World(_PLAIN)
    user = _someone(world, random.Random(1))
    seen = world.seen[user]
    channel = seen[0].channel
    own = [one for one in seen if one.channel == channel]
    seen.extend([Observation(channel, 0, RELOADED), *own])
    assert world.counts() == {}
    seen.pop()
    assert world.counts() == {"lost": 1}


def test_what_had_to_be_refused_must_not_be_seen() -> None:
    world = World(_STRESSED)
    message = next(message for message in _STRESSED.messages if message.refusals)
    spy = next(iter(world.seen))
    world.seen[spy].append(
        Observation(
            message.conversation,
            1,
            message.type,
            message.conversation,
            1,
            message.author,
            message.key,
            message.text,
        )
    )
    assert world.counts() == {"leaked": 1}


def _recalled(world: World) -> tuple[str, int, Slot, str, int]:
    """A recalled message: conversation, its slot, its recall, and a reader with the index."""
    for conversation, chronicle in world.plan.chronicles.items():
        for number, slot in enumerate(chronicle.slots):
            if slot.type == EventType.RECALLED:
                user = next(one for one in world.seen if number in chronicle.expected(one))
                index = next(
                    index
                    for index, one in enumerate(world.seen[user])
                    if (one.channel, one.position) == (conversation, slot.target + 1)
                )
                return conversation, number, slot, user, index
    raise AssertionError("no recall in the plan")


def test_a_recalled_message_may_come_as_its_tombstone() -> None:
    world = World(_STRESSED)
    _, number, _, user, index = _recalled(world)
    seen = world.seen[user]
    seen[index] = seen[index]._replace(text=None, recalled=number + 1)
    assert world.counts() == {}


def test_a_tombstone_of_what_nobody_recalled_is_found() -> None:
    world = World(_PLAIN)
    user = _someone(world, random.Random(1))
    index = _messages(world, user)[0]
    world.seen[user][index] = world.seen[user][index]._replace(text=None, recalled=99)
    assert world.counts() == {"lost": 1, "misrouted": 1}


def test_content_after_its_recall_is_leaked() -> None:
    """On a connection that began after the recall was accepted; before, it may be seen."""
    world = World(_STRESSED)
    conversation, _, slot, user, _ = _recalled(world)
    message = world.plan.chronicles[conversation].slots[slot.target].message
    world.journal.recalled[message] = 10.0
    world.connected[user] = 9.0
    assert world.counts() == {}
    world.connected[user] = 11.0
    assert world.counts() == {"leaked": 1}


@given(st.integers(0, 1_000))
def test_stress_plans_hold_together(seed: int) -> None:
    """The same seed gives the same plan; stays never overlap; who acts is there."""
    plan = plan_stress(_LOGS, seed)
    again = plan_stress(_LOGS, seed)
    assert plan.lanes == again.lanes
    assert plan.messages == again.messages
    for chronicle in plan.chronicles.values():
        for stays in chronicle.stays.values():
            bounds = [bound for stay in stays for bound in (stay.first, stay.last)]
            assert None not in bounds[:-1]
            known = [bound for bound in bounds if bound is not None]
            assert known == sorted(known)
    for message in plan.messages:
        if not message.refusals:
            chronicle = plan.chronicles[message.conversation]
            broadcast = message.type == "broadcast"
            assert broadcast or message.slot in chronicle.expected(message.author)
