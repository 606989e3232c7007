"""Recalled content is in no file of the data folder once the server has stopped."""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from fault_client import RealtimeClient
from fault_help import asked, populate, read_whole_log

from serving import ServerProcess

pytestmark = [pytest.mark.faults, pytest.mark.timeout(180)]

SECRET = "绝密代号蓝鲸☂7f3a91"
SIZES = (1, 2, 30, 260, 2_000)
"""How often a message says its secret: from one line to some 60 KB, over many pages."""


def encodings(text: str) -> list[bytes]:
    """What `text` may look like inside a file."""
    escaped = json.dumps(text)[1:-1]
    return [
        text.encode(),
        escaped.encode(),
        escaped.replace("\\u", "\\\\u").encode(),
        escaped.upper().replace("\\U", "\\u").encode(),
        text.encode("utf-16-le"),
        text.encode("utf-16-be"),
    ]


def files_with(folder: Path, text: str) -> list[str]:
    """The files below `folder` that hold `text` in any encoding."""
    needles = encodings(text)
    found = []
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            data = path.read_bytes()
            found += [path.name for needle in needles if needle in data]
    return found


@pytest.fixture
def node(tmp_path: Path) -> Iterator[ServerProcess]:
    """A running server with alice, bob and the group tea."""
    with ServerProcess(tmp_path / "data") as node:
        with node.client() as client:
            populate(client, ["alice", "bob"], ["tea"])
        yield node


def say(client: httpx.Client, text: str) -> int:
    message = {"type": "group", "from": "alice", "to": "tea", "text": text}
    return int(asked(client, "POST", "/v1/messages", message)["position"])


def recall(client: httpx.Client, position: int) -> None:
    path = f"/v1/conversations/group:tea/entries/{position}/recall"
    asked(client, "POST", path, {"from": "alice"})


def check_tombstone(client: httpx.Client, position: int) -> None:
    entry = read_whole_log(client, "group:tea", "bob")[position - 1]
    assert "content" not in entry
    assert entry["recalled"] > position


@pytest.mark.parametrize("times", SIZES)
def test_recalled_content_is_in_no_file(node: ServerProcess, times: int) -> None:
    """Promise 7: there before the recall, nowhere after it and an orderly stop."""
    with node.client() as client:
        position = say(client, SECRET * times)
        assert files_with(node.data_folder, SECRET), "the search does not find what is there"
        recall(client, position)
        check_tombstone(client, position)
    assert node.stop() == 0
    assert files_with(node.data_folder, SECRET) == []


def test_recalled_content_leaves_the_files_while_the_server_runs(node: ServerProcess) -> None:
    """Promise 7: the checkpoint that takes the bytes out follows at once, no stop needed."""
    with node.client() as client:
        recall(client, say(client, SECRET * 30))
        deadline = time.monotonic() + 10
        while files_with(node.data_folder, SECRET):
            assert time.monotonic() < deadline, "still there after ten seconds"
            time.sleep(0.05)


def test_a_reader_that_pages_keeps_nothing_back(node: ServerProcess) -> None:
    """A reader's snapshot may hold an old page in the log of the database; not beyond the stop."""
    with node.client() as client:
        positions = [say(client, SECRET * times) for times in SIZES * 4]
    with _paging(node), node.client() as client:
        for position in positions:
            recall(client, position)
    assert node.stop() == 0
    assert files_with(node.data_folder, SECRET) == []


async def test_a_live_reader_keeps_nothing_back(node: ServerProcess) -> None:
    """Content that was delivered to devices, and then recalled, stays in no file either."""
    bob = await RealtimeClient.open(node.websocket_url, node.token("bob"))
    try:
        with node.client() as client:
            positions = [say(client, SECRET * times) for times in SIZES]
            await bob.publications("group:tea", len(positions))
            for position in positions:
                recall(client, position)
        await bob.publications("group:tea", 2 * len(positions))
    finally:
        await bob.close()
    assert node.stop() == 0
    assert files_with(node.data_folder, SECRET) == []


def test_many_recalls_among_messages_that_stay(node: ServerProcess) -> None:
    """Recalls in any order, new messages between them: those recalled are gone, others whole."""
    rng = random.Random(5)
    kept = "留下来的话 🍵 ابقَ"
    with node.client() as client:
        secret = [say(client, SECRET * rng.choice(SIZES)) for _ in range(120)]
        staying = [say(client, f"{kept} {n}") for n in range(20)]
        rng.shuffle(secret)
        for n, position in enumerate(secret):
            recall(client, position)
            if n % 6 == 0:
                staying.append(say(client, f"{kept} {len(staying)}"))
        entries = read_whole_log(client, "group:tea", "bob")
        texts = [entries[position - 1]["content"][0]["text"] for position in staying]
    assert texts == [f"{kept} {n}" for n in range(len(staying))]
    assert node.stop() == 0
    assert files_with(node.data_folder, SECRET) == []
    assert files_with(node.data_folder, kept), "the search does not find what is there"


def test_a_kill_after_the_recall_brings_nothing_back(node: ServerProcess) -> None:
    """An accepted recall is durable: after SIGKILL, a new start and a stop the bytes are gone."""
    with node.client() as client:
        position = say(client, SECRET * 260)
        recall(client, position)
    node.kill()
    node.start()
    with node.client() as client:
        check_tombstone(client, position)
    assert node.stop() == 0
    assert files_with(node.data_folder, SECRET) == []


@contextmanager
def _paging(node: ServerProcess, readers: int = 2) -> Iterator[None]:
    """Threads page through the log from end to end, over and over, until the end."""
    ending = threading.Event()

    def page() -> int:
        pages = 0
        with node.client() as client:
            while not ending.is_set():
                pages += bool(read_whole_log(client, "group:tea", "bob"))
        return pages

    with ThreadPoolExecutor(readers) as pool:
        counts = [pool.submit(page) for _ in range(readers)]
        try:
            yield
        finally:
            ending.set()
        assert all(count.result() for count in counts), "nothing was read meanwhile"
