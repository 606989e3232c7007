"""The error family: every refusal that Qunxin gives, grouped by who can mend it.

One row of `ERRORS` is one error: its stable code, its tier, whether the same request can
succeed later, and its text in English and Chinese. The family knows no transport; each gateway
keeps one table from code to its own number, and a test proves that table complete.

Anything raised that is not a `QunxinError` is a defect: it is logged whole and shown to the
caller as `internal`.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Final, NamedTuple


class Tier(StrEnum):
    """Who can mend it: the caller, somebody about a member, somebody about the group, nobody
    but time."""

    REQUEST = "request"
    MEMBER = "member"
    GROUP = "group"
    SYSTEM = "system"


class ErrorSpec(NamedTuple):
    """One row of the table. Texts may hold ``{facts}``, filled from the error's own."""

    code: str
    tier: Tier
    retryable: bool
    retry_after: float | None
    """Seconds after which a retry makes sense, where the error itself does not say."""
    english: str
    chinese: str


def _row(
    tier: Tier, code: str, english: str, chinese: str, retry_after: float | None = None
) -> ErrorSpec:
    return ErrorSpec(code, tier, retry_after is not None, retry_after, english, chinese)


_R, _M, _G, _S = Tier.REQUEST, Tier.MEMBER, Tier.GROUP, Tier.SYSTEM

_ROWS = (
    _row(_R, "invalid_request", "The request is not valid: {detail}", "请求无效：{detail}"),
    _row(_R, "unauthenticated", "No valid credentials: {detail}", "未通过身份验证：{detail}"),
    _row(_R, "token_expired", "The token has expired", "令牌已过期"),
    _row(_R, "token_revoked", "The token has been revoked", "令牌已被吊销"),
    _row(_R, "forbidden", "Not allowed: {detail}", "无权执行此操作：{detail}"),
    _row(_R, "not_found", "There is nothing here: {detail}", "未找到：{detail}"),
    _row(_R, "unknown_method", "There is no method {method}", "没有方法 {method}"),
    _row(
        _R,
        "conversation_not_found",
        "There is no such conversation for you",
        "会话不存在",
    ),
    _row(_R, "entry_not_found", "There is no such message for you", "消息不存在"),
    _row(
        _R,
        "unknown_message_type",
        "A message must say its type: private, group or broadcast",
        "消息必须注明类型：private、group 或 broadcast",
    ),
    _row(
        _R,
        "message_too_large",
        "The message has {size} bytes; at most {limit} are taken",
        "消息过大：{size} 字节，上限为 {limit} 字节",
    ),
    _row(
        _R,
        "idempotency_conflict",
        "This key was used for a message with other content",
        "该幂等键已用于内容不同的消息",
    ),
    _row(
        _R,
        "recall_window_over",
        "The message can no longer be recalled: {window_seconds} seconds have passed",
        "消息发送已超过 {window_seconds} 秒，无法撤回",
    ),
    _row(_R, "too_many_subscriptions", "At most {limit} subscriptions", "订阅数量已达上限 {limit}"),
    _row(
        _M,
        "members_unreachable",
        "Some members are unreachable ({unreachable_count} of {members})",
        "部分成员不可达（{members} 人中有 {unreachable_count} 人）",
    ),
    _row(_M, "user_not_found", "There is no user {user}", "用户 {user} 不存在"),
    _row(_M, "user_erased", "The account {user} has been erased", "用户 {user} 已注销"),
    _row(_M, "user_suspended", "The account {user} is suspended", "用户 {user} 已被停用"),
    _row(_M, "not_a_member", "{user} is not a member of this group", "{user} 不是本群成员"),
    _row(_M, "member_muted", "You are muted in this group", "您在本群已被禁言"),
    _row(_M, "blocked", "The recipient has blocked the sender", "对方已将发送者屏蔽"),
    _row(
        _M,
        "last_owner",
        "A group keeps at least one owner: appoint another first, or dissolve the group",
        "群组至少保留一名群主：请先转让或解散群组",
    ),
    _row(_G, "group_dissolved", "The group has been dissolved", "群组已解散"),
    _row(_G, "group_not_found", "There is no such group", "群组不存在"),
    _row(_G, "group_muted", "The group is muted", "本群已开启全员禁言"),
    _row(
        _G,
        "group_full",
        "The group is full: at most {limit} members",
        "群组已满，最多 {limit} 名成员",
    ),
    _row(_S, "overloaded", "Too much at once; try again", "系统繁忙，请稍后重试", 1.0),
    _row(_S, "rate_limited", "Too many requests; slow down", "请求过于频繁，请稍后重试", 1.0),
    _row(
        _S,
        "token_keys_unavailable",
        "The key of this token is not known yet; try again",
        "暂时无法获取该令牌的验证密钥，请稍后重试",
        5.0,
    ),
    _row(
        _S,
        "store_unavailable",
        "The message store is unavailable; nothing was accepted",
        "消息存储暂不可用，未受理",
        2.0,
    ),
    _row(
        _S,
        "outcome_unknown",
        "The outcome is not known; repeat with the same key",
        "结果未知，请使用相同的幂等键重试",
        1.0,
    ),
    _row(_S, "shutting_down", "The server is going down", "服务正在关闭", 1.0),
    _row(_S, "invalid_settings", "A setting is not valid: {detail}", "设置无效：{detail}"),
    _row(_S, "cannot_start", "Cannot start: {detail}", "无法启动：{detail}"),
    _row(
        _S,
        "internal",
        "Something went wrong inside; the fault has been logged",
        "系统内部错误，故障已记录",
        5.0,
    ),
)

ERRORS: Final[dict[str, ErrorSpec]] = {row.code: row for row in _ROWS}
LANGUAGES: Final = ("en", "zh")


class _Facts(dict[str, Any]):
    def __missing__(self, key: str) -> str:
        return "?"


class QunxinError(Exception):
    """A refusal with a stable code.

    `facts` are the numbers and names that explain it; they are safe to show to whoever made
    the request. Two errors are equal where code and facts are.
    """

    def __init__(self, code: str, *, retry_after: float | None = None, **facts: Any) -> None:
        self.spec = ERRORS[code]
        self.facts = facts
        self.retry_after = self.spec.retry_after if retry_after is None else retry_after
        super().__init__(code, facts)

    @property
    def code(self) -> str:
        return self.spec.code

    @property
    def tier(self) -> Tier:
        return self.spec.tier

    @property
    def retryable(self) -> bool:
        return self.spec.retryable

    def text(self, language: str = "en") -> str:
        """The text for people: Chinese for ``zh``, English for anything else."""
        template = self.spec.chinese if language == "zh" else self.spec.english
        return template.format_map(_Facts(self.facts))

    def __str__(self) -> str:
        return f"{self.code}: {self.text()}"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, QunxinError):
            return NotImplemented
        return self.code == other.code and self.facts == other.facts

    def __hash__(self) -> int:
        return hash(self.code)


def best_language(accept_language: str) -> str:
    """``zh`` or ``en``: the first of the two that an ``Accept-Language`` value prefers.

    Quality values are honoured (RFC 9110, 12.5.4); what cannot be read counts as English.
    """
    best, quality = "en", 0.0
    for part in accept_language.split(","):
        tag, _, parameters = part.strip().partition(";")
        language = tag.strip().lower().partition("-")[0]
        if language not in LANGUAGES:
            continue
        _, _, value = parameters.partition("q=")
        try:
            weight = float(value) if value else 1.0
        except ValueError:
            weight = 0.0
        if weight > quality:
            best, quality = language, weight
    return best
