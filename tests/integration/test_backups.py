"""`qunxin backup` and `qunxin restore`: what is put back is what was kept, or nothing is."""

from __future__ import annotations

import json
import os
import signal
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from command_line import CommandLine
from qunxin.backups import make_backup, read_manifest
from qunxin.errors import QunxinError
from qunxin.folder import owned_folder
from serving import ServerProcess, answer, run_cli

WORDS = ("早安 👩\u200d👩\u200d👧", "مرحبا \u202eabc\u202c", "长" * 20_000)


@pytest.fixture
def backup(folder_cli: CommandLine, tmp_path: Path) -> Path:
    """A backup of a folder with two users, a group and three messages, one of them recalled."""
    folder_cli.fill(WORDS)
    path = tmp_path / "备份 1.db"
    told = folder_cli("backup", str(path))
    assert told["facts"]["messages"] == len(WORDS)
    assert (told["facts"]["users"], told["facts"]["groups"]) == (2, 1)
    return path


def manifest_of(backup: Path) -> Path:
    return backup.with_name(f"{backup.name}.json")


def test_a_backup_is_restored_whole_under_a_new_epoch(
    backup: Path, folder_cli: CommandLine, tmp_path: Path
) -> None:
    """Into a folder that is not there yet; messages, accounts and keys are as they were."""
    kept = json.loads(manifest_of(backup).read_text("utf-8"))
    assert stat.S_IMODE(manifest_of(backup).stat().st_mode) == 0o600
    folder_cli.folder = tmp_path / "恢复"
    told = folder_cli("restore", str(backup))
    assert told["manifest"] == kept
    assert told["replaced"] is None
    assert told["epoch"] != kept["facts"]["epoch"]
    assert stat.S_IMODE(folder_cli.folder.stat().st_mode) == 0o700
    assert folder_cli("group", "show", "tea")["members"] == 2
    assert folder_cli("send", "group", "tea", "--from", "bob", "回来了")["position"] == 5


def test_what_is_left_of_a_refused_backup(folder_cli: CommandLine, tmp_path: Path) -> None:
    """Nothing: not the copy, not a part of it, and what is there stays as it is."""
    folder_cli.fill(WORDS)
    target = tmp_path / "备份"
    target.mkdir()
    for path, reason in ((target, "is there already"), (tmp_path / "没有" / "1.db", "no folder")):
        assert reason in folder_cli.refusal("backup", str(path))["detail"]
    assert list(target.iterdir()) == []
    assert not [path for path in tmp_path.iterdir() if "partial" in path.name]


@pytest.mark.processes
def test_a_backup_needs_nothing_of_the_server(tmp_path: Path) -> None:
    """The command copies the file itself, so it writes where it may and the server may not, as a
    service may not outside its folder: a server that stands still shows that."""
    with ServerProcess(tmp_path / "数据") as server, server.client() as client:
        for user in ("alice", "bob"):
            answer(client.put(f"/v1/users/{user}"))
        sent = {"type": "private", "from": "alice", "to": "bob", "text": WORDS[0]}
        answer(client.post("/v1/messages", json=sent))
        os.kill(server.pid, signal.SIGSTOP)
        try:
            done = run_cli("backup", str(tmp_path / "副本.db"), "--data", str(tmp_path / "数据"))
        finally:
            os.kill(server.pid, signal.SIGCONT)
        assert done.returncode == 0, done.stderr
    assert read_manifest(tmp_path / "副本.db").facts.messages == 1


def test_a_folder_with_messages_is_left_alone_unless_told(
    backup: Path, folder_cli: CommandLine
) -> None:
    """With --replace its history goes aside, whole; settings and secrets stay."""
    folder_cli("user", "create", "later")
    secrets = (folder_cli.folder / "token-keys.json").read_bytes()
    error = folder_cli.refusal("restore", str(backup))
    assert "--replace" in error["detail"]
    assert folder_cli("user", "show", "later")["state"] == "active"
    told = folder_cli("restore", str(backup), "--replace")
    assert folder_cli.refusal("user", "show", "later")["code"] == "user_not_found"
    assert (folder_cli.folder / "token-keys.json").read_bytes() == secrets
    folder_cli.folder.rename(folder_cli.folder.with_name("别处"))
    folder_cli.folder = folder_cli.folder.with_name("别处") / Path(told["replaced"]).name
    assert folder_cli("user", "show", "later")["state"] == "active"


