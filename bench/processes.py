"""Server processes: started on a core of their own, read through /proc, ended in order."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Final

START_SECONDS: Final = 20.0
STOP_SECONDS: Final = 10.0
_ALL_THREADS: Final = 2


class ServerProcess:
    """One running server. `stop` ends it with SIGTERM, then SIGKILL after `STOP_SECONDS`."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        port: int,
        log: Path,
        environment: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.name = name
        self.port = port
        self._log = log
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                command,
                stdout=output,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env={**os.environ, **environment},
            )
        self.pid = self._process.pid

    def wait_listening(self) -> None:
        """Return once the port takes connections; raise with the server's own words if not."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self._process.poll() is None:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.02)
        raise RuntimeError(f"{self.name} did not start:\n{self._log.read_text()[-2000:]}")

    def cpu_seconds(self) -> float:
        """User and system time of all its threads so far, by the clock that Linux keeps of each
        process (`clock_getcpuclockid`); /proc/PID/stat has it in hundredths of a second only."""
        return time.clock_gettime(~self.pid << 3 | _ALL_THREADS)

    def resident_bytes(self) -> int:
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@contextmanager
def on_core(core: int | None) -> Iterator[None]:
    """What is started inside runs on `core` alone (None: wherever it likes)."""
    if core is None:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def start_ceiling(folder: Path, core: int | None) -> ServerProcess:
    port = free_port()
    script = Path(__file__).with_name("ceiling.py")
    command = [sys.executable, str(script), "--port", str(port)]
    with on_core(core):
        return ServerProcess("ceiling", command, port, folder / "ceiling.log")


def start_qunxin(
    folder: Path, core: int | None, *options: str, python: str = sys.executable
) -> ServerProcess:
    """The Qunxin that `python` has installed. What a user may send is not limited."""
    port = free_port()
    folder.mkdir(exist_ok=True)
    data = folder / "data"
    command = [python, "-m", "qunxin", "serve", "--data", str(data), "--port", str(port), *options]
    unlimited = {"QUNXIN_USER_SENDS_PER_MINUTE": "0"}  # not an option: older ones have no such
    with on_core(core):
        return ServerProcess("qunxin", command, port, folder / "qunxin.log", unlimited)


def create_key(folder: Path, *scopes: str, python: str = sys.executable) -> str:
    """A new API key of the server whose data folder is in `folder`, with the usual scopes or
    those named."""
    command = [python, "-m", "qunxin", "key", "create", "bench"]
    command += ["--data", str(folder / "data"), "--json"]
    command += [part for scope in scopes for part in ("--scope", scope)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    key: str = json.loads(done.stdout.strip().splitlines()[-1])["key"]
    return key
