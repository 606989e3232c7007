"""Migrations, foreign files, damaged files, rights on files, how connections are set up."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import apsw
import pytest

from qunxin.errors import QunxinError
from qunxin.model import Cursor, MessageType
from qunxin.store.commands import MoveCursors, MoveWebhook, Post, PutGroup, PutUser
from qunxin.stores.sqlite import SqliteStore
from qunxin.stores.sqlite.connection import connect_reader, connect_writer
from qunxin.stores.sqlite.schema import APPLICATION_ID, MIGRATIONS, migrate


async def fill(path: Path, messages: int = 50) -> None:
    store = SqliteStore(path)
    await store.open()
    await store.commit([PutUser("安"), PutUser("bo"), PutGroup("tea", owner="bo", members=("安",))])
    post = Post(MessageType.GROUP, "group:tea", "bo", '[{"text":"茶 🍵"}]'.encode() * 40)
    await store.commit([post] * messages)
    await store.close()


async def refusal(path: Path) -> QunxinError:
    store = SqliteStore(path)
    with pytest.raises(QunxinError) as caught:
        await store.open()
    return caught.value


def test_migrations_run_once_each() -> None:
    """A database at an older schema is brought up by the migrations that it lacks, in order."""
    db = apsw.Connection(":memory:")
    migrate(db)
    assert db.pragma("user_version") == len(MIGRATIONS)
    assert db.pragma("application_id") == APPLICATION_ID
    later = (*MIGRATIONS, "CREATE TABLE 二 (n) STRICT".replace("(n)", "(n INTEGER)"))
    migrate(db, later)
    migrate(db, later)
    assert db.pragma("user_version") == len(later)
    assert db.execute("SELECT count(*) FROM 二").get == 0


async def test_webhooks_of_an_older_schema(tmp_path: Path) -> None:
    """A store from before it was kept what waits opens, and its webhook is where it was."""
    path = tmp_path / "旧.db"
    db = apsw.Connection(str(path))
    migrate(db, MIGRATIONS[:3])
    db.execute(
        "INSERT INTO webhooks VALUES ('h1', 'https://例え.example/', 'whsec_', '[]', 1, 4, 17,"
        " NULL, NULL, '歇', '{\"failures\":2}')"
    ).fetchall()
    db.close()
    store = SqliteStore(path)
    await store.open()
    (webhook,) = await store.read_webhooks()
    assert (webhook.revision, webhook.serial, webhook.waiting) == (4, 17, ())
    assert (webhook.paused, webhook.report.failures) == ("歇", 2)
    await store.commit([MoveWebhook("h1", 4, 20, webhook.report, waiting=(18,))])
    (moved,) = await store.read_webhooks()
    await store.close()
    assert (moved.serial, moved.waiting) == (20, (18,))


def test_failed_migration_leaves_nothing() -> None:
    """A migration that fails half-way is undone together with its number."""
    db = apsw.Connection(":memory:")
    migrate(db)
    broken = (*MIGRATIONS, "CREATE TABLE half (n INTEGER); INSERT INTO nowhere VALUES (1)")
    with pytest.raises(apsw.SQLError):
        migrate(db, broken)
    assert db.pragma("user_version") == len(MIGRATIONS)
    assert not db.table_exists(None, "half")


async def test_cursors_of_an_older_schema(tmp_path: Path) -> None:
    """A store from before it was kept what was missed opens, and its cursors miss nothing."""
    path = tmp_path / "旧.db"
    await fill(path)
    db = apsw.Connection(str(path))
    db.execute(
        "ALTER TABLE cursors DROP COLUMN missed_from; ALTER TABLE cursors DROP COLUMN missed_to;"
        " INSERT INTO cursors SELECT c.key, u.key, 5, 3 FROM conversations c, users u"
        " WHERE c.name = 'group:tea' AND u.user = '安'; PRAGMA user_version = 4"
    ).fetchall()
    db.close()
    store = SqliteStore(path)
    await store.open()
    assert await store.read_cursor("安", "group:tea") == Cursor("安", "group:tea", 5, 3)
    await store.commit([MoveCursors((Cursor("安", "group:tea", 9, 0, 1, 9),))])
    assert await store.read_cursor("安", "group:tea") == Cursor("安", "group:tea", 9, 3, 6, 9)
    await store.close()


async def test_newer_schema_is_refused(tmp_path: Path) -> None:
    """A store that a newer version wrote is refused in words, and left as it was."""
    path = tmp_path / "新.db"
    await fill(path)
    db = apsw.Connection(str(path))
    db.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}").fetchall()
    db.close()
    before = path.read_bytes()
    error = await refusal(path)
    assert error.code == "store_unavailable"
    assert f"schema {len(MIGRATIONS) + 1}" in error.facts["detail"]
    assert path.read_bytes() == before


async def test_foreign_database_is_refused(tmp_path: Path) -> None:
    """A database of another program is refused and left as it was, its journal mode too."""
    path = tmp_path / "other.db"
    db = apsw.Connection(str(path))
    db.execute("CREATE TABLE 别人的 (n); INSERT INTO 别人的 VALUES (1)").fetchall()
    db.close()
    before = path.read_bytes()
    error = await refusal(path)
    assert (error.code, error.facts["detail"]) == (
        "store_unavailable",
        "this file is not a Qunxin store",
    )
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", ["这不是数据库 👾" * 500, "SQLite format 3\0" + "\xff" * 5000])
async def test_garbage_is_refused(tmp_path: Path, content: str) -> None:
    """A file that is no database at all is refused with the family's own error."""
    path = tmp_path / "garbage.db"
    path.write_bytes(content.encode())
    assert (await refusal(path)).code == "store_unavailable"


