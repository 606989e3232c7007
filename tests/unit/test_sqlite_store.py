"""The SQLite store under load and faults: threads, disks, defects, backups."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlite_faults import Disk, faulty_disk

from qunxin.errors import QunxinError
from qunxin.model import MessageType
from qunxin.store.commands import Command, Post, PutGroup, PutUser, Recall
from qunxin.store.results import Done, Outcome
from qunxin.stores.sqlite import SqliteStore, backup, threads
from qunxin.stores.sqlite.commands import HANDLERS
from qunxin.stores.sqlite.files import make_private_folder
from qunxin.stores.sqlite.transaction import Transaction
from qunxin.stores.sqlite.writer import Writer
from qunxin.testing.clock import ManualClock

TALK = Post(MessageType.GROUP, "group:tea", "ann", '[{"type":"text","text":"茶 🍵"}]'.encode())


async def opened(path: Path, vfs: str | None = None) -> SqliteStore:
    store = SqliteStore(path, vfs=vfs)
    await store.open()
    return store


async def with_group(store: SqliteStore) -> SqliteStore:
    group = PutGroup("tea", owner="ann", members=("bo",))
    outcomes = await store.commit([PutUser("ann"), PutUser("bo"), group])
    assert all(isinstance(outcome, Done) for outcome in outcomes)
    return store


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    store = await with_group(await opened(tmp_path / "chat.db"))
    yield store
    await store.close()


@pytest.fixture
async def broken(tmp_path: Path) -> AsyncIterator[tuple[SqliteStore, Disk]]:
    with faulty_disk("qunxin-test-disk") as disk:
        store = await with_group(await opened(tmp_path / "chat.db", disk.name))
        yield store, disk
        await store.close()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


async def positions(store: SqliteStore) -> list[int]:
    page = await store.read_log("group:tea", None, limit=10_000, max_bytes=2**30)
    return [entry.position for entry in page.entries]


async def test_full_disk(broken: tuple[SqliteStore, Disk]) -> None:
    """A full disk refuses with `store_unavailable`; nothing took effect, reads go on, and when
    there is room again the store does."""
    store, disk = broken
    disk.full = True
    for _ in range(3):
        with pytest.raises(QunxinError) as caught:
            await store.commit([TALK])
        assert caught.value.code == "store_unavailable"
        assert await positions(store) == [1]
    disk.full = False
    await store.commit([TALK, TALK])
    assert await positions(store) == [1, 2, 3]


def test_a_full_disk_is_not_tried_all_the_time(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A checkpoint that a recall asks for and the disk refuses is tried again after ever longer,
    and its fault is logged once each time; with room again it is done, without a command."""
    clock = ManualClock()
    with faulty_disk("qunxin-full-disk") as disk:
        writer = Writer(tmp_path / "茶.db", clock, vfs=disk.name)
        writer.commit(
            [PutUser("ann"), PutUser("bo"), PutGroup("tea", owner="ann", members=("bo",)), TALK]
        )
        writer.commit([Recall("group:tea", 2)])
        disk.full = True
        for _ in range(1_000):
            assert writer.rest()
            clock.advance(10)
        assert 3 < len(caplog.records) < 12
        disk.full = False
        clock.advance(10_000)
        assert writer.rest() is None
        writer.close()


async def test_failed_sync(broken: tuple[SqliteStore, Disk]) -> None:
    """A commit whose sync failed is `outcome_unknown`; the store goes on with what is in the
    database, and positions stay whole."""
    store, disk = broken
    disk.sync_fails = True
    with pytest.raises(QunxinError) as caught:
        await store.commit([TALK])
    assert caught.value.code == "outcome_unknown"
    disk.sync_fails = False
    await store.commit([TALK])
    found = await positions(store)
    assert found == list(range(1, len(found) + 1))


async def test_each_commit_is_synced(broken: tuple[SqliteStore, Disk]) -> None:
    """A commit that wrote is synced before it is answered; one that only refuses or repeats is
    not, for it has nothing to sync."""
    store, disk = broken
    for _ in range(5):
        before = disk.syncs
        await store.commit([TALK])
        assert disk.syncs > before
    before = disk.syncs
    await store.commit([Post(MessageType.GROUP, "group:无", "ann", b"[]")])
    assert disk.syncs == before


async def test_names_that_cannot_be_kept(store: SqliteStore) -> None:
    """A command that trips over a defect (here text that is no Unicode) fails alone, as
    `internal`; those beside it happen, in order, once."""
    half = "\ud83c"
    poison: list[Command] = [
        PutUser("x", name=half),
        Post(TALK.type, TALK.conversation, "ann", b"[]", half, b""),
    ]
    outcomes: list[Outcome] = []
    for bad in poison:
        outcomes += await store.commit([TALK, bad, TALK])
    codes = [one.code if isinstance(one, QunxinError) else "" for one in outcomes]
    assert codes == ["", "internal", "", "", "internal", ""]
    assert await positions(store) == [1, 2, 3, 4, 5]
    assert await store.read_user("x") is None


