"""Operations on users, groups and memberships."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import msgspec

from qunxin.engine.access import SYSTEM, Caller, acting_user, check_access, fence
from qunxin.engine.core import Core, check_id, check_limit, check_name, veiled
from qunxin.engine.quotas import Quota
from qunxin.engine.results import GroupPut, MembersChange, SeenUser, UserPut
from qunxin.errors import QunxinError
from qunxin.model import Grade, Group, History, Member, Require, Role, User, UserState
from qunxin.store.commands import (
    AddMembers,
    ChangeMember,
    DissolveGroup,
    EraseUser,
    PutGroup,
    PutUser,
    RemoveMember,
    SetBlock,
)
from qunxin.store.reads import GroupsPage, MembersPage, UsersPage
from qunxin.store.results import GroupResult, MemberResult, MembersResult, Result, UserResult

MAX_NAME_LENGTH = 200
MAX_PAGE = 1_000

T = TypeVar("T")


class DirectoryOperations(Core):
    """Who exists, and who is in what."""

    # --- users -------------------------------------------------------------------------------

    async def put_user(
        self,
        user: str,
        *,
        name: str | None = None,
        state: UserState | str | None = None,
        only_new: bool = False,
        caller: Caller = SYSTEM,
    ) -> UserPut:
        """Create or update an account; with `only_new` one that exists is left as it is. On return
        it is durable; a suspension has ended the user's sessions here and is on its way to other
        nodes. Raises `user_erased`."""
        check_access(caller, "user.put", about=user)
        if state is not None and not caller.is_key:
            raise QunxinError("forbidden", detail="only an API key may change the state")
        wanted = _convert("state", state, UserState)
        if wanted is UserState.ERASED:
            raise QunxinError("invalid_request", detail="state: active or suspended")
        command = PutUser(check_id("user", user), _check_name(name), wanted, only_new)
        result = _expect(await self.commit(command, caller), UserResult)
        return UserPut(result.user, result.created)

    async def get_user(self, user: str, *, caller: Caller = SYSTEM) -> SeenUser:
        """The account. A user's own token is not told the `state` of others. Raises
        `user_not_found` or `user_erased`."""
        check_access(caller, "user.get", about=user)
        found = await self.find_account(user)
        told = caller.is_key or caller.user == user
        state = found.state if told else msgspec.UNSET
        return SeenUser(found.user, found.key, found.name, found.created, state)

    async def find_account(self, user: str) -> User:
        """The account, for whoever may know all of it. Raises `user_not_found` or
        `user_erased`."""
        found = await self.store.read_user(check_id("user", user))
        if found is None:
            raise QunxinError("user_not_found", user=user)
        if found.state is UserState.ERASED:
            raise QunxinError("user_erased", user=user)
        return found

    async def list_users(
        self, *, cursor: str | None = None, limit: int = 100, caller: Caller = SYSTEM
    ) -> UsersPage:
        """Accounts that are not erased, a page at a time, the oldest first."""
        check_access(caller, "user.list")
        check_limit(limit, MAX_PAGE)
        return await self.store.list_users(cursor=cursor, limit=limit)

    async def erase_user(self, user: str, *, caller: Caller = SYSTEM) -> User:
        """Erase the account for ever; it stays listed in its groups, unreachable, until removed
        or swept. Raises `user_not_found` or `user_erased`."""
        check_access(caller, "user.erase", about=user)
        return _expect(await self.commit(EraseUser(check_id("user", user)), caller), User)

    async def set_block(
        self, user: str, blocked: str, on: bool, *, caller: Caller = SYSTEM
    ) -> None:
        """From now on (or no longer) refuse private messages from `blocked` to `user`."""
        check_access(caller, "user.block" if on else "user.unblock", about=user)
        command = SetBlock(check_id("user", user), check_id("blocked", blocked), on)
        await self.commit(command, caller)

    async def blocks(self, user: str, *, caller: Caller = SYSTEM) -> tuple[str, ...]:
        """Whom `user` has blocked, sorted. Raises `user_not_found` or `user_erased`."""
        check_access(caller, "user.blocks", about=user)
        blocked = await self.store.list_blocked(check_id("user", user))
        if not blocked:
            await self.find_account(user)
        return blocked

    # --- groups ------------------------------------------------------------------------------

    async def put_group(
        self,
        group: str,
        *,
        name: str | None = None,
        owner: str | None = None,
        members: Sequence[str] = (),
        history: History | str | None = None,
        require: Require | str | None = None,
        muted: bool | None = None,
        acting: str | None = None,
        caller: Caller = SYSTEM,
    ) -> GroupPut:
        """Create a group, or update the settings given. Owner and members count at creation
        only; members without an account are named in the results, grade partial. A user's own
        token may name nobody else as the owner, whether or not the group is there. Raises
        `group_dissolved`, `user_not_found` (the owner), `group_full`."""
        check_id("group", group)
        check_access(caller, "group.create", about=owner)
        creating = await self.store.read_group(group) is None
        if not creating:
            check_access(caller, "group.update")
        elif owner is None and caller.user is None:
            raise QunxinError("invalid_request", detail="owner: a new group needs one")
        elif owner is None:
            owner = caller.user
        command = PutGroup(
            group,
            name=_check_name(name),
            owner=None if owner is None else check_id("owner", owner),
            members=self._check_users(members),
            history=_convert("history", history, History),
            require=_convert("require", require, Require),
            muted=muted,
            by=acting_user(caller, acting) or (owner if creating else None),
            fence=fence(caller, "group.update", acting),
            limit=self.settings.max_group_members,
        )
        if creating or await self._is_stranger(caller, group):
            invited = len(command.members)
            self.quotas.take_all(caller, {Quota.GROUPS: 1, Quota.INVITATIONS: invited})
        result = _expect(await self.commit(command, caller, group), GroupResult)
        return GroupPut(result.group, result.created, _grade(result.results), result.results)

    async def _is_stranger(self, caller: Caller, group: str) -> bool:
        """Whether the group is hidden from `caller`, to whom a creation is then refused. That
        counts as one: else whoever has used up the allowance could try ids without end, and see by
        the refusal which are taken."""
        return caller.user is not None and not await self.was_member(group, caller.user)

    async def get_group(
        self, group: str, *, acting: str | None = None, caller: Caller = SYSTEM
    ) -> Group:
        """The group as it is. Raises `group_not_found` or `group_dissolved`."""
        check_access(caller, "group.get")
        await self.check_role(caller, "group.get", check_id("group", group), acting)
        found = await self.store.read_group(group)
        if found is None:
            raise QunxinError("group_not_found")
        return found

    async def list_groups(
        self, *, cursor: str | None = None, limit: int = 100, caller: Caller = SYSTEM
    ) -> GroupsPage:
        """Groups that are not dissolved, a page at a time, the oldest first."""
        check_access(caller, "group.list")
        check_limit(limit, MAX_PAGE)
        return await self.store.list_groups(cursor=cursor, limit=limit)

    async def dissolve_group(
        self, group: str, *, acting: str | None = None, caller: Caller = SYSTEM
    ) -> Group:
        """End the group for ever; everybody gets the `dissolved` entry and nothing after it."""
        check_access(caller, "group.dissolve")
        command = DissolveGroup(
            check_id("group", group),
            by=acting_user(caller, acting),
            fence=fence(caller, "group.dissolve", acting),
        )
        return _expect(await self.commit(command, caller, group), Group)

    # --- memberships -------------------------------------------------------------------------

    async def members(
        self,
        group: str,
        *,
        cursor: str | None = None,
        limit: int = 100,
        acting: str | None = None,
        caller: Caller = SYSTEM,
    ) -> MembersPage:
        """Current members by integer key, a page at a time."""
        check_access(caller, "group.members")
        check_limit(limit, MAX_PAGE)
        me = await self.check_role(caller, "group.members", check_id("group", group), acting)
        page = await self.store.list_members(group, cursor=cursor, limit=limit)
        if caller.is_key or (me is not None and me.role >= Role.ADMIN):
            return page
        members = tuple(
            msgspec.structs.replace(m, reason=veiled(m.reason)) if m.reason else m
            for m in page.members
        )
        return msgspec.structs.replace(page, members=members)

    async def add_members(
        self,
        group: str,
        users: Sequence[str],
        *,
        acting: str | None = None,
        caller: Caller = SYSTEM,
    ) -> MembersChange:
        """Add up to 10,000 users as one entry. On return each of them misses nothing with a
        later position. Those without an account are named, grade partial."""
        check_access(caller, "member.add")
        command = AddMembers(
            check_id("group", group),
            self._check_users(users),
            by=acting_user(caller, acting),
            fence=fence(caller, "member.add", acting),
            limit=self.settings.max_group_members,
        )
        self.quotas.take(caller, Quota.INVITATIONS, len(command.users))
        return _change(group, await self.commit(command, caller, group))

    async def remove_member(
        self, group: str, user: str, *, acting: str | None = None, caller: Caller = SYSTEM
    ) -> MembersChange:
        """Take `user` out; their own wish where they are the one who acts. On return nothing
        with a later position reaches them. Raises `not_a_member`, `last_owner`."""
        actor = acting_user(caller, acting)
        leaving = actor == user
        operation = "member.leave" if leaving else "member.remove"
        check_access(caller, operation)
        command = RemoveMember(
            check_id("group", group),
            check_id("user", user),
            reason="left" if leaving else "removed",
            by=actor,
            fence=None if leaving else fence(caller, operation, acting),
        )
        return _change(group, await self.commit(command, caller, group))

    async def change_member(
        self,
        group: str,
        user: str,
        *,
        role: Role | str | None = None,
        muted: bool | None = None,
        acting: str | None = None,
        caller: Caller = SYSTEM,
    ) -> Member:
        """Set a member's role (owners may) or mute (admins may, of a lower role)."""
        operation = "member.mute" if role is None else "member.set_role"
        check_access(caller, operation)
        command = ChangeMember(
            check_id("group", group),
            check_id("user", user),
            role=_role(role),
            muted=muted,
            by=acting_user(caller, acting),
            fence=fence(caller, operation, acting),
        )
        return _expect(await self.commit(command, caller, group), Member)

    def _check_users(self, users: Sequence[str]) -> tuple[str, ...]:
        """Valid ids, each once, in their order."""
        limit = self.settings.max_members_per_call
        if len(users) > limit:
            raise QunxinError("invalid_request", detail=f"users: at most {limit} at once")
        return tuple(dict.fromkeys(check_id("users", user) for user in users))


