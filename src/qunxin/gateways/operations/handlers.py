"""The handlers: each hands one request to the engine and shapes what comes back.

Nothing is decided here: the engine checks access, limits and state, the same for every door.
"""

from __future__ import annotations

from typing import Any

import msgspec

from qunxin.engine.access import SYSTEM, Caller, check_access
from qunxin.engine.results import MembersChange, Presence, RecallReceipt, Receipt, SeenUser
from qunxin.engine.webhooks import NewWebhook, WebhookStatus
from qunxin.errors import QunxinError
from qunxin.gateways.operations import requests as req
from qunxin.gateways.operations import responses as res
from qunxin.gateways.operations.table import Services, acting_user, user_meant
from qunxin.model import Cursor, Group, Role, User, UserState
from qunxin.store.reads import GroupsPage, UsersPage
from qunxin.wire.entries import encode_entry

# --- users ------------------------------------------------------------------------------------


async def put_user(services: Services, caller: Caller, request: req.PutUser) -> res.SavedUser:
    put = await services.engine.put_user(
        user_meant(caller, request.user), name=request.name, state=request.state, caller=caller
    )
    return res.SavedUser(**_fields(put.user), new=put.created)


async def get_user(services: Services, caller: Caller, request: req.OfUser) -> SeenUser:
    return await services.engine.get_user(user_meant(caller, request.user), caller=caller)


async def list_users(services: Services, caller: Caller, request: req.ListUsers) -> UsersPage:
    return await services.engine.list_users(
        cursor=request.cursor, limit=request.limit, caller=caller
    )


async def erase_user(services: Services, caller: Caller, request: req.OfUser) -> User:
    return await services.engine.erase_user(user_meant(caller, request.user), caller=caller)


async def block(services: Services, caller: Caller, request: req.Block) -> res.UserBlock:
    return await _set_block(services, caller, request, on=True)


async def unblock(services: Services, caller: Caller, request: req.Block) -> res.UserBlock:
    return await _set_block(services, caller, request, on=False)


async def _set_block(
    services: Services, caller: Caller, request: req.Block, *, on: bool
) -> res.UserBlock:
    user = user_meant(caller, request.user)
    await services.engine.set_block(user, request.blocked, on, caller=caller)
    return res.UserBlock(user=user, blocked=request.blocked, on=on)


async def blocks(services: Services, caller: Caller, request: req.OfUser) -> res.BlockList:
    user = user_meant(caller, request.user)
    return res.BlockList(user=user, blocked=await services.engine.blocks(user, caller=caller))


async def conversations(
    services: Services, caller: Caller, request: req.ListConversations
) -> res.ConversationList:
    rows, next_cursor = await services.engine.conversations(
        user_meant(caller, request.user),
        cursor=request.cursor,
        limit=request.limit,
        caller=caller,
    )
    return res.ConversationList(
        conversations=tuple(res.ConversationView.of(row) for row in rows), next_cursor=next_cursor
    )


async def sessions(services: Services, caller: Caller, request: req.OfUser) -> res.SessionList:
    user = user_meant(caller, request.user)
    found = services.engine.sessions(user, caller=caller)
    if not found:
        await services.engine.find_account(user)
    return res.SessionList(sessions=tuple(found))


async def end_sessions(
    services: Services, caller: Caller, request: req.OfUser
) -> res.SessionsEnded:
    user = user_meant(caller, request.user)
    await services.engine.end_sessions(user, caller=caller)
    return res.SessionsEnded(user=user)


async def end_session(
    services: Services, caller: Caller, request: req.EndSession
) -> res.SessionEnded:
    user = user_meant(caller, request.user)
    ended = services.engine.end_session(user, request.session, caller=caller)
    return res.SessionEnded(user=user, session=request.session, ended=ended)


# --- groups -----------------------------------------------------------------------------------


