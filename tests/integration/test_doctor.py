"""`qunxin doctor`: what it finds, and that it changes nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import apsw
import pytest

from certificates import make_certificate
from command_line import CommandLine
from qunxin.doctor import CHECKS
from qunxin.folder import owned_folder
from serving import ServerProcess, free_port

NAMES = [check.__name__.removeprefix("check_").replace("_", " ") for check in CHECKS]


def examined(cli: CommandLine, code: int = 0) -> dict[str, tuple[str, str, str]]:
    """Level, text and advice by the check's name; the command must end with `code`."""
    done = cli.run("doctor", "--json")
    assert done.code == code, done
    rows = json.loads(done.out)["findings"]
    assert {row["level"] for row in rows} <= {"ok", "warning", "problem"}
    assert all(bool(row["advice"]) == (row["level"] != "ok") for row in rows)
    return {row["check"]: (row["level"], row["text"], row["advice"]) for row in rows}


@pytest.fixture(autouse=True)
def _port_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever else runs on this machine."""
    monkeypatch.setenv("QUNXIN_PORT", str(free_port()))


@pytest.fixture
def folder(folder_cli: CommandLine) -> Path:
    """A data folder with a little in it."""
    folder_cli("user", "create", "alice", "--name", "爱丽丝 🍵")
    return folder_cli.folder


def test_every_check_speaks(folder_cli: CommandLine, folder: Path) -> None:
    """All is well here but for what the machine lacks; no file is left, none is changed."""
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    found = examined(folder_cli)
    assert list(found) == NAMES
    for check in ("versions", "exposure", "rights", "fsync", "server", "database"):
        assert found[check][0] == "ok", found[check]
    assert "schema" in found["database"][1]
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before


def test_nothing_is_made_where_nothing_is(folder_cli: CommandLine) -> None:
    """Before the first start there is no folder, and afterwards neither."""
    assert examined(folder_cli)["rights"][0] == "ok"
    assert not folder_cli.folder.exists()


def test_a_running_server_is_found(server: ServerProcess, folder_cli: CommandLine) -> None:
    """With its address; its database is looked at while it works."""
    found = examined(folder_cli)
    assert server.url in found["server"][1]
    assert found["database"][0] == "ok"


def test_a_silent_owner_is_a_problem(folder_cli: CommandLine, folder: Path) -> None:
    """The folder is locked and nobody answers."""
    with owned_folder(folder):
        assert examined(folder_cli, 1)["server"][0] == "problem"


def test_the_folder_that_the_environment_names(folder: Path) -> None:
    """It is looked at where the settings are wrong too."""
    environment = {"QUNXIN_DATA": str(folder), "QUNXIN_PORT": "茶"}
    done = _run(["doctor", "--json"], environment)
    assert done.returncode == 1
    rows = {row["check"]: row for row in json.loads(done.stdout)["findings"]}
    assert rows["settings"]["level"] == "problem"
    assert str(folder) in rows["rights"]["text"]


@pytest.mark.processes
def test_another_users_folder(folder: Path) -> None:
    """Whoever may not look into it is told whom to be, by the doctor and by every other command."""
    wrapper = _closed_to_us(folder)
    for command in (["user", "list"], ["key", "create", "钥匙"], ["backup", "备份.db"]):
        done = _run([*command, "--data", str(folder)], {}, wrapper)
        assert (done.returncode, "Permission denied" in done.stderr) == (2, True), done.stderr
        assert "Traceback" not in done.stderr
    done = _run(["doctor", "--json", "--data", str(folder)], {}, wrapper)
    rows = {row["check"]: row for row in json.loads(done.stdout)["findings"]}
    assert done.returncode == 1
    assert "user that the server runs as" in rows["rights"]["advice"]


def _closed_to_us(folder: Path) -> list[str]:
    """Make `folder` one that this user may not look into. What is returned has to stand before a
    command: root may look into everything, unless it is made to forget how."""
    if os.geteuid() != 0:
        folder.chmod(0)
        return []
    for path in (folder, *folder.iterdir()):
        os.chown(path, 1000, 1000)
    return ["setpriv", "--bounding-set=-dac_override,-dac_read_search,-fowner"]


def _run(
    command: list[str], environment: dict[str, str], wrapper: list[str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*(wrapper or []), sys.executable, "-m", "qunxin", *command],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_what_others_may_read_is_a_problem(folder_cli: CommandLine, folder: Path) -> None:
    """The folder's rights decide: behind a closed one open files are no matter."""
    (folder / "token-keys.json").chmod(0o644)
    assert examined(folder_cli)["rights"][0] == "ok"
    folder.chmod(0o755)
    level, text, advice = examined(folder_cli, 1)["rights"]
    assert (level, advice) == ("problem", f"chmod -R go= {folder}")
    assert "token-keys.json" in text


