"""Cursors and the list of a user's conversations."""

from __future__ import annotations

from itertools import combinations_with_replacement, product

import pytest

from qunxin.errors import QunxinError
from qunxin.model import Cursor, Role
from qunxin.store.commands import EraseUser, MoveCursors, PutGroup, PutUser, RemoveMember
from qunxin.testing.store.base import StoreBase
from qunxin.testing.store.chat import Chat, broadcast_message, group_message, private_message


class CursorSuite(StoreBase):
    """What the contract says of `MoveCursors` and `read_cursor`."""

    async def test_cursors_only_rise(self, chat: Chat) -> None:
        """A lower value changes nothing; read raises delivered with it."""
        await chat.group("tea", "ann", "bo")
        await chat.store.commit([group_message("tea", "ann")] * 9)
        for moved, expected in (
            ((4, 0), (4, 0)),
            ((2, 0), (4, 0)),
            ((0, 6), (6, 6)),
            ((8, 3), (8, 6)),
            ((0, 0), (8, 6)),
        ):
            await chat.move("bo", "group:tea", *moved)
            cursor = await chat.store.read_cursor("bo", "group:tea")
            assert (cursor.delivered, cursor.read) == expected

    async def test_beyond_the_head(self, chat: Chat) -> None:
        """A value above the head counts as the head, in every kind of log."""
        await chat.group("tea", "ann", "bo")
        await chat.post(private_message("ann", "bo"))
        await chat.post(broadcast_message())
        for name in ("group:tea", "private:ann~bo", "broadcast:all", "inbox:bo"):
            await chat.move("bo", name, 10**12, 10**12)
            head = await chat.head(name)
            assert await chat.store.read_cursor("bo", name) == Cursor("bo", name, head, head)

    async def test_unknown_ones_are_passed_over(self, chat: Chat) -> None:
        """Unknown users and conversations, and conversations that the user was never in, are
        passed over; the others of the same command are moved."""
        await chat.group("tea", "ann", "bo")
        await chat.group("rice", "ann")
        named = (
            Cursor("ghost", "group:tea", 1),
            Cursor("bo", "group:无", 1),
            Cursor("bo", "group:rice", 1),
            Cursor("bo", "inbox:ann", 1),
            Cursor("bo", "group:tea", 1),
        )
        await chat.done(MoveCursors(named))
        moved = [await chat.store.read_cursor(one.user, one.conversation) for one in named]
        assert [one.delivered for one in moved] == [0, 0, 0, 0, 1]

    async def test_not_beyond_the_leaving(self, chat: Chat) -> None:
        """Who left a conversation has no cursor beyond the leaving, so the ledger cannot claim
        what no device was sent."""
        await chat.group("tea", "ann", "bo")
        await chat.done(RemoveMember("tea", "bo"))
        await chat.say("tea", "ann")
        await chat.move("bo", "group:tea", 3, 3)
        assert await chat.store.read_cursor("bo", "group:tea") == Cursor("bo", "group:tea", 2, 2)

    async def test_many_cursors_at_once(self, chat: Chat) -> None:
        """A command may move thousands, the same one several times."""
        members = [f"m{number}" for number in range(300)]
        await chat.group("tea", "ann", *members)
        await chat.store.commit([group_message("tea", "ann")] * 9)
        named = tuple(Cursor(one, "group:tea", p) for p in (3, 9, 5) for one in members)
        await chat.done(MoveCursors(named))
        for member in (members[0], members[-1]):
            assert (await chat.store.read_cursor(member, "group:tea")).delivered == 9
        await chat.done(MoveCursors(()))

    async def test_what_was_missed_is_kept(self, chat: Chat) -> None:
        """Positions that no device is known to have stay missed while `delivered` rises beyond
        them; what proves or reads them takes them out, from below or from above."""
        await chat.group("tea", "ann", "bo")
        await chat.store.commit([group_message("tea", "ann", "漏掉的 🕳️")] * 40)
        for moved, expected in (
            (Cursor("bo", "group:tea", 10), (10, 0, 0, 0)),
            (Cursor("bo", "group:tea", 31, 0, 1, 31), (31, 0, 11, 31)),
            (Cursor("bo", "group:tea", 35, 0, 1, 31), (35, 0, 11, 31)),
            (Cursor("bo", "group:tea", 20, 0, 1, 14), (35, 0, 11, 31)),
            (Cursor("bo", "group:tea", 12), (35, 0, 13, 31)),
            (Cursor("bo", "group:tea", 36, 0, 13, 25), (36, 0, 13, 25)),
            (Cursor("bo", "group:tea", 0, 15), (36, 15, 16, 25)),
            (Cursor("bo", "group:tea", 40, 0, 1, 39), (40, 15, 16, 39)),
            (Cursor("bo", "group:tea", 41), (41, 15, 0, 0)),
        ):
            await chat.done(MoveCursors((moved,)))
            cursor = await chat.store.read_cursor("bo", "group:tea")
            assert cursor == Cursor("bo", "group:tea", *expected)

    async def test_what_is_missed_ends_where_a_cursor_ends(self, chat: Chat) -> None:
        """Beyond the head, or the leaving, nothing is missed either."""
        await chat.group("tea", "ann", "bo")
        await chat.say("tea", "ann", "还在 🍵")
        for moved, expected in (
            (Cursor("bo", "group:tea", 9, 0, 7, 8), (2, 0, 0, 0)),
            (Cursor("ann", "group:tea", 9, 0, 2, 8), (2, 0, 2, 2)),
        ):
            await chat.done(MoveCursors((moved,)))
            cursor = await chat.store.read_cursor(moved.user, "group:tea")
            assert cursor == Cursor(moved.user, "group:tea", *expected)

    async def test_cursors_are_merged(self, chat: Chat) -> None:
        """What is there and what comes make what `Cursor.merged` makes of them, each of four
        hundred pairs, in one command or in two."""
        each = [
            (delivered, read, first, last)
            for delivered, read in product((0, 1, 3), (0, 1))
            for first, last in [(0, 0), *combinations_with_replacement(range(1, delivered + 1), 2)]
        ]
        pairs = {f"m{n}": pair for n, pair in enumerate(product(each, repeat=2))}
        await chat.group("tea", "ann", *pairs)
        await chat.store.commit([group_message("tea", "ann", "第几条 🔢")] * 3)
        before = [Cursor(one, "group:tea", *pair[0]) for one, pair in pairs.items()]
        after = [Cursor(one, "group:tea", *pair[1]) for one, pair in pairs.items()]
        half = len(pairs) // 2
        await chat.done(MoveCursors((*before, *after[:half])))
        await chat.done(MoveCursors(tuple(after[half:])))
        for one, other in zip(before, after, strict=True):
            found = await chat.store.read_cursor(one.user, "group:tea")
            assert found == one.merged(other)