async def put_group(services: Services, caller: Caller, request: req.PutGroup) -> res.SavedGroup:
    put = await services.engine.put_group(
        request.group,
        name=request.name,
        owner=request.owner,
        members=request.members,
        history=request.history,
        require=request.require,
        muted=request.muted,
        acting=acting_user(caller, request.acting),
        caller=caller,
    )
    return res.SavedGroup(
        **_fields(put.group), new=put.created, grade=put.grade, results=put.results
    )


async def get_group(services: Services, caller: Caller, request: req.GetGroup) -> Group:
    return await services.engine.get_group(
        request.group, acting=acting_user(caller, request.acting), caller=caller
    )


async def list_groups(services: Services, caller: Caller, request: req.ListGroups) -> GroupsPage:
    return await services.engine.list_groups(
        cursor=request.cursor, limit=request.limit, caller=caller
    )


async def members(services: Services, caller: Caller, request: req.ListMembers) -> res.MemberList:
    page = await services.engine.members(
        request.group,
        cursor=request.cursor,
        limit=request.limit,
        acting=acting_user(caller, request.acting),
        caller=caller,
    )
    return res.MemberList(
        members=tuple(res.MemberView.of(member) for member in page.members),
        next_cursor=page.next_cursor,
        membership_version=page.membership_version,
    )


async def dissolve_group(services: Services, caller: Caller, request: req.DissolveGroup) -> Group:
    return await services.engine.dissolve_group(
        request.group, acting=acting_user(caller, request.acting), caller=caller
    )


async def presence(services: Services, caller: Caller, request: req.ListPresent) -> Presence:
    return await services.engine.presence(
        request.group,
        limit=request.limit,
        acting=acting_user(caller, request.acting),
        caller=caller,
    )


async def add_members(services: Services, caller: Caller, request: req.AddMembers) -> MembersChange:
    return await services.engine.add_members(
        request.group, request.users, acting=acting_user(caller, request.acting), caller=caller
    )


async def remove_member(
    services: Services, caller: Caller, request: req.RemoveMember
) -> MembersChange:
    return await services.engine.remove_member(
        request.group, request.user, acting=acting_user(caller, request.acting), caller=caller
    )


async def change_member(
    services: Services, caller: Caller, request: req.ChangeMember
) -> res.MemberView:
    member = await services.engine.change_member(
        request.group,
        request.user,
        role=None if request.role is None else Role[request.role.name],
        muted=request.muted,
        acting=acting_user(caller, request.acting),
        caller=caller,
    )
    return res.MemberView.of(member)


# --- messages ---------------------------------------------------------------------------------


async def send(services: Services, caller: Caller, request: req.SendMessage) -> Receipt:
    return await services.engine.send(
        request.type,
        request.to,
        sender=acting_user(caller, request.acting),
        text=request.text,
        content=request.content,
        key=request.key,
        require=request.require,
        caller=caller,
    )


async def recall(services: Services, caller: Caller, request: req.RecallMessage) -> RecallReceipt:
    return await services.engine.recall(
        request.conversation,
        request.position,
        acting=acting_user(caller, request.acting),
        caller=caller,
    )


async def entries(services: Services, caller: Caller, request: req.ReadEntries) -> res.EntryList:
    page = await services.engine.entries(
        request.conversation,
        after=request.after,
        before=request.before,
        limit=request.limit,
        reader=acting_user(caller, request.acting),
        caller=caller,
    )
    return res.EntryList(
        conversation=page.conversation,
        epoch=page.epoch,
        entries=tuple(msgspec.Raw(encode_entry(entry)) for entry in page.entries),
        through=page.through,
        head=page.head,
        next_after=page.next_after,
        intervals=page.intervals,
    )


async def deliveries(services: Services, caller: Caller, request: req.ListDeliveries) -> res.Ledger:
    page = await services.engine.deliveries(
        request.conversation,
        request.position,
        state=request.state,
        cursor=request.cursor,
        limit=request.limit,
        acting=acting_user(caller, request.acting),
        caller=caller,
    )
    return res.Ledger(
        counts=page.counts,
        deliveries=page.deliveries,
        next_cursor=page.next_cursor,
        recalled=page.recalled,
    )


