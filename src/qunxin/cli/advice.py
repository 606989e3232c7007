"""What somebody at a command line can do about an error."""

from __future__ import annotations

from typing import Final

from qunxin.errors import QunxinError

_ADVICE: Final = {
    "group_not_found": (
        "Create it: qunxin group create GROUP --owner USER",
        "请先创建群组：qunxin group create GROUP --owner USER",
    ),
    "group_dissolved": (
        "A dissolved group's id is never used again: choose another one.",
        "已解散群组的编号不可再用，请换一个。",
    ),
    "user_not_found": (
        "Create the account: qunxin user create USER",
        "请先创建账号：qunxin user create USER",
    ),
    "user_erased": (
        "An erased account's id is never used again: choose another one.",
        "已注销账号的编号不可再用，请换一个。",
    ),
    "user_suspended": (
        "Let it in again: qunxin user activate USER",
        "可恢复账号：qunxin user activate USER",
    ),
    "not_a_member": (
        "Add the user: qunxin group add GROUP USER",
        "请先加入群组：qunxin group add GROUP USER",
    ),
    "last_owner": (
        "Appoint another owner: qunxin group role GROUP USER owner",
        "请先指定新群主：qunxin group role GROUP USER owner",
    ),
    "members_unreachable": (
        "Send to those who can be reached: --require reachable",
        "可只发给可达成员：--require reachable",
    ),
    "invalid_settings": (
        "All settings: qunxin serve --help",
        "查看全部设置：qunxin serve --help",
    ),
}


def advice_for(error: QunxinError, language: str) -> str | None:
    """One line, or None where the error's own text says it all."""
    if error.code in _ADVICE:
        english, chinese = _ADVICE[error.code]
        return chinese if language == "zh" else english
    if error.retryable and error.retry_after is not None:
        seconds = f"{error.retry_after:g}"
        return f"请在 {seconds} 秒后重试。" if language == "zh" else f"Try again in {seconds} s."
    return None