def _check_name(name: str | None) -> str | None:
    return None if name is None else check_name(name, MAX_NAME_LENGTH)


def _convert(field: str, value: Any, kind: type[T]) -> T | None:
    """`value` as a member of the enumeration `kind`, or `invalid_request`."""
    if value is None:
        return None
    try:
        return kind(value)  # type: ignore[call-arg]
    except ValueError:
        choices = ", ".join(str(choice) for choice in kind)  # type: ignore[attr-defined]
        raise QunxinError("invalid_request", detail=f"{field}: one of {choices}") from None


def _role(value: Role | str | None) -> Role | None:
    if value is None or isinstance(value, Role):
        return value
    try:
        return Role[str(value).upper()]
    except KeyError:
        raise QunxinError("invalid_request", detail="role: member, admin or owner") from None


def _expect(result: Result, kind: type[T]) -> T:
    """The result of a command, which the contract says is a `kind`."""
    if not isinstance(result, kind):
        raise TypeError(f"the store answered {type(result).__name__}, not {kind.__name__}")
    return result


def _grade(results: tuple[MemberResult, ...]) -> Grade:
    missing = any(row.result == "user_not_found" for row in results)
    return Grade.PARTIAL if missing else Grade.COMPLETE


def _change(group: str, result: Result) -> MembersChange:
    change = _expect(result, MembersResult)
    return MembersChange(group, change.membership_version, _grade(change.results), change.results)