async def test_cut_database_is_refused(tmp_path: Path) -> None:
    """A database that lost its end is refused, not served as if it were whole."""
    path = tmp_path / "cut.db"
    await fill(path)
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)
    assert (await refusal(path)).code == "store_unavailable"


async def codes(path: Path) -> set[str]:
    """With what opening, reading and writing are refused."""
    store = SqliteStore(path)
    try:
        await store.open()
    except QunxinError as error:
        return {error.code}
    found = set()
    for call in (store.read_log("group:tea", None), store.commit([PutUser("新")])):
        with pytest.raises(QunxinError) as caught:
            await call
        found.add(caught.value.code)
    await store.close()
    return found


async def test_damaged_page_is_unavailable(tmp_path: Path) -> None:
    """Pages overwritten with nonsense give `store_unavailable`, on reads and on commits, and the
    store can still be closed."""
    path = tmp_path / "damaged.db"
    await fill(path, messages=3_000)
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (path.stat().st_size - 4096))
    assert await codes(path) == {"store_unavailable"}


async def test_unusable_place_is_refused(tmp_path: Path) -> None:
    """A path under a file, or a folder in place of the file, is refused in the family."""
    (tmp_path / "file").write_text("茶")
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "file" / "chat.db", tmp_path / "folder"):
        assert (await refusal(path)).code == "store_unavailable"


async def test_only_the_owner_may_read(tmp_path: Path) -> None:
    """Every file of a running store belongs to its owner alone, whatever the umask, and rights
    that were wider before are taken back."""
    path = tmp_path / "新文件夹" / "chat.db"
    before = os.umask(0)
    try:
        path.parent.mkdir()
        path.touch(mode=0o666)
        store = SqliteStore(path)
        await store.open()
        await store.commit([PutUser("安")])
        await store.backup(path.with_name("copy.db"))
        rights = {one.name: stat.S_IMODE(one.stat().st_mode) for one in path.parent.iterdir()}
        await store.close()
    finally:
        os.umask(before)
    assert len(rights) >= 5
    assert set(rights.values()) == {0o600}, rights


def test_connections_are_set_up(tmp_path: Path) -> None:
    """Commits are fsynced, deleted content is zeroed, readers cannot write."""
    path = tmp_path / "chat.db"
    writer = connect_writer(path)
    settings = {
        name: writer.pragma(name)
        for name in ("journal_mode", "synchronous", "secure_delete", "foreign_keys", "temp_store")
    }
    assert settings == {
        "journal_mode": "wal",
        "synchronous": 2,
        "secure_delete": 1,
        "foreign_keys": 1,
        "temp_store": 2,
    }
    reader = connect_reader(path)
    with pytest.raises(apsw.ReadOnlyError):
        reader.execute("DELETE FROM state").fetchall()
    reader.close()
    writer.close()
