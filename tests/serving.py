"""A real server in a process of its own, for tests."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

START_SECONDS = 30
STOP_SECONDS = 20


def free_port() -> int:
    """A port that nothing listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def run_cli(*arguments: str, timeout: float = 30) -> subprocess.CompletedProcess[str]:
    """`qunxin` with these arguments, to its end."""
    command = [sys.executable, "-m", "qunxin", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)


class ServerProcess:
    """`qunxin serve` on a folder; may be started again after `stop` or `kill`, on its port.

    `wrapper` is a command that becomes the server, such as ``strace -D``.
    """

    def __init__(self, data_folder: Path, *options: str, wrapper: Sequence[str] = ()) -> None:
        self.data_folder = data_folder
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.websocket_url = f"ws://127.0.0.1:{self.port}/connection/websocket"
        self.key = ""
        self._options = options
        self._wrapper = tuple(wrapper)
        self._log = data_folder.with_name(data_folder.name + ".log")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *more: str) -> None:
        """On return the server answers `/health/ready`. `more` options hold for this start only."""
        serve = ["serve", "--data", str(self.data_folder), "--port", str(self.port)]
        command = [*self._wrapper, sys.executable, "-m", "qunxin", *serve, *self._options, *more]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )
        self._wait_until_ready()
        if not self.key:
            self.key = self.create_key("tests")

    def stop(self) -> int:
        """Ask it to stop (SIGTERM); its exit code."""
        return self._end(signal.SIGTERM)

    def kill(self) -> int:
        """SIGKILL; its exit code."""
        return self._end(signal.SIGKILL)

    def create_key(self, name: str, *options: str) -> str:
        """A new API key, made on the command line beside the running server."""
        done = run_cli("key", "create", name, *options, "--data", str(self.data_folder), "--json")
        assert done.returncode == 0, done.stderr
        return str(json.loads(done.stdout)["key"])

    def client(self, key: str | None = None) -> httpx.Client:
        """An HTTP client with the API key (or `key`: another one, or a token)."""
        headers = {"Authorization": f"Bearer {key or self.key}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=20)

    def token(self, user: str) -> str:
        """A token for `user`, who must exist."""
        with self.client() as client:
            return str(answer(client.post("/v1/tokens", json={"user": user}))["token"])

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def log(self) -> str:
        """Everything that the server has printed so far."""
        return self._log.read_text("utf-8", errors="replace") if self._log.exists() else ""

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        with self.client("none yet") as client:
            while time.monotonic() < deadline:
                assert self._process is not None
                assert self._process.poll() is None, f"the server has ended:\n{self.log}"
                try:
                    if client.get("/health/ready").status_code == 200:
                        return
                except httpx.TransportError:
                    time.sleep(0.02)
        raise AssertionError(f"the server is not ready:\n{self.log}")

    def _end(self, number: signal.Signals) -> int:
        if self._process is None:
            return 0
        process, self._process = self._process, None
        process.send_signal(number)
        try:
            return process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise AssertionError(f"the server does not stop:\n{self.log}") from None

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()


def eventually(find: Callable[[], Any]) -> Any:
    """What `find` gives as soon as it gives something."""
    deadline = time.monotonic() + 40
    while time.monotonic() < deadline:
        found = find()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError("it never came")


def answer(response: httpx.Response) -> Any:
    """The JSON of an answer that says it went well."""
    assert response.is_success, f"{response.status_code} {response.text}"
    return response.json()
