"""`qunxin serve` as a process: its start, its end, what it refuses; and backups beside it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

import qunxin
from command_line import CommandLine
from qunxin.wire.codes import ERROR_NUMBERS
from serving import ServerProcess, answer, run_cli

pytestmark = pytest.mark.processes


@contextmanager
def started(
    folder: Path, *, before: tuple[str, ...] = ()
) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    """`serve --json` on a free port of its own choice, and the facts that it prints; `before`
    goes before the command."""
    serve = ["serve", "--data", str(folder), "--port", "0", "--json"]
    command = [*before, sys.executable, "-m", "qunxin", *serve]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line, process.communicate()[1]
            yield process, json.loads(line)
        finally:
            process.terminate()
            process.communicate(timeout=20)


def test_a_fresh_folder_serves_and_tells_where(data_folder: Path) -> None:
    """Port 0 picks a free one; the line of facts is true; the folder and its socket are
    private."""
    with started(data_folder) as (process, facts):
        assert facts["event"] == "ready"
        assert facts["pid"] == process.pid
        assert facts["url"] == f"http://127.0.0.1:{facts['port']}"
        assert facts["websocket_url"].endswith("/connection/websocket")
        assert Path(facts["data"]) == data_folder
        for path in ("/health/live", "/health/ready", "/openapi.json", "/"):
            assert httpx.get(facts["url"] + path, follow_redirects=True).status_code == 200
        metrics = httpx.get(facts["url"] + "/metrics").text
        assert 'qunxin_build_info{version="' in metrics
        assert stat.S_IMODE(data_folder.stat().st_mode) == 0o700
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in data_folder.iterdir()}
        assert set(modes.values()) == {0o600}
        assert "control.sock" in modes
    assert process.returncode == 0
    assert not (data_folder / "control.sock").exists()


def test_for_people_it_says_what_to_do_next(server: ServerProcess) -> None:
    """The page, and lines to copy: they work as they are printed."""
    log = server.log
    assert f"Page      {server.url}/" in log
    lines = [line.strip() for line in log.splitlines()]
    begin = next(n for n, line in enumerate(lines) if line.startswith("KEY="))
    script = "\n".join(["set -eu", *lines[begin : begin + 5]])
    done = subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stderr
    assert '"name":"爱丽丝 🍵"' in done.stdout
    assert '"token":"ey' in done.stdout


def test_what_it_says_works_in_any_other_folder(tmp_path: Path) -> None:
    """Also where it was started without --data: no line makes a second node where it is pasted."""
    home, elsewhere = tmp_path / "一个 home", tmp_path / "elsewhere"
    home.mkdir()
    elsewhere.mkdir()
    command = [sys.executable, "-m", "qunxin", "serve", "--port", "0"]
    with subprocess.Popen(
        command, cwd=home, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        try:
            assert process.stdout is not None
            lines: list[str] = []
            while not lines or "--help" not in lines[-1]:
                lines.append(process.stdout.readline().strip())
                assert lines[-1] or process.poll() is None, lines
            begin = next(n for n, line in enumerate(lines) if line.startswith("KEY="))
            told = [*lines[begin : begin + 5], *(line for line in lines if "create bob" in line)]
            done = subprocess.run(
                ["bash", "-euc", "\n".join(told)],
                cwd=elsewhere,
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
        finally:
            process.terminate()
    assert done.returncode == 0, done.stderr
    assert "User bob created." in done.stdout
    assert not list(elsewhere.iterdir())
    assert [path.name for path in home.iterdir()] == ["qunxin-data"]


def test_a_second_server_on_the_folder_is_refused(server: ServerProcess) -> None:
    """It says which process has the folder, and the first goes on undisturbed."""
    done = run_cli("serve", "--data", str(server.data_folder), "--port", "0")
    assert done.returncode == 1
    assert f"process {server.pid}, {server.url}" in done.stderr
    assert httpx.get(f"{server.url}/health/ready").status_code == 200


def test_a_port_in_use_is_refused_in_words(folder_cli: CommandLine) -> None:
    """With advice, and without having touched the folder."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = folder_cli.run("serve", "--port", port)
    assert done.code == 1
    assert f"port {port} on 127.0.0.1 is in use; choose another one with --port" in done.err
    assert not folder_cli.folder.exists()


def test_a_file_of_keys_that_is_not_there_stops_the_start(folder_cli: CommandLine) -> None:
    """As a certificate would; nothing is made."""
    error = folder_cli.refusal("serve", "--port", "0", "--jwks", "/nope/钥匙.json")
    assert error["code"] == "cannot_start"
    assert "/nope/钥匙.json" in error["detail"]
    assert not folder_cli.folder.exists()