def test_a_damaged_database_is_a_problem(folder_cli: CommandLine, folder: Path) -> None:
    """With what to do about it: never to mend it in place."""
    database = folder / "messages.db"
    content = bytearray(database.read_bytes())
    for start in range(4096, len(content), 4096):
        content[start : start + 64] = b"\xff" * 64
    database.write_bytes(content)
    level, _, advice = examined(folder_cli, 1)["database"]
    assert level == "problem"
    assert "qunxin restore" in advice
    assert database.read_bytes() == content


def test_a_database_of_a_newer_version_is_a_problem(folder_cli: CommandLine, folder: Path) -> None:
    """This version would refuse to open it."""
    db = apsw.Connection(str(folder / "messages.db"))
    db.pragma("user_version", 1_000)
    db.close()
    level, text, _ = examined(folder_cli, 1)["database"]
    assert level == "problem"
    assert "1000" in text


def test_entries_of_the_future_are_told(folder_cli: CommandLine, folder: Path) -> None:
    """The clock was wrong, or is."""
    folder_cli("group", "create", "tea", "--owner", "alice")
    db = apsw.Connection(str(folder / "messages.db"))
    db.execute("UPDATE entries SET time = time + 1000000000")
    db.close()
    assert examined(folder_cli)["database"][0] == "warning"


def test_settings_are_read_and_judged(folder_cli: CommandLine, folder: Path) -> None:
    """Wrong ones are a problem that hides no other; risky ones are warned of."""
    file = folder / "qunxin.toml"
    file.write_text('host = "0.0.0.0"\nmax_connections = 2_000_000_000\n', "utf-8")
    found = examined(folder_cli)
    assert found["exposure"][0] == "warning"
    assert found["open files"][0] == "warning"
    assert "LimitNOFILE" in found["open files"][2]
    file.write_text('allowed_origins = ["*"]\n', "utf-8")
    assert "allowed_origins" in examined(folder_cli)["exposure"][1]
    file.write_text("prot = 1\n", "utf-8")
    found = examined(folder_cli, 1)
    assert "port" in found["settings"][1]
    assert list(found) == ["settings", *NAMES]


def test_files_that_would_stop_the_start_are_found(
    folder_cli: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A certificate that is not there, keys of others that are not, proxies that are no network."""
    monkeypatch.setenv("QUNXIN_TLS_CERTIFICATE", "/nope/证书.pem")
    monkeypatch.setenv("QUNXIN_TLS_KEY", "/nope/密钥.pem")
    monkeypatch.setenv("QUNXIN_JWKS", "/nope/钥匙.json")
    found = examined(folder_cli, 1)
    assert found["certificate"][0] == found["token keys"][0] == "problem"
    assert "/nope/钥匙.json" in found["token keys"][1]
    assert list(found) == NAMES
    for name in ("TRUSTED_PROXIES", "METRICS_NETWORKS", "WEBHOOK_NETWORKS"):
        with monkeypatch.context() as patch:
            patch.setenv(f"QUNXIN_{name}", "香蕉")
            level, text, _ = examined(folder_cli, 1)["settings"]
            assert level == "problem"
            assert f"QUNXIN_{name}" in text


@pytest.mark.parametrize(
    ("since_days", "until_days", "level"),
    [(-1, 90, "ok"), (-80, 13, "warning"), (-91, -1, "problem"), (1, 91, "problem")],
)
def test_a_certificate_is_judged_by_its_time(
    folder_cli: CommandLine,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    since_days: int,
    until_days: int,
    level: str,
) -> None:
    """Fourteen days before its end it is warned of; outside its time it is a problem."""
    since, until = timedelta(days=since_days), timedelta(days=until_days)
    made = make_certificate(tmp_path, "chat.example", since=since, until=until)
    monkeypatch.setenv("QUNXIN_TLS_CERTIFICATE", str(made.chain))
    monkeypatch.setenv("QUNXIN_TLS_KEY", str(made.key))
    found = examined(folder_cli, int(level == "problem"))
    assert found["certificate"][0] == level


def test_a_port_is_free_its_own_or_anothers(
    server: ServerProcess,
    folder_cli: CommandLine,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What this node's own server has is no problem; what something else has is."""
    assert examined(folder_cli)["port"][0] == "ok"
    monkeypatch.setenv("QUNXIN_PORT", str(server.port))
    assert "this node's" in examined(folder_cli)["port"][1]
    folder_cli.folder = tmp_path / "另一个"
    level, text, advice = examined(folder_cli, 1)["port"]
    assert level == "problem"
    assert str(server.port) in text
    assert "--port" in advice
    assert not folder_cli.folder.exists()


def test_people_are_told_in_their_language(folder_cli: CommandLine, folder: Path) -> None:
    """One line for each check, and the advice below."""
    folder.chmod(0o755)
    done = folder_cli.run("doctor", "--language", "zh")
    assert done.code == 1
    assert "其他用户可读取" in done.out
    assert "chmod -R go=" in done.out
    assert sum(line[:1] in "✓!✗" for line in done.out.splitlines()) == len(NAMES)
