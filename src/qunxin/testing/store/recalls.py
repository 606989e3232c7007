"""Recall: content gone from every read, a tombstone and an entry in its place."""

from __future__ import annotations

from qunxin.model import Role
from qunxin.store.commands import ChangeMember, DissolveGroup, Recall, RemoveMember
from qunxin.store.results import Recalled
from qunxin.testing.store.base import StoreBase
from qunxin.testing.store.chat import Chat, body_of, broadcast_message, private_message


class RecallSuite(StoreBase):
    """What the contract says of `Recall`."""

    async def test_recall(self, chat: Chat) -> None:
        """The content is gone from every read, the tombstone names the recall's position, and
        the recall is an entry that names the message."""
        await chat.group("tea", "ann", "bo")
        await chat.say("tea", "ann", "收回我 ↩️", key="k")
        chat.clock.advance(1_000)
        done = await chat.done(Recall("group:tea", 2, "ann", window_ms=5_000))
        assert done.result == Recalled(3, chat.clock.now_ms())
        (entry,) = done.entries
        assert (entry.type, entry.position) == ("recalled", 3)
        assert body_of(entry) == {"by": "ann", "target": 2}
        for reader in (None, "bo"):
            page = await chat.store.read_log("group:tea", reader, after=1)
            tombstone, recall = page.entries
            assert tombstone.content is None
            assert (tombstone.recalled, tombstone.position) == (3, 2)
            assert (tombstone.sender, tombstone.type, tombstone.key) == ("ann", "group", "k")
            assert recall == entry

    async def test_neighbours_stay(self, chat: Chat) -> None:
        """Only the named message loses its content."""
        await chat.group("tea", "ann", "bo")
        for text in ("一", "二" * 20_000, "三"):
            await chat.say("tea", "ann", text)
        await chat.done(Recall("group:tea", 3))
        log = await chat.log("group:tea", "bo")
        assert [entry.content is None for entry in log[1:4]] == [False, True, False]

    async def test_recall_repeated(self, chat: Chat) -> None:
        """A repeat gives the first outcome, also after the window and after the dissolution."""
        await chat.group("tea", "ann", "bo")
        await chat.say("tea", "ann")
        command = Recall("group:tea", 2, "ann", window_ms=1_000)
        first = (await chat.done(command)).result
        assert isinstance(first, Recalled)
        chat.clock.advance(60_000)
        for _ in range(2):
            done = await chat.done(command)
            assert done.entries == ()
            assert done.result == Recalled(first.position, first.time, duplicate=True)
            if (await chat.events("group:tea"))[-1] != "dissolved":
                await chat.done(DissolveGroup("tea"))

    async def test_window(self, chat: Chat) -> None:
        """The author may recall within the window, owners and admins at any time, and so may
        who names no actor."""
        await chat.group("tea", "ann", "adm", "bo")
        await chat.done(ChangeMember("tea", "adm", role=Role.ADMIN))
        for _ in range(4):
            await chat.say("tea", "bo")
        chat.clock.advance(120_000)
        await chat.done(Recall("group:tea", 3, "bo", window_ms=120_000))
        chat.clock.advance(1)
        late = await chat.refused(Recall("group:tea", 4, "bo", window_ms=120_000))
        assert (late.code, late.facts["window_seconds"]) == ("recall_window_over", 120)
        await chat.done(Recall("group:tea", 4, "adm", window_ms=120_000))
        await chat.done(Recall("group:tea", 5, "ann", window_ms=120_000))
        await chat.done(Recall("group:tea", 6))

    async def test_who_may_not(self, chat: Chat) -> None:
        """Another member is forbidden; one who may not see the message is not told of it."""
        await chat.group("tea", "ann", "bo", "cy")
        await chat.users("out")
        await chat.say("tea", "bo")
        assert await chat.code(Recall("group:tea", 2, "cy", 120_000)) == "forbidden"
        assert await chat.code(Recall("group:tea", 2, "out", 120_000)) == "entry_not_found"
        await chat.add("tea", "new")
        assert await chat.code(Recall("group:tea", 2, "new", 120_000)) == "entry_not_found"
        await chat.post(private_message("ann", "bo"))
        assert await chat.code(Recall("private:ann~bo", 1, "bo", 120_000)) == "forbidden"
        await chat.post(broadcast_message())
        assert await chat.code(Recall("broadcast:all", 1, "ann", 120_000)) == "forbidden"

    async def test_former_admin_may_not(self, chat: Chat) -> None:
        """The right of an admin ends with the membership; the author's own does not."""
        await chat.group("tea", "ann", "adm", "bo")
        await chat.done(ChangeMember("tea", "adm", role=Role.ADMIN))
        await chat.say("tea", "bo")
        await chat.say("tea", "adm")
        await chat.done(RemoveMember("tea", "adm"))
        assert await chat.code(Recall("group:tea", 3, "adm", 120_000)) == "forbidden"
        await chat.done(Recall("group:tea", 4, "adm", 120_000))

    async def test_what_is_no_message(self, chat: Chat) -> None:
        """Events, positions beyond the head and unknown logs hold no message."""
        await chat.group("tea", "ann", "bo")
        for conversation, position in (
            ("group:tea", 1),
            ("group:tea", 99),
            ("group:tea", 0),
            ("group:无", 1),
            ("inbox:ann", 1),
        ):
            assert await chat.code(Recall(conversation, position)) == "entry_not_found"

    async def test_dissolved(self, chat: Chat) -> None:
        """Nothing is recalled from a dissolved group: its log has ended."""
        await chat.group("tea", "ann", "bo")
        await chat.say("tea", "ann")
        await chat.done(DissolveGroup("tea"))
        assert await chat.code(Recall("group:tea", 2, "ann", 120_000)) == "group_dissolved"

    async def test_other_conversations(self, chat: Chat) -> None:
        """Private messages and broadcasts are recalled in the same way."""
        await chat.users("ann", "bo")
        await chat.post(private_message("ann", "bo"))
        await chat.post(broadcast_message())
        for name, actor in (("private:ann~bo", "ann"), ("broadcast:all", None)):
            done = await chat.done(Recall(name, 1, actor, 120_000))
            assert [entry.conversation for entry in done.entries] == [name]
            tombstone, recalled = await chat.log(name, "bo")
            assert tombstone.content is None
            assert tombstone.recalled == recalled.position == 2