@pytest.mark.parametrize("host", ["192.0.2.1", "host.invalid"])
def test_a_foreign_address_is_refused_in_words(folder_cli: CommandLine, host: str) -> None:
    """An address of another machine, a name that nobody knows."""
    error = folder_cli.refusal("serve", "--port", "0", "--host", host)
    assert error["code"] == "cannot_start"
    assert host in error["detail"]


def test_a_file_in_the_folders_place_is_refused_in_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """So is a folder below a file."""
    (tmp_path / "文件").write_text("")
    for path in (tmp_path / "文件", tmp_path / "文件" / "data"):
        for command in (("serve", "--port", "0"), ("key", "create", "店")):
            error = CommandLine(path, capsys).refusal(*command)
            assert error["code"] == "cannot_start"
            assert str(path) in error["detail"]


def test_connections_are_limited_to_the_files_that_may_be_open(data_folder: Path) -> None:
    """Where the system allows few, the node takes so many and no more."""
    fewer_files = ("bash", "-c", 'ulimit -n 300; exec "$@"', "bash")
    with started(data_folder, before=fewer_files) as (process, facts), ExitStack() as devices:
        for _ in range(100):
            devices.enter_context(connect(facts["websocket_url"], open_timeout=20))
        with pytest.raises(InvalidStatus) as refused:
            connect(facts["websocket_url"], open_timeout=20)
        assert refused.value.response.status_code == 503
    assert process.returncode == 0


def test_a_killed_servers_folder_serves_again(data_folder: Path) -> None:
    """Neither the lock nor the socket that SIGKILL leaves behind is in anybody's way."""
    with ServerProcess(data_folder) as server:
        server.kill()
        assert (data_folder / "control.sock").exists()
        assert json.loads(run_cli("key", "list", "--data", str(data_folder), "--json").stdout)
        server.start()
        assert server.stop() == 0


def test_a_long_folder_name_is_no_matter(tmp_path: Path) -> None:
    """The socket's address may be longer than the kernel takes in one piece."""
    folder = tmp_path / ("长" * 60)
    assert len(os.fsencode(folder)) > 108
    with ServerProcess(folder) as server:
        done = run_cli("key", "create", "k", "--data", str(folder), "--json")
        with server.client(json.loads(done.stdout)["key"]) as client:
            assert client.get("/v1/users/nobody").status_code == 404


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_in_order(data_folder: Path, number: signal.Signals) -> None:
    """Exit code 0, soon, with connections open that do nothing."""
    with (
        started(data_folder) as (process, facts),
        socket.create_connection(("127.0.0.1", facts["port"])),
    ):
        process.send_signal(number)
        assert process.wait(10) == 0


UPGRADE = (
    b"GET /connection/websocket HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
    b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: AAECAwQFBgcICQoLDA0ODw==\r\n\r\n"
)


def test_a_second_signal_stops_it_at_once(data_folder: Path) -> None:
    """While a device that does not answer is waited for; the exit code tells of it."""
    with started(data_folder) as (process, facts):
        address = ("127.0.0.1", facts["port"])
        with socket.create_connection(address) as mute:
            mute.sendall(UPGRADE)
            assert mute.recv(1_000).startswith(b"HTTP/1.1 101")
            process.send_signal(signal.SIGTERM)
            assert mute.recv(100)[:1] == b"\x88"  # a close frame, which is not answered
            process.send_signal(signal.SIGTERM)
            assert process.wait(3) == 1


def test_what_was_accepted_before_the_stop_is_there_after_it(data_folder: Path) -> None:
    """Sends go on while SIGTERM comes: every one is answered or cut off, and each that was
    answered 201 is in the log, once, in order."""
    accepted: dict[int, str] = {}
    with ServerProcess(data_folder) as server:
        with server.client() as client:
            answer(client.put("/v1/users/alice", json={"name": "爱"}))
            answer(client.put("/v1/groups/tea", json={"owner": "alice"}))
        enough = threading.Event()
        sending = threading.Thread(target=_send_until_cut, args=(server, accepted, enough))
        sending.start()
        assert enough.wait(20)
        assert server.stop() == 0
        sending.join(20)
        server.start()
        with server.client() as client:
            page = answer(client.get("/v1/conversations/group:tea/entries?after=1&limit=1000"))
    kept = {entry["position"]: entry["content"][0]["text"] for entry in page["entries"]}
    assert len(accepted) >= 20
    assert accepted.items() <= kept.items()
    assert list(kept) == list(range(2, 2 + len(kept)))


