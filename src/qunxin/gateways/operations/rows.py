"""The one table of operations, in the order of the reference.

To add an operation: a request struct, a response struct where the engine's own value does not
do, a handler, a row. HTTP routes, realtime `rpc` names, the OpenAPI description and the readable
page follow.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from qunxin.engine.results import MembersChange, Presence, RecallReceipt, Receipt
from qunxin.gateways.operations import handlers as run
from qunxin.gateways.operations import requests as req
from qunxin.gateways.operations import responses as res
from qunxin.gateways.operations.table import Operation
from qunxin.gateways.operations.webhook_rows import WEBHOOKS
from qunxin.model import Cursor, Group, User

_OK: Final = {200: "Done."}
_CREATED: Final = {201: "Created.", 200: "Updated."}
_MADE: Final = {201: "Created."}

_GROUP = ("group_not_found", "group_dissolved")
_ACTING = ("not_a_member", "user_not_found", "user_erased", "user_suspended")
_USER = ("user_not_found", "user_erased")
_CONVERSATION = ("conversation_not_found", "not_a_member", *_GROUP, *_USER)


def _always(status: int) -> Callable[[Any], int]:
    return lambda _: status


def _by_new(response: res.SavedUser | res.SavedGroup) -> int:
    return 201 if response.new else 200


def _by_duplicate(response: Receipt) -> int:
    return 200 if response.duplicate else 201


_USERS = (
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
        statuses=_CREATED,
        errors=("user_erased",),
        rules=("user.put",),
        run=run.put_user,
        status_of=_by_new,
    ),
    Operation(
        name="user.get",
        method="GET",
        path="/v1/users/{user}",
        tag="users",
        summary="Read a user",
        chinese="查询用户",
        description="The account as it is now.",
        request=req.OfUser,
        response=User,
        statuses=_OK,
        errors=_USER,
        rules=("user.get",),
        run=run.get_user,
        status_of=_always(200),
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
        statuses=_OK,
        errors=_USER,
        rules=("user.erase",),
        run=run.erase_user,
        status_of=_always(200),
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
        statuses=_OK,
        errors=_USER,
        rules=("user.blocks",),
        run=run.blocks,
        status_of=_always(200),
    ),
    Operation(
        name="user.block",
        method="PUT",
        path="/v1/users/{user}/blocks/{blocked}",
        tag="users",
        summary="Block somebody",
        chinese="屏蔽某人",
        description="Private messages from them are refused with `blocked` from now on.",
        request=req.Block,
        response=res.UserBlock,
        statuses=_OK,
        errors=_USER,
        rules=("user.block",),
        run=run.block,
        status_of=_always(200),
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
        statuses=_OK,
        errors=_USER,
        rules=("user.unblock",),
        run=run.unblock,
        status_of=_always(200),
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
        statuses=_OK,
        errors=_USER,
        rules=("user.conversations",),
        run=run.conversations,
        status_of=_always(200),
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
        statuses=_OK,
        errors=_USER,
        rules=("user.sessions",),
        run=run.sessions,
        status_of=_always(200),
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
        statuses=_OK,
        errors=_USER,
        rules=("user.end_sessions",),
        run=run.end_sessions,
        status_of=_always(200),
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
        statuses=_OK,
        errors=(),
        rules=("user.end_session",),
        run=run.end_session,
        status_of=_always(200),
    ),
)

_GROUPS = (
    Operation(
        name="group.put",
        method="PUT",
        path="/v1/groups/{group}",
        tag="groups",
        summary="Create or update a group",
        chinese="创建或更新群组",
        description=(
            "`owner` and `members` count at the creation only. Members without an account are "
            "named in `results`, and `grade` is then `partial`. `history`: what a new member may "
            "read, `joined` (from their joining, the default) or `full`. `muted`: only owners and "
            "admins may write."
        ),
        request=req.PutGroup,
        response=res.SavedGroup,
        statuses=_CREATED,
        errors=(*_ACTING, "group_dissolved", "group_not_found", "group_full"),
        rules=("group.create", "group.update"),
        run=run.put_group,
        status_of=_by_new,
    ),
    Operation(
        name="group.get",
        method="GET",
        path="/v1/groups/{group}",
        tag="groups",
        summary="Read a group",
        chinese="查询群组",
        description="Its settings, how many members it has, and its membership version.",
        request=req.GetGroup,
        response=Group,
        statuses=_OK,
        errors=(*_GROUP, *_ACTING),
        rules=("group.get",),
        run=run.get_group,
        status_of=_always(200),
    ),
    Operation(
        name="group.dissolve",
        method="DELETE",
        path="/v1/groups/{group}",
        tag="groups",
        summary="Dissolve a group",
        chinese="解散群组",
        description=(
            "Every membership ends; members still read up to this moment. The id answers "
            "`group_dissolved` for ever. Cannot be undone."
        ),
        request=req.DissolveGroup,
        response=Group,
        statuses=_OK,
        errors=(*_GROUP, *_ACTING),
        rules=("group.dissolve",),
        run=run.dissolve_group,
        status_of=_always(200),
    ),
    Operation(
        name="group.members",
        method="GET",
        path="/v1/groups/{group}/members",
        tag="groups",
        summary="List a group's members",
        chinese="群成员列表",
        description="Current members, in the order of their integer keys.",
        request=req.ListMembers,
        response=res.MemberList,
        statuses=_OK,
        errors=(*_GROUP, *_ACTING),
        rules=("group.members",),
        run=run.members,
        status_of=_always(200),
    ),
    Operation(
        name="group.presence",
        method="GET",
        path="/v1/groups/{group}/presence",
        tag="groups",
        summary="Who is connected",
        chinese="查看在线成员",
        description=(
            "The devices on this node that follow the group now, connected longest first: named "
            "up to `limit`, counted all. Whoever has just come or gone may still be missing or "
            "named."
        ),
        request=req.ListPresent,
        response=Presence,
        statuses=_OK,
        errors=(*_GROUP, *_ACTING),
        rules=("group.presence",),
        run=run.presence,
        status_of=_always(200),
    ),
    Operation(
        name="member.add",
        method="POST",
        path="/v1/groups/{group}/members",
        tag="groups",
        summary="Add members",
        chinese="添加群成员",
        description=(
            "Up to 10,000 at once, as one entry. Who has no account is named in `results` and "
            "`grade` is `partial`; the others are added."
        ),
        request=req.AddMembers,
        response=MembersChange,
        statuses=_OK,
        errors=(*_GROUP, *_ACTING, "group_full"),
        rules=("member.add",),
        run=run.add_members,
        status_of=_always(200),
    ),
    Operation(
        name="member.change",
        method="PATCH",
        path="/v1/groups/{group}/members/{user}",
        tag="groups",
        summary="Change a member's role, or mute them",
        chinese="修改成员角色或禁言",
        description="Left-out fields stay as they are.",
        request=req.ChangeMember,
        response=res.MemberView,
        statuses=_OK,
        errors=(*_GROUP, *_ACTING, "last_owner"),
        rules=("member.set_role", "member.mute"),
        run=run.change_member,
        status_of=_always(200),
    ),
    Operation(
        name="member.remove",
        method="DELETE",
        path="/v1/groups/{group}/members/{user}",
        tag="groups",
        summary="Remove a member, or leave",
        chinese="移除成员或退出群组",
        description=(
            "Who was removed gets nothing with a later position and still reads what came "
            "before. Removing oneself is leaving."
        ),
        request=req.RemoveMember,
        response=MembersChange,
        statuses=_OK,
        errors=(*_GROUP, *_ACTING, "last_owner"),
        rules=("member.remove", "member.leave"),
        run=run.remove_member,
        status_of=_always(200),
    ),
)

_MESSAGES = (
    Operation(
        name="message.send",
        method="POST",
        path="/v1/messages",
        tag="messages",
        summary="Send a message",
        chinese="发送消息",
        description=(
            "A success means: durable, with its final position, and everyone entitled will be "
            "able to get it. A refusal means that nobody ever gets it. Where the outcome stays "
            "unknown (a broken connection, `outcome_unknown`), repeat with the same `key`: the "
            "first outcome comes back with `duplicate`, or the message is judged anew. The key "
            "can also be given as the header `Idempotency-Key`."
        ),
        request=req.SendMessage,
        response=Receipt,
        statuses={
            201: "Accepted: durable and numbered.",
            200: "Accepted earlier under the same key: the first outcome again.",
        },
        errors=(
            "unknown_message_type",
            "message_too_large",
            "idempotency_conflict",
            "members_unreachable",
            *_GROUP,
            *_ACTING,
            "member_muted",
            "group_muted",
            "blocked",
        ),
        rules=("message.send.private", "message.send.group", "message.send.broadcast"),
        run=run.send,
        status_of=_by_duplicate,
    ),
    Operation(
        name="message.recall",
        method="POST",
        path="/v1/conversations/{conversation}/entries/{position}/recall",
        tag="messages",
        summary="Recall a message",
        chinese="撤回消息",
        description=(
            "From now on no read shows the content; devices that were away get the tombstone. "
            "Authors within the recall window, owners, admins and keys at any time. A repeat "
            "gives the first outcome with `duplicate`."
        ),
        request=req.RecallMessage,
        response=RecallReceipt,
        statuses=_OK,
        errors=(*_CONVERSATION, "entry_not_found", "recall_window_over", "user_suspended"),
        rules=("message.recall",),
        run=run.recall,
        status_of=_always(200),
    ),
    Operation(
        name="message.deliveries",
        method="GET",
        path="/v1/conversations/{conversation}/entries/{position}/deliveries",
        tag="messages",
        summary="Who got a message: the ledger",
        chinese="消息送达明细",
        description=(
            "For every member but the sender: `queued`, `delivered` (a device proved it), `read` "
            "or `unreachable`, with counts over all. It may lag by seconds and never claims a "
            "delivery that did not happen."
        ),
        request=req.ListDeliveries,
        response=res.Ledger,
        statuses=_OK,
        errors=(*_CONVERSATION, "entry_not_found"),
        rules=("message.deliveries",),
        run=run.deliveries,
        status_of=_always(200),
    ),
    Operation(
        name="conversation.entries",
        method="GET",
        path="/v1/conversations/{conversation}/entries",
        tag="messages",
        summary="Read a conversation",
        chinese="读取会话消息",
        description=(
            "With `after`: onward from there; with `before`: what stands just below it; with "
            "neither: the newest. Always in ascending order. What the reader may not see comes "
            "as `hidden` ranges."
        ),
        request=req.ReadEntries,
        response=res.EntryList,
        statuses=_OK,
        errors=_CONVERSATION,
        rules=("conversation.entries",),
        run=run.entries,
        status_of=_always(200),
    ),
    Operation(
        name="cursor.read",
        method="PUT",
        path="/v1/users/{user}/conversations/{conversation}/read",
        tag="messages",
        summary="Mark a conversation as read up to a position",
        chinese="标记已读",
        description=(
            "Cursors only rise: a lower position changes nothing, one above the head counts as "
            "the head."
        ),
        request=req.MarkRead,
        response=Cursor,
        statuses=_OK,
        errors=_CONVERSATION,
        rules=("cursor.read",),
        run=run.mark_read,
        status_of=_always(200),
    ),
)

_ACCESS = (
    Operation(
        name="token.create",
        method="POST",
        path="/v1/tokens",
        tag="access",
        summary="Make a token for a user's devices",
        chinese="签发用户令牌",
        description=(
            "Your server asks for it with its API key and hands it to the user's device. Never "
            "give a device an API key."
        ),
        request=req.CreateToken,
        response=res.Token,
        statuses=_MADE,
        errors=(*_USER, "user_suspended"),
        rules=("token.create",),
        run=run.create_token,
        status_of=_always(201),
    ),
    Operation(
        name="token.revoke",
        method="DELETE",
        path="/v1/users/{user}/tokens/{id}",
        tag="access",
        summary="Revoke one token",
        chinese="吊销一个令牌",
        description=(
            "The token with that id (its claim `jti`) is refused from now on, and the sessions "
            "that came with it end. A user without tokens of that id loses nothing."
        ),
        request=req.RevokeToken,
        response=res.TokensRevoked,
        statuses=_OK,
        errors=_USER,
        rules=("token.revoke",),
        run=run.revoke_token,
        status_of=_always(200),
    ),
    Operation(
        name="token.revoke_all",
        method="DELETE",
        path="/v1/users/{user}/tokens",
        tag="access",
        summary="Revoke all of a user's tokens",
        chinese="吊销用户的所有令牌",
        description=(
            "Every token issued until now is refused, and the user's sessions end. Tokens issued "
            "later are good. Where the claim `iat` is in whole seconds, later means from the next "
            "second on; without `iat` a token counts as issued before."
        ),
        request=req.OfUser,
        response=res.TokensRevoked,
        statuses=_OK,
        errors=_USER,
        rules=("token.revoke_all",),
        run=run.revoke_all_tokens,
        status_of=_always(200),
    ),
    Operation(
        name="key.create",
        method="POST",
        path="/v1/keys",
        tag="access",
        summary="Make an API key",
        chinese="创建 API 密钥",
        description="The secret is shown this once; only its digest is kept.",
        request=req.CreateKey,
        response=res.NewKey,
        statuses=_MADE,
        errors=(),
        rules=("key.create",),
        run=run.create_key,
        status_of=_always(201),
    ),
    Operation(
        name="key.list",
        method="GET",
        path="/v1/keys",
        tag="access",
        summary="List API keys",
        chinese="API 密钥列表",
        description="All keys, revoked ones too, without their secrets.",
        request=req.Nothing,
        response=res.KeyList,
        statuses=_OK,
        errors=(),
        rules=("key.list",),
        run=run.list_keys,
        status_of=_always(200),
    ),
    Operation(
        name="key.revoke",
        method="DELETE",
        path="/v1/keys/{id}",
        tag="access",
        summary="Revoke an API key",
        chinese="吊销 API 密钥",
        description="The key is refused from now on. Cannot be undone.",
        request=req.OfKey,
        response=res.KeyView,
        statuses=_OK,
        errors=("not_found",),
        rules=("key.revoke",),
        run=run.revoke_key,
        status_of=_always(200),
    ),
)

OPERATIONS: Final[dict[str, Operation]] = {
    operation.name: operation for operation in (*_USERS, *_GROUPS, *_MESSAGES, *_ACCESS, *WEBHOOKS)
}