async def test_a_command_that_writes_and_then_refuses(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A handler that breaks the rule to judge first has its writes taken back."""

    def careless(tx: Transaction, command: PutUser) -> Done:
        tx.run("UPDATE users SET name = '坏了' WHERE user = ?", (command.user,))
        raise QunxinError("forbidden")

    monkeypatch.setitem(HANDLERS, PutUser, careless)
    first, second, third = await store.commit([TALK, PutUser("ann"), TALK])
    assert isinstance(first, Done)
    assert isinstance(third, Done)
    assert isinstance(second, QunxinError)
    assert second.code == "internal"
    found = await store.read_user("ann")
    assert found is not None
    assert found.name == "ann"
    assert await positions(store) == [1, 2, 3]


async def test_repeats_survive_a_defect_beside_them(store: SqliteStore) -> None:
    """Keys of messages that share a transaction with a defect are known afterwards."""
    keyed = Post(TALK.type, TALK.conversation, "ann", TALK.content, "钥匙", b"d")
    first, _, again = await store.commit([keyed, PutUser("x", name="\ud83c"), keyed])
    later = (await store.commit([keyed]))[0]
    results: list[Any] = [getattr(one, "result", None) for one in (first, again, later)]
    assert [one.position for one in results] == [2, 2, 2]
    assert [one.duplicate for one in results] == [False, True, True]


async def test_too_many_waiting(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """More calls than may wait are refused as `overloaded`, at once; the others are done."""
    monkeypatch.setattr(threads, "WAITING_LIMIT", 10)
    calls = [store.commit([TALK]) for _ in range(200)]
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    refused = [one for one in outcomes if isinstance(one, QunxinError)]
    assert refused
    assert {one.code for one in refused} == {"overloaded"}
    assert await positions(store) == list(range(1, 202 - len(refused)))


async def test_closing_finishes_what_was_handed_in(tmp_path: Path) -> None:
    """Commits that were under way when the store is closed are answered, and kept."""
    store = await with_group(await opened(tmp_path / "chat.db"))
    calls = [asyncio.ensure_future(store.commit([TALK])) for _ in range(50)]
    await asyncio.sleep(0)
    await store.close()
    answers = await asyncio.gather(*calls)
    assert all(isinstance(outcome, Done) for (outcome,) in answers)
    await store.open()
    assert await positions(store) == list(range(1, 52))
    await store.close()


async def test_closing_twice(tmp_path: Path) -> None:
    """A second close does nothing."""
    store = await opened(tmp_path / "chat.db")
    await store.close()
    await store.close()
    assert names(tmp_path) == ["chat.db", "chat.db.answered", "chat.db.lock"]


async def test_log_does_not_grow_for_ever(store: SqliteStore, tmp_path: Path) -> None:
    """The write-ahead log is carried over as it grows, while commits and reads go on."""
    for _ in range(150):
        await store.commit(
            [Post(TALK.type, TALK.conversation, "ann", b'["' + b"x" * 9_000 + b'"]')] * 20
        )
        await store.read_heads(["group:tea"])
    written = 150 * 20 * 9_000
    assert (tmp_path / "chat.db-wal").stat().st_size < written / 2


async def test_backup_under_load(store: SqliteStore, tmp_path: Path) -> None:
    """A backup taken in the middle of commits holds exactly a beginning of the log."""
    await store.commit([TALK] * 3_000)
    done = asyncio.Event()

    async def talk() -> int:
        count = 0
        while not done.is_set():
            await store.commit([TALK] * 20)
            count += 1
        return count

    talking = asyncio.ensure_future(talk())
    await store.backup(tmp_path / "copy.db")
    done.set()
    assert await talking > 0
    copy = await opened(tmp_path / "copy.db")
    found = await positions(copy)
    await copy.close()
    assert len(found) >= 3_001
    assert found == list(range(1, len(found) + 1))
    assert not any(name.endswith(".partial") for name in names(tmp_path))


async def test_backup_never_overwrites(store: SqliteStore, tmp_path: Path) -> None:
    """A file that exists is left alone; a place that cannot be written to is said."""
    taken = tmp_path / "珍贵.db"
    taken.write_text("别碰我 🙏")
    for path, code in (
        (taken, "invalid_request"),
        (taken / "under.db", "store_unavailable"),
    ):
        with pytest.raises(QunxinError) as caught:
            await store.backup(path)
        assert caught.value.code == code
    assert taken.read_text() == "别碰我 🙏"


async def test_closing_ends_a_backup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A backup that is under way when the store closes ends with an error and leaves no file."""
    begun, gate = threading.Event(), threading.Event()

    def begin(path: Path) -> None:
        make_private_folder(path)
        begun.set()
        assert gate.wait(10)

    monkeypatch.setattr(backup, "make_private_folder", begin)
    store = await with_group(await opened(tmp_path / "chat.db"))
    copying = asyncio.ensure_future(store.backup(tmp_path / "copy.db"))
    assert await asyncio.to_thread(begun.wait, 10)
    closing = asyncio.ensure_future(store.close())
    await asyncio.sleep(0)
    gate.set()
    await closing
    with pytest.raises(QunxinError) as caught:
        await copying
    assert caught.value.code == "shutting_down"
    assert not [name for name in names(tmp_path) if name.startswith("copy")]
