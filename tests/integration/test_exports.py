"""`qunxin export` and `qunxin import`: JSON Lines that make the same history again."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import stat
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from command_line import CommandLine
from qunxin.errors import QunxinError
from qunxin.exports import write_export
from qunxin.records import HeadRecord
from serving import ServerProcess, answer, run_cli

WORDS = ("早安 👩\u200d👩\u200d👧", "مرحبا \u2028\u0085", "长" * 20_000)


def lines_of(path: Path) -> list[dict[str, Any]]:
    """A line ends at a line feed and nowhere else."""
    return [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]]


@pytest.fixture
def export(folder_cli: CommandLine, tmp_path: Path) -> Path:
    """The export of a folder with two users, a group and three messages."""
    folder_cli.fill(WORDS)
    path = tmp_path / "全部 1.jsonl"
    told = folder_cli("export", str(path))
    assert told["bytes"] == path.stat().st_size
    assert told["records"] == len(lines_of(path)) == lines_of(path)[0]["records"]
    return path


def test_an_export_is_imported_into_a_new_folder(
    export: Path, folder_cli: CommandLine, tmp_path: Path
) -> None:
    """Accounts, members and positions are as they were; content is readable in the lines."""
    assert stat.S_IMODE(export.stat().st_mode) == 0o600
    said = [one["content"][0]["text"] for one in lines_of(export) if one.get("type") == "group"]
    assert said == list(WORDS)
    folder_cli.folder = tmp_path / "新 folder"
    told = folder_cli("import", str(export))
    assert told["epoch"] != lines_of(export)[0]["epoch"]
    assert folder_cli("group", "show", "tea")["members"] == 2
    assert folder_cli("send", "group", "tea", "--from", "bob", "回来了")["position"] == 5
    assert not list(folder_cli.folder.glob("*importing*"))


def test_an_export_beside_the_running_server(server: ServerProcess, tmp_path: Path) -> None:
    """More than one part of it, through the owner's door; what was accepted is in it."""
    with server.client() as client:
        answer(client.put("/v1/users/alice", json={"name": "爱"}))
        answer(client.put("/v1/groups/tea", json={"owner": "alice"}))
        body = {"type": "group", "to": "tea", "from": "alice"}
        for number in range(30):
            text = f"{number} " + "茶 🍵" * 6_000
            answer(client.post("/v1/messages", json=body | {"text": text}))
    path = tmp_path / "all.jsonl"
    done = run_cli("export", str(path), "--data", str(server.data_folder), "--json")
    assert done.returncode == 0, done.stderr
    kept = [one for one in lines_of(path) if one.get("type") == "group"]
    assert [one["position"] for one in kept] == list(range(2, 32))
    done = run_cli("export", str(path), "--data", str(server.data_folder))
    assert done.returncode == 1
    assert "is not overwritten" in done.stderr


def cut_off(lines: list[bytes]) -> list[bytes]:
    return lines[:-1]


def cut_inside_a_line(lines: list[bytes]) -> list[bytes]:
    return [*lines[:-2], lines[-2][:-5]]


def miss_a_line(lines: list[bytes]) -> list[bytes]:
    return lines[:4] + lines[5:]


def be_another_file(_lines: list[bytes]) -> list[bytes]:
    return ["这不是导出文件".encode()]


def be_empty(_lines: list[bytes]) -> list[bytes]:
    return []


@pytest.mark.parametrize(
    "spoil", [cut_off, cut_inside_a_line, miss_a_line, be_another_file, be_empty]
)
def test_what_is_not_a_whole_export_is_refused(
    spoil: Callable[[list[bytes]], list[bytes]],
    export: Path,
    folder_cli: CommandLine,
    tmp_path: Path,
) -> None:
    """Nothing of it is left, nor the folder."""
    export.write_bytes(b"\n".join(spoil(export.read_bytes().rstrip(b"\n").split(b"\n"))))
    folder_cli.folder = tmp_path / "空"
    assert folder_cli.refusal("import", str(export))["code"] == "invalid_request"
    assert not folder_cli.folder.exists()


def test_a_folder_with_messages_is_left_alone(export: Path, folder_cli: CommandLine) -> None:
    """An import makes a history; it does not mix two."""
    error = folder_cli.refusal("import", str(export))
    assert "holds messages already" in error["detail"]
    assert folder_cli("group", "show", "tea")["membership_version"] == 1


def test_an_export_over_a_link_is_refused(folder_cli: CommandLine, tmp_path: Path) -> None:
    """One that leads nowhere too: the name is taken."""
    folder_cli("user", "create", "alice")
    (tmp_path / "链.jsonl").symlink_to(tmp_path / "无")
    error = folder_cli.refusal("export", str(tmp_path / "链.jsonl"))
    assert "is not overwritten" in error["detail"]
    assert [path.name for path in tmp_path.glob("*.jsonl*")] == ["链.jsonl"]


class Export:
    """An export that waits, begun, until it may go on: two records, and `filler` between."""

    def __init__(self, filler: str) -> None:
        head = HeadRecord("qunxin-export-1", "e", records=2, last_key=0, unreachable_version=0)
        self.text = [
            msgspec.json.encode(head) + b"\n",
            msgspec.json.encode({"说": filler}) + b"\n",
        ]
        self.begun, self.may_end = asyncio.Event(), asyncio.Event()

    async def parts(self) -> AsyncGenerator[bytes, None]:
        yield self.text[0]
        self.begun.set()
        await self.may_end.wait()
        yield self.text[1]


def check_alone(target: Path) -> None:
    """For its owner only, and nothing beside it."""
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize("links", [True, False], ids=["links", "none"])
async def test_of_two_exports_to_one_file_the_first_to_be_whole_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    """And keeps it, byte for byte, on a file system without hard links too; the other says so, and
    nothing else is left."""
    if not links:

        def refuse(*_: object) -> None:
            raise OSError(errno.EPERM, os.strerror(errno.EPERM))

        monkeypatch.setattr(os, "link", refuse)
    target = tmp_path / ("全" * 80 + ".jsonl")
    one, other = Export("长 🍵" * 100_000), Export("短")
    tasks = [
        asyncio.create_task(write_export(export.parts(), target, lambda _done, _all: None))
        for export in (one, other)
    ]
    for export in (one, other):
        await export.begun.wait()
    one.may_end.set()
    assert (await tasks[0]).records == 2
    other.may_end.set()
    with pytest.raises(QunxinError, match="is not overwritten"):
        await tasks[1]
    assert target.read_bytes() == b"".join(one.text)
    check_alone(target)


def test_a_missing_file_is_refused_in_words(folder_cli: CommandLine, tmp_path: Path) -> None:
    """Both ways."""
    error = folder_cli.refusal("import", str(tmp_path / "无.jsonl"))
    assert "cannot be imported" in error["detail"]
    folder_cli("user", "create", "alice")
    error = folder_cli.refusal("export", str(tmp_path / "无" / "x.jsonl"))
    assert "cannot be written" in error["detail"]
