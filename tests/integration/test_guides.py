"""The guides can be followed: what they let people type works, in their order."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from command_line import CommandLine
from qunxin.cli.app import run
from serving import ServerProcess, eventually, run_cli

pytestmark = pytest.mark.processes

DOCS = Path(__file__).parents[2] / "docs"


def blocks_of(page: str, language: str) -> list[str]:
    """The code blocks of one language on a page, in order."""
    text = (DOCS / page).read_text("utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def commands_of(page: str) -> list[list[str]]:
    """The arguments of every `qunxin` command on a page, without what it is piped into."""
    lines = "".join(blocks_of(page, "sh")).splitlines()
    ours = [line.removeprefix("uv run ") for line in lines]
    return [
        shlex.split(line.partition(" | ")[0], comments=True)[1:]
        for line in ours
        if line.startswith("qunxin ")
    ]


def test_the_quickstart_can_be_followed(server: ServerProcess, tmp_path: Path) -> None:
    """From the first user to the recall: the second send is the first again, the device gets
    everything, the ledger says so."""
    for arguments in commands_of("quickstart.md"):
        done = run_cli(*arguments, "--data", str(server.data_folder))
        assert done.returncode == 0, done.stderr
    send, token, device, ledger, recall = (
        block.replace("127.0.0.1:8000", f"127.0.0.1:{server.port}").replace("qx_…", server.key)
        for block in blocks_of("quickstart.md", "python")
    )
    first = subprocess.run([sys.executable, "-c", send], capture_output=True, text=True, check=True)
    assert first.stdout == "3 complete 2\n"
    here: dict[str, Any] = {}
    exec(send, here)  # noqa: S102 - the page's own program
    assert (here["receipt"]["position"], here["receipt"]["duplicate"]) == (3, True)
    exec(token, here)  # noqa: S102
    program = tmp_path / "device.py"
    program.write_text(device, "utf-8")
    with subprocess.Popen(
        [sys.executable, "-u", program, here["token"]], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None

            def delivered() -> bool:
                exec(ledger, here)  # noqa: S102
                return bool(here["ledger"]["counts"]["delivered"] == 1)

            eventually(delivered)
            exec(recall, here)  # noqa: S102
            said = ""
            while "recalled" not in said:
                line = process.stdout.readline()
                assert line, said
                said += line
        finally:
            process.kill()
    assert "在这里 👋🏽" in said
    here["api"].close()


def test_the_operators_guide_can_be_followed(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    folder_cli: CommandLine,
) -> None:
    """Each command on the page, in one folder, one after the other."""
    monkeypatch.chdir(tmp_path)
    folder_cli.folder = tmp_path / "qunxin-data"
    folder_cli("user", "create", "alice", "--name", "爱丽丝 🍵")
    commands = commands_of("how-to/operate.md")
    assert {"doctor", "backup", "restore", "export", "import", "systemd"} <= {
        arguments[0] for arguments in commands
    }
    for arguments in commands:
        assert run(arguments) == 0, capsys.readouterr().err
    for folder in ("restored", "new"):
        folder_cli.folder = tmp_path / folder
        assert folder_cli("user", "show", "alice")["name"] == "爱丽丝 🍵"
