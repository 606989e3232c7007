"""Reading logs: pages, bounds, and never more than a reader may see."""

from __future__ import annotations

import pytest

from qunxin.model import History, Interval
from qunxin.store.commands import DissolveGroup, PutGroup, RemoveMember
from qunxin.testing.store.base import StoreBase
from qunxin.testing.store.chat import Chat, broadcast_message, group_message, text_of


class LogSuite(StoreBase):
    """What the contract says of `read_log` and `read_heads`."""

    async def _filled(self, chat: Chat, count: int = 30) -> None:
        """A group of ann and bo whose positions 2 to `count` + 1 are messages."""
        await chat.group("tea", "ann", "bo")
        await chat.store.commit(
            [group_message("tea", "ann", f"第{n}") for n in range(2, count + 2)]
        )

    async def test_bounds(self, chat: Chat) -> None:
        """`after` and `before` are both excluded; `through` says how far the page speaks."""
        await self._filled(chat)
        page = await chat.store.read_log("group:tea", "bo", after=3, before=7)
        assert [entry.position for entry in page.entries] == [4, 5, 6]
        assert (page.through, page.head) == (6, 31)
        page = await chat.store.read_log("group:tea", "bo", after=10, limit=5)
        assert [entry.position for entry in page.entries] == [11, 12, 13, 14, 15]
        assert page.through == 15
        page = await chat.store.read_log("group:tea", "bo", after=29)
        assert [entry.position for entry in page.entries] == [30, 31]
        assert page.through == 31

    async def test_page_that_ends_at_the_head(self, chat: Chat) -> None:
        """A full page that holds the last entry goes through the head; beyond it there is
        nothing."""
        await self._filled(chat)
        page = await chat.store.read_log("group:tea", None, after=26, limit=5)
        assert ([entry.position for entry in page.entries][-1], page.through) == (31, 31)
        page = await chat.store.read_log("group:tea", None, after=31)
        assert (page.entries, page.through, page.head) == ((), 31, 31)
        page = await chat.store.read_log("group:tea", None, after=99)
        assert (page.entries, page.head) == ((), 31)

    async def test_newest(self, chat: Chat) -> None:
        """`newest` gives the last entries, still ascending; with `before` the last below it."""
        await self._filled(chat)
        page = await chat.store.read_log("group:tea", "bo", limit=3, newest=True)
        assert [entry.position for entry in page.entries] == [29, 30, 31]
        page = await chat.store.read_log("group:tea", "bo", before=29, limit=3, newest=True)
        assert [entry.position for entry in page.entries] == [26, 27, 28]
        page = await chat.store.read_log("group:tea", "bo", before=3, limit=9, newest=True)
        assert [entry.position for entry in page.entries] == [1, 2]

    async def test_max_bytes(self, chat: Chat) -> None:
        """A page ends before it grows too large, yet always holds an entry."""
        await chat.group("tea", "ann", "bo")
        for _ in range(4):
            await chat.say("tea", "ann", "茶" * 1_000)
        page = await chat.store.read_log("group:tea", "bo", after=1, max_bytes=7_000)
        assert [entry.position for entry in page.entries] == [2, 3]
        assert page.through == 3
        page = await chat.store.read_log("group:tea", "bo", after=1, max_bytes=1)
        assert ([entry.position for entry in page.entries], page.through) == ([2], 2)
        page = await chat.store.read_log("group:tea", "bo", max_bytes=7_000, newest=True)
        assert [entry.position for entry in page.entries] == [4, 5]

    async def test_unknown_conversation(self, chat: Chat) -> None:
        """What does not exist is an empty page with no head."""
        page = await chat.store.read_log("group:无", None, after=0)
        assert (page.entries, page.through, page.head, page.intervals) == ((), 0, 0, ())

    async def test_outsider_sees_nothing(self, chat: Chat) -> None:
        """Who was never entitled gets no entry and no interval, and learns only the head."""
        await self._filled(chat)
        await chat.users("cy")
        page = await chat.store.read_log("group:tea", "cy")
        assert (page.entries, page.intervals) == ((), ())
        assert page.through == page.head == 31
        page = await chat.store.read_log("inbox:ann", "bo")
        assert (page.entries, page.intervals) == ((), ())

    async def test_own_inbox(self, chat: Chat) -> None:
        """A user reads the whole of their own inbox."""
        await chat.group("tea", "ann", "bo")
        page = await chat.store.read_log("inbox:bo", "bo")
        assert [entry.type for entry in page.entries] == ["member"]
        assert page.intervals == (Interval(1, None, 1),)

    async def test_pages_over_holes(self, chat: Chat) -> None:
        """Paging forwards or backwards over several stays gives exactly the entitled positions,
        and `through` covers the holes."""
        await chat.group("tea", "ann", "bo")
        for _ in range(3):
            await chat.store.commit([group_message("tea", "ann", "看得见")] * 4)
            await chat.remove("tea", "bo")
            await chat.store.commit([group_message("tea", "ann", "看不见 🙈")] * 6)
            await chat.add("tea", "bo")
        whole = await chat.store.read_log("group:tea", "bo", limit=1_000)
        allowed = [
            position
            for position in range(1, whole.head + 1)
            if any(one.allows(position) for one in whole.intervals)
        ]
        assert [entry.position for entry in whole.entries] == allowed
        assert len(whole.intervals) == 4
        assert "看不见 🙈" not in [text_of(one) for one in whole.entries if one.is_message]
        forwards: list[int] = []
        after = 0
        while after < whole.head:
            page = await chat.store.read_log("group:tea", "bo", after=after, limit=3)
            assert all(after < entry.position <= page.through for entry in page.entries)
            forwards += [entry.position for entry in page.entries]
            after = page.through
        assert forwards == allowed
        backwards: list[int] = []
        before = whole.head + 1
        while before > 1:
            page = await chat.store.read_log("group:tea", "bo", before=before, limit=3, newest=True)
            backwards = [entry.position for entry in page.entries] + backwards
            before = page.entries[0].position if page.entries else 1
        assert backwards == allowed

    async def test_a_former_member_reads_up_to_the_leaving(self, chat: Chat) -> None:
        """The entry of the leaving is the last one that a former member sees."""
        await self._filled(chat, 5)
        await chat.done(RemoveMember("tea", "bo"))
        await chat.say("tea", "ann", "走后的话")
        page = await chat.store.read_log("group:tea", "bo")
        assert [entry.type for entry in page.entries][-1] == "left"
        assert page.entries[-1].position == 7
        page = await chat.store.read_log("group:tea", "bo", newest=True, limit=1)
        assert [entry.position for entry in page.entries] == [7]

    async def test_history_with_a_former_stay(self, chat: Chat) -> None:
        """One who comes back to a group that shows its history may read all of it, and each
        entry comes once though two stays allow it."""
        await chat.group("tea", "ann", "bo", history=History.FULL)
        await chat.remove("tea", "bo")
        await chat.say("tea", "ann")
        await chat.add("tea", "bo")
        page = await chat.store.read_log("group:tea", "bo")
        assert [entry.position for entry in page.entries] == [1, 2, 3, 4]
        assert [(one.first, one.last, one.joined) for one in page.intervals] == [
            (1, 2, 1),
            (1, None, 4),
        ]
        page = await chat.store.read_log("group:tea", "bo", newest=True, limit=3)
        assert [entry.position for entry in page.entries] == [2, 3, 4]

    async def test_nothing_joins_a_dissolved_log(self, chat: Chat) -> None:
        """The log of a dissolved group ends with its dissolution."""
        await self._filled(chat, 3)
        await chat.done(DissolveGroup("tea"))
        assert await chat.code(PutGroup("tea", name="无")) == "group_dissolved"
        assert (await chat.events("group:tea"))[-1] == "dissolved"

    async def test_heads(self, chat: Chat) -> None:
        """The last position of each asked, 0 where there is nothing."""
        await self._filled(chat, 3)
        await chat.post(broadcast_message())
        names = ["group:tea", "inbox:ann", "inbox:无", "broadcast:all", "private:ann~bo"]
        heads = await chat.store.read_heads(names)
        assert heads == dict(zip(names, [4, 1, 0, 1, 0], strict=True))
        assert await chat.store.read_heads([]) == {}

    @pytest.mark.parametrize("limit", [1, 2, 7, 100])
    async def test_every_limit_pages_through(self, chat: Chat, limit: int) -> None:
        """Whatever the page size, reading on from `through` gives every entry once."""
        await self._filled(chat, 20)
        positions: list[int] = []
        after = 0
        while after < 21:
            page = await chat.store.read_log("group:tea", "bo", after=after, limit=limit)
            positions += [entry.position for entry in page.entries]
            after = page.through
        assert positions == list(range(1, 22))
