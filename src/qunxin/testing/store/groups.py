"""Groups: made, changed, dissolved."""

from __future__ import annotations

import pytest

from qunxin.model import Group, GroupState, History, Require, Role, UserState
from qunxin.store.commands import (
    AddMembers,
    ChangeMember,
    Command,
    DissolveGroup,
    EraseUser,
    PutGroup,
    PutUser,
    RemoveMember,
)
from qunxin.store.results import GroupResult, MemberResult
from qunxin.testing.store.base import StoreBase
from qunxin.testing.store.chat import Chat, body_of, fence, group_message, private_message


class GroupSuite(StoreBase):
    """What the contract says of `PutGroup` and `DissolveGroup`."""

    async def test_groups_are_listed(self, chat: Chat) -> None:
        """Each once, over pages, by integer key, as it is now; dissolved ones not."""
        assert (await chat.store.list_groups()).groups == ()
        for number in range(5):
            await chat.group(f"g{number}", "ann", "bo", name=f"群 {number} 🍵")
        await chat.done(DissolveGroup("g2"))
        await chat.done(RemoveMember("g3", "bo"))
        first = await chat.store.list_groups(limit=2)
        assert [one.group for one in first.groups] == ["g0", "g1"]
        rest = await chat.store.list_groups(cursor=first.next_cursor, limit=2)
        assert [(one.group, one.members) for one in rest.groups] == [("g3", 1), ("g4", 2)]
        assert rest.next_cursor is None
        assert rest.groups[0] == await chat.store.read_group("g3")

    async def test_create(self, chat: Chat) -> None:
        """A group begins with one `created` entry that counts and names owner and members, and
        with word to each one's inbox."""
        done = await chat.group("tea", "ann", "bo", name="茶 ☕️", muted=False)
        assert isinstance(done.result, GroupResult)
        group = done.result.group
        assert done.result.created
        assert (group.name, group.members, group.membership_version) == ("茶 ☕️", 2, 1)
        assert (group.history, group.require) == (History.JOINED, Require.REACHABLE)
        assert await chat.store.read_group("tea") == group
        created, *told = done.entries
        assert (created.conversation, created.position, created.type) == ("group:tea", 1, "created")
        body = body_of(created)
        assert (body["users"], body["count"], body["by"]) == (["ann", "bo"], 2, None)
        assert len(body["keys"]) == 2
        assert [entry.conversation for entry in told] == ["inbox:ann", "inbox:bo"]
        assert body_of((await chat.inbox("bo"))[0]) == {
            "conversation_joined": "group:tea",
            "joined": 1,
            "first": 1,
            "role": "member",
        }
        assert body_of((await chat.inbox("ann"))[0])["role"] == "owner"

    async def test_create_names_who_has_no_account(self, chat: Chat) -> None:
        """Members without an account are named one by one; the others are added."""
        await chat.users("ann", "bo", "eve")
        await chat.done(EraseUser("eve"))
        done = await chat.done(
            PutGroup("tea", owner="ann", members=("bo", "ghost", "eve", "bo", "ann"))
        )
        assert isinstance(done.result, GroupResult)
        assert done.result.results == (
            MemberResult("ann", "added"),
            MemberResult("bo", "added"),
            MemberResult("ghost", "user_not_found"),
            MemberResult("eve", "user_not_found"),
        )
        assert done.result.group.members == 2

    async def test_create_refusals_leave_nothing(self, chat: Chat) -> None:
        """An unknown owner or too many members refuse the whole creation."""
        await chat.users("ann", "bo")
        assert await chat.code(PutGroup("tea", owner="ghost")) == "user_not_found"
        full = await chat.refused(PutGroup("tea", owner="ann", members=("bo",), limit=1))
        assert (full.code, full.facts["limit"]) == ("group_full", 1)
        assert await chat.store.read_group("tea") is None
        assert await chat.head("group:tea") == 0
        assert await chat.inbox("ann") == []

    async def test_group_may_begin_empty(self, chat: Chat) -> None:
        """A group needs neither owner nor members."""
        done = await chat.done(PutGroup("void"))
        assert isinstance(done.result, GroupResult)
        assert done.result.group.members == 0
        assert await chat.events("group:void") == ["created"]

    async def test_update_appends_what_changed(self, chat: Chat) -> None:
        """A change of settings is one entry that says only what changed; no change is none.
        Owner and members of an update are ignored."""
        await chat.group("tea", "ann", "bo")
        await chat.users("cy")
        changed = PutGroup("tea", name="新茶", require=Require.ALL, members=("cy",), by="ann")
        done = await chat.done(changed)
        assert isinstance(done.result, GroupResult)
        assert not done.result.created
        (entry,) = done.entries
        assert entry.type == "changed"
        assert body_of(entry) == {"by": "ann", "name": "新茶", "require": "all"}
        again = await chat.done(changed)
        assert again.entries == ()
        found = await chat.store.read_group("tea")
        assert found is not None
        assert (found.name, found.require, found.members) == ("新茶", Require.ALL, 2)
        assert found.membership_version == 1

    async def test_update_fence(self, chat: Chat) -> None:
        """An update can demand a role of its actor; a creation never does."""
        await chat.users("ann", "bo", "cy")
        made = PutGroup("tea", owner="ann", members=("bo",), fence=fence("bo", Role.ADMIN))
        await chat.done(made)
        change = PutGroup("tea", muted=True, fence=fence("bo", Role.ADMIN))
        assert await chat.code(change) == "forbidden"
        outsider = await chat.refused(PutGroup("tea", muted=True, fence=fence("cy", Role.ADMIN)))
        assert (outsider.code, outsider.facts["former"]) == ("not_a_member", False)
        await chat.done(ChangeMember("tea", "bo", role=Role.ADMIN))
        await chat.done(change)

    async def test_dissolve(self, chat: Chat) -> None:
        """Dissolving appends `dissolved`, ends every membership at it and tells each inbox."""
        await chat.group("tea", "ann", "bo")
        await chat.say("tea", "ann")
        done = await chat.done(DissolveGroup("tea", by="ann"))
        assert isinstance(done.result, Group)
        assert (done.result.state, done.result.members) == (GroupState.DISSOLVED, 0)
        assert done.result.membership_version == 3
        assert body_of(done.entries[0]) == {"by": "ann"}
        assert {entry.conversation for entry in done.entries[1:]} == {"inbox:ann", "inbox:bo"}
        assert body_of((await chat.inbox("bo"))[-1]) == {
            "conversation_left": "group:tea",
            "last": 3,
            "reason": "dissolved",
        }
        assert await chat.store.read_member("tea", "ann") is None
        assert (await chat.store.list_members("tea")).members == ()
        assert (await chat.store.read_member_keys("tea")).keys == ()
        page = await chat.store.read_log("group:tea", "bo")
        assert [entry.type for entry in page.entries] == ["created", "group", "dissolved"]
        assert page.intervals[0].last == 3

    @pytest.mark.parametrize(
        "command",
        [
            PutGroup("tea", name="又来 ♻️"),
            DissolveGroup("tea"),
            AddMembers("tea", ("bo",)),
            RemoveMember("tea", "bo"),
            ChangeMember("tea", "bo", muted=True),
            group_message("tea", "ann"),
        ],
        ids=lambda command: type(command).__name__,
    )
    async def test_dissolved_for_ever(self, chat: Chat, command: Command) -> None:
        """The id of a dissolved group answers `group_dissolved` to everything."""
        await chat.group("tea", "ann", "bo")
        await chat.done(DissolveGroup("tea"))
        assert await chat.code(command) == "group_dissolved"
        assert await chat.head("group:tea") == 2

    @pytest.mark.parametrize(
        "command",
        [
            DissolveGroup("无"),
            AddMembers("无", ("bo",)),
            RemoveMember("无", "bo"),
            ChangeMember("无", "bo", muted=True),
            group_message("无", "ann"),
            group_message("ann", "ann"),
        ],
        ids=lambda command: type(command).__name__,
    )
    async def test_unknown_group(self, chat: Chat, command: Command) -> None:
        """What never was a group answers `group_not_found`, whatever user has that name."""
        await chat.users("ann", "bo")
        assert await chat.code(command) == "group_not_found"

    async def test_groups_and_users_of_one_name(self, chat: Chat) -> None:
        """A group named like a user, and the user, are two different things."""
        await chat.group("ann", "bo", "cy")
        await chat.users("ann")
        await chat.post(group_message("ann", "bo", "给群 👥"))
        await chat.post(private_message("bo", "ann", "给人 👤"))
        assert [entry.type for entry in await chat.log("group:ann", "cy")] == ["created", "group"]
        assert [entry.type for entry in await chat.log("private:ann~bo", "ann")] == ["private"]
        assert await chat.log("group:ann", "ann") == []

    async def test_dissolving_frees_the_erased(self, chat: Chat) -> None:
        """Erased users whom only this group listed leave the unreachable set with it."""
        await chat.group("tea", "ann", "eve", "sue")
        await chat.group("rice", "ann", "eve")
        await chat.done(EraseUser("eve"))
        await chat.done(PutUser("sue", state=UserState.SUSPENDED))
        await chat.done(DissolveGroup("tea"))
        unreachable = await chat.store.read_unreachable()
        assert [one.user for one in unreachable.users] == ["eve", "sue"]
        await chat.done(DissolveGroup("rice"))
        after = await chat.store.read_unreachable()
        assert [one.user for one in after.users] == ["sue"]
        assert after.version > unreachable.version