def flip_a_byte(backup: Path) -> None:
    content = bytearray(backup.read_bytes())
    content[len(content) // 2] ^= 1
    backup.write_bytes(content)


def cut_the_end(backup: Path) -> None:
    backup.write_bytes(backup.read_bytes()[:-4096])


@pytest.mark.parametrize("name", ["备份.db", "备份.db.json"])
def test_what_came_there_meanwhile_is_left_alone(
    folder_cli: CommandLine, tmp_path: Path, name: str
) -> None:
    """As another backup to the same name does that is whole sooner."""
    folder_cli.fill(WORDS)
    target = tmp_path / "处" / "备份.db"
    target.parent.mkdir()

    def come_meanwhile(_done: int, _all: int) -> None:
        (target.parent / name).write_text("先来的", "utf-8")

    with pytest.raises(QunxinError, match="invalid_request"):
        make_backup(folder_cli.folder, target, come_meanwhile)
    assert (target.parent / name).read_text("utf-8") == "先来的"
    assert {path.name for path in target.parent.iterdir()} <= {name, target.name}


def test_a_backup_that_is_not_there_is_named(folder_cli: CommandLine, tmp_path: Path) -> None:
    """The file that was asked for, not its manifest."""
    error = folder_cli.refusal("restore", str(tmp_path / "无.db"))
    assert error["detail"].endswith(f"there is no file {tmp_path / '无.db'}")
    assert not folder_cli.folder.exists()


def remove_the_manifest(backup: Path) -> None:
    manifest_of(backup).unlink()


def break_the_manifest(backup: Path) -> None:
    manifest_of(backup).write_text('{"format": "qunxin-backup-1", "bytes": "很多"}', "utf-8")


def claim_other_counts(backup: Path) -> None:
    told: dict[str, Any] = json.loads(manifest_of(backup).read_text("utf-8"))
    told["facts"]["messages"] += 1
    manifest_of(backup).write_text(json.dumps(told), "utf-8")


@pytest.mark.parametrize(
    "spoil",
    [flip_a_byte, cut_the_end, remove_the_manifest, break_the_manifest, claim_other_counts],
)
def test_what_is_not_the_backup_is_refused(
    spoil: Callable[[Path], None], backup: Path, folder_cli: CommandLine, tmp_path: Path
) -> None:
    """Nothing of it is left in the folder, and nothing that was there is touched."""
    spoil(backup)
    folder_cli.folder = tmp_path / "空"
    assert folder_cli.refusal("restore", str(backup))["code"] == "invalid_request"
    left = folder_cli.folder.iterdir() if folder_cli.folder.exists() else ()
    assert {path.name for path in left} <= {"lock"}


def test_a_folder_in_use_is_refused(backup: Path, folder_cli: CommandLine) -> None:
    """A running server's history is not pulled away under it."""
    with owned_folder(folder_cli.folder):
        error = folder_cli.refusal("restore", str(backup), "--replace")
    assert error["code"] == "cannot_start"
    assert folder_cli("user", "show", "alice")["state"] == "active"


def test_a_backup_without_a_manifest_is_not_written_over(
    backup: Path, folder_cli: CommandLine
) -> None:
    """Neither half of an older backup is lost to a newer one of its name."""
    backup.unlink()
    kept = manifest_of(backup).read_bytes()
    assert "is not overwritten" in folder_cli.refusal("backup", str(backup))["detail"]
    assert manifest_of(backup).read_bytes() == kept
    assert not backup.exists()
