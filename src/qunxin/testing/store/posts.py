"""Messages: who may send them where, in which order that is judged, and whom they reach."""

from __future__ import annotations

import pytest

from qunxin.model import Reach, Reason, Require, Role, Unreachable, UserState
from qunxin.store.commands import (
    ChangeMember,
    Command,
    DissolveGroup,
    EraseUser,
    PutGroup,
    PutUser,
    RemoveMember,
)
from qunxin.store.results import Done, Posted
from qunxin.testing.store.base import StoreBase
from qunxin.testing.store.chat import (
    Chat,
    broadcast_message,
    content_of,
    group_message,
    private_message,
    text_of,
)

TEXTS = (
    "",
    "你好，世界 🌏",
    "👩🏽‍🚀👨‍👩‍👧‍👦🏳️‍🌈",
    "مرحبا بالعالم עולם",
    "行一\n行二\u2028\u0000",
    "茶" * 21_845,
)


class PostSuite(StoreBase):
    """What the contract says of `Post`, without keys (see `KeySuite`)."""

    async def test_positions_in_order(self, chat: Chat) -> None:
        """Messages and events of one log share one count, from 1, in the order of commands."""
        await chat.group("tea", "ann", "bo")
        outcomes = await chat.store.commit(
            [group_message("tea", "ann", f"第{number}") for number in range(150)]
        )
        positions = []
        for outcome in outcomes:
            assert isinstance(outcome, Done)
            assert isinstance(outcome.result, Posted)
            positions.append(outcome.result.position)
        assert positions == list(range(2, 152))
        log = await chat.log("group:tea")
        assert [entry.position for entry in log] == list(range(1, 152))
        assert [text_of(entry) for entry in log[1:]] == [f"第{number}" for number in range(150)]

    @pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
    async def test_content_is_kept_byte_for_byte(self, chat: Chat, text: str) -> None:
        """What was committed is what is read, and what `Done` says was appended."""
        await chat.group("tea", "ann", "bo")
        done = await chat.done(group_message("tea", "ann", text))
        (appended,) = done.entries
        (read,) = (await chat.store.read_log("group:tea", "bo", after=1)).entries
        assert appended.content is not None
        assert read.content is not None
        assert bytes(read.content) == bytes(appended.content) == content_of(text)
        assert (read.sender, read.type, read.time) == ("ann", "group", chat.clock.now_ms())
        assert (read.conversation, read.position, read.key) == ("group:tea", 2, None)

    async def test_group_refusals_in_order(self, chat: Chat) -> None:
        """Group, then account, then membership, then mutes: the first that fails answers."""
        await chat.group("tea", "ann", "bo")
        await chat.users("cy")
        assert await chat.code(group_message("无", "ghost")) == "group_not_found"
        assert await chat.code(group_message("tea", "ghost")) == "user_not_found"
        outsider = await chat.refused(group_message("tea", "cy"))
        assert (outsider.code, outsider.facts["former"]) == ("not_a_member", False)
        await chat.done(PutGroup("tea", muted=True))
        assert await chat.code(group_message("tea", "bo")) == "group_muted"
        await chat.done(ChangeMember("tea", "bo", muted=True))
        assert await chat.code(group_message("tea", "bo")) == "member_muted"
        await chat.done(PutUser("bo", state=UserState.SUSPENDED))
        assert await chat.code(group_message("tea", "bo")) == "user_suspended"
        await chat.done(EraseUser("bo"))
        assert await chat.code(group_message("tea", "bo")) == "user_erased"
        await chat.done(DissolveGroup("tea"))
        assert await chat.code(group_message("tea", "ghost")) == "group_dissolved"

    async def test_mutes(self, chat: Chat) -> None:
        """A muted group is silent but for owners and admins; a muted admin is silent too."""
        await chat.group("tea", "ann", "adm", "bo")
        await chat.done(ChangeMember("tea", "adm", role=Role.ADMIN))
        await chat.done(PutGroup("tea", muted=True))
        await chat.say("tea", "ann")
        await chat.say("tea", "adm")
        assert await chat.code(group_message("tea", "bo")) == "group_muted"
        await chat.done(ChangeMember("tea", "adm", muted=True))
        assert await chat.code(group_message("tea", "adm")) == "member_muted"
        await chat.done(PutGroup("tea", muted=False))
        await chat.say("tea", "bo")

    async def test_membership_fence(self, chat: Chat) -> None:
        """A removed member's next message is refused at once, and the reply names the version
        of the membership under which a message was accepted."""
        await chat.group("tea", "ann", "bo")
        assert (await chat.say("tea", "bo")).reach.membership_version == 1
        removed, refused, accepted = await chat.store.commit(
            [RemoveMember("tea", "bo"), group_message("tea", "bo"), group_message("tea", "ann")]
        )
        assert isinstance(removed, Done)
        assert getattr(refused, "code", None) == "not_a_member"
        assert getattr(refused, "facts", {})["former"] is True
        assert isinstance(accepted, Done)
        assert isinstance(accepted.result, Posted)
        assert accepted.result.reach.membership_version == 3
        assert accepted.result.position == 4

    async def test_refusal_disturbs_no_neighbour(self, chat: Chat) -> None:
        """Refused commands change nothing; those beside them happen as if alone."""
        await chat.group("tea", "ann", "bo")
        await chat.users("cy")
        commands: list[Command] = []
        for number in range(40):
            commands += [
                group_message("tea", "ann", f"好{number}"),
                group_message("tea", "cy", "不该有"),
                group_message("无", "ann", "不该有"),
                RemoveMember("tea", "ann"),
                PutGroup("new", owner="ghost"),
            ]
        outcomes = await chat.store.commit(commands)
        accepted = [isinstance(outcome, Done) for outcome in outcomes]
        assert accepted == [True, False, False, False, False] * 40
        texts = [text_of(entry) for entry in (await chat.log("group:tea"))[1:]]
        assert texts == [f"好{number}" for number in range(40)]
        assert await chat.store.read_group("new") is None

    async def test_reach_names_the_unreachable(self, chat: Chat) -> None:
        """An accepted message counts its audience, and counts and names who cannot be reached,
        in order of their integer keys."""
        await chat.group("tea", "ann", "bo", "cy", "di")
        await chat.done(PutUser("di", state=UserState.SUSPENDED))
        await chat.done(EraseUser("bo"))
        posted = await chat.say("tea", "ann")
        assert (posted.reach.members, posted.reach.unreachable_count) == (4, 2)
        assert posted.reach.named == (
            Unreachable("bo", Reason.NOT_FOUND),
            Unreachable("di", Reason.SUSPENDED),
        )
        assert posted.reach.unreachable_version == (await chat.store.read_unreachable()).version

    async def test_reach_follows_every_change(self, chat: Chat) -> None:
        """Suspension, reactivation, removal and joining each show in the very next message."""
        await chat.group("tea", "ann", "bo", "cy")
        await chat.say("tea", "ann")
        await chat.done(PutUser("bo", state=UserState.SUSPENDED))
        assert (await chat.say("tea", "ann")).reach.unreachable_count == 1
        await chat.done(PutUser("cy", state=UserState.SUSPENDED))
        await chat.done(PutUser("bo", state=UserState.ACTIVE))
        named = (await chat.say("tea", "ann")).reach.named
        assert named == (Unreachable("cy", Reason.SUSPENDED),)
        await chat.remove("tea", "cy")
        reach = (await chat.say("tea", "ann")).reach
        assert (reach.members, reach.unreachable_count) == (2, 0)
        await chat.add("tea", "di")
        assert (await chat.say("tea", "ann")).reach.members == 3

    async def test_only_a_hundred_are_named(self, chat: Chat) -> None:
        """The first hundred are named, all are counted."""
        members = [f"m{number:03}" for number in range(130)]
        await chat.group("tea", "ann", "bo", *members)
        for outcome in await chat.store.commit(
            [PutUser(member, state=UserState.SUSPENDED) for member in members]
        ):
            assert isinstance(outcome, Done)
        reach = (await chat.say("tea", "ann")).reach
        assert (reach.unreachable_count, len(reach.named)) == (130, 100)
        assert [one.user for one in reach.named] == members[:100]

    async def test_require(self, chat: Chat) -> None:
        """One unreachable member refuses a message that requires all; the message's own demand
        counts before the group's."""
        await chat.group("tea", "ann", "bo", "cy")
        await chat.say("tea", "ann", require=Require.ALL)
        await chat.done(PutUser("cy", state=UserState.SUSPENDED))
        refused = await chat.refused(group_message("tea", "ann", require=Require.ALL))
        assert refused.code == "members_unreachable"
        assert (refused.facts["members"], refused.facts["unreachable_count"]) == (3, 1)
        assert refused.facts["unreachable"] == [{"user": "cy", "reason": "suspended"}]
        await chat.say("tea", "ann")
        await chat.done(PutGroup("tea", require=Require.ALL))
        assert await chat.code(group_message("tea", "ann")) == "members_unreachable"
        await chat.say("tea", "ann", require=Require.REACHABLE)

    async def test_nobody_left_to_reach(self, chat: Chat) -> None:
        """Where there are others and none can be reached the message is refused; alone in a
        group one may speak."""
        await chat.group("tea", "ann", "bo", "cy")
        for user in ("bo", "cy"):
            await chat.done(EraseUser(user))
        refused = await chat.refused(group_message("tea", "ann"))
        assert (refused.code, refused.facts["unreachable_count"]) == ("members_unreachable", 2)
        for user in ("bo", "cy"):
            await chat.remove("tea", user)
        assert (await chat.say("tea", "ann")).reach.members == 1

    async def test_hint_counts_only_where_both_versions_do(self, chat: Chat) -> None:
        """A hint of other versions is passed over, one of the current versions may be used."""
        await chat.group("tea", "ann", "bo", "cy")
        await chat.done(PutUser("cy", state=UserState.SUSPENDED))
        truth = (await chat.say("tea", "ann")).reach
        for stale in (
            Reach(truth.membership_version - 1, truth.unreachable_version, 99),
            Reach(truth.membership_version, truth.unreachable_version - 1, 99),
            Reach(truth.membership_version + 1, truth.unreachable_version + 1, 99),
        ):
            assert (await chat.say("tea", "ann", hint=stale)).reach == truth
        assert (await chat.say("tea", "ann", hint=truth)).reach == truth

    async def test_hint_cannot_hide_the_unreachable(self, chat: Chat) -> None:
        """A hint from before a suspension does not let a message that requires all pass."""
        await chat.group("tea", "ann", "bo", "cy")
        hint = (await chat.say("tea", "ann")).reach
        await chat.done(PutUser("cy", state=UserState.SUSPENDED))
        message = group_message("tea", "ann", require=Require.ALL, hint=hint)
        assert await chat.code(message) == "members_unreachable"


