"""The ledger: per member, how far one message got, never more than was proven."""

from __future__ import annotations

from qunxin.model import Cursor, DeliveryState, Reason, UserState
from qunxin.store.commands import (
    DissolveGroup,
    EraseUser,
    MoveCursors,
    PutUser,
    Recall,
    RemoveMember,
)
from qunxin.store.reads import EventRead, LedgerPage
from qunxin.testing.store.base import StoreBase
from qunxin.testing.store.chat import Chat, broadcast_message, group_message, private_message

QUEUED, DELIVERED = DeliveryState.QUEUED, DeliveryState.DELIVERED
READ, UNREACHABLE = DeliveryState.READ, DeliveryState.UNREACHABLE


class LedgerSuite(StoreBase):
    """What the contract says of `list_deliveries`."""

    async def _page(self, chat: Chat, name: str, position: int) -> LedgerPage:
        page = await chat.store.list_deliveries(name, position)
        assert page is not None
        assert sum(page.counts.values()) == len(page.deliveries)
        assert set(page.counts) == set(DeliveryState)
        return page

    async def _states(self, chat: Chat, name: str, position: int) -> dict[str, DeliveryState]:
        page = await self._page(chat, name, position)
        return {one.user: one.state for one in page.deliveries}

    async def test_states(self, chat: Chat) -> None:
        """Each member but the sender is queued, delivered, read, or unreachable with a reason."""
        await chat.group("tea", "ann", "bo", "cy", "di", "sue", "eve")
        await chat.say("tea", "ann")
        await chat.say("tea", "ann")
        await chat.move("bo", "group:tea", 2)
        await chat.move("cy", "group:tea", 3, 2)
        await chat.done(PutUser("sue", state=UserState.SUSPENDED))
        await chat.done(EraseUser("eve"))
        page = await self._page(chat, "group:tea", 2)
        assert {one.user: (one.state, one.reason) for one in page.deliveries} == {
            "bo": (DELIVERED, None),
            "cy": (READ, None),
            "di": (QUEUED, None),
            "sue": (UNREACHABLE, Reason.SUSPENDED),
            "eve": (UNREACHABLE, Reason.NOT_FOUND),
        }
        assert page.counts == {QUEUED: 1, DELIVERED: 1, READ: 1, UNREACHABLE: 2}
        third = await self._states(chat, "group:tea", 3)
        assert (third["bo"], third["cy"]) == (QUEUED, DELIVERED)

    async def test_missed(self, chat: Chat) -> None:
        """What a cursor leaves out is queued, in states, counts and filters, until it is read or
        proven; what lies before and after is delivered."""
        await chat.group("tea", "ann", "bo", "cy")
        await chat.store.commit([group_message("tea", "ann", "收到没有 🕳️")] * 5)
        await chat.done(MoveCursors((Cursor("bo", "group:tea", 6, 0, 3, 4),)))
        found = {p: (await self._states(chat, "group:tea", p))["bo"] for p in range(2, 7)}
        assert found == {2: DELIVERED, 3: QUEUED, 4: QUEUED, 5: DELIVERED, 6: DELIVERED}
        page = await chat.store.list_deliveries("group:tea", 4, state=QUEUED)
        assert page is not None
        assert page.counts == {QUEUED: 2, DELIVERED: 0, READ: 0, UNREACHABLE: 0}
        assert [one.user for one in page.deliveries] == ["bo", "cy"]
        page = await chat.store.list_deliveries("group:tea", 5, state=DELIVERED)
        assert page is not None
        assert page.counts == {QUEUED: 1, DELIVERED: 1, READ: 0, UNREACHABLE: 0}
        assert [one.user for one in page.deliveries] == ["bo"]
        events = await chat.store.read_events([EventRead("group:tea", p) for p in (2, 3, 4, 5)])
        queued = [event.queued.users for event in events if event.queued is not None]
        assert queued == [("cy",), ("bo", "cy"), ("bo", "cy"), ("cy",)]
        await chat.move("bo", "group:tea", 0, 3)
        found = {p: (await self._states(chat, "group:tea", p))["bo"] for p in range(2, 7)}
        assert found == {2: READ, 3: READ, 4: QUEUED, 5: DELIVERED, 6: DELIVERED}

    async def test_recalled_and_missed(self, chat: Chat) -> None:
        """It is the tombstone that must not be missed: who was never given the message and has
        been given its recall is told of as any other."""
        await chat.group("tea", "ann", "bo", "cy")
        first = await chat.say("tea", "ann", "说错了 🙊")
        second = await chat.say("tea", "ann", "又错了 🙊")
        await chat.done(Recall("group:tea", first.position))
        await chat.done(Recall("group:tea", second.position))
        await chat.done(MoveCursors((Cursor("bo", "group:tea", 5, 0, 2, 4),)))
        assert (await self._states(chat, "group:tea", 2))["bo"] is QUEUED
        assert (await self._states(chat, "group:tea", 3))["bo"] is DELIVERED

    async def test_some_left_out(self, chat: Chat) -> None:
        """Whom the asker leaves out is in no count and on no page."""
        await chat.group("tea", "ann", "bo", "cy", "di", "eve")
        await chat.say("tea", "ann")
        await chat.move("di", "group:tea", 2)
        page = await chat.store.list_deliveries(
            "group:tea", 2, state=QUEUED, without=("bo", "di", "没有")
        )
        assert page is not None
        assert page.counts == {QUEUED: 2, DELIVERED: 0, READ: 0, UNREACHABLE: 0}
        assert [one.user for one in page.deliveries] == ["cy", "eve"]
        uncounted = await chat.store.list_deliveries("group:tea", 2, state=QUEUED, counted=False)
        assert uncounted is not None
        assert uncounted.counts == {}
        assert [one.user for one in uncounted.deliveries] == ["bo", "cy", "eve"]

    async def test_proof_outlives_suspension(self, chat: Chat) -> None:
        """What was delivered stays delivered when the member is suspended afterwards."""
        await chat.group("tea", "ann", "bo")
        await chat.say("tea", "ann")
        await chat.move("bo", "group:tea", 2)
        await chat.done(PutUser("bo", state=UserState.SUSPENDED))
        assert await self._states(chat, "group:tea", 2) == {"bo": DELIVERED}

    async def test_audience_is_of_the_moment(self, chat: Chat) -> None:
        """Who joined later or left before is not in it; who left later still is."""
        await chat.group("tea", "ann", "bo", "cy")
        await chat.done(RemoveMember("tea", "cy"))
        await chat.say("tea", "ann")
        await chat.done(RemoveMember("tea", "bo"))
        await chat.add("tea", "new", "cy")
        assert await self._states(chat, "group:tea", 3) == {"bo": QUEUED}

    async def test_history_is_not_audience(self, chat: Chat) -> None:
        """A new member who may read the past was not written to by it."""
        await chat.group("tea", "ann", "bo")
        await chat.say("tea", "ann")
        await chat.add("tea", "new")
        assert set(await self._states(chat, "group:tea", 2)) == {"bo"}

    async def test_after_the_dissolution(self, chat: Chat) -> None:
        """The ledger of a dissolved group's message is still there."""
        await chat.group("tea", "ann", "bo")
        await chat.say("tea", "ann")
        await chat.done(DissolveGroup("tea"))
        assert await self._states(chat, "group:tea", 2) == {"bo": QUEUED}

    async def test_recalled(self, chat: Chat) -> None:
        """After a recall the states say whose devices have passed the tombstone."""
        await chat.group("tea", "ann", "bo", "cy")
        await chat.say("tea", "ann")
        await chat.move("bo", "group:tea", 2, 2)
        await chat.done(Recall("group:tea", 2))
        page = await self._page(chat, "group:tea", 2)
        assert page.recalled == 3
        assert page.counts[QUEUED] == 2
        await chat.move("bo", "group:tea", 3)
        assert await self._states(chat, "group:tea", 2) == {"bo": DELIVERED, "cy": QUEUED}

    async def test_private_and_broadcast(self, chat: Chat) -> None:
        """Of two there is one in the ledger; of a broadcast everybody whose account is older."""
        await chat.users("ann", "bo")
        await chat.post(private_message("ann", "bo"))
        assert await self._states(chat, "private:ann~bo", 1) == {"bo": QUEUED}
        await chat.post(broadcast_message("ann"))
        await chat.users("new")
        await chat.post(broadcast_message())
        assert set(await self._states(chat, "broadcast:all", 1)) == {"bo"}
        assert set(await self._states(chat, "broadcast:all", 2)) == {"ann", "bo", "new"}
        await chat.move("bo", "broadcast:all", 1)
        assert (await self._states(chat, "broadcast:all", 1))["bo"] is DELIVERED

    async def test_erased_before_a_broadcast(self, chat: Chat) -> None:
        """Who was erased before a broadcast is not in its audience."""
        await chat.users("ann", "eve")
        await chat.done(EraseUser("eve"))
        await chat.post(broadcast_message())
        assert set(await self._states(chat, "broadcast:all", 1)) == {"ann"}

    async def test_pages_and_filter(self, chat: Chat) -> None:
        """Pages hold each member once; a filter picks states, the counts cover everybody."""
        members = [f"m{number}" for number in range(25)]
        await chat.group("tea", "ann", *members)
        await chat.say("tea", "ann")
        for member in members[::2]:
            await chat.move(member, "group:tea", 2)
        for state, expected in ((None, members), (DELIVERED, members[::2]), (READ, [])):
            seen: list[str] = []
            cursor: str | None = None
            while True:
                page = await chat.store.list_deliveries(
                    "group:tea", 2, state=state, cursor=cursor, limit=7
                )
                assert page is not None
                assert (page.counts[DELIVERED], page.counts[QUEUED]) == (13, 12)
                seen += [one.user for one in page.deliveries]
                cursor = page.next_cursor
                if cursor is None:
                    break
            assert seen == expected

    async def test_what_has_no_ledger(self, chat: Chat) -> None:
        """Events, positions beyond the head and unknown conversations have none."""
        await chat.group("tea", "ann", "bo")
        for name, position in (("group:tea", 1), ("group:tea", 9), ("group:无", 1)):
            assert await chat.store.list_deliveries(name, position) is None
