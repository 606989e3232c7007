"""A node as a systemd service: its unit, and what the manager is told."""

from __future__ import annotations

import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from command_line import CommandLine
from qunxin.cli.systemd import make_unit
from qunxin.config import Settings
from serving import ServerProcess

pytestmark = pytest.mark.processes


def lines_of(unit: str) -> list[str]:
    return [line for line in unit.splitlines() if line and not line.startswith("#")]


def test_the_unit_follows_the_settings(folder_cli: CommandLine) -> None:
    """Its folder, its limits; printed as it is, for a pipe."""
    folder_cli.folder.mkdir(mode=0o700)
    settings = "max_connections = 5_000\nshutdown_timeout_seconds = 30.0\n"
    (folder_cli.folder / "qunxin.toml").write_text(settings, "utf-8")
    done = folder_cli.run("systemd", "--user", "chat")
    assert done.code == 0
    lines = lines_of(done.out)
    assert "User=chat" in lines
    assert "LimitNOFILE=5200" in lines
    assert "TimeoutStopSec=35" in lines
    assert f"ReadWritePaths='{folder_cli.folder}'" in lines  # its name has a blank
    assert any(line.startswith("ExecStart=") and " serve --data " in line for line in lines)
    assert folder_cli("systemd", "--user", "chat")["unit"].strip() == done.out.strip()


def test_systemd_makes_a_folder_of_its_own() -> None:
    """Below the folder where services keep their state."""
    unit = make_unit(Settings(data="/var/lib/qunxin"), "qunxin", Path("/etc/qunxin.toml"))
    assert "StateDirectory=qunxin" in lines_of(unit)
    assert "ReadWritePaths" not in unit
    assert "--config /etc/qunxin.toml" in unit


def test_a_node_with_a_certificate_can_be_reloaded() -> None:
    """By the signal that makes it read the certificate anew, and that would end any other node."""
    secure = Settings(data="/var/lib/qunxin", tls_certificate="/证书.pem", tls_key="/钥匙.pem")
    reload = "ExecReload=/bin/kill -HUP $MAINPID"
    assert reload in lines_of(make_unit(secure, "qunxin", None))
    assert reload not in lines_of(make_unit(Settings(), "qunxin", None))


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    """No directive is misspelt."""
    path = tmp_path / "qunxin.service"
    path.write_text(make_unit(Settings(data="/var/lib/qunxin"), "root", None), "utf-8")
    done = subprocess.run(
        ["systemd-analyze", "verify", path], capture_output=True, text=True, check=False
    )
    assert "qunxin.service" not in done.stderr, done.stderr


def test_the_manager_is_told(
    data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the node takes requests, and when it begins to stop."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(20)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        with ServerProcess(data_folder) as server:
            assert manager.recv(100) == b"READY=1"
            assert server.stop() == 0
            assert manager.recv(100) == b"STOPPING=1"


def test_a_manager_that_is_gone_changes_nothing(
    data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The node serves; its log tells of it."""
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "无"))
    with ServerProcess(data_folder) as server:
        assert "could not be told READY=1" in server.log
        assert server.stop() == 0