async def mark_read(services: Services, caller: Caller, request: req.MarkRead) -> Cursor:
    return await services.engine.mark_read(
        user_meant(caller, request.user), request.conversation, request.position, caller=caller
    )


# --- tokens and keys --------------------------------------------------------------------------


async def create_token(services: Services, caller: Caller, request: req.CreateToken) -> res.Token:
    """A token is for an account that may connect now; suspended and erased ones get none."""
    check_access(caller, "token.create", about=request.user)
    user = await services.engine.get_user(request.user, caller=SYSTEM)
    if user.state is UserState.SUSPENDED:
        raise QunxinError("user_suspended", user=user.user)
    token, expires = services.tokens.issue_token(user.user, request.ttl_seconds)
    return res.Token(token=token, user=user.user, expires=expires)


async def revoke_token(
    services: Services, caller: Caller, request: req.RevokeToken
) -> res.TokensRevoked:
    user = user_meant(caller, request.user)
    await services.engine.revoke_tokens(user, request.id, caller=caller)
    return res.TokensRevoked(user=user, id=request.id)


async def revoke_all_tokens(
    services: Services, caller: Caller, request: req.OfUser
) -> res.TokensRevoked:
    user = user_meant(caller, request.user)
    await services.engine.revoke_tokens(user, caller=caller)
    return res.TokensRevoked(user=user, id=None)


async def create_key(services: Services, caller: Caller, request: req.CreateKey) -> res.NewKey:
    made = await services.engine.create_key(request.name, scopes=request.scopes, caller=caller)
    return res.NewKey(id=made.id, name=made.name, scopes=tuple(made.scopes), key=made.key)


async def list_keys(services: Services, caller: Caller, _: req.Nothing) -> res.KeyList:
    keys = await services.engine.list_keys(caller=caller)
    return res.KeyList(keys=tuple(res.KeyView.of(key) for key in keys))


async def revoke_key(services: Services, caller: Caller, request: req.OfKey) -> res.KeyView:
    return res.KeyView.of(await services.engine.revoke_key(request.id, caller=caller))


# --- webhooks ---------------------------------------------------------------------------------


async def create_webhook(
    services: Services, caller: Caller, request: req.CreateWebhook
) -> NewWebhook:
    return await services.engine.create_webhook(request.url, events=request.events, caller=caller)


async def list_webhooks(services: Services, caller: Caller, _: req.Nothing) -> res.WebhookList:
    return res.WebhookList(webhooks=await services.engine.list_webhooks(caller=caller))


async def get_webhook(services: Services, caller: Caller, request: req.OfWebhook) -> WebhookStatus:
    return await services.engine.get_webhook(request.id, caller=caller)


async def change_webhook(
    services: Services, caller: Caller, request: req.ChangeWebhook
) -> WebhookStatus:
    return await services.engine.change_webhook(
        request.id, url=request.url, events=request.events, paused=request.paused, caller=caller
    )


async def rotate_webhook(
    services: Services, caller: Caller, request: req.RotateWebhook
) -> NewWebhook:
    return await services.engine.rotate_webhook(
        request.id, overlap_seconds=request.overlap_seconds, caller=caller
    )


async def replay_webhook(
    services: Services, caller: Caller, request: req.ReplayWebhook
) -> WebhookStatus:
    return await services.engine.replay_webhook(request.id, request.since, caller=caller)


async def delete_webhook(
    services: Services, caller: Caller, request: req.OfWebhook
) -> res.WebhookDeleted:
    await services.engine.delete_webhook(request.id, caller=caller)
    return res.WebhookDeleted(id=request.id)


def _fields(value: msgspec.Struct) -> dict[str, Any]:
    return {name: getattr(value, name) for name in value.__struct_fields__}