def _send_until_cut(
    server: ServerProcess, accepted: dict[int, str], enough: threading.Event
) -> None:
    with server.client() as client:
        for number in range(100_000):
            text = f"第 {number} 条 👋🏽"
            body = {"type": "group", "to": "tea", "from": "alice", "text": text}
            try:
                response = client.post("/v1/messages", json=body)
            except httpx.TransportError:
                return
            if response.status_code != 201:
                assert response.json()["code"] == "shutting_down"
                return
            accepted[response.json()["position"]] = text
            if len(accepted) >= 20:
                enough.set()


def test_devices_are_answered_and_told_to_come_back(data_folder: Path) -> None:
    """SIGTERM amid a burst of messages: each is answered, or was never begun; whoever reads
    learns that coming back is right; whoever does not read delays the end by a bounded time."""
    with ServerProcess(data_folder, "--shutdown-timeout-seconds", "8") as server:
        with server.client() as client:
            answer(client.put("/v1/users/alice", json={"name": "爱"}))
            answer(client.put("/v1/groups/tea", json={"owner": "alice"}))
        token = server.token("alice")
        with _device(server, token) as device, _device(server, token):
            for number in range(2, 102):
                data = {"type": "group", "to": "tea", "text": f"第 {number} 条", "key": str(number)}
                rpc = {"method": "message.send", "data": data}
                device.send(json.dumps({"id": number, "rpc": rpc}))
            replies = _replies(device, at_least=1)
            stopping = threading.Thread(target=lambda: codes.append(server.stop()))
            codes: list[int] = []
            stopping.start()
            replies |= _replies(device, at_least=1_000)
            stopping.join(20)
        assert codes == [0]
        assert device.close_code == 4000
        server.start()
        with server.client() as client:
            page = answer(client.get("/v1/conversations/group:tea/entries?after=1&limit=1000"))
    kept = {int(entry["key"]): entry["position"] for entry in page["entries"]}
    accepted = {n: r["rpc"]["data"]["position"] for n, r in replies.items() if "rpc" in r}
    assert accepted == kept
    refused = {r["error"]["code"] for r in replies.values() if "error" in r}
    assert refused <= {ERROR_NUMBERS["shutting_down"]}


@contextmanager
def _device(server: ServerProcess, token: str) -> Iterator[ClientConnection]:
    """A connected device that answers no pings."""
    with connect(server.websocket_url, open_timeout=20, close_timeout=1) as socket_:
        socket_.send(json.dumps({"id": 1, "connect": {"token": token}}))
        assert "connect" in json.loads(str(socket_.recv(20)).splitlines()[0])
        yield socket_


def _replies(device: ClientConnection, at_least: int) -> dict[int, Any]:
    """Replies by the number of their command, as many as asked for or until the connection
    ends."""
    found: dict[int, Any] = {}
    try:
        while len(found) < at_least:
            lines = [json.loads(line) for line in str(device.recv(20)).splitlines()]
            found |= {line["id"]: line for line in lines if "id" in line}
    except ConnectionClosed:
        pass
    return found


def test_a_backup_beside_the_running_server_opens(server: ServerProcess, tmp_path: Path) -> None:
    """It holds what was accepted, has another epoch, and nothing is overwritten."""
    with server.client() as client:
        answer(client.put("/v1/users/alice", json={"name": "爱"}))
        answer(client.put("/v1/groups/tea", json={"owner": "alice"}))
        body = {"type": "group", "to": "tea", "from": "alice", "text": "备份 🍵" * 2000}
        sent = answer(client.post("/v1/messages", json=body))
    copy = tmp_path / "备份.db"
    done = run_cli("backup", str(copy), "--data", str(server.data_folder), "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["file"], told["bytes"]) == (str(copy), copy.stat().st_size)
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    before = copy.read_bytes()
    done = run_cli("backup", str(copy), "--data", str(server.data_folder))
    assert done.returncode == 1
    assert "is not overwritten" in done.stderr
    assert copy.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir() if "partial" in path.name] == []
    assert set(tmp_path.glob("备份*")) == {copy, copy.with_name("备份.db.json")}
    epoch, text = asyncio.run(_read_backup(copy))
    assert epoch != sent["epoch"]
    assert text == body["text"]


async def _read_backup(copy: Path) -> tuple[str, str]:
    async with qunxin.open(copy) as chat:
        page = await chat.entries("group:tea", limit=1)
        content = json.loads(bytes(page.entries[0].content or b""))
        return chat.epoch, content[0]["text"]


def test_a_backup_into_nowhere_is_refused_in_words(folder_cli: CommandLine, tmp_path: Path) -> None:
    """Also without a server; no part of it is left."""
    folder_cli("user", "create", "alice")
    error = folder_cli.refusal("backup", str(tmp_path / "无" / "x.db"))
    assert "cannot be written" in error["detail"]
    assert not (tmp_path / "无").exists()
