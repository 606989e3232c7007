"""Accounts: made, changed, suspended, blocked, erased."""

from __future__ import annotations

from qunxin.model import MAX_REVOKED_TOKENS, Cursor, Group, Reason, User, UserState
from qunxin.store.commands import EndSessions, EraseUser, PutGroup, PutUser, RevokeTokens, SetBlock
from qunxin.store.reads import UnreachableUser
from qunxin.store.results import Done, GroupResult, UserResult
from qunxin.testing.store.base import StoreBase
from qunxin.testing.store.chat import Chat, body_of, group_message, private_message

VALID_MS, AHEAD_MS = 600_000, 5_000


def revoke(user: str, token: str | None = None) -> RevokeTokens:
    """Of tokens that are valid for ten minutes, signed by clocks that are five seconds ahead."""
    return RevokeTokens(user, token, VALID_MS, AHEAD_MS)


async def revocations(chat: Chat, user: str, *ids: str) -> tuple[int, set[str]]:
    """From when on a user's tokens are good, and which of those ids are revoked."""
    found = [await chat.store.read_sign_in(user, one) for one in (*ids, None)]
    told = [one for one in found if one is not None and one.user.user == user]
    *each, whole = told
    assert not whole.revoked
    return whole.tokens_from, {one for one, seen in zip(ids, each, strict=True) if seen.revoked}


