"""Properties over generated conversations: whatever is mixed, each log stays one whole order."""

from __future__ import annotations

import asyncio
import itertools
from collections import defaultdict
from typing import Final

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qunxin.model import Entry, Require, Role, UserState
from qunxin.store.commands import (
    AddMembers,
    ChangeMember,
    Command,
    DissolveGroup,
    EraseUser,
    Post,
    PutGroup,
    PutUser,
    Recall,
    RemoveMember,
    SetBlock,
)
from qunxin.store.results import Done, Outcome, Posted
from qunxin.testing.store.base import StoreBase
from qunxin.testing.store.chat import Chat, broadcast_message, group_message, private_message

_users: Final = st.sampled_from(["ann", "bo", "cy", "ghost"])
_groups: Final = st.sampled_from(["tea", "rice"])
_texts: Final = st.sampled_from(["", "茶", "👨‍👩‍👧", "שלום", "同样的话"])
_keys: Final = st.none() | st.sampled_from(["k1", "k2"])
_require: Final = st.none() | st.sampled_from(Require)
_options: Final = st.fixed_dictionaries({"key": _keys, "require": _require})
_no_self: Final = st.tuples(_users, _users).filter(lambda pair: pair[0] != pair[1])

_posts: Final = st.one_of(
    st.builds(lambda g, u, t, o: group_message(g, u, t, **o), _groups, _users, _texts, _options),
    st.builds(lambda p, t, o: private_message(p[0], p[1], t, **o), _no_self, _texts, _options),
    st.builds(lambda u, t, o: broadcast_message(u, t, **o), st.none() | _users, _texts, _options),
)
_changes: Final = st.one_of(
    st.builds(PutUser, _users, state=st.sampled_from([UserState.ACTIVE, UserState.SUSPENDED])),
    st.builds(EraseUser, st.just("cy")),
    st.builds(SetBlock, _users, _users, st.booleans()),
    st.builds(PutGroup, _groups, owner=_users, members=st.lists(_users).map(tuple)),
    st.builds(DissolveGroup, st.just("rice")),
    st.builds(AddMembers, _groups, st.lists(_users).map(tuple)),
    st.builds(RemoveMember, _groups, _users),
    st.builds(ChangeMember, _groups, _users, role=st.sampled_from(Role)),
    st.builds(lambda g, p: Recall(f"group:{g}", p), _groups, st.integers(1, 12)),
)
_batches: Final = st.lists(st.lists(_posts | _changes, min_size=1, max_size=8), max_size=12)


def _renamed(command: Command, mark: str) -> Command:
    """The same command in a world of its own, so that one store serves many examples."""
    text = msgspec.msgpack.decode(msgspec.msgpack.encode(command))
    for field in ("user", "blocked", "group", "owner", "sender"):
        if text.get(field):
            text[field] = f"{text[field]}.{mark}"
    for field in ("members", "users"):
        if text.get(field):
            text[field] = [f"{one}.{mark}" for one in text[field]]
    if (name := text.get("conversation")) and name != "broadcast:all":
        kind, _, rest = name.partition(":")
        text["conversation"] = f"{kind}:" + "~".join(f"{one}.{mark}" for one in rest.split("~"))
    return msgspec.convert(text, type(command))


class PropertySuite(StoreBase):
    """Generated batches of every kind of command, handed in side by side."""

    @settings(
        max_examples=30,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )
    @given(batches=_batches)
    async def test_one_order(self, chat: Chat, batches: list[list[Command]]) -> None:
        """Positions of every log are 1, 2, 3 …; what was answered is what is read; no key was
        accepted twice; who counts as members is who is listed."""
        mark = f"{next(_marks)}x"
        before = await chat.head("broadcast:all")
        named = [[_renamed(command, mark) for command in batch] for batch in batches]
        await chat.store.commit([_renamed(command, mark) for command in _WORLD])
        answers = await asyncio.gather(*(chat.store.commit(batch) for batch in named))
        pairs = [
            pair
            for batch, outcomes in zip(named, answers, strict=True)
            for pair in zip(batch, outcomes, strict=True)
        ]
        await _check_logs(chat, pairs, before)
        _check_keys(pairs)
        await _check_members(chat, mark)


_WORLD: Final[tuple[Command, ...]] = (
    PutUser("ann"),
    PutUser("bo"),
    PutUser("cy"),
    PutGroup("tea", owner="ann", members=("bo", "cy")),
)
"""What each example begins with."""

_marks = itertools.count(1)


async def _check_logs(chat: Chat, pairs: list[tuple[Command, Outcome]], before: int) -> None:
    appended: dict[str, dict[int, Entry]] = defaultdict(dict)
    recalled: set[tuple[str, int]] = set()
    for _, outcome in pairs:
        for entry in outcome.entries if isinstance(outcome, Done) else ():
            assert entry.position not in appended[entry.conversation]
            appended[entry.conversation][entry.position] = entry
            if entry.type == "recalled" and entry.body is not None:
                recalled.add((entry.conversation, entry.body["target"]))
    for name, entries in appended.items():
        start = before if name == "broadcast:all" else _begun(name)
        assert sorted(entries) == list(range(start + 1, start + len(entries) + 1))
        read = {entry.position: entry for entry in await chat.log(name)}
        assert sorted(read) == list(range(1, len(read) + 1))
        for position, entry in entries.items():
            assert (read[position].content is None) == (
                entry.content is None or (name, position) in recalled
            )
            assert (read[position].type, read[position].body) == (entry.type, entry.body)


def _begun(name: str) -> int:
    """How many entries `_WORLD` left in the log of that name."""
    kind, _, rest = name.partition(":")
    first = rest.partition(".")[0]
    return int((kind, first) == ("group", "tea") or (kind == "inbox" and first != "ghost"))


def _check_keys(pairs: list[tuple[Command, Outcome]]) -> None:
    places: dict[tuple[str | None, str, str], set[int]] = defaultdict(set)
    for command, outcome in pairs:
        if (
            isinstance(command, Post)
            and command.key
            and command.sender
            and isinstance(outcome, Done)
        ):
            assert isinstance(outcome.result, Posted)
            name = (command.sender, command.conversation, command.key)
            places[name].add(outcome.result.position)
            assert outcome.result.duplicate == (outcome.entries == ())
    assert all(len(positions) == 1 for positions in places.values())


async def _check_members(chat: Chat, mark: str) -> None:
    for group in (f"tea.{mark}", f"rice.{mark}"):
        found = await chat.store.read_group(group)
        listed = await chat.store.list_members(group)
        keys = await chat.store.read_member_keys(group)
        assert [member.key for member in listed.members] == list(keys.keys)
        assert len(keys.keys) == (found.members if found else 0)
