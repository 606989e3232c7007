"""Epochs, lost tails, copies, and the lock: what a store knows of its own past."""

from __future__ import annotations

import asyncio
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from qunxin.clock import SystemClock
from qunxin.errors import QunxinError
from qunxin.model import MessageType
from qunxin.store.commands import Post, PutGroup, PutUser
from qunxin.stores.sqlite import SqliteStore
from qunxin.stores.sqlite.writer import Writer

_HOLDER = """
import asyncio, sys
from pathlib import Path
from qunxin.model import MessageType
from qunxin.store.commands import Post, PutGroup, PutUser
from qunxin.stores.sqlite import SqliteStore

async def main():
    store = SqliteStore(Path(sys.argv[1]))
    await store.open()
    await store.commit([PutUser("ann"), PutUser("bo"),
                        PutGroup("tea", owner="ann", members=("bo",))])
    for number in range(20):
        content = f'[{{"type":"text","text":"第{number} 🍵"}}]'.encode()
        await store.commit([Post(MessageType.GROUP, "group:tea", "ann", content, f"k{number}")])
    print(store.epoch, flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


async def killed_store(path: Path) -> str:
    """Let another process write a store, kill it, and return the epoch that it served."""
    return await asyncio.to_thread(_write_and_die, path)


def _write_and_die(path: Path) -> str:
    with _holder(path) as holder:
        return _epoch_then_kill(holder)


def _holder(path: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", _HOLDER, str(path)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, encoding="utf-8")


def _epoch_then_kill(holder: subprocess.Popen[str]) -> str:
    assert holder.stdout is not None
    epoch = holder.stdout.readline().strip()
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    return epoch


async def epoch_and_head(path: Path) -> tuple[str, int]:
    store = SqliteStore(path)
    await store.open()
    head = (await store.read_heads(["group:tea"]))["group:tea"]
    page = await store.read_log("group:tea", "bo")
    assert [entry.position for entry in page.entries] == list(range(1, head + 1))
    await store.close()
    return store.epoch, head


async def test_a_kill_keeps_the_epoch(tmp_path: Path) -> None:
    """A killed process loses nothing that it answered, so the history goes on under its name."""
    path = tmp_path / "chat.db"
    epoch = await killed_store(path)
    assert await epoch_and_head(path) == (epoch, 21)
    assert await epoch_and_head(path) == (epoch, 21)


@pytest.mark.parametrize("lost", [1, 4096 + 24, 60_000])
async def test_a_lost_tail_begins_a_new_epoch(tmp_path: Path, lost: int) -> None:
    """Where the last frames of the write-ahead log are gone the store opens and serves what is
    left, without a gap, under a new epoch."""
    path = tmp_path / "chat.db"
    epoch = await killed_store(path)
    log = tmp_path / "chat.db-wal"
    with log.open("r+b") as file:
        file.truncate(log.stat().st_size - lost)
    found, head = await epoch_and_head(path)
    assert found != epoch
    assert head < 21
    assert (await epoch_and_head(path))[0] == found


async def test_keys_of_a_killed_process(tmp_path: Path) -> None:
    """Keys that were not filed yet when the process died are known to the next one."""
    path = tmp_path / "chat.db"
    await killed_store(path)
    store = SqliteStore(path)
    await store.open()
    content = '[{"type":"text","text":"第19 🍵"}]'.encode()
    (outcome,) = await store.commit([Post(MessageType.GROUP, "group:tea", "ann", content, "k19")])
    await store.close()
    result = getattr(outcome, "result", None)
    assert getattr(result, "position", None) == 21
    assert getattr(result, "duplicate", None) is True


async def test_a_missing_sidecar_begins_a_new_epoch(tmp_path: Path) -> None:
    """A database without the file that says what was answered for is a restored one."""
    path = tmp_path / "chat.db"
    epoch = await killed_store(path)
    (tmp_path / "chat.db.answered").unlink()
    found, head = await epoch_and_head(path)
    assert found != epoch
    assert head == 21


@pytest.mark.parametrize("content", [b"", b"qunxin01", "乱码 🤷".encode() * 20])
async def test_a_damaged_sidecar_begins_a_new_epoch(tmp_path: Path, content: bytes) -> None:
    """What cannot be read proves nothing."""
    path = tmp_path / "chat.db"
    epoch = await killed_store(path)
    (tmp_path / "chat.db.answered").write_bytes(content)
    assert (await epoch_and_head(path))[0] != epoch


async def test_a_copied_folder_begins_a_new_epoch(tmp_path: Path) -> None:
    """A copy of all the files is another history from now on; the original keeps its epoch."""
    path = tmp_path / "原" / "chat.db"
    path.parent.mkdir()
    epoch = await killed_store(path)
    shutil.copytree(path.parent, tmp_path / "副本")
    assert (await epoch_and_head(tmp_path / "副本" / "chat.db"))[0] != epoch
    assert (await epoch_and_head(path))[0] == epoch


async def test_a_moved_folder_keeps_its_epoch(tmp_path: Path) -> None:
    """Renaming the folder changes nothing of the history."""
    path = tmp_path / "旧" / "chat.db"
    path.parent.mkdir()
    epoch = await killed_store(path)
    path.parent.rename(tmp_path / "新")
    assert (await epoch_and_head(tmp_path / "新" / "chat.db"))[0] == epoch


async def test_an_older_database_put_back_begins_a_new_epoch(tmp_path: Path) -> None:
    """An older state of the database written over the newer one is noticed by its sequence."""
    path = tmp_path / "chat.db"
    epoch = await killed_store(path)
    await epoch_and_head(path)
    older = path.read_bytes()
    store = SqliteStore(path)
    await store.open()
    await store.commit([PutUser("后来的")])
    await store.close()
    assert store.epoch == epoch
    path.write_bytes(older)
    assert (await epoch_and_head(path))[0] != epoch


def test_the_sidecar_follows_each_commit(tmp_path: Path) -> None:
    """The sequence answered for is that of the database after every commit that wrote."""
    writer = Writer(_touched(tmp_path), SystemClock())
    try:
        for commands in ([PutUser("安")], [PutUser("安")], [PutGroup("茶")]):
            writer.commit(commands)
            sequence = writer._db.execute("SELECT sequence FROM state").get
            assert writer._answered.continues(writer.epoch, sequence)
            assert not writer._answered.continues(writer.epoch, sequence - 1)
    finally:
        writer.close()


def _touched(folder: Path) -> Path:
    path = folder / "chat.db"
    path.touch()
    return path


async def test_a_second_opener_is_refused(tmp_path: Path) -> None:
    """A store that is open cannot be opened again, and says so; closed it can."""
    path = tmp_path / "chat.db"
    first, second = SqliteStore(path), SqliteStore(path)
    await first.open()
    with pytest.raises(QunxinError) as caught:
        await second.open()
    assert caught.value.code == "store_unavailable"
    assert "open" in caught.value.facts["detail"]
    await first.commit([PutUser("安")])
    await first.close()
    await second.open()
    assert await second.read_user("安") is not None
    await second.close()


async def test_another_process_is_refused_until_it_dies(tmp_path: Path) -> None:
    """A store that another process owns is refused; a kill releases it."""
    path = tmp_path / "chat.db"
    store = SqliteStore(path)
    with _holder(path) as holder:
        assert holder.stdout is not None
        epoch = (await asyncio.to_thread(holder.stdout.readline)).strip()
        with pytest.raises(QunxinError) as caught:
            await store.open()
        assert caught.value.code == "store_unavailable"
        holder.kill()
    await store.open()
    assert store.epoch == epoch
    await store.close()
