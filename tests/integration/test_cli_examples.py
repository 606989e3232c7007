"""The examples in the commands' own help, run by a shell as they are printed."""

from __future__ import annotations

import inspect
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from cyclopts import App

from qunxin.cli.app import app, load_all
from serving import ServerProcess, answer, run_cli

pytestmark = pytest.mark.processes

_SERVES = "runs until it is stopped: test_cli_serve.py starts it"
_SYSTEM = "changes this system's services"
NOT_RUN = {
    "qunxin serve": _SERVES,
    "qunxin serve --data /srv/qunxin --host 0.0.0.0 --allowed-hosts chat.example.org": _SERVES,
    "QUNXIN_PORT=9000 qunxin serve --config qunxin.toml": _SERVES,
    "qunxin serve --port 0 --json": _SERVES,
    "qunxin systemd --data /var/lib/qunxin | sudo tee /etc/systemd/system/qunxin.service": _SYSTEM,
    "sudo systemctl daemon-reload": _SYSTEM,
    "sudo systemctl enable --now qunxin": _SYSTEM,
}
"""Lines that cannot run here, and why."""

_LOG = Path(__file__).parents[1] / "data" / "irc" / "茶馆.txt"


def _examples(command: App, name: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    """The indented lines of each command's help, above its parameters, by the command's name."""
    text = command.help if command.default_command is None else command.default_command.__doc__
    shown = inspect.cleandoc(text or "").partition("\nParameters\n---")[0]
    for line in shown.splitlines():
        if line.startswith("    "):
            yield name, line.strip()
    for below in command:
        if not below.startswith("-"):
            yield from _examples(command[below], (*name, below))


load_all()
EXAMPLES = list(_examples(app))
OVERVIEW = [line for name, line in EXAMPLES if not name and line not in NOT_RUN]
RUN = [line for name, line in EXAMPLES if name and line not in NOT_RUN]


class Prepared(NamedTuple):
    """Folders to run examples on, and the ids that stand in them for those of the examples."""

    users: Path
    chat: Path
    ids: dict[str, str]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """A folder with accounts alone, and one with all that the examples name."""
    root = tmp_path_factory.mktemp("examples")
    server = ServerProcess(root / "chat")
    with server, server.client() as client:
        for user in ("alice", "bob", "carol", "clock", "mallory"):
            answer(client.put(f"/v1/users/{user}", json={"name": f"{user} 茶 🍵"}))
    shutil.copytree(root / "chat", root / "users")
    with server, server.client() as client:
        body = {"owner": "alice", "members": ["bob", "clock"]}
        answer(client.put("/v1/groups/tea", json=body))
        say = {"type": "group", "to": "tea", "from": "alice"}
        for number in range(20):
            answer(client.post("/v1/messages", json=say | {"text": f"第 {number} 条 🍵"}))
        say = {"type": "private", "to": "bob", "from": "alice", "text": "在吗"}
        answer(client.post("/v1/messages", json=say))
        for _ in range(3):
            answer(
                client.post("/v1/messages", json={"type": "broadcast", "to": "all", "text": "早"})
            )
        with server.client(server.create_key("钩", "--scope", "webhooks")) as hooks:
            made = hooks.post("/v1/webhooks", json={"url": "https://shop.example.org/群"})
            hook = answer(made)["id"]
    data = ("--data", str(root / "chat"), "--json")
    key = json.loads(run_cli("key", "list", *data).stdout)["keys"][0]["id"]
    signing = json.loads(run_cli("token", "keys", *data).stdout)["keys"][0]["id"]
    assert run_cli("token", "rotate", *data).returncode == 0
    ids = {"9c1e5a7d20b4": hook, "k3f9…": key, "5f0c1e9a7b3d2468": signing}
    return Prepared(root / "users", root / "chat", ids)


class Place:
    """A machine as the examples take it to be: files, folders, and a program named qunxin."""

    def __init__(self, root: Path, node: Path) -> None:
        self.root = root
        self.data = root / "srv" / "qunxin"
        self.work = root / "work"
        for folder in ("bin", "mnt/backup", "mnt/archive", "work/logs"):
            (root / folder).mkdir(parents=True)
        shutil.copytree(node, self.data)
        program = root / "bin" / "qunxin"
        program.write_text(f'#!/bin/sh\nexec {sys.executable} -m qunxin "$@"\n', "utf-8")
        program.chmod(0o700)
        (self.work / "users.txt").write_text("bob\ncarol\n", "utf-8")
        shutil.copy(_LOG, self.work / "chat.txt")
        shutil.copy(_LOG, self.work / "logs" / "one.txt")

    def run(self, script: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """By a shell, with the absolute paths below `root`; a failure anywhere fails it."""
        for folder in ("/srv/", "/mnt/"):
            script = script.replace(f" {folder}", f" {self.root}{folder}")
        path = f"{self.root / 'bin'}:{os.environ['PATH']}"
        return subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=self.work,
            env={**os.environ, "PATH": path, "QUNXIN_DATA": str(self.data), **variables},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )


def check_done(done: subprocess.CompletedProcess[str]) -> None:
    """It went well, and nothing was said of a fault."""
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("line", RUN)
def test_an_example_works_as_it_is_printed(line: str, prepared: Prepared, tmp_path: Path) -> None:
    """A newcomer who copies it sees it work."""
    fresh = line.startswith("qunxin group create")
    place = Place(tmp_path, prepared.users if fresh else prepared.chat)
    for written, real in prepared.ids.items():
        line = line.replace(written, real)
    if line.startswith("qunxin restore"):
        check_done(place.run("qunxin backup monday.db"))
    if line.startswith("qunxin import"):
        check_done(place.run("qunxin export everything.jsonl"))
    if line.startswith("qunxin link") or " --url http://127" in line:
        with ServerProcess(place.data) as server:
            line = line.replace("http://127.0.0.1:8000", server.url)
            check_done(place.run(line, KEY=server.key))
    else:
        check_done(place.run(line))


def test_the_overview_can_be_followed(prepared: Prepared, tmp_path: Path) -> None:
    """Its lines, one after the other."""
    check_done(Place(tmp_path, prepared.users).run("\n".join(OVERVIEW)))


def test_only_lines_that_are_there_are_left_out() -> None:
    """An example that is changed is run, or left out anew."""
    assert NOT_RUN.keys() <= {line for _, line in EXAMPLES}
    assert len(RUN) > 60
