"""The store as a whole: order of commands, epochs, restarts, copies, API keys."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from qunxin.errors import QunxinError
from qunxin.model import ApiKey, Cursor
from qunxin.store import Store
from qunxin.store.commands import (
    AddMembers,
    MoveCursors,
    PutApiKey,
    PutGroup,
    PutUser,
    RevokeApiKey,
)
from qunxin.store.results import Done, Posted
from qunxin.testing.store.base import StoreBase
from qunxin.testing.store.chat import Chat, StoreMaker, group_message, text_of

OpenCopy = Callable[[Path], Store]


class WholeSuite(StoreBase):
    """What holds for every command and every read. `open_copy` makes a store over a backup."""

    @pytest.fixture
    def open_copy(self) -> OpenCopy:
        """A function that makes a store over the copy that `backup` wrote."""
        pytest.fail("a class that runs the suite must provide open_copy")

    async def test_each_sees_what_those_before_it_did(self, chat: Chat) -> None:
        """One transaction can make users, a group, a member, and let them speak."""
        outcomes = await chat.store.commit(
            [
                PutUser("ann"),
                PutGroup("tea", owner="ann"),
                group_message("tea", "ann", "一"),
                PutUser("bo"),
                AddMembers("tea", ("bo",)),
                group_message("tea", "bo", "二"),
            ]
        )
        assert all(isinstance(outcome, Done) for outcome in outcomes)
        assert await chat.events("group:tea") == ["created", "group", "joined", "group"]

    async def test_no_commands(self, chat: Chat) -> None:
        """An empty transaction is none."""
        assert list(await chat.store.commit([])) == []

    async def test_commits_side_by_side(self, chat: Chat) -> None:
        """Commits from many tasks get positions without a gap or a repeat."""
        await chat.group("tea", "ann", "bo")
        posts = [group_message("tea", "ann", f"第{number}") for number in range(60)]
        outcomes = await asyncio.gather(*(chat.store.commit([post]) for post in posts))
        places: dict[int, str] = {}
        for (outcome,), number in zip(outcomes, range(60), strict=True):
            assert isinstance(outcome, Done)
            assert isinstance(outcome.result, Posted)
            places[outcome.result.position] = f"第{number}"
        assert sorted(places) == list(range(2, 62))
        log = await chat.log("group:tea")
        assert {entry.position: text_of(entry) for entry in log[1:]} == places

    async def test_cancelled_commit_disturbs_nothing(self, chat: Chat) -> None:
        """A cancelled commit may still take effect; either way the log stays whole."""
        await chat.group("tea", "ann", "bo")
        task = asyncio.ensure_future(chat.store.commit([group_message("tea", "ann", "也许")]))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await chat.say("tea", "ann", "一定")
        log = await chat.log("group:tea")
        assert [entry.position for entry in log] == list(range(1, len(log) + 1))
        assert text_of(log[-1]) == "一定"

    async def test_restart_keeps_everything(self, chat: Chat, make_store: StoreMaker) -> None:
        """Closed and opened again a store has the same epoch, entries, members and cursors."""
        await chat.group("tea", "ann", "bo")
        await chat.say("tea", "ann", "重启前 💾")
        cursor = Cursor("bo", "group:tea", 2, 0, 1, 1)
        await chat.done(MoveCursors((cursor,)))
        epoch = chat.store.epoch
        log = await chat.log("group:tea")
        members = await chat.store.list_members("tea")
        await chat.store.close()
        store = make_store(chat.clock)
        await store.open()
        try:
            again = Chat(store, chat.clock)
            assert store.epoch == epoch
            assert await again.log("group:tea") == log
            assert await store.list_members("tea") == members
            assert await store.read_cursor("bo", "group:tea") == cursor
            assert (await again.say("tea", "ann")).position == 3
        finally:
            await store.close()
            await chat.store.open()

    async def test_backup(self, chat: Chat, tmp_path: Path, open_copy: OpenCopy) -> None:
        """A backup is whole and consistent though commits go on, and has an epoch of its own."""
        await chat.group("tea", "ann", "bo")
        await chat.store.commit([group_message("tea", "ann", "前" * 100)] * 500)
        cursor = Cursor("bo", "group:tea", 400, 0, 200, 300)
        await chat.done(MoveCursors((cursor,)))

        async def go_on() -> None:
            for _ in range(30):
                await chat.store.commit([group_message("tea", "ann", "后")] * 10)

        target = tmp_path / "备份.db"
        await asyncio.gather(chat.store.backup(target), go_on())
        copy = open_copy(target)
        await copy.open()
        try:
            log = await Chat(copy, chat.clock).log("group:tea")
            assert await copy.read_cursor("bo", "group:tea") == cursor
            assert copy.epoch != chat.store.epoch
        finally:
            await copy.close()
        assert len(log) >= 501
        assert [entry.position for entry in log] == list(range(1, len(log) + 1))
        original = await chat.log("group:tea")
        assert log == original[: len(log)]

    async def test_closed_store_refuses(self, make_store: StoreMaker, chat: Chat) -> None:
        """A store that is not open refuses with the family's own error."""
        store = make_store(chat.clock)
        with pytest.raises(QunxinError) as caught:
            await store.commit([PutUser("ann")])
        assert caught.value.code == "store_unavailable"
        with pytest.raises(QunxinError):
            await store.read_user("ann")

    async def test_unknown_cursors_are_refused(self, chat: Chat) -> None:
        """A page's cursor that the store did not make is refused as a bad request."""
        await chat.group("tea", "ann", "bo")
        await chat.say("tea", "ann")
        for cursor in ("", "茶", "-1", "1 OR 1=1", "٣", "9" * 40):
            for read in (
                chat.store.list_users(cursor=cursor),
                chat.store.list_groups(cursor=cursor),
                chat.store.list_members("tea", cursor=cursor),
                chat.store.list_conversations("ann", cursor=cursor),
                chat.store.list_deliveries("group:tea", 2, cursor=cursor),
            ):
                with pytest.raises(QunxinError) as caught:
                    await read
                assert caught.value.code == "invalid_request"

    async def test_api_keys(self, chat: Chat) -> None:
        """Keys are kept by digest, listed in order of creation, and revoked once and for all."""
        first = ApiKey("k1", "机器人 🤖", b"\x00\xff" * 16, ("messages", "read"), 1)
        second = ApiKey("k2", "", b"d" * 32, (), 2)
        for key in (second, first):
            await chat.done(PutApiKey(key))
        assert await chat.store.read_api_keys() == (first, second)
        revoked = (await chat.done(RevokeApiKey("k1"))).result
        assert isinstance(revoked, ApiKey)
        assert revoked.revoked == chat.clock.now_ms()
        chat.clock.advance(1_000)
        assert (await chat.done(RevokeApiKey("k1"))).result == revoked
        assert (await chat.store.read_api_keys())[0] == revoked
        assert await chat.code(RevokeApiKey("无")) == "not_found"
