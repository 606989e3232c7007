"""Users, groups, members, blocks, keys, and who is out of reach."""

from __future__ import annotations

from typing import Final

import msgspec

from qunxin.errors import QunxinError
from qunxin.model import ApiKey, Group, Member, Reason, SignIn, User
from qunxin.store.reads import (
    GroupsPage,
    MemberKeys,
    MembersPage,
    UnreachableSet,
    UnreachableUser,
    UsersPage,
)
from qunxin.stores.sqlite.commands.api_keys import API_KEY_SQL, api_key_from_row
from qunxin.stores.sqlite.commands.lookups import (
    GROUP_COLUMNS,
    GROUP_TABLES,
    MEMBER_COLUMNS,
    MEMBER_TABLES,
    USER_COLUMNS,
    group_from_row,
    member_from_row,
    user_from_row,
)
from qunxin.stores.sqlite.readers import Reader

_USER: Final = f"SELECT {USER_COLUMNS} FROM users u WHERE u.user = ?"  # noqa: S608
_SIGN_IN: Final = f"""
    SELECT {USER_COLUMNS}, u.tokens_from, EXISTS (
        SELECT 1 FROM revoked_tokens r WHERE r.user = u.key AND r.token = ?2
    ) FROM users u WHERE u.user = ?1
"""  # noqa: S608
_GROUP: Final = f"SELECT {GROUP_COLUMNS} FROM {GROUP_TABLES} WHERE c.name = ?"  # noqa: S608
_USERS: Final = f"""
    SELECT {USER_COLUMNS} FROM users u WHERE u.key > ? AND u.state <> 'erased'
    ORDER BY u.key LIMIT ?
"""  # noqa: S608
_GROUPS: Final = f"""
    SELECT {GROUP_COLUMNS} FROM groups g JOIN conversations c ON c.key = g.key
    WHERE g.key > ? AND g.state <> 'dissolved' ORDER BY g.key LIMIT ?
"""  # noqa: S608
_MEMBER: Final = f"""
    SELECT {MEMBER_COLUMNS} FROM {MEMBER_TABLES} JOIN conversations c ON c.key = s.conversation
    WHERE c.name = ? AND c.kind = 'group' AND u.user = ? AND s.last IS NULL
"""  # noqa: S608
_MEMBERS: Final = f"""
    SELECT {MEMBER_COLUMNS} FROM stays s INDEXED BY stays_current JOIN users u ON u.key = s.user
    WHERE s.conversation = ? AND s.user > ? AND s.last IS NULL ORDER BY s.user LIMIT ?
"""  # noqa: S608


def key_from_cursor(cursor: str | None) -> int:
    """The integer key after which a page begins. Refused: `invalid_request`."""
    if cursor is None:
        return 0
    if not cursor.isascii() or not cursor.isdigit() or len(cursor) > 16:
        raise QunxinError("invalid_request", detail="the cursor is not one of ours")
    return int(cursor)


def read_user(reader: Reader, user: str) -> User | None:
    row = reader.row(_USER, (user,))
    return None if row is None else user_from_row(row)


def read_sign_in(reader: Reader, user: str, token: str | None) -> SignIn | None:
    row = reader.row(_SIGN_IN, (user, token))
    if row is None:
        return None
    *columns, tokens_from, revoked = row
    found = user_from_row(tuple(columns))
    return SignIn(found, tokens_from, bool(revoked))


def read_group(reader: Reader, group: str) -> Group | None:
    row = reader.row(_GROUP, (f"group:{group}",))
    return None if row is None else group_from_row(row)


def list_users(reader: Reader, cursor: str | None, limit: int) -> UsersPage:
    rows = reader.rows(_USERS, (key_from_cursor(cursor), limit + 1)).fetchall()
    users = tuple(user_from_row(row) for row in rows[:limit])
    return UsersPage(users, str(users[-1].key) if len(rows) > limit else None)


def list_groups(reader: Reader, cursor: str | None, limit: int) -> GroupsPage:
    rows = reader.rows(_GROUPS, (key_from_cursor(cursor), limit + 1)).fetchall()
    groups = tuple(group_from_row(row) for row in rows[:limit])
    return GroupsPage(groups, str(groups[-1].key) if len(rows) > limit else None)


def read_member(reader: Reader, group: str, user: str) -> Member | None:
    row = reader.row(_MEMBER, (f"group:{group}", user))
    return None if row is None else member_from_row(row)


def list_members(reader: Reader, group: str, cursor: str | None, limit: int) -> MembersPage:
    after = key_from_cursor(cursor)
    with reader:
        found = read_group(reader, group)
        if found is None:
            return MembersPage((), None, 0)
        rows = reader.rows(_MEMBERS, (found.key, after, limit + 1)).fetchall()
        members = tuple(member_from_row(row) for row in rows[:limit])
        following = str(members[-1].key) if len(rows) > limit else None
        return MembersPage(members, following, found.membership_version)


def read_member_keys(reader: Reader, group: str) -> MemberKeys:
    with reader:
        found = read_group(reader, group)
        if found is None:
            return MemberKeys(0, ())
        text = reader.value(
            "SELECT json_group_array(user) FROM ("
            "SELECT user FROM stays INDEXED BY stays_current"
            " WHERE conversation = ? AND last IS NULL ORDER BY user)",
            (found.key,),
        )
        keys = msgspec.json.decode(text, type=tuple[int, ...])
        return MemberKeys(found.membership_version, keys)


def read_unreachable(reader: Reader) -> UnreachableSet:
    with reader:
        version = reader.value("SELECT unreachable_version FROM state")
        rows = reader.rows(
            "SELECT key, user, reason FROM users INDEXED BY users_unreachable"
            " WHERE reason IS NOT NULL ORDER BY key"
        )
        users = tuple(UnreachableUser(key, user, Reason(reason)) for key, user, reason in rows)
        return UnreachableSet(version, users)


def list_blocked(reader: Reader, user: str) -> tuple[str, ...]:
    rows = reader.rows(
        "SELECT other.user FROM users u JOIN blocks b ON b.user = u.key"
        " JOIN users other ON other.key = b.blocked WHERE u.user = ? ORDER BY other.user",
        (user,),
    )
    return tuple(name for (name,) in rows)


def read_api_keys(reader: Reader) -> tuple[ApiKey, ...]:
    rows = reader.rows(f"{API_KEY_SQL} ORDER BY created, id")
    return tuple(api_key_from_row(row) for row in rows)