class PrivateSuite(StoreBase):
    """Messages between two."""

    async def test_first_message_makes_the_conversation(self, chat: Chat) -> None:
        """The first message begins at position 1 and tells both inboxes; the second tells none."""
        await chat.users("bo", "ann")
        done = await chat.done(private_message("bo", "ann", "嗨 👋🏽"))
        assert isinstance(done.result, Posted)
        assert (done.result.position, done.result.reach.members) == (1, 2)
        assert [entry.conversation for entry in done.entries[:1]] == ["private:ann~bo"]
        assert {entry.conversation for entry in done.entries[1:]} == {"inbox:ann", "inbox:bo"}
        for user in ("ann", "bo"):
            (contact,) = await chat.inbox(user)
            assert (contact.type, contact.position) == ("contact", 1)
            assert contact.body == {"conversation_joined": "private:ann~bo"}
        assert len((await chat.done(private_message("ann", "bo"))).entries) == 1
        assert await chat.head("private:ann~bo") == 2

    async def test_both_read_and_nobody_else(self, chat: Chat) -> None:
        """The two, and only they, may read a private conversation."""
        await chat.users("ann", "bo", "cy")
        await chat.post(private_message("ann", "bo", "只给你 🔒"))
        for user in ("ann", "bo"):
            page = await chat.store.read_log("private:ann~bo", user)
            assert [text_of(entry) for entry in page.entries] == ["只给你 🔒"]
        page = await chat.store.read_log("private:ann~bo", "cy")
        assert (page.entries, page.intervals) == ((), ())

    async def test_private_refusals(self, chat: Chat) -> None:
        """Recipient, then sender, then blocks, then reach; nothing is made by a refusal."""
        await chat.users("ann", "bo", "cy")
        assert await chat.code(private_message("ann", "ghost")) == "user_not_found"
        assert await chat.code(private_message("ghost", "ann")) == "user_not_found"
        await chat.done(PutUser("ann", state=UserState.SUSPENDED))
        assert await chat.code(private_message("ann", "bo")) == "user_suspended"
        refused = await chat.refused(private_message("bo", "ann"))
        assert refused.code == "members_unreachable"
        assert refused.facts["unreachable"] == [{"user": "ann", "reason": "suspended"}]
        await chat.done(EraseUser("ann"))
        assert await chat.code(private_message("ann", "bo")) == "user_erased"
        refused = await chat.refused(private_message("bo", "ann"))
        assert refused.facts["unreachable"] == [{"user": "ann", "reason": "not_found"}]
        assert await chat.head("private:ann~bo") == 0
        assert await chat.inbox("bo") == []

    async def test_stranger_cannot_speak_in_it(self, chat: Chat) -> None:
        """A sender who is neither of the two is refused."""
        await chat.users("ann", "bo", "cy")
        await chat.post(private_message("ann", "bo"))
        forged = private_message("ann", "bo")
        intruder = type(forged)(forged.type, forged.conversation, "cy", forged.content)
        assert await chat.code(intruder) == "not_a_member"

    async def test_a_group_of_that_name_is_not_meant(self, chat: Chat) -> None:
        """A private message to a group's name finds no user, and never reaches the group."""
        await chat.group("tea", "ann", "bo")
        assert await chat.code(private_message("ann", "tea")) == "user_not_found"
        assert await chat.head("group:tea") == 1


