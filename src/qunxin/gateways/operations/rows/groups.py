"""The rows of the table of operations that concern groups and their members."""

from __future__ import annotations

from typing import Final

from qunxin.engine.results import MembersChange, Presence
from qunxin.gateways.operations import handlers as run
from qunxin.gateways.operations import requests as req
from qunxin.gateways.operations import responses as res
from qunxin.gateways.operations.rows.common import ACTING, NO_GROUP, OK, SAVED, always, by_new
from qunxin.gateways.operations.table import Operation
from qunxin.model import Group
from qunxin.store.reads import GroupsPage

GROUPS: Final = (
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
        statuses=SAVED,
        errors=(*ACTING, "group_dissolved", "group_not_found", "group_full"),
        rules=("group.create", "group.update"),
        run=run.put_group,
        status_of=by_new,
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
        statuses=OK,
        errors=(*NO_GROUP, *ACTING),
        rules=("group.get",),
        run=run.get_group,
        status_of=always(200),
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
        statuses=OK,
        errors=(*NO_GROUP, *ACTING),
        rules=("group.dissolve",),
        run=run.dissolve_group,
        status_of=always(200),
    ),
    Operation(
        name="group.list",
        method="GET",
        path="/v1/groups",
        tag="groups",
        summary="List groups",
        chinese="群组列表",
        description="Groups that are not dissolved, the oldest first; for API keys only.",
        request=req.ListGroups,
        response=GroupsPage,
        statuses=OK,
        errors=(),
        rules=("group.list",),
        run=run.list_groups,
        status_of=always(200),
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
        statuses=OK,
        errors=(*NO_GROUP, *ACTING),
        rules=("group.members",),
        run=run.members,
        status_of=always(200),
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
        statuses=OK,
        errors=(*NO_GROUP, *ACTING),
        rules=("group.presence",),
        run=run.presence,
        status_of=always(200),
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
        statuses=OK,
        errors=(*NO_GROUP, *ACTING, "group_full"),
        rules=("member.add",),
        run=run.add_members,
        status_of=always(200),
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
        statuses=OK,
        errors=(*NO_GROUP, *ACTING, "last_owner"),
        rules=("member.set_role", "member.mute"),
        run=run.change_member,
        status_of=always(200),
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
        statuses=OK,
        errors=(*NO_GROUP, *ACTING, "last_owner"),
        rules=("member.remove", "member.leave"),
        run=run.remove_member,
        status_of=always(200),
    ),
)
