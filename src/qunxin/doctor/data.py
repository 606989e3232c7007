"""What the data folder says: rights, disk, server, database."""

from __future__ import annotations

import asyncio
import os
import shutil
import stat
import statistics
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

from qunxin.config import Settings
from qunxin.control import find_server
from qunxin.doctor.findings import AS_THE_OWNER, Finding, Words, fine, problem, warning
from qunxin.errors import QunxinError
from qunxin.folder import DATABASE_NAME, owned_folder
from qunxin.stores.sqlite.inspection import Examined, examine_database
from qunxin.version import VERSION

_GIBIBYTE: Final = 1024**3
_LITTLE_BYTES: Final = _GIBIBYTE
_TOO_LITTLE_BYTES: Final = _GIBIBYTE // 10
_FSYNCS: Final = 25
_SLOW_FSYNC_MS: Final = 50.0
_REMOTE: Final = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "fuse.sshfs", "ceph", "9p"})
"""File systems on which SQLite's locks or shared memory cannot be trusted."""
_AHEAD_SECONDS: Final = 60


async def check_rights(settings: Settings) -> list[Finding]:
    """Whether others can read secrets or messages."""
    folder = settings.data_folder.absolute()
    if not folder.exists():
        where = f"{folder}"
        return fine("rights", f"{where} will be made at the first start", f"首次启动时创建 {where}")
    if folder.stat().st_uid != os.geteuid():
        text = Words(f"{folder} belongs to another user", f"{folder} 属于其他用户")
        return [problem("rights", text, AS_THE_OWNER)]
    open_to_others = [path for path in (folder, *_files(folder)) if _mode(path) & 0o077]
    if open_to_others and _mode(folder) & 0o077:  # behind a closed one nobody comes to the files
        names = ", ".join(path.name for path in open_to_others[:5])
        text = Words(f"Others may read: {names}", f"其他用户可读取：{names}")
        advice = Words(f"chmod -R go= {folder}", f"chmod -R go= {folder}")
        return [problem("rights", text, advice)]
    return fine("rights", f"{folder} is its owner's alone", f"{folder} 仅所有者可访问")


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if not path.is_symlink())


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


async def check_disk(settings: Settings) -> list[Finding]:
    """Whether there is room, on a file system that can be trusted."""
    place = _existing(settings.data_folder.absolute())
    kind = _file_system(place)
    if kind in _REMOTE:
        text = Words(
            f"{place} is on a network file system ({kind})", f"{place} 位于网络文件系统（{kind}）"
        )
        advice = Words(
            "SQLite needs a local disk: move the data folder to one.",
            "SQLite 需要本地磁盘：请移动数据目录。",
        )
        return [problem("disk", text, advice)]
    free = shutil.disk_usage(place).free
    said = f"{free / _GIBIBYTE:,.1f} GiB"
    if free >= _LITTLE_BYTES:
        return fine("disk", f"{said} free ({kind})", f"剩余 {said}（{kind}）")
    text = Words(f"Only {said} free", f"磁盘仅剩 {said}")
    advice = Words(
        "Make room: on a full disk everything is refused, and recalled content stays in the log.",
        "请清理磁盘：磁盘写满后一切写入都会被拒绝，已撤回的内容也无法抹除。",
    )
    make = problem if free < _TOO_LITTLE_BYTES else warning
    return [make("disk", text, advice)]


def _existing(path: Path) -> Path:
    """`path`, or the nearest folder above it that is there."""
    while not path.exists():
        path = path.parent
    return path


def _file_system(path: Path) -> str:
    """The type of the file system that `path` is on, as the kernel names it."""
    best, kind = "", "?"
    real = f"{path.resolve()}/"
    for line in Path("/proc/mounts").read_text("utf-8", "replace").splitlines():
        _, point, type_, *_ = line.split(" ")
        if real.startswith(f"{point.rstrip('/')}/") and len(point) >= len(best):
            best, kind = point, type_
    return kind


