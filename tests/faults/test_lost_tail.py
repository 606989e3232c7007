"""When the disk loses what was written last, or a backup is put back: served, and never silently.

A killed server leaves its last commits in the write-ahead log. Frames cut off that file are what
a disk loses that said it had synced. The store must open, and whoever had seen more than it has
now must be told to reload.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
from fault_client import RealtimeClient
from fault_help import asked, populate, read_whole_log

from serving import ServerProcess, run_cli

pytestmark = [
    pytest.mark.faults,
    pytest.mark.timeout(120),
    pytest.mark.may_block("it waits for the server that it starts"),
]

TEA = "group:tea"
SENT = 40
WAL_HEADER = 32
FRAME_HEADER = 24


class Seen(NamedTuple):
    """What a device knew before the loss."""

    epoch: str
    position: int


@pytest.fixture
def node(tmp_path: Path) -> Iterator[ServerProcess]:
    """A running server with alice, bob and the group tea, which no cut can lose: an orderly stop
    has brought them into the database itself."""
    with ServerProcess(tmp_path / "data") as node:
        with node.client() as client:
            populate(client, ["alice", "bob"], ["tea"])
        assert node.stop() == 0
        node.start()
        yield node


def say(client: httpx.Client, number: int) -> dict[str, Any]:
    message = {"type": "group", "from": "alice", "to": "tea", "key": f"k{number}"}
    return asked(client, "POST", "/v1/messages", message | {"text": f"第{number}句 🍵 جملة"})


def say_much_and_kill(node: ServerProcess) -> Seen:
    """Messages, each a commit of its own, and a kill at once after the last reply."""
    with node.client() as client:
        receipts = [say(client, number) for number in range(SENT)]
    node.kill()
    return Seen(receipts[-1]["epoch"], receipts[-1]["position"])


def wal_of(node: ServerProcess) -> Path:
    (path,) = node.data_folder.glob("*.db-wal")
    return path


def commit_ends(wal: bytes) -> list[int]:
    """Where in the file each transaction ends: after a frame that says how large the database
    is then (SQLite's file format, 4.1 and 4.2)."""
    size = FRAME_HEADER + int.from_bytes(wal[8:12], "big")
    starts = range(WAL_HEADER, len(wal) - size + 1, size)
    return [at + size for at in starts if int.from_bytes(wal[at + 4 : at + 8], "big")]


def cut_between_commits(path: Path) -> None:
    """The last ten transactions are gone."""
    wal = path.read_bytes()
    path.write_bytes(wal[: commit_ends(wal)[-11]])


def cut_inside_a_frame(path: Path) -> None:
    """So are the last ten, and the one before them is half there."""
    wal = path.read_bytes()
    path.write_bytes(wal[: commit_ends(wal)[-11] - 1_000])


def cut_everything(path: Path) -> None:
    """The file is empty."""
    path.write_bytes(b"")


CUTS = (cut_between_commits, cut_inside_a_frame, cut_everything)


async def recover(node: ServerProcess, seen: Seen) -> dict[str, Any]:
    """What bob's device is told of the group when it comes back and says what it has seen."""
    position = {TEA: {"recover": True, "offset": seen.position, "epoch": seen.epoch}}
    bob = await RealtimeClient.open(node.websocket_url, node.token("bob"), position)
    await bob.close()
    subscription: dict[str, Any] = bob.welcome["subs"][TEA]
    return subscription


def must_reload(subscription: dict[str, Any]) -> bool:
    """Whether the device is told that it asked to recover and could not; false is left out."""
    return bool(subscription["was_recovering"]) and not subscription.get("recovered", False)


def check_log(node: ServerProcess) -> list[dict[str, Any]]:
    """The log has no gap, and every message in it is whole."""
    with node.client() as client:
        entries = read_whole_log(client, TEA, "bob")
    assert [entry["position"] for entry in entries] == list(range(1, len(entries) + 1))
    texts = [entry["content"][0]["text"] for entry in entries if "content" in entry]
    assert texts == [f"第{number}句 🍵 جملة" for number in range(len(texts))]
    return entries


@pytest.mark.parametrize("cut", CUTS)
async def test_a_lost_tail_is_a_new_history(
    node: ServerProcess, cut: Callable[[Path], None]
) -> None:
    """It opens and serves what it has, under a new epoch; who was ahead must reload."""
    seen = say_much_and_kill(node)
    cut(wal_of(node))
    node.start()
    entries = check_log(node)
    assert len(entries) < seen.position, "the cut lost nothing"
    told = await recover(node, seen)
    assert told["epoch"] != seen.epoch
    assert must_reload(told)
    assert told["offset"] == len(entries)
    with node.client() as client:
        again = say(client, SENT - 1)
    assert (again["position"], again["duplicate"]) == (len(entries) + 1, False)


async def test_who_was_ahead_reloads_even_after_others_filled_the_positions(
    node: ServerProcess,
) -> None:
    """The head may pass what a device had seen: the epoch still tells it that it saw others."""
    seen = say_much_and_kill(node)
    cut_between_commits(wal_of(node))
    node.start()
    with node.client() as client:
        positions = [say(client, number)["position"] for number in range(SENT, 3 * SENT)]
    assert positions[-1] > seen.position
    assert must_reload(await recover(node, seen))


async def test_a_kill_alone_loses_nothing_and_nobody_reloads(node: ServerProcess) -> None:
    """Where the tail is whole the history goes on: same epoch, every device recovers."""
    seen = say_much_and_kill(node)
    node.start()
    assert len(check_log(node)) == seen.position
    told = await recover(node, seen)
    assert (told["epoch"], told["recovered"]) == (seen.epoch, True)


async def test_a_stop_in_order_keeps_the_epoch(node: ServerProcess) -> None:
    """Restarts are no new history."""
    with node.client() as client:
        receipt = say(client, 0)
    assert node.stop() == 0
    node.start()
    told = await recover(node, Seen(receipt["epoch"], receipt["position"]))
    assert (told["epoch"], told["recovered"]) == (receipt["epoch"], True)


async def test_a_restored_backup_is_a_new_history(node: ServerProcess, tmp_path: Path) -> None:
    """Devices of the old history reload, those ahead of the copy and those it still covers."""
    copy = tmp_path / "copy.db"
    with node.client() as client:
        early = say(client, 0)
        done = run_cli("backup", str(copy), "--data", str(node.data_folder))
        assert done.returncode == 0, done.stderr
        late = say(client, 1)
    assert node.stop() == 0
    restored = tmp_path / "restored"
    restored.mkdir(mode=0o700)
    shutil.copyfile(copy, restored / "messages.db")
    with ServerProcess(restored) as other:
        assert len(check_log(other)) == early["position"]
        for receipt in (early, late):
            told = await recover(other, Seen(receipt["epoch"], receipt["position"]))
            assert must_reload(told)
            assert told["epoch"] != receipt["epoch"]
