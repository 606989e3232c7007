"""Histories that move: what one store exports another of its kind takes, and is the same."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from qunxin.errors import QunxinError
from qunxin.model import ApiKey, Cursor, Interval, Role, UserState
from qunxin.records import (
    EndRecord,
    EntryRecord,
    HeadRecord,
    Record,
    UserRecord,
    decode_record,
    encode_record,
)
from qunxin.store import Store
from qunxin.store.commands import (
    ChangeMember,
    DissolveGroup,
    EraseUser,
    MoveCursors,
    PutApiKey,
    PutGroup,
    PutUser,
    Recall,
    RevokeTokens,
    SetBlock,
)
from qunxin.testing.store.base import StoreBase
from qunxin.testing.store.chat import (
    Chat,
    StoreMaker,
    broadcast_message,
    group_message,
    private_message,
)

CONVERSATIONS = (
    *("group:tea", "group:old", "group:open", "private:ann~bo", "broadcast:all"),
    *("inbox:ann", "inbox:bo", "inbox:cy", "inbox:gone"),
)


async def make_history(chat: Chat) -> None:
    """A little of everything: stays that ended, recalled and keyed messages, every state."""
    await chat.group("tea", "ann", "bo", "cy", name="茶友会 🍵")
    await chat.group("old", "ann", "bo")
    await chat.group("open", "bo", "ann", history="full")
    await chat.users("gone", "low")
    await chat.done(PutApiKey(ApiKey("k1", "机器人 🤖", b"\x00\xff" * 16, ("read",), 1)))
    await chat.say("tea", "ann", "第一 مرحبا\u2028\u0085", key="键 1")
    await chat.remove("tea", "cy")
    await chat.say("tea", "bo", "cy 看不到的")
    await chat.add("tea", "cy", "gone")
    secret = await chat.say("tea", "ann", "要撤回的", key="键 2")
    await chat.done(Recall("group:tea", secret.position, "ann"))
    await chat.post(private_message("ann", "bo", "悄悄 👩\u200d👩\u200d👧", key="键 3"))
    await chat.post(broadcast_message(None, "通知"))
    await chat.post(broadcast_message("ann", "", key="键 4"))
    await chat.done(PutUser("cy", state=UserState.SUSPENDED))
    await chat.done(EraseUser("gone"))
    await chat.say("tea", "ann", "有人收不到", key="键 5")
    await chat.done(SetBlock("bo", "low", on=True))
    await chat.done(ChangeMember("tea", "bo", role=Role.ADMIN, muted=True))
    await chat.done(DissolveGroup("old"))
    await chat.done(RevokeTokens("ann", "丢了的手机", 60_000, 0))
    await chat.done(RevokeTokens("bo", None, 60_000, 0))
    await chat.done(MoveCursors((Cursor("bo", "group:tea", 6, 2, 4, 5),)))
    await chat.move("ann", "private:ann~bo", 1, 1)


async def seen(store: Store) -> dict[str, Any]:
    """What a store answers to every reader about the history of `make_history`."""
    told: dict[str, Any] = {}
    for name in CONVERSATIONS:
        for reader in (None, "ann", "bo", "cy"):
            page = await store.read_log(name, reader, limit=1_000)
            told[f"log {name} {reader}"] = msgspec.json.encode(page)
    for user in ("ann", "bo", "cy", "gone", "low"):
        told[f"user {user}"] = await store.read_sign_in(user, "丢了的手机")
        told[f"list {user}"] = await store.list_conversations(user)
        told[f"blocked {user}"] = await store.list_blocked(user)
        told[f"cursor {user}"] = await store.read_cursor(user, "group:tea")
    for group in ("tea", "old", "open"):
        told[f"group {group}"] = await store.read_group(group)
        told[f"members {group}"] = await store.list_members(group)
        told[f"keys {group}"] = await store.read_member_keys(group)
    told["unreachable"] = await store.read_unreachable()
    told["api keys"] = await store.read_api_keys()
    for position in (2, 4):
        told[f"ledger {position}"] = await store.list_deliveries("group:tea", position)
    return told


async def exported(store: Store) -> list[Record]:
    """All records, each through its line."""
    records: list[Record] = []
    async for part in store.export_records():
        records += [decode_record(encode_record(record)) for record in part]
    return records


class TransferSuite(StoreBase):
    """Exports and imports. `make_empty` makes a store over fresh data of its own."""

    @pytest.fixture
    def make_empty(self) -> StoreMaker:
        """A function that makes a store that is not open, over data that nothing else uses."""
        pytest.fail("a class that runs the suite must provide make_empty")

    async def test_what_was_exported_is_imported(self, chat: Chat, make_empty: StoreMaker) -> None:
        """Every reader sees the same at the same positions, recalled messages, hidden stretches
        and reasons included; only the epoch is another one."""
        await make_history(chat)
        records = await exported(chat.store)
        store = make_empty(chat.clock)
        await store.open()
        try:
            for start in range(0, len(records), 7):
                await store.import_records(records[start : start + 7])
            assert store.epoch != chat.store.epoch
            assert await seen(store) == await seen(chat.store)
            page = await store.read_log("group:tea", "cy", limit=1_000)
            assert page.intervals == (Interval(1, 3, 1), Interval(5, None, 5))
            cursor = await store.read_cursor("bo", "group:tea")
            assert cursor == Cursor("bo", "group:tea", 6, 2, 4, 5)
            again = await exported(store)
        finally:
            await store.close()
        assert isinstance(again[0], HeadRecord)
        assert isinstance(records[0], HeadRecord)
        assert again[0].records == len(records)
        assert again[1:] == records[1:]

    async def test_an_imported_store_goes_on(self, chat: Chat, make_empty: StoreMaker) -> None:
        """Repeated keys get their first outcome, new things new positions and new integer keys,
        before and after a restart."""
        await make_history(chat)
        records = await exported(chat.store)
        store = make_empty(chat.clock)
        await store.open()
        await store.import_records(records)
        other = Chat(store, chat.clock)
        for one in (chat, other):
            await one.users("new")
        assert await store.read_user("new") == await chat.store.read_user("new")
        await store.close()
        await store.open()
        try:
            for repeat in (
                group_message("tea", "ann", "第一 مرحبا\u2028\u0085", key="键 1"),
                group_message("tea", "ann", "要撤回的", key="键 2"),
                private_message("ann", "bo", "悄悄 👩\u200d👩\u200d👧", key="键 3"),
                broadcast_message("ann", "", key="键 4"),
                group_message("tea", "ann", "有人收不到", key="键 5"),
            ):
                first = await chat.post(repeat)
                assert first.duplicate
                assert await other.post(repeat) == first
            assert await other.code(group_message("tea", "ann", "别的", key="键 1")) == (
                "idempotency_conflict"
            )
            head = await chat.head("group:tea")
            assert (await other.say("tea", "ann", "接着说")).position == head + 1
            assert await other.code(PutGroup("old", owner="ann")) == "group_dissolved"
            assert await other.code(private_message("low", "bo")) == "blocked"
        finally:
            await store.close()

    async def test_an_export_is_of_one_moment(self, chat: Chat, make_empty: StoreMaker) -> None:
        """Commits that happen meanwhile are in it whole or not at all, and are not held up."""
        await chat.group("tea", "ann", "bo")
        await chat.store.commit([group_message("tea", "ann", "前" * 100)] * 1_500)
        parts = chat.store.export_records()
        records = list(await anext(parts))
        await asyncio.wait_for(chat.store.commit([group_message("tea", "ann", "后")]), 10)
        async for part in parts:
            records += part
        assert isinstance(records[0], HeadRecord)
        assert records[0].records == len(records)
        assert isinstance(records[-1], EndRecord)
        entries = [r for r in records if isinstance(r, EntryRecord)]
        positions = [r.position for r in entries if r.conversation == "group:tea"]
        assert positions == list(range(1, 1_502))
        store = make_empty(chat.clock)
        await store.open()
        await store.import_records(records)
        await store.close()

    async def test_an_export_given_up_holds_nothing(self, chat: Chat) -> None:
        """Its iterator is closed, and the store closes as ever."""
        await chat.group("tea", "ann", "bo")
        await chat.store.commit([group_message("tea", "ann", "茶" * 100)] * 1_500)
        given_up, ended = chat.store.export_records(), chat.store.export_records()
        await anext(given_up)
        await anext(ended)
        await given_up.aclose()
        await chat.store.close()
        with pytest.raises(QunxinError) as caught:
            await anext(ended)
        assert caught.value.code == "store_unavailable"
        await chat.store.open()

    async def test_only_whole_exports_in_order_are_taken(
        self, chat: Chat, make_empty: StoreMaker
    ) -> None:
        """What is missing, doubled, out of place or dangling is refused, and so is a store that
        holds something already."""
        await make_history(chat)
        records = await exported(chat.store)
        user = next(i for i, one in enumerate(records) if isinstance(one, UserRecord))
        entry = next(i for i, one in enumerate(records) if isinstance(one, EntryRecord))
        broken = {
            "no head": records[1:],
            "two heads": [records[0], *records],
            "a user is missing": records[:user] + records[user + 1 :],
            "a user twice": [*records[: user + 1], *records[user:]],
            "an entry is missing": records[:entry] + records[entry + 1 :],
            "an entry twice": [*records[: entry + 1], *records[entry:]],
            "an unknown type": [
                msgspec.structs.replace(one, type="秘密") if one is records[entry] else one
                for one in records
            ],
            "more after the end": [*records, records[-1]],
        }
        for what, given in broken.items():
            store = make_empty(chat.clock)
            await store.open()
            with pytest.raises(QunxinError) as caught:
                await store.import_records(given)
            assert caught.value.code == "invalid_request", what
            await store.close()
        with pytest.raises(QunxinError, match="not empty"):
            await chat.store.import_records(records)
