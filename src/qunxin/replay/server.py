"""A server of the replay's own: a separate process on a free port, that can be killed."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from pathlib import Path
from typing import IO, Final, Self

import msgspec

from qunxin.errors import QunxinError
from qunxin.replay.http import HttpClient, TransportError

_START_SECONDS: Final = 60.0
_POLL_SECONDS: Final = 0.02
_KEY_NAME: Final = "replay"


class OwnServer:
    """``qunxin serve`` on a folder, started as often as it is killed.

    Use as an async context manager; on leaving, the process is gone. What it printed is in
    ``replay-server.log`` in the folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.kills = 0
        self._port = _free_port()
        self._process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    @property
    def process_id(self) -> int | None:
        return None if self._process is None else self._process.pid

    async def __aenter__(self) -> Self:
        try:
            await self.start()
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Serving on return. Raises `cannot_start` with what the server printed last."""
        with self._log().open("ab") as log:
            self._process = await self._spawn(
                "serve",
                "--data",
                str(self.folder),
                "--port",
                str(self._port),
                "--user-sends-per-minute",
                "0",
                output=log,
            )
        await self._wait_ready(self._process)

    async def kill(self) -> None:
        """SIGKILL; the process is gone on return."""
        if self._process is not None:
            self._process.kill()
            await self._process.wait()
            self.kills += 1

    async def stop(self) -> None:
        """End in order where that works, by force where it takes long."""
        process, self._process = self._process, None
        if process is None or process.returncode is not None:
            return
        process.terminate()
        try:
            async with asyncio.timeout(_START_SECONDS):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()

    async def make_key(self) -> str:
        """An API key, made with the command line."""
        command = ("key", "create", _KEY_NAME, "--data", str(self.folder), "--json")
        process = await self._spawn(*command, output=asyncio.subprocess.PIPE)
        output, _ = await process.communicate()
        if process.returncode != 0:
            raise QunxinError("cannot_start", detail=f"qunxin key create: {output.decode()}")
        return str(msgspec.json.decode(output.splitlines()[-1])["key"])

    async def _spawn(self, *arguments: str, output: IO[bytes] | int) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "qunxin",
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=asyncio.subprocess.STDOUT,
            env=_environment(),
        )

    async def _wait_ready(self, process: asyncio.subprocess.Process) -> None:
        http = HttpClient(self.url, 1, _START_SECONDS)
        try:
            async with asyncio.timeout(_START_SECONDS):
                while not await _is_ready(http):
                    if process.returncode is not None:
                        raise QunxinError("cannot_start", detail=self._last_words())
                    await asyncio.sleep(_POLL_SECONDS)
        except TimeoutError:
            raise QunxinError("cannot_start", detail=self._last_words()) from None
        finally:
            http.close()

    def _log(self) -> Path:
        return self.folder / "replay-server.log"

    def _last_words(self) -> str:
        return self._log().read_bytes()[-2000:].decode(errors="replace")


async def _is_ready(http: HttpClient) -> bool:
    try:
        return (await http.request("GET", "/health/ready", {})).is_success
    except TransportError:
        return False


def _environment() -> dict[str, str]:
    """This process's, without settings that are meant for another node."""
    return {name: value for name, value in os.environ.items() if not name.startswith("QUNXIN_")}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