async def check_fsync(settings: Settings) -> list[Finding]:
    """How long the disk takes to keep something: the floor of the time to every reply."""
    place = _existing(settings.data_folder.absolute())
    if not os.access(place, os.W_OK):
        text = Words(f"{place} cannot be written", f"{place} 不可写")
        advice = Words(
            "Run it as the user whom the folder belongs to, or choose another with --data.",
            "请以目录所有者身份运行，或用 --data 另选目录。",
        )
        return [problem("fsync", text, advice)]
    times = await asyncio.to_thread(_time_fsyncs, place)
    middle, worst = statistics.median(times), max(times)
    said = f"{middle:.1f} ms, {worst:.1f} ms"
    if middle <= _SLOW_FSYNC_MS:
        return fine("fsync", f"{said} at worst", f"{said}（最慢）")
    text = Words(f"Slow: {said} at worst", f"较慢：{said}（最慢）")
    advice = Words(
        "No reply comes sooner than that. A local SSD takes a few milliseconds.",
        "任何回复都不会比这更快。本地固态硬盘只需数毫秒。",
    )
    return [warning("fsync", text, advice)]


def _time_fsyncs(folder: Path) -> list[float]:
    """Milliseconds of each of a few small writes that were kept."""
    times = []
    with tempfile.TemporaryFile(dir=folder, prefix=".doctor-") as file:
        for _ in range(_FSYNCS):
            file.write(bytes(4096))
            file.flush()
            started = time.perf_counter()
            os.fsync(file.fileno())
            times.append(1000 * (time.perf_counter() - started))
    return times


async def check_server(settings: Settings) -> list[Finding]:
    """Who owns the folder now, and whether they answer."""
    folder = settings.data_folder.absolute()
    if not folder.exists():
        return fine("server", "No server runs on it", "没有正在运行的服务")
    async with AsyncExitStack() as stack:
        try:
            control = await find_server(folder, stack)
            facts = None if control is None else await control.facts()
        except QunxinError as error:
            return [_silent(error)]
    if facts is None:
        return _check_lock(folder)
    if facts["version"] != VERSION:
        text = Words(
            f"The server that runs is Qunxin {facts['version']}",
            f"正在运行的是 Qunxin {facts['version']}",
        )
        advice = Words("Restart it to run this version.", "请重启服务以运行当前版本。")
        return [warning("server", text, advice)]
    who = f"{facts['url']} (pid {facts['pid']})"
    return fine("server", f"Runs at {who}", f"正在运行：{who}")


def _check_lock(folder: Path) -> list[Finding]:
    try:
        with owned_folder(folder):
            return fine("server", "No server runs on it", "没有正在运行的服务")
    except QunxinError as error:
        return [_silent(error)]


def _silent(error: QunxinError) -> Finding:
    text = Words(
        f"A process owns the folder and does not answer: {error.text()}",
        f"有进程占用数据目录但没有响应：{error.text('zh')}",
    )
    advice = Words(
        "It may be starting or stopping: look again in a few seconds, then at its log.",
        "可能正在启动或停止：请稍后再看，并检查其日志。",
    )
    return problem("server", text, advice)


async def check_database(settings: Settings) -> list[Finding]:
    """Whether the database is whole, of a schema that this version knows, and not of the
    future."""
    path = settings.data_folder.absolute() / DATABASE_NAME
    if not path.exists():
        return fine("database", "None yet", "尚未创建")
    try:
        found = await asyncio.to_thread(examine_database, path)
    except QunxinError as error:
        text = Words(error.text() + _detail(error), error.text("zh") + _detail(error))
        return [problem("database", text, _RESTORE)]
    if found.damage:
        text = Words(f"Damaged: {found.damage}", f"已损坏：{found.damage}")
        return [problem("database", text, _RESTORE)]
    ahead = _ahead(found)
    if ahead is not None:
        return [ahead]
    size = path.stat().st_size / 1024**2
    return fine(
        "database",
        f"Whole; {size:,.1f} MiB, schema {found.schema}",
        f"完整；{size:,.1f} MiB，模式版本 {found.schema}",
    )


_RESTORE: Final = Words(
    "Stop the server, keep the folder as it is, and restore the last backup into another one: "
    "qunxin restore FILE --data NEW",
    "请停止服务，保留该目录，并把最近的备份恢复到新目录：qunxin restore FILE --data NEW",
)


def _detail(error: QunxinError) -> str:
    detail = error.facts.get("detail")
    return f" ({detail})" if detail and detail not in error.text() else ""


def _ahead(found: Examined) -> Finding | None:
    seconds = found.newest_time / 1000 - time.time()
    if seconds <= _AHEAD_SECONDS:
        return None
    text = Words(
        f"The newest entry is of a time {seconds:,.0f} s from now",
        f"最新条目的时间比现在晚 {seconds:,.0f} 秒",
    )
    advice = Words(
        "The clock was wrong then, or is wrong now: set it right.", "时钟曾经或现在不准，请校准。"
    )
    return warning("database", text, advice)