class UserSuite(StoreBase):
    """What the contract says of accounts: put, erased, blocked, their sessions and tokens ended."""

    async def test_users_are_listed(self, chat: Chat) -> None:
        """Each once, over pages, by integer key; suspended ones too, erased ones not."""
        names = [f"m{number}" for number in range(12)]
        await chat.users(*names)
        await chat.done(PutUser("m3", name="三 👩‍🎤", state=UserState.SUSPENDED))
        await chat.done(EraseUser("m5"))
        seen: list[User] = []
        cursor: str | None = None
        while True:
            page = await chat.store.list_users(cursor=cursor, limit=4)
            assert len(page.users) <= 4
            seen += page.users
            cursor = page.next_cursor
            if cursor is None:
                break
        assert [one.user for one in seen] == [name for name in names if name != "m5"]
        assert [one.key for one in seen] == sorted(one.key for one in seen)
        assert seen[3] == await chat.store.read_user("m3")

    async def test_new_user_is_active_and_named_by_id(self, chat: Chat) -> None:
        """A user made without a name or state is active and bears their id as name."""
        done = await chat.done(PutUser("li.wei"))
        assert isinstance(done.result, UserResult)
        user = done.result.user
        assert done.result.created
        assert (user.user, user.name, user.state) == ("li.wei", "li.wei", UserState.ACTIVE)
        assert user.created == chat.clock.now_ms()
        assert await chat.store.read_user("li.wei") == user

    async def test_update_leaves_what_is_none(self, chat: Chat) -> None:
        """None leaves a field as it is; any Unicode is a name."""
        family = "王小明 👨‍👩‍👧‍👦 مرحبا"
        await chat.done(PutUser("wang", name=family))
        await chat.done(PutUser("wang", state=UserState.SUSPENDED))
        found = await chat.store.read_user("wang")
        assert found is not None
        assert (found.name, found.state) == (family, UserState.SUSPENDED)
        done = await chat.done(PutUser("wang", name=""))
        assert isinstance(done.result, UserResult)
        assert not done.result.created
        assert done.result.user.name == ""

    async def test_only_new_leaves_what_exists(self, chat: Chat) -> None:
        """Of two that want the same id one makes the account, and the other changes nothing of
        it."""
        both = [PutUser("lin", name=name, only_new=True) for name in ("林 🌳", "别人")]
        first, second = await chat.store.commit(both)
        assert isinstance(first, Done)
        assert isinstance(second, Done)
        user = await chat.store.read_user("lin")
        assert user is not None
        assert user.name == "林 🌳"
        assert (first.result, second.result) == (UserResult(user, True), UserResult(user, False))
        await chat.done(PutUser("lin", state=UserState.SUSPENDED))
        await chat.done(PutUser("lin", state=UserState.ACTIVE, only_new=True))
        found = await chat.store.read_user("lin")
        assert found is not None
        assert found.state is UserState.SUSPENDED
        await chat.done(EraseUser("lin"))
        assert await chat.code(PutUser("lin", only_new=True)) == "user_erased"

    async def test_integer_keys_name_one_thing_each(self, chat: Chat) -> None:
        """Users and groups draw their keys from one sequence below 2^53."""
        keys = []
        for name in ("a", "b", "c"):
            user = (await chat.done(PutUser(name))).result
            group = (await chat.done(PutGroup(name))).result
            assert isinstance(user, UserResult)
            assert isinstance(group, GroupResult)
            keys += [user.user.key, group.group.key]
        assert len(set(keys)) == 6
        assert all(0 < key < 2**53 for key in keys)

    async def test_change_of_state_is_an_entry_in_the_inbox(self, chat: Chat) -> None:
        """Suspending and reactivating append `account` entries; a change of name does not."""
        await chat.users("mei")
        await chat.done(PutUser("mei", name="梅"))
        await chat.done(PutUser("mei", state=UserState.SUSPENDED))
        await chat.done(PutUser("mei", state=UserState.SUSPENDED))
        done = await chat.done(PutUser("mei", state=UserState.ACTIVE))
        entries = await chat.inbox("mei")
        assert [entry.type for entry in entries] == ["account", "account"]
        assert [body_of(entry)["state"] for entry in entries] == ["suspended", "active"]
        assert done.entries == (entries[1],)

    async def test_suspended_users_are_the_unreachable_set(self, chat: Chat) -> None:
        """Suspension puts a user into the unreachable set and reactivation takes them out; the
        version rises each time, and only then."""
        await chat.users("ann", "bo")
        before = await chat.store.read_unreachable()
        assert before.users == ()
        await chat.done(PutUser("bo", state=UserState.SUSPENDED))
        await chat.done(PutUser("bo", name="Бо"))
        found = await chat.store.read_user("bo")
        assert found is not None
        suspended = await chat.store.read_unreachable()
        assert suspended.users == (UnreachableUser(found.key, "bo", Reason.SUSPENDED),)
        assert suspended.version == before.version + 1
        await chat.done(PutUser("bo", state=UserState.ACTIVE))
        after = await chat.store.read_unreachable()
        assert (after.users, after.version) == ((), suspended.version + 1)

    async def test_suspended_user_still_belongs(self, chat: Chat) -> None:
        """Suspension touches no membership: the member is listed with the reason."""
        await chat.group("tea", "ann", "bo")
        await chat.done(PutUser("bo", state=UserState.SUSPENDED))
        member = await chat.store.read_member("tea", "bo")
        assert member is not None
        assert member.reason is Reason.SUSPENDED
        group = await chat.store.read_group("tea")
        assert isinstance(group, Group)
        assert group.members == 2

    async def test_erased_for_ever(self, chat: Chat) -> None:
        """An erased account keeps only its id, and nothing brings it back."""
        await chat.done(PutUser("eve", name="伊芙 💌"))
        done = await chat.done(EraseUser("eve"))
        assert isinstance(done.result, User)
        assert (done.result.name, done.result.state) == ("", UserState.ERASED)
        assert [entry.type for entry in done.entries] == ["account"]
        assert body_of(done.entries[0]) == {"state": "erased"}
        for command in (PutUser("eve"), EraseUser("eve"), EndSessions("eve")):
            assert await chat.code(command) == "user_erased"
        assert await chat.code(EraseUser("nobody")) == "user_not_found"
        found = await chat.store.read_user("eve")
        assert found is not None
        assert (found.name, found.state) == ("", UserState.ERASED)

    async def test_erasing_takes_blocks_and_cursors(self, chat: Chat) -> None:
        """Name, blocks and cursors go with the account."""
        await chat.group("tea", "ann", "eve")
        await chat.done(SetBlock("eve", "ann", on=True))
        await chat.move("eve", "group:tea", 1, 1)
        assert await chat.store.read_cursor("eve", "group:tea") == Cursor("eve", "group:tea", 1, 1)
        await chat.done(EraseUser("eve"))
        assert await chat.store.list_blocked("eve") == ()
        assert await chat.store.read_cursor("eve", "group:tea") == Cursor("eve", "group:tea")

    async def test_erased_member_stays_listed(self, chat: Chat) -> None:
        """Memberships of an erased account stay, unreachable with `not_found`; who belongs to no
        group is not in the unreachable set."""
        await chat.group("tea", "ann", "eve")
        await chat.users("loner")
        await chat.done(EraseUser("eve"))
        await chat.done(EraseUser("loner"))
        member = await chat.store.read_member("tea", "eve")
        assert member is not None
        assert member.reason is Reason.NOT_FOUND
        unreachable = await chat.store.read_unreachable()
        assert [(one.user, one.reason) for one in unreachable.users] == [("eve", Reason.NOT_FOUND)]
        await chat.remove("tea", "eve")
        assert (await chat.store.read_unreachable()).users == ()

    async def test_blocks(self, chat: Chat) -> None:
        """A block refuses private messages in one direction, at once, until it is taken back."""
        await chat.users("ann", "bo")
        await chat.post(private_message("bo", "ann"))
        await chat.done(SetBlock("ann", "bo", on=True))
        await chat.done(SetBlock("ann", "bo", on=True))
        assert await chat.store.list_blocked("ann") == ("bo",)
        assert await chat.code(private_message("bo", "ann")) == "blocked"
        await chat.post(private_message("ann", "bo"))
        await chat.done(SetBlock("ann", "bo", on=False))
        await chat.post(private_message("bo", "ann"))
        assert await chat.store.list_blocked("ann") == ()

    async def test_block_before_the_first_message(self, chat: Chat) -> None:
        """A block holds where no conversation exists yet, and makes none."""
        await chat.users("ann", "bo")
        await chat.done(SetBlock("ann", "bo", on=True))
        assert await chat.code(private_message("bo", "ann")) == "blocked"
        assert await chat.head("private:ann~bo") == 0
        assert await chat.inbox("ann") == []

    async def test_block_does_not_touch_groups(self, chat: Chat) -> None:
        """A block is about private messages alone."""
        await chat.group("tea", "ann", "bo")
        await chat.done(SetBlock("ann", "bo", on=True))
        posted = await chat.post(group_message("tea", "bo"))
        assert posted.reach.unreachable_count == 0

    async def test_block_refusals(self, chat: Chat) -> None:
        """Both users must exist."""
        await chat.users("ann")
        assert await chat.code(SetBlock("nobody", "ann", on=True)) == "user_not_found"
        assert await chat.code(SetBlock("ann", "nobody", on=True)) == "user_not_found"

    async def test_end_sessions(self, chat: Chat) -> None:
        """Ending a user's sessions is an entry in their inbox, so that every node learns it."""
        await chat.users("ann")
        done = await chat.done(EndSessions("ann"))
        assert [entry.type for entry in done.entries] == ["sessions_ended"]
        assert list(done.entries) == await chat.inbox("ann")
        assert await chat.code(EndSessions("nobody")) == "user_not_found"

    async def test_a_revoked_token_is_remembered(self, chat: Chat) -> None:
        """By its id, beside those revoked before; the inbox tells which one it is, once."""
        await chat.users("ann", "bo")
        first = await chat.done(revoke("ann", "令牌 🎫"))
        await chat.done(revoke("ann", "אסימון"))
        assert [(e.type, e.body) for e in first.entries] == [
            ("sessions_ended", {"token": "令牌 🎫"})
        ]
        again = await chat.done(revoke("ann", "令牌 🎫"))
        assert (again.result, again.entries) == (None, ())
        assert len(await chat.inbox("ann")) == 2
        ids = ("令牌 🎫", "אסימון", "别的")
        assert await revocations(chat, "ann", *ids) == (0, {"令牌 🎫", "אסימון"})
        assert await revocations(chat, "bo", *ids) == (0, set())
        assert await chat.store.read_sign_in("nobody", "令牌 🎫") is None

    async def test_revoking_all_tokens_takes_the_single_ones_along(self, chat: Chat) -> None:
        """What was issued up to that very millisecond is refused. An id that was revoked a moment
        ago is still remembered: of that one something may bear a later time, by another clock."""
        await chat.users("ann")
        await chat.done(revoke("ann", "早 🌅"))
        chat.clock.advance(AHEAD_MS)
        await chat.done(revoke("ann", "刚才"))
        done = await chat.done(revoke("ann"))
        assert [(entry.type, entry.body) for entry in done.entries] == [("sessions_ended", {})]
        told = await revocations(chat, "ann", "早 🌅", "刚才")
        assert told == (done.entries[0].time + 1, {"刚才"})

    async def test_a_clock_that_is_set_back_lets_nothing_in(self, chat: Chat) -> None:
        """What was refused stays so when all is revoked again at an earlier time, and an id that
        is revoked again is remembered no shorter."""
        await chat.users("ann")
        first = await chat.done(revoke("ann"))
        await chat.done(revoke("ann", "丢了 📱"))
        chat.clock.advance(-60_000)
        await chat.done(revoke("ann"))
        await chat.done(revoke("ann", "丢了 📱"))
        refused = (first.entries[0].time + 1, {"丢了 📱"})
        assert await revocations(chat, "ann", "丢了 📱") == refused
        chat.clock.advance(60_000 + VALID_MS - 1)
        await chat.done(revoke("ann", "另一个"))
        assert await revocations(chat, "ann", "丢了 📱") == refused

    async def test_revoked_tokens_have_a_bound(self, chat: Chat) -> None:
        """One more than it takes is not refused: the oldest is forgotten, and all that was issued
        until that was revoked, by whatever clock, is refused in its place. The same one again
        needs no room, and those that have run out make some."""
        await chat.users("ann")
        begun = chat.clock.now_ms()
        await chat.done(revoke("ann", "最早的 🕰️"))
        chat.clock.advance(1)
        many = [f"t{n}" for n in range(MAX_REVOKED_TOKENS - 1)]
        for outcome in await chat.store.commit([revoke("ann", one) for one in many]):
            assert isinstance(outcome, Done), outcome
        chat.clock.advance(1)
        await chat.done(revoke("ann", "t0"))
        ids = ("最早的 🕰️", *many, "one more", "another")
        assert await revocations(chat, "ann", *ids) == (0, {"最早的 🕰️", *many})
        done = await chat.done(revoke("ann", "one more"))
        assert [entry.body for entry in done.entries] == [{"token": "one more"}]
        floor = begun + AHEAD_MS + 1
        assert await revocations(chat, "ann", *ids) == (floor, {*many, "one more"})
        chat.clock.advance(VALID_MS)
        await chat.done(revoke("ann", "another"))
        assert await revocations(chat, "ann", *ids) == (floor, {"another"})

    async def test_revoking_needs_an_account(self, chat: Chat) -> None:
        """None that was erased, either; and of it no token is remembered."""
        await chat.users("ann")
        await chat.done(revoke("ann", "一"))
        await chat.done(EraseUser("ann"))
        assert await revocations(chat, "ann", "一") == (0, set())
        assert await chat.code(revoke("ann")) == "user_erased"
        assert await chat.code(revoke("nobody", "一")) == "user_not_found"
