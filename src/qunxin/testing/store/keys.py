"""Idempotency keys: the same message again is the same outcome again."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from qunxin.model import Require, UserState
from qunxin.store.commands import (
    ChangeMember,
    Command,
    DissolveGroup,
    EraseUser,
    Post,
    PutGroup,
    PutUser,
    Recall,
    RemoveMember,
)
from qunxin.store.results import Done, Posted
from qunxin.testing.store.base import StoreBase
from qunxin.testing.store.chat import (
    Chat,
    StoreMaker,
    broadcast_message,
    group_message,
    private_message,
)


class KeySuite(StoreBase):
    """What the contract says of keys; each test repeats a message."""

    @pytest.mark.parametrize(
        "command",
        [
            group_message("tea", "ann", key="钥匙🔑-1"),
            private_message("ann", "bo", key="k"),
            broadcast_message(key="k"),
            broadcast_message("ann", key="k"),
        ],
        ids=["group", "private", "operator", "broadcast"],
    )
    async def test_key_repeated(self, chat: Chat, command: Post) -> None:
        """A repeat gives the first outcome, marked as a duplicate, and appends nothing."""
        await chat.group("tea", "ann", "bo", "sue")
        await chat.done(PutUser("sue", state=UserState.SUSPENDED))
        first = await chat.post(command)
        chat.clock.advance(5_000)
        head = await chat.head(command.conversation)
        done = await chat.done(command)
        assert done.entries == ()
        assert done.result == Posted(first.position, first.time, first.reach, duplicate=True)
        assert await chat.head(command.conversation) == head

    async def test_only_repeats(self, chat: Chat) -> None:
        """A sender who may send nothing new gets the first outcome of a repeat, and a conflict for
        other content; what is new is refused before anything else is looked at."""
        await chat.group("tea", "ann", "bo")
        first = await chat.say("tea", "ann", "一", key="k")
        head = await chat.head("group:tea")

        def only_repeat(text: str, key: str, group: str = "tea") -> Post:
            return replace(group_message(group, "ann", text, key=key), repeat_only=True)

        again = await chat.post(only_repeat("一", "k"))
        assert (again.position, again.duplicate) == (first.position, True)
        assert await chat.code(only_repeat("二", "k")) == "idempotency_conflict"
        assert await chat.code(only_repeat("一", "k2")) == "rate_limited"
        assert await chat.code(only_repeat("一", "k", "没有")) == "rate_limited"
        assert await chat.head("group:tea") == head

    async def test_repeat_in_one_transaction(self, chat: Chat) -> None:
        """Repeats handed in together with the first, and around other commands, are repeats."""
        await chat.group("tea", "ann", "bo")
        again = group_message("tea", "ann", key="k")
        outcomes = await chat.store.commit(
            [again, again, group_message("tea", "bo"), PutUser("cy"), again]
        )
        results = [outcome.result for outcome in outcomes if isinstance(outcome, Done)]
        posted = [result for result in results if isinstance(result, Posted)]
        assert [one.position for one in posted] == [2, 2, 3, 2]
        assert [one.duplicate for one in posted] == [False, True, False, True]

    async def test_first_private_message_repeated_at_once(self, chat: Chat) -> None:
        """The message that makes its conversation can be repeated in the same transaction."""
        await chat.users("ann", "bo")
        again = private_message("ann", "bo", key="k")
        first, second = await chat.store.commit([again, again])
        assert isinstance(first, Done)
        assert isinstance(second, Done)
        assert isinstance(second.result, Posted)
        assert (second.result.position, second.result.duplicate) == (1, True)

    async def test_other_content(self, chat: Chat) -> None:
        """The same key with other content is a conflict, and changes nothing."""
        await chat.group("tea", "ann", "bo")
        await chat.say("tea", "ann", "一", key="k")
        other = group_message("tea", "ann", "二", key="k")
        assert await chat.code(other) == "idempotency_conflict"
        assert await chat.head("group:tea") == 2

    async def test_key_belongs_to_sender_and_conversation(self, chat: Chat) -> None:
        """Another sender or another conversation may use the same key; without a key every
        message is a new one."""
        await chat.group("tea", "ann", "bo")
        await chat.group("rice", "ann", "bo")
        positions = [
            (await chat.say("tea", "ann", key="k")).position,
            (await chat.say("tea", "bo", "别的", key="k")).position,
            (await chat.say("rice", "ann", "别的", key="k")).position,
            (await chat.post(private_message("ann", "bo", "别的", key="k"))).position,
            (await chat.say("tea", "ann")).position,
            (await chat.say("tea", "ann")).position,
        ]
        assert positions == [2, 3, 2, 1, 4, 5]

    @pytest.mark.parametrize(
        "change",
        [
            RemoveMember("tea", "ann"),
            ChangeMember("tea", "ann", muted=True),
            PutUser("ann", state=UserState.SUSPENDED),
            EraseUser("ann"),
            EraseUser("bo"),
            DissolveGroup("tea"),
            PutGroup("tea", muted=True, require=Require.ALL),
        ],
        ids=lambda command: type(command).__name__,
    )
    async def test_key_is_judged_first(self, chat: Chat, change: Command) -> None:
        """Whatever would refuse the message today, its first outcome comes back unchanged."""
        await chat.group("tea", "owner", "ann", "bo")
        again = group_message("tea", "ann", key="k")
        first = await chat.post(again)
        await chat.done(change)
        repeated = await chat.post(again)
        assert repeated == Posted(first.position, first.time, first.reach, duplicate=True)

    async def test_refusal_uses_up_no_key(self, chat: Chat) -> None:
        """A refused message was never sent: its key is judged anew."""
        await chat.group("tea", "ann", "bo")
        await chat.done(PutGroup("tea", muted=True))
        retry = group_message("tea", "bo", key="k")
        assert await chat.code(retry) == "group_muted"
        await chat.done(PutGroup("tea", muted=False))
        assert (await chat.post(retry)).duplicate is False

    async def test_key_of_a_recalled_message(self, chat: Chat) -> None:
        """After a recall any content under the key gives the first outcome: the digest is gone."""
        await chat.group("tea", "ann", "bo")
        first = await chat.say("tea", "ann", "收回我", key="k")
        await chat.done(Recall("group:tea", first.position))
        for text in ("收回我", "别的"):
            again = await chat.say("tea", "ann", text, key="k")
            assert again == Posted(first.position, first.time, first.reach, duplicate=True)

    async def test_recall_and_repeat_in_one_transaction(self, chat: Chat) -> None:
        """The repeat sees the recall that stands before it in the same transaction."""
        await chat.group("tea", "ann", "bo")
        _, _, outcome = await chat.store.commit(
            [
                group_message("tea", "ann", "收回我", key="k"),
                Recall("group:tea", 2),
                group_message("tea", "ann", "别的", key="k"),
            ]
        )
        assert isinstance(outcome, Done)
        assert isinstance(outcome.result, Posted)
        assert outcome.result.duplicate

    async def test_first_reach_comes_back(self, chat: Chat) -> None:
        """The reach of a repeat is that of the first time, however it is now."""
        await chat.group("tea", "ann", "bo", "sue")
        await chat.done(PutUser("sue", state=UserState.SUSPENDED))
        first = await chat.say("tea", "ann", key="k")
        assert first.reach.unreachable_count == 1
        await chat.done(PutUser("sue", state=UserState.ACTIVE))
        await chat.add("tea", "cy")
        assert (await chat.say("tea", "ann", key="k")).reach == first.reach
        assert (await chat.say("tea", "ann", key="k2")).reach.unreachable_count == 0

    async def test_keys_outlive_a_restart(self, chat: Chat, make_store: StoreMaker) -> None:
        """Thousands of keys are all known after the store was closed and opened again."""
        await chat.group("tea", "ann", "bo")
        posts = [group_message("tea", "ann", f"第{n}", key=f"钥{n}") for n in range(5_000)]
        for start in range(0, len(posts), 500):
            await chat.store.commit(posts[start : start + 500])
        await chat.store.close()
        store = make_store(chat.clock)
        await store.open()
        try:
            outcomes = await store.commit([posts[0], posts[2_500], posts[-1]])
        finally:
            await store.close()
            await chat.store.open()
        found = [outcome.result for outcome in outcomes if isinstance(outcome, Done)]
        positions = [one.position for one in found if isinstance(one, Posted) and one.duplicate]
        assert positions == [2, 2_502, 5_001]
