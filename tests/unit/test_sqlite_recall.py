"""Recalled content is in no file, whatever happened to the pages that it lay on."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import random
import re
import time
from pathlib import Path

import apsw
import pytest

from qunxin.model import MessageType, Require
from qunxin.store.commands import Command, Post, PutGroup, PutUser, Recall
from qunxin.store.results import Done, Posted
from qunxin.stores.sqlite import SqliteStore
from qunxin.stores.sqlite.writer import Writer

GROUPS = 12
USERS = 30


def secret(number: int, size: int) -> bytes:
    """Content that can be told from any other: its number stands at both ends."""
    mark = f"机密{number:07}"
    return f'[{{"type":"text","text":"{mark}{"填" * size}{mark}"}}]'.encode()


def found(folder: Path, number: int) -> list[str]:
    """The files that hold this content."""
    mark = f"机密{number:07}".encode()
    return [path.name for path in folder.iterdir() if mark in path.read_bytes()]


def all_found(folder: Path) -> set[int]:
    """The numbers of all content in any file."""
    marks = re.compile("机密([0-9]{7})".encode())
    return {int(mark) for path in folder.iterdir() for mark in marks.findall(path.read_bytes())}


def world() -> list[Command]:
    users = tuple(f"u{number}" for number in range(USERS))
    groups = [PutGroup(f"g{n}", owner="u0", members=users) for n in range(GROUPS)]
    return [*map(PutUser, users), *groups]


async def test_nothing_is_left_after_closing(tmp_path: Path) -> None:
    """Thousands of messages of all sizes in many conversations, half of them recalled at random
    moments: after an orderly close no file holds anything of them, and all the others are
    there."""
    dice = random.Random(20_251_123)
    store = SqliteStore(tmp_path / "chat.db")
    await store.open()
    await store.commit(world())
    places: dict[int, tuple[str, int]] = {}
    recalled: set[int] = set()
    for start in range(0, 3_000, 50):
        posts = [
            Post(
                MessageType.GROUP,
                f"group:g{dice.randrange(GROUPS)}",
                f"u{dice.randrange(USERS)}",
                secret(number, dice.choice((0, 1, 20, 60, 300, 1_500, 9_000))),
                f"k{number}" if number % 3 else None,
                bytes(32),
                Require.REACHABLE,
            )
            for number in range(start, start + 50)
        ]
        for number, outcome in enumerate(await store.commit(posts), start):
            assert isinstance(outcome, Done)
            assert isinstance(outcome.result, Posted)
            places[number] = (posts[number - start].conversation, outcome.result.position)
        gone = dice.sample(sorted(set(places) - recalled), 25)
        await store.commit([Recall(*places[number]) for number in gone])
        recalled.update(gone)
    await store.close()
    assert await asyncio.to_thread(all_found, tmp_path) == set(places) - recalled


def _wait_until_gone(folder: Path, number: int) -> None:
    deadline = time.monotonic() + 10
    while found(folder, number):
        assert time.monotonic() < deadline
        time.sleep(0.01)


async def _is_gone(folder: Path, number: int) -> None:
    await asyncio.to_thread(_wait_until_gone, folder, number)


async def test_gone_while_running(tmp_path: Path) -> None:
    """With no reader in the way the content leaves every file at once, the store still open."""
    store = SqliteStore(tmp_path / "chat.db")
    await store.open()
    await store.commit([*world(), Post(MessageType.GROUP, "group:g0", "u0", secret(1, 500))])
    assert found(tmp_path, 1)
    await store.commit([Recall("group:g0", 2)])
    await _is_gone(tmp_path, 1)
    await store.close()


async def test_gone_when_the_reader_has_gone(tmp_path: Path) -> None:
    """A reader that holds an old snapshot keeps the content in the log; it goes soon after the
    reader, with no further command, and commits go on meanwhile."""
    store = SqliteStore(tmp_path / "chat.db")
    await store.open()
    await store.commit([*world(), Post(MessageType.GROUP, "group:g0", "u0", secret(1, 500))])
    reader = apsw.Connection(str(tmp_path / "chat.db"))
    reader.execute("BEGIN; SELECT epoch FROM state").fetchall()
    await store.commit([Recall("group:g0", 2)])
    for _ in range(20):
        await store.commit([Post(MessageType.GROUP, "group:g0", "u0", secret(2, 5))])
    assert found(tmp_path, 1) == ["chat.db-wal"]
    reader.close()
    await _is_gone(tmp_path, 1)
    await store.close()


def _killed_after_the_recall(path: Path) -> None:
    """Recall a message, and be gone before anything else is done."""

    async def recall() -> None:
        store = SqliteStore(path)
        await store.open()
        await store.commit([*world(), Post(MessageType.GROUP, "group:g0", "u0", secret(1, 500))])
        Writer.rest = lambda _: None  # type: ignore[assignment, method-assign]
        await store.commit([Recall("group:g0", 2)])
        os._exit(9)

    asyncio.run(recall())


@pytest.mark.may_block("another process is waited for")
async def test_gone_after_a_kill(tmp_path: Path) -> None:
    """Killed between a recall and the checkpoint behind it, the next process does that as it
    opens the store."""
    path = tmp_path / "chat.db"
    process = multiprocessing.get_context("spawn").Process(
        target=_killed_after_the_recall, args=(path,)
    )
    process.start()
    process.join()
    assert process.exitcode == 9
    assert found(tmp_path, 1) == ["chat.db-wal"]
    store = SqliteStore(path)
    await store.open()
    await _is_gone(tmp_path, 1)
    await store.close()


async def test_digest_goes_too(tmp_path: Path) -> None:
    """The digest, from which short content could be guessed, is erased with it."""
    digest = "这就是那个摘要，三十二字节多".encode()
    store = SqliteStore(tmp_path / "chat.db")
    await store.open()
    post = Post(MessageType.GROUP, "group:g0", "u0", secret(1, 1), "k", digest)
    await store.commit([*world(), post])
    await store.commit([Recall("group:g0", 2)])
    await store.close()
    assert not _holds(tmp_path, digest)


def _holds(folder: Path, content: bytes) -> bool:
    return any(content in path.read_bytes() for path in folder.iterdir())
