"""Memberships: added, removed, changed, left behind by the erased."""

from __future__ import annotations

import pytest

from qunxin.model import NAMED_LIMIT, History, Member, Reason, Role
from qunxin.store.commands import (
    AddMembers,
    ChangeMember,
    Command,
    EraseUser,
    PutGroup,
    PutUser,
    RemoveMember,
    SweepErased,
)
from qunxin.store.results import MemberResult, MembersResult
from qunxin.testing.store.base import StoreBase
from qunxin.testing.store.chat import Chat, body_of, fence


class MemberSuite(StoreBase):
    """What the contract says of `AddMembers`, `RemoveMember`, `ChangeMember`, `SweepErased`."""

    async def test_adding_is_one_entry(self, chat: Chat) -> None:
        """All that one command adds stand in one `joined` entry, and each inbox is told."""
        await chat.group("tea", "ann")
        await chat.users("bo", "cy")
        done = await chat.done(AddMembers("tea", ("bo", "cy"), by="ann"))
        assert done.result == MembersResult(
            2, (MemberResult("bo", "added"), MemberResult("cy", "added"))
        )
        joined, *told = done.entries
        assert (joined.type, joined.position) == ("joined", 2)
        assert body_of(joined)["users"] == ["bo", "cy"]
        assert (body_of(joined)["count"], body_of(joined)["by"]) == (2, "ann")
        assert {entry.conversation for entry in told} == {"inbox:bo", "inbox:cy"}
        assert body_of((await chat.inbox("cy"))[0])["joined"] == 2
        group = await chat.store.read_group("tea")
        assert group is not None
        assert (group.members, group.membership_version) == (3, 2)

    async def test_adding_some(self, chat: Chat) -> None:
        """Who is a member already or has no account is named; the others are added. Suspended
        accounts count as accounts, erased ones do not."""
        await chat.group("tea", "ann", "bo")
        await chat.users("cy", "sue", "eve")
        await chat.done(EraseUser("eve"))
        done = await chat.done(AddMembers("tea", ("bo", "ghost", "eve", "cy", "sue", "cy")))
        assert isinstance(done.result, MembersResult)
        assert [(one.user, one.result) for one in done.result.results] == [
            ("bo", "already_member"),
            ("ghost", "user_not_found"),
            ("eve", "user_not_found"),
            ("cy", "added"),
            ("sue", "added"),
        ]

    async def test_adding_nobody(self, chat: Chat) -> None:
        """Where nobody was added there is no entry and the version stays."""
        await chat.group("tea", "ann", "bo")
        done = await chat.done(AddMembers("tea", ("bo", "ghost")))
        assert done.entries == ()
        assert isinstance(done.result, MembersResult)
        assert done.result.membership_version == 1
        assert (await chat.done(AddMembers("tea", ()))).entries == ()

    async def test_many_members_at_once(self, chat: Chat) -> None:
        """A bulk change counts everybody and names the first hundred, by id and integer key."""
        await chat.group("tea", "ann")
        users = tuple(f"m{number}" for number in range(250))
        done = await chat.add("tea", *users)
        body = body_of(done.entries[0])
        assert body["count"] == 250
        assert body["users"] == list(users[:NAMED_LIMIT])
        assert len(body["keys"]) == NAMED_LIMIT
        assert len(done.entries) == 251
        keys = await chat.store.read_member_keys("tea")
        assert (len(keys.keys), keys.membership_version) == (251, 2)
        assert set(body["keys"]) <= set(keys.keys)

    async def test_full_adds_nobody(self, chat: Chat) -> None:
        """A group that would grow over its limit takes none of them."""
        await chat.group("tea", "ann", "bo")
        await chat.users("cy", "di")
        assert await chat.code(AddMembers("tea", ("cy", "di"), limit=3)) == "group_full"
        assert await chat.store.read_member("tea", "cy") is None
        assert await chat.head("group:tea") == 1
        await chat.done(AddMembers("tea", ("cy",), limit=3))

    async def test_removing(self, chat: Chat) -> None:
        """A removal is one `left` entry, at which the membership ends; the inbox is told."""
        await chat.group("tea", "ann", "bo")
        done = await chat.done(RemoveMember("tea", "bo", by="ann"))
        assert done.result == MembersResult(2, (MemberResult("bo", "removed"),))
        left, told = done.entries
        body = body_of(left)
        assert (body["users"], body["count"], body["reason"]) == (["bo"], 1, "removed")
        assert told.conversation == "inbox:bo"
        assert body_of(told) == {
            "conversation_left": "group:tea",
            "last": 2,
            "reason": "removed",
        }
        assert await chat.store.read_member("tea", "bo") is None
        group = await chat.store.read_group("tea")
        assert group is not None
        assert (group.members, group.membership_version) == (1, 2)

    async def test_stays_of_one_who_comes_and_goes(self, chat: Chat) -> None:
        """Each stay is an interval of its own: the readable past ends at the leaving and goes on
        at the rejoining, and nothing between leaks."""
        await chat.group("tea", "ann", "bo")
        await chat.say("tea", "ann", "一")
        await chat.remove("tea", "bo")
        await chat.say("tea", "ann", "秘密 🤐")
        await chat.add("tea", "bo")
        await chat.say("tea", "ann", "三")
        page = await chat.store.read_log("group:tea", "bo")
        assert [(one.first, one.last, one.joined) for one in page.intervals] == [
            (1, 3, 1),
            (5, None, 5),
        ]
        assert [entry.position for entry in page.entries] == [1, 2, 3, 5, 6]
        assert (page.through, page.head) == (6, 6)
        member = await chat.store.read_member("tea", "bo")
        assert member is not None
        assert member.since == 5

    async def test_history_for_new_members(self, chat: Chat) -> None:
        """Where the group shows its history a new member reads from position 1, while the stay
        began at the joining; memberships from before the setting keep what they had."""
        await chat.group("tea", "ann", "bo")
        await chat.say("tea", "ann")
        await chat.add("tea", "cy")
        await chat.done(PutGroup("tea", history=History.FULL))
        await chat.add("tea", "di")
        di = await chat.store.read_log("group:tea", "di")
        assert [(one.first, one.last, one.joined) for one in di.intervals] == [(1, None, 5)]
        assert [entry.position for entry in di.entries] == [1, 2, 3, 4, 5]
        cy = await chat.store.read_log("group:tea", "cy")
        assert [entry.position for entry in cy.entries] == [3, 4, 5]
        assert body_of((await chat.inbox("di"))[0])["first"] == 1

    async def test_last_owner(self, chat: Chat) -> None:
        """The last owner can neither leave nor step down while others remain; alone they may."""
        await chat.group("tea", "ann", "bo")
        assert await chat.code(RemoveMember("tea", "ann")) == "last_owner"
        assert await chat.code(ChangeMember("tea", "ann", role=Role.MEMBER)) == "last_owner"
        await chat.done(ChangeMember("tea", "bo", role=Role.OWNER))
        await chat.done(RemoveMember("tea", "ann"))
        await chat.done(RemoveMember("tea", "bo", reason="left"))
        group = await chat.store.read_group("tea")
        assert group is not None
        assert group.members == 0

    async def test_erased_owner_holds_nothing(self, chat: Chat) -> None:
        """An erased owner can be removed, and does not count as the other owner."""
        await chat.group("tea", "ann", "bo", "cy")
        await chat.done(ChangeMember("tea", "bo", role=Role.OWNER))
        await chat.done(EraseUser("ann"))
        assert await chat.code(RemoveMember("tea", "bo")) == "last_owner"
        await chat.done(RemoveMember("tea", "ann"))

    async def test_change_member(self, chat: Chat) -> None:
        """A change of role or mute is one entry that says what changed; no change is none."""
        await chat.group("tea", "ann", "bo")
        done = await chat.done(ChangeMember("tea", "bo", role=Role.ADMIN, muted=True, by="ann"))
        assert isinstance(done.result, Member)
        assert (done.result.role, done.result.muted) == (Role.ADMIN, True)
        assert body_of(done.entries[0]) == {
            "by": "ann",
            "user": "bo",
            "role": "admin",
            "member_muted": True,
        }
        again = await chat.done(ChangeMember("tea", "bo", role=Role.ADMIN))
        assert again.entries == ()
        assert await chat.store.read_member("tea", "bo") == done.result
        group = await chat.store.read_group("tea")
        assert group is not None
        assert group.membership_version == 1

    @pytest.mark.parametrize(
        "command", [RemoveMember("tea", "cy"), ChangeMember("tea", "cy", muted=True)]
    )
    async def test_not_a_member(self, chat: Chat, command: Command) -> None:
        """Who is none, was none, or does not exist is `not_a_member`, and the fact says which."""
        await chat.group("tea", "ann", "bo")
        assert (await chat.refused(command)).facts["former"] is False
        await chat.add("tea", "cy")
        await chat.remove("tea", "cy")
        error = await chat.refused(command)
        assert (error.code, error.facts["former"]) == ("not_a_member", True)

    async def test_fences(self, chat: Chat) -> None:
        """A fence is judged in the transaction: membership, role, and rank above the target."""
        await chat.group("tea", "ann", "adm", "adm2", "bo")
        for admin in ("adm", "adm2"):
            await chat.done(ChangeMember("tea", admin, role=Role.ADMIN))
        above = fence("adm", Role.ADMIN, above_target=True)
        assert await chat.code(RemoveMember("tea", "adm2", fence=above)) == "forbidden"
        assert await chat.code(RemoveMember("tea", "ann", fence=above)) == "forbidden"
        mute = ChangeMember("tea", "adm", muted=True, fence=fence("bo", Role.ADMIN))
        assert await chat.code(mute) == "forbidden"
        stranger = AddMembers("tea", ("bo",), fence=fence("ghost", Role.ADMIN))
        assert await chat.code(stranger) == "not_a_member"
        await chat.done(RemoveMember("tea", "bo", fence=above))
        by_owner = fence("ann", Role.ADMIN, above_target=True)
        await chat.done(RemoveMember("tea", "adm2", fence=by_owner))

    async def test_fence_sees_the_command_before(self, chat: Chat) -> None:
        """Within one transaction a fence already sees what the command before it did."""
        await chat.group("tea", "ann", "adm", "bo")
        await chat.done(ChangeMember("tea", "adm", role=Role.ADMIN))
        demote = ChangeMember("tea", "adm", role=Role.MEMBER)
        remove = RemoveMember("tea", "bo", fence=fence("adm", Role.ADMIN))
        _, outcome = await chat.store.commit([demote, remove])
        assert getattr(outcome, "code", None) == "forbidden"
        assert await chat.store.read_member("tea", "bo") is not None

    async def test_pages_of_members(self, chat: Chat) -> None:
        """Pages by integer key hold every current member once, none who left."""
        await chat.group("tea", "ann", *(f"m{number}" for number in range(25)))
        await chat.remove("tea", "m3")
        seen: list[str] = []
        cursor: str | None = None
        while True:
            page = await chat.store.list_members("tea", cursor=cursor, limit=10)
            assert page.membership_version == 2
            seen += [member.user for member in page.members]
            cursor = page.next_cursor
            if cursor is None:
                break
        assert len(seen) == 25
        assert set(seen) == {"ann", *(f"m{number}" for number in range(25))} - {"m3"}
        keys = (await chat.store.read_member_keys("tea")).keys
        assert list(keys) == sorted(keys)
        assert (await chat.store.list_members("无")).members == ()

    async def test_sweep(self, chat: Chat) -> None:
        """Sweeping removes memberships of those erased long enough ago, a few at a time, each
        with a `left` entry; others stay."""
        await chat.group("tea", "ann", "old", "new")
        await chat.group("rice", "ann", "old")
        await chat.done(EraseUser("old"))
        chat.clock.advance(1_000)
        before = chat.clock.now_ms()
        await chat.done(EraseUser("new"))
        first = await chat.done(SweepErased(before, limit=1))
        assert first.result == 1
        second = await chat.done(SweepErased(before))
        assert second.result == 1
        assert (await chat.done(SweepErased(before))).result == 0
        left = [one for one in (*first.entries, *second.entries) if one.type == "left"]
        assert {one.conversation for one in left} == {"group:tea", "group:rice"}
        assert all(body_of(one)["reason"] == "erased" for one in left)
        member = await chat.store.read_member("tea", "new")
        assert member is not None
        assert member.reason is Reason.NOT_FOUND
        assert [one.user for one in (await chat.store.read_unreachable()).users] == ["new"]

    async def test_sweep_leaves_the_living(self, chat: Chat) -> None:
        """Nobody with an account is ever swept."""
        await chat.group("tea", "ann", "bo")
        await chat.done(PutUser("bo", name="Бо"))
        assert (await chat.done(SweepErased(2**52))).result == 0