class ListSuite(StoreBase):
    """What the contract says of `list_conversations` and `read_conversations`."""

    @pytest.mark.parametrize("cursor", ["", "茶", "-", "5", "1-x", f"{10**19}-1", f"1-{10**30}"])
    async def test_a_cursor_of_nobodys(self, chat: Chat, cursor: str) -> None:
        """A cursor that no page ended with is refused, whatever it is."""
        await chat.group("tea", "ann", "bo")
        with pytest.raises(QunxinError) as caught:
            await chat.store.list_conversations("bo", cursor=cursor)
        assert caught.value.code == "invalid_request"

    async def test_list(self, chat: Chat) -> None:
        """Groups, private conversations and the broadcasts, the most recent entry first; never
        the inbox, never what one left."""
        await chat.group("tea", "ann", "bo", name="茶 🍵")
        await chat.group("old", "ann", "bo")
        await chat.remove("old", "bo")
        await chat.done(PutUser("ann", name="安 👩‍🎤"))
        chat.clock.advance(10)
        await chat.post(private_message("ann", "bo"))
        chat.clock.advance(10)
        await chat.post(broadcast_message())
        rows, cursor = await chat.store.list_conversations("bo")
        assert cursor is None
        assert [row.conversation for row in rows] == [
            "broadcast:all",
            "private:ann~bo",
            "group:tea",
        ]
        assert [row.name for row in rows] == ["", "安 👩‍🎤", "茶 🍵"]
        assert [row.role for row in rows] == [None, None, Role.MEMBER]
        assert [row.head for row in rows] == [1, 1, 1]
        assert rows[0].time == chat.clock.now_ms()

    async def test_pages(self, chat: Chat) -> None:
        """Pages hold every conversation once, newest first, also where times are equal."""
        await chat.users("ann")
        for number in range(23):
            await chat.done(PutGroup(f"g{number}", owner="ann"))
            chat.clock.advance(number % 2)
        seen: list[str] = []
        times: list[int] = []
        cursor: str | None = None
        while True:
            rows, cursor = await chat.store.list_conversations("ann", cursor=cursor, limit=5)
            seen += [row.conversation for row in rows]
            times += [row.time for row in rows]
            if cursor is None:
                break
        assert len(seen) == len(set(seen)) == 24
        assert times == sorted(times, reverse=True)

    async def test_unread(self, chat: Chat) -> None:
        """Messages of others above `read`, in the current stay; events and one's own do not
        count."""
        await chat.group("tea", "ann", "bo")
        await chat.store.commit([group_message("tea", "ann")] * 5)
        await chat.say("tea", "bo")
        await chat.done(PutGroup("tea", name="改名"))
        assert await self._unread(chat, "bo") == 5
        await chat.move("bo", "group:tea", 0, 4)
        assert await self._unread(chat, "bo") == 2
        await chat.remove("tea", "bo")
        await chat.say("tea", "ann")
        await chat.add("tea", "bo")
        assert await self._unread(chat, "bo") == 0
        await chat.say("tea", "ann")
        assert await self._unread(chat, "bo") == 1
        assert await self._unread(chat, "ann") == 1

    async def test_unread_is_bounded(self, chat: Chat) -> None:
        """Counting stops at a thousand."""
        await chat.group("tea", "ann", "bo")
        await chat.store.commit([group_message("tea", "ann")] * 1_100)
        assert await self._unread(chat, "bo") == 1_000

    async def _unread(self, chat: Chat, user: str) -> int:
        (row,) = await chat.store.read_conversations(user, ["group:tea"])
        return row.unread

    async def test_named_rows(self, chat: Chat) -> None:
        """Only conversations that the user is in now come back; the own inbox is one."""
        await chat.group("tea", "ann", "bo")
        await chat.group("old", "ann", "bo")
        await chat.remove("old", "bo")
        await chat.move("bo", "group:tea", 1, 1)
        asked = ["inbox:bo", "group:tea", "group:old", "group:无", "inbox:ann", "broadcast:all"]
        rows = await chat.store.read_conversations("bo", asked)
        assert {row.conversation for row in rows} == {"inbox:bo", "group:tea", "broadcast:all"}
        (tea,) = [row for row in rows if row.conversation == "group:tea"]
        assert (tea.delivered, tea.read, tea.joined, tea.head) == (1, 1, 1, 1)
        (inbox,) = [row for row in rows if row.conversation == "inbox:bo"]
        assert inbox.head == await chat.head("inbox:bo")
        assert await chat.store.read_conversations("ghost", asked) == ()
        assert await chat.store.list_conversations("ghost") == ((), None)

    async def test_start(self, chat: Chat) -> None:
        """A device without a position is served from the first position above `delivered` at
        which its user was a member: earlier stays too, holes never."""
        await chat.group("tea", "ann", "bo")
        await chat.store.commit([group_message("tea", "ann")] * 3)
        assert await self._start(chat) == 0
        await chat.move("bo", "group:tea", 2)
        assert await self._start(chat) == 2
        await chat.remove("tea", "bo")
        await chat.store.commit([group_message("tea", "ann")] * 5)
        await chat.add("tea", "bo")
        assert await self._start(chat) == 2
        await chat.move("bo", "group:tea", 5)
        assert await self._start(chat) == 10
        await chat.move("bo", "group:tea", 11)
        assert await self._start(chat) == 11

    async def test_start_before_what_was_missed(self, chat: Chat) -> None:
        """Where something is missed, a device without a position is served from before it, and
        the row says where it would begin beyond."""
        await chat.group("tea", "ann", "bo")
        await chat.store.commit([group_message("tea", "ann", "还没人收到 📭")] * 9)
        await chat.post(broadcast_message(None, "也没有 📭"))
        await chat.post(broadcast_message(None, "有 📬"))
        await chat.done(
            MoveCursors(
                (Cursor("bo", "group:tea", 6, 0, 3, 5), Cursor("bo", "broadcast:all", 2, 0, 1, 1))
            )
        )
        rows = await chat.store.read_conversations("bo", ["group:tea", "broadcast:all"])
        assert {row.conversation: (row.missed_from, row.missed_to) for row in rows} == {
            "group:tea": (3, 5),
            "broadcast:all": (1, 1),
        }
        assert {row.conversation: (row.start, row.beyond) for row in rows} == {
            "group:tea": (2, 6),
            "broadcast:all": (0, 2),
        }
        await chat.remove("tea", "bo")
        await chat.add("tea", "bo")
        await chat.done(MoveCursors((Cursor("bo", "group:tea", 11, 0, 6, 6),)))
        (row,) = await chat.store.read_conversations("bo", ["group:tea"])
        assert (row.start, row.beyond, row.missed_to) == (11, 0, 0)
        assert (await chat.store.list_conversations("bo"))[0][0] == row

    async def _start(self, chat: Chat) -> int:
        (row,) = await chat.store.read_conversations("bo", ["group:tea"])
        return row.start

    async def test_start_of_a_new_account(self, chat: Chat) -> None:
        """A new account begins at the broadcasts' head of its day, and at its own inbox's start."""
        await chat.users("ann")
        await chat.post(broadcast_message())
        await chat.users("bo")
        rows = await chat.store.read_conversations("bo", ["broadcast:all", "inbox:bo"])
        assert {row.conversation: row.start for row in rows} == {
            "broadcast:all": 1,
            "inbox:bo": 0,
        }

    async def test_erased_other(self, chat: Chat) -> None:
        """A private conversation with an erased account stays, without a name."""
        await chat.done(PutUser("eve", name="伊芙"))
        await chat.users("ann")
        await chat.post(private_message("eve", "ann"))
        await chat.done(EraseUser("eve"))
        (row,) = await chat.store.read_conversations("ann", ["private:ann~eve"])
        assert (row.name, row.unread) == ("", 1)
