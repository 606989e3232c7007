"""One worked example an operation: all request fields together, and the answer to them.

The description and the readable page show them; a test decodes each with the operation's own
structs, so that none can go stale.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

_TIME: Final = 1_764_000_000_000
_EPOCH: Final = "k3f9x2"


class Example(NamedTuple):
    request: dict[str, Any]
    response: Any


_USER = {"user": "alice", "key": 7, "name": "小爱 👩🏽‍🚀", "state": "active", "created": _TIME}
_GROUP = {
    "group": "tea",
    "key": 9,
    "name": "茶友会 🍵",
    "state": "active",
    "history": "joined",
    "require": "reachable",
    "muted": False,
    "members": 3,
    "membership_version": 1,
    "created": _TIME,
}
_MEMBER = {
    "user": "bob",
    "key": 8,
    "role": "admin",
    "muted": False,
    "since": 1,
    "reason": None,
}
_HOOK = {
    "id": "9c1e5a7d20b4",
    "url": "https://shop.example.org/qunxin",
    "events": [],
    "created": _TIME,
    "paused": None,
    "old_secret_until": None,
    "behind": 0,
    "waiting_since": None,
    "failures": 0,
    "error": None,
    "failed": None,
    "succeeded": _TIME,
}
_RECEIPT = {
    "conversation": "group:tea",
    "position": 17,
    "epoch": _EPOCH,
    "time": _TIME,
    "grade": "partial",
    "membership_version": 12,
    "members": 3,
    "unreachable_count": 1,
    "unreachable": [{"user": "carol", "reason": "suspended"}],
    "duplicate": False,
}
_ENTRIES = {
    "conversation": "group:tea",
    "epoch": _EPOCH,
    "entries": [
        {
            "type": "hidden",
            "conversation": "group:tea",
            "position": 16,
            "time": 0,
            "first": 13,
            "last": 16,
        },
        {
            "type": "group",
            "conversation": "group:tea",
            "position": 17,
            "time": _TIME,
            "from": "alice",
            "key": "早安-1",
            "content": [{"type": "text", "text": "你好，大家 👋🏽 مرحبا"}],
        },
        {
            "type": "recalled",
            "conversation": "group:tea",
            "position": 18,
            "time": _TIME,
            "by": "bob",
            "target": 12,
        },
    ],
    "through": 18,
    "head": 18,
    "next_after": None,
    "intervals": [
        {"first": 1, "last": 12, "joined": 1},
        {"first": 17, "last": None, "joined": 17},
    ],
}
_KEY = {
    "id": "4f1c2a9b77e0",
    "name": "订单服务 orders",
    "scopes": ["messages", "read"],
    "created": _TIME,
    "revoked": None,
}

EXAMPLES: Final[dict[str, Example]] = {
    "user.put": Example({"user": "alice", "name": "小爱 👩🏽‍🚀"}, {**_USER, "new": True}),
    "user.get": Example({"user": "alice"}, _USER),
    "user.list": Example({"limit": 1}, {"users": [_USER], "next_cursor": "7"}),
    "user.erase": Example({"user": "alice"}, {**_USER, "name": "", "state": "erased"}),
    "user.blocks": Example({"user": "alice"}, {"user": "alice", "blocked": ["mallory"]}),
    "user.block": Example(
        {"user": "alice", "blocked": "mallory"},
        {"user": "alice", "blocked": "mallory", "on": True},
    ),
    "user.unblock": Example(
        {"user": "alice", "blocked": "mallory"},
        {"user": "alice", "blocked": "mallory", "on": False},
    ),
    "user.conversations": Example(
        {"user": "alice", "limit": 50},
        {
            "conversations": [
                {
                    "conversation": "group:tea",
                    "name": "茶友会 🍵",
                    "head": 18,
                    "time": _TIME,
                    "joined": 1,
                    "role": "owner",
                    "delivered": 18,
                    "read": 16,
                    "unread": 1,
                }
            ],
            "next_cursor": None,
        },
    ),
    "user.sessions": Example(
        {"user": "alice"},
        {
            "sessions": [
                {
                    "session": "9d2f01c7a4b3e586",
                    "user": "alice",
                    "connected": _TIME,
                    "client": "js 5.8.0",
                    "conversations": 4,
                }
            ]
        },
    ),
    "user.end_sessions": Example({"user": "alice"}, {"user": "alice"}),
    "user.end_session": Example(
        {"user": "alice", "session": "5f0c1e9a7b3d2468"},
        {"user": "alice", "session": "5f0c1e9a7b3d2468", "ended": True},
    ),
    "token.revoke": Example(
        {"user": "alice", "id": "9d8c7b6a5f4e3d2c"}, {"user": "alice", "id": "9d8c7b6a5f4e3d2c"}
    ),
    "token.revoke_all": Example({"user": "alice"}, {"user": "alice", "id": None}),
    "group.put": Example(
        {
            "group": "tea",
            "name": "茶友会 🍵",
            "owner": "alice",
            "members": ["bob", "carol", "nobody"],
        },
        {
            **_GROUP,
            "new": True,
            "grade": "partial",
            "results": [
                {"user": "alice", "result": "added"},
                {"user": "bob", "result": "added"},
                {"user": "carol", "result": "added"},
                {"user": "nobody", "result": "user_not_found"},
            ],
        },
    ),
    "group.get": Example({"group": "tea", "as": "alice"}, _GROUP),
    "group.dissolve": Example(
        {"group": "tea", "from": "alice"}, {**_GROUP, "state": "dissolved", "members": 0}
    ),
    "group.list": Example({"limit": 1}, {"groups": [_GROUP], "next_cursor": None}),
    "group.members": Example(
        {"group": "tea", "limit": 100},
        {"members": [_MEMBER], "next_cursor": None, "membership_version": 12},
    ),
    "group.presence": Example(
        {"group": "tea", "limit": 100},
        {
            "clients": 2,
            "users": 1,
            "present": [
                {"session": "9f2c41d07be8a355", "user": "alice"},
                {"session": "c0a1b7e2945d6f18", "user": "alice"},
            ],
        },
    ),
    "member.add": Example(
        {"group": "tea", "users": ["dave", "nobody"], "from": "alice"},
        {
            "group": "tea",
            "membership_version": 13,
            "grade": "partial",
            "results": [
                {"user": "dave", "result": "added"},
                {"user": "nobody", "result": "user_not_found"},
            ],
        },
    ),
    "member.change": Example(
        {"group": "tea", "user": "bob", "role": "admin", "from": "alice"}, _MEMBER
    ),
    "member.remove": Example(
        {"group": "tea", "user": "dave", "from": "alice"},
        {
            "group": "tea",
            "membership_version": 14,
            "grade": "complete",
            "results": [{"user": "dave", "result": "removed"}],
        },
    ),
    "message.send": Example(
        {
            "type": "group",
            "to": "tea",
            "from": "alice",
            "text": "你好，大家 👋🏽 مرحبا",
            "key": "早安-1",
            "require": "reachable",
        },
        _RECEIPT,
    ),
    "message.recall": Example(
        {"conversation": "group:tea", "position": 17, "from": "alice"},
        {
            "conversation": "group:tea",
            "position": 19,
            "recalled": 17,
            "epoch": _EPOCH,
            "time": _TIME,
            "duplicate": False,
        },
    ),
    "message.deliveries": Example(
        {"conversation": "group:tea", "position": 17, "limit": 100},
        {
            "counts": {"queued": 0, "delivered": 0, "read": 1, "unreachable": 1},
            "deliveries": [
                {"user": "bob", "state": "read", "reason": None},
                {"user": "carol", "state": "unreachable", "reason": "suspended"},
            ],
            "next_cursor": None,
            "recalled": None,
        },
    ),
    "conversation.entries": Example(
        {"conversation": "group:tea", "after": 12, "limit": 100, "as": "alice"}, _ENTRIES
    ),
    "cursor.read": Example(
        {"user": "alice", "conversation": "group:tea", "position": 18},
        {
            "user": "alice",
            "conversation": "group:tea",
            "delivered": 18,
            "read": 18,
            "missed_from": 0,
            "missed_to": 0,
        },
    ),
    "token.create": Example(
        {"user": "alice", "ttl_seconds": 3600},
        {"token": "eyJhbGciOi…", "user": "alice", "expires": _TIME + 3_600_000},
    ),
    "key.create": Example(
        {"name": "订单服务 orders", "scopes": ["messages", "read"]},
        {
            "id": "4f1c2a9b77e0",
            "name": "订单服务 orders",
            "scopes": ["messages", "read"],
            "key": "qx_4f1c2a9b77e0_…",
        },
    ),
    "key.list": Example({}, {"keys": [_KEY]}),
    "key.revoke": Example({"id": "4f1c2a9b77e0"}, {**_KEY, "revoked": _TIME}),
    "webhook.create": Example(
        {"url": _HOOK["url"], "events": ["message.created", "message.recalled"]},
        {
            "id": _HOOK["id"],
            "url": _HOOK["url"],
            "events": ["message.created", "message.recalled"],
            "secret": "whsec_…",
        },
    ),
    "webhook.list": Example({}, {"webhooks": [_HOOK]}),
    "webhook.get": Example({"id": _HOOK["id"]}, _HOOK),
    "webhook.change": Example(
        {"id": _HOOK["id"], "events": ["message.created"], "paused": True},
        {**_HOOK, "events": ["message.created"], "paused": "paused by hand"},
    ),
    "webhook.rotate": Example(
        {"id": _HOOK["id"], "overlap_seconds": 86_400},
        {"id": _HOOK["id"], "url": _HOOK["url"], "events": [], "secret": "whsec_…"},
    ),
    "webhook.replay": Example(
        {"id": _HOOK["id"], "since": _TIME}, {**_HOOK, "behind": 12, "waiting_since": _TIME}
    ),
    "webhook.delete": Example({"id": _HOOK["id"]}, {"id": _HOOK["id"]}),
}
