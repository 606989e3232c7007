"""What commands look up about users and groups, and how they refuse what is not there."""

from __future__ import annotations

from typing import Final

from qunxin.errors import QunxinError
from qunxin.model import (
    Group,
    GroupState,
    History,
    Member,
    Reason,
    Require,
    Role,
    User,
    UserState,
)
from qunxin.store.commands import Fence
from qunxin.stores.sqlite.rows import Row
from qunxin.stores.sqlite.transaction import Transaction

USER_COLUMNS: Final = "u.user, u.key, u.name, u.state, u.created"
GROUP_COLUMNS: Final = """
    substr(c.name, 7), g.key, g.name, g.state, g.history, g.require, g.muted, g.members,
    g.membership_version, g.created
"""
GROUP_TABLES: Final = "conversations c JOIN groups g ON g.key = c.key"
MEMBER_COLUMNS: Final = "u.user, u.key, s.role, s.muted, s.first, u.state"
MEMBER_TABLES: Final = "stays s JOIN users u ON u.key = s.user"

_REASONS: Final = {
    UserState.ACTIVE: None,
    UserState.SUSPENDED: Reason.SUSPENDED,
    UserState.ERASED: Reason.NOT_FOUND,
}


def user_from_row(row: Row) -> User:
    """The account of a row of `USER_COLUMNS`."""
    user, key, name, state, created = row
    return User(user, key, name, UserState(state), created)


def group_from_row(row: Row) -> Group:
    """The group of a row of `GROUP_COLUMNS`."""
    group, key, name, state, history, require, muted, members, version, created = row
    return Group(
        group,
        key,
        name,
        GroupState(state),
        History(history),
        Require(require),
        bool(muted),
        members,
        version,
        created,
    )


def member_from_row(row: Row) -> Member:
    """The member of a row of `MEMBER_COLUMNS`."""
    user, key, role, muted, first, state = row
    return Member(user, key, Role(role), bool(muted), first, _REASONS[UserState(state)])


def reason_of(state: UserState) -> Reason | None:
    """Why an account in this state cannot be reached; None where it can."""
    return _REASONS[state]


def find_user(tx: Transaction, user: str) -> User | None:
    row = tx.row(f"SELECT {USER_COLUMNS} FROM users u WHERE u.user = ?", (user,))  # noqa: S608
    return None if row is None else user_from_row(row)


def existing_user(tx: Transaction, user: str) -> User:
    """The account, active or suspended. Refused: `user_not_found`, `user_erased`."""
    found = find_user(tx, user)
    if found is None:
        raise QunxinError("user_not_found", user=user)
    if found.state is UserState.ERASED:
        raise QunxinError("user_erased", user=user)
    return found


def find_group(tx: Transaction, group: str) -> Group | None:
    sql = f"SELECT {GROUP_COLUMNS} FROM {GROUP_TABLES} WHERE c.name = ?"  # noqa: S608
    row = tx.row(sql, (f"group:{group}",))
    return None if row is None else group_from_row(row)


def active_group(tx: Transaction, group: str) -> Group:
    """The group. Refused: `group_not_found`, `group_dissolved`."""
    found = find_group(tx, group)
    if found is None:
        raise QunxinError("group_not_found", group=group)
    if found.state is GroupState.DISSOLVED:
        raise QunxinError("group_dissolved", group=group)
    return found


def find_member(tx: Transaction, group_key: int, user: str) -> Member | None:
    sql = (
        f"SELECT {MEMBER_COLUMNS} FROM {MEMBER_TABLES}"  # noqa: S608
        " WHERE u.user = ?2 AND s.conversation = ?1 AND s.last IS NULL"
    )
    row = tx.row(sql, (group_key, user))
    return None if row is None else member_from_row(row)


def existing_member(tx: Transaction, group: Group, user: str) -> Member:
    """The current membership. Refused: `not_a_member`."""
    member = find_member(tx, group.key, user)
    if member is None:
        raise not_a_member(tx, group.key, user)
    return member


def not_a_member(tx: Transaction, conversation_key: int, user: str) -> QunxinError:
    """The refusal, with the fact whether they ever were one."""
    former = tx.value(
        "SELECT EXISTS (SELECT 1 FROM stays s JOIN users u ON u.key = s.user"
        " WHERE u.user = ?2 AND s.conversation = ?1)",
        (conversation_key, user),
    )
    return QunxinError("not_a_member", user=user, former=bool(former))


def check_fence(
    tx: Transaction, group: Group, fence: Fence | None, target: str | None = None
) -> None:
    """Refuse with `not_a_member` or `forbidden` where the fence's condition does not hold."""
    if fence is None:
        return
    actor = existing_member(tx, group, fence.actor)
    if actor.role < fence.role:
        raise QunxinError("forbidden", detail=f"this needs the role {fence.role.name.lower()}")
    if not fence.above_target or target is None or actor.role is Role.OWNER:
        return
    if existing_member(tx, group, target).role >= actor.role:
        raise QunxinError("forbidden", detail="this needs a role above the member's own")