class BroadcastSuite(StoreBase):
    """Messages to everybody."""

    async def test_operator_and_user_may_speak(self, chat: Chat) -> None:
        """The operator speaks without a sender; the audience is every account not erased."""
        await chat.users("ann", "bo", "eve")
        await chat.done(EraseUser("eve"))
        first = await chat.post(broadcast_message())
        second = await chat.post(broadcast_message("ann"))
        assert (first.position, second.position) == (1, 2)
        assert (first.reach.members, second.reach.members) == (2, 2)
        log = await chat.log("broadcast:all", "bo")
        assert [entry.sender for entry in log] == [None, "ann"]

    async def test_seen_from_the_account_on(self, chat: Chat) -> None:
        """A new account reads what is broadcast after it was made, nothing before."""
        await chat.users("ann", "bo")
        await chat.post(broadcast_message(text="旧"))
        await chat.users("new")
        await chat.post(broadcast_message(text="新"))
        page = await chat.store.read_log("broadcast:all", "new")
        assert [text_of(entry) for entry in page.entries] == ["新"]
        assert page.intervals[0].first == 2
        assert [text_of(entry) for entry in await chat.log("broadcast:all", "ann")] == ["旧", "新"]
        assert (await chat.store.read_log("broadcast:all", "ghost")).intervals == ()

    async def test_erased_reads_no_further(self, chat: Chat) -> None:
        """What is broadcast after an account was erased is not for it."""
        await chat.users("ann", "eve")
        await chat.post(broadcast_message(text="先"))
        await chat.done(EraseUser("eve"))
        await chat.post(broadcast_message(text="后"))
        page = await chat.store.read_log("broadcast:all", "eve")
        assert [text_of(entry) for entry in page.entries] == ["先"]

    async def test_broadcast_refusals(self, chat: Chat) -> None:
        """A sender must be an active account; the suspended are named as unreachable."""
        await chat.users("ann", "bo", "cy")
        await chat.done(PutUser("bo", state=UserState.SUSPENDED))
        assert await chat.code(broadcast_message("ghost")) == "user_not_found"
        assert await chat.code(broadcast_message("bo")) == "user_suspended"
        assert await chat.code(broadcast_message(require=Require.ALL)) == "members_unreachable"
        posted = await chat.post(broadcast_message())
        assert posted.reach.named == (Unreachable("bo", Reason.SUSPENDED),)

    async def test_one_listener_is_enough(self, chat: Chat) -> None:
        """The operator reaches one of two; a sender who alone can be reached reaches nobody."""
        await chat.users("ann", "bo")
        await chat.done(PutUser("bo", state=UserState.SUSPENDED))
        await chat.post(broadcast_message())
        assert await chat.code(broadcast_message("ann")) == "members_unreachable"
