"""What the machine and the settings say: versions, addresses, limits, clock."""

from __future__ import annotations

import ctypes
import platform
import re
import resource
from importlib.metadata import PackageNotFoundError, requires, version
from typing import Final

import apsw

from qunxin.config import Settings
from qunxin.doctor.findings import Finding, Words, fine, problem, warning
from qunxin.server import OTHER_FILES
from qunxin.version import VERSION

_LOOPBACK: Final = ("127.0.0.1", "::1", "localhost")
_TIMEX_BYTES: Final = 256
"""More than `struct timex` has on any Linux; all zero, it asks and changes nothing."""
_TIME_ERROR: Final = 5
"""What adjtimex answers while the clock is not synchronised (adjtimex(2))."""


async def check_versions(_settings: Settings) -> list[Finding]:
    """Whether what must be of an exact version is."""
    wrong = []
    for line in requires("qunxin") or ():
        pinned = re.match(r"([\w.-]+)==([\w.]+)", line)
        if pinned is None:
            continue
        name, wanted = pinned.groups()
        found = _installed(name)
        if found not in (wanted, None):
            wrong.append(f"{name} {found} (wanted: {wanted})")
    if wrong:
        names = ", ".join(wrong)
        text = Words(f"Made for other versions: {names}", f"依赖版本不符：{names}")
        advice = Words(
            "Install them as Qunxin asks: pip install --force-reinstall 'qunxin[server]'",
            "请按要求重新安装：pip install --force-reinstall 'qunxin[server]'",
        )
        return [problem("versions", text, advice)]
    known = f"Qunxin {VERSION}, Python {platform.python_version()}"
    all_ = f"{known}, SQLite {apsw.sqlite_lib_version()}, {platform.system()} {platform.release()}"
    return fine("versions", all_, all_)


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


async def check_exposure(settings: Settings) -> list[Finding]:
    """Whether who may come in from elsewhere is said on purpose."""
    found = []
    if settings.host not in _LOOPBACK and not settings.allowed_hosts:
        text = Words(
            f"The node listens on {settings.host}, and allowed_hosts names no public host",
            f"节点监听 {settings.host}，但 allowed_hosts 未列出公开主机名",
        )
        advice = Words(
            "Name the hosts by which clients reach it: --allowed-hosts chat.example.org",
            "请列出客户端使用的主机名：--allowed-hosts chat.example.org",
        )
        found.append(warning("exposure", text, advice))
    for name in ("allowed_hosts", "allowed_origins"):
        if "*" in getattr(settings, name):
            text = Words(f"{name} takes any", f"{name} 允许任意来源")
            advice = Words(f"Name them, one by one, in {name}.", f"请在 {name} 中逐一列出。")
            found.append(warning("exposure", text, advice))
    return found or fine("exposure", f"Listens on {settings.host}", f"监听 {settings.host}")


async def check_open_files(settings: Settings) -> list[Finding]:
    """Whether as many connections may be open as the settings allow."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = settings.max_connections + OTHER_FILES
    if hard == resource.RLIM_INFINITY or hard >= wanted:
        number = f"{settings.max_connections:,}"
        return fine("open files", f"Enough for {number} connections", f"足够 {number} 个连接")
    fitting = max(1, hard - OTHER_FILES)
    text = Words(
        f"Only {hard:,} files may be open: {fitting:,} connections instead of "
        f"{settings.max_connections:,}",
        f"最多只能打开 {hard:,} 个文件：可容纳 {fitting:,} 个连接，"
        f"而非 {settings.max_connections:,} 个",
    )
    advice = Words(
        f"Raise the limit (LimitNOFILE={wanted} in the unit, or ulimit -Hn), or lower "
        "max_connections.",
        f"请提高上限（服务单元中 LimitNOFILE={wanted}，或 ulimit -Hn），或调低 max_connections。",
    )
    return [warning("open files", text, advice)]


async def check_clock(_settings: Settings) -> list[Finding]:
    """Whether the kernel says that something keeps the clock right."""
    libc = ctypes.CDLL(None, use_errno=True)
    state = libc.adjtimex(ctypes.create_string_buffer(_TIMEX_BYTES))
    if state != _TIME_ERROR:
        return fine("clock", "Synchronised", "时钟已同步")
    text = Words(
        "Nothing keeps the clock right: tokens and times of messages depend on it",
        "系统时钟未同步：令牌与消息时间都依赖它",
    )
    advice = Words(
        "Run a time service, such as systemd-timesyncd or chrony (in a container: on its host).",
        "请启用时间同步服务，如 systemd-timesyncd 或 chrony（容器则在宿主机上）。",
    )
    return [warning("clock", text, advice)]
