"""The rows of the table of operations that concern users, their devices and whom they block."""

from __future__ import annotations

from typing import Final

from qunxin.engine.results import SeenUser
from qunxin.gateways.operations import handlers as run
from qunxin.gateways.operations import requests as req
from qunxin.gateways.operations import responses as res
from qunxin.gateways.operations.rows.common import NO_USER, OK, SAVED, always, by_new
from qunxin.gateways.operations.table import Operation
from qunxin.model import User
from qunxin.store.reads import UsersPage

USERS: Final = (
    Operation(
        name="user.put",
        method="PUT",
        path="/v1/users/{user}",
        tag="users",
        summary="Create or update a user",
        chinese="创建或更新用户",
        description=(
            "A new account is active and is named by its id until it has a name. Suspending one "
            "ends its sessions and refuses what it sends; making it active again undoes that. "
            "Users may change their own name."
        ),
        request=req.PutUser,
        response=res.SavedUser,
        statuses=SAVED,
        errors=("user_erased",),
        rules=("user.put",),
        run=run.put_user,
        status_of=by_new,
    ),
    Operation(
        name="user.get",
        method="GET",
        path="/v1/users/{user}",
        tag="users",
        summary="Read a user",
        chinese="查询用户",
        description=(
            "The account as it is now. Users asking about others are not told the `state`: the "
            "field is left out."
        ),
        request=req.OfUser,
        response=SeenUser,
        statuses=OK,
        errors=NO_USER,
        rules=("user.get",),
        run=run.get_user,
        status_of=always(200),
    ),
    Operation(
        name="user.list",
        method="GET",
        path="/v1/users",
        tag="users",
        summary="List users",
        chinese="用户列表",
        description="Accounts that are not erased, the oldest first; for API keys only.",
        request=req.ListUsers,
        response=UsersPage,
        statuses=OK,
        errors=(),
        rules=("user.list",),
        run=run.list_users,
        status_of=always(200),
    ),
    Operation(
        name="user.erase",
        method="DELETE",
        path="/v1/users/{user}",
        tag="users",
        summary="Erase a user",
        chinese="注销用户",
        description=(
            "Name, blocks and cursors go, sessions end, and the id is never used again. Groups "
            "list the user as unreachable until removed or swept. Cannot be undone."
        ),
        request=req.OfUser,
        response=User,
        statuses=OK,
        errors=NO_USER,
        rules=("user.erase",),
        run=run.erase_user,
        status_of=always(200),
    ),
    Operation(
        name="user.blocks",
        method="GET",
        path="/v1/users/{user}/blocks",
        tag="users",
        summary="List whom a user blocks",
        chinese="查询屏蔽列表",
        description="Everyone whose private messages the user refuses.",
        request=req.OfUser,
        response=res.BlockList,
        statuses=OK,
        errors=NO_USER,
        rules=("user.blocks",),
        run=run.blocks,
        status_of=always(200),
    ),
    Operation(
        name="user.block",
        method="PUT",
        path="/v1/users/{user}/blocks/{blocked}",
        tag="users",
        summary="Block somebody",
        chinese="屏蔽某人",
        description=(
            "Private messages from them are refused from now on: keys are told `blocked`, the "
            "sender `members_unreachable` with the reason `unavailable`."
        ),
        request=req.Block,
        response=res.UserBlock,
        statuses=OK,
        errors=NO_USER,
        rules=("user.block",),
        run=run.block,
        status_of=always(200),
    ),
    Operation(
        name="user.unblock",
        method="DELETE",
        path="/v1/users/{user}/blocks/{blocked}",
        tag="users",
        summary="Stop blocking somebody",
        chinese="取消屏蔽",
        description="Their private messages are accepted again.",
        request=req.Block,
        response=res.UserBlock,
        statuses=OK,
        errors=NO_USER,
        rules=("user.unblock",),
        run=run.unblock,
        status_of=always(200),
    ),
    Operation(
        name="user.conversations",
        method="GET",
        path="/v1/users/{user}/conversations",
        tag="users",
        summary="List a user's conversations",
        chinese="会话列表",
        description=(
            "Groups, private conversations and the broadcasts, the most recent first, with "
            "cursors and unread counts."
        ),
        request=req.ListConversations,
        response=res.ConversationList,
        statuses=OK,
        errors=NO_USER,
        rules=("user.conversations",),
        run=run.conversations,
        status_of=always(200),
    ),
    Operation(
        name="user.sessions",
        method="GET",
        path="/v1/users/{user}/sessions",
        tag="users",
        summary="List a user's connected devices",
        chinese="在线设备列表",
        description="The realtime sessions that are connected now.",
        request=req.OfUser,
        response=res.SessionList,
        statuses=OK,
        errors=NO_USER,
        rules=("user.sessions",),
        run=run.sessions,
        status_of=always(200),
    ),
    Operation(
        name="user.end_sessions",
        method="DELETE",
        path="/v1/users/{user}/sessions",
        tag="users",
        summary="Disconnect a user's devices",
        chinese="断开用户的所有设备",
        description=(
            "Every session of the user ends. A device with a valid token may come back: revoke "
            "its tokens, or suspend the user, to keep it out."
        ),
        request=req.OfUser,
        response=res.SessionsEnded,
        statuses=OK,
        errors=NO_USER,
        rules=("user.end_sessions",),
        run=run.end_sessions,
        status_of=always(200),
    ),
    Operation(
        name="user.end_session",
        method="DELETE",
        path="/v1/users/{user}/sessions/{session}",
        tag="users",
        summary="Disconnect one device",
        chinese="断开一台设备",
        description=(
            "One session ends. The device may come back with a valid token: revoke that to keep "
            "it out."
        ),
        request=req.EndSession,
        response=res.SessionEnded,
        statuses=OK,
        errors=(),
        rules=("user.end_session",),
        run=run.end_session,
        status_of=always(200),
    ),
)
