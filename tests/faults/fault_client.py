"""A small realtime client of JSON lines, so that the tests see every frame as it came."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any, Self

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidMessage


class UnknownOutcomeError(Exception):
    """The connection broke: the outcome of what was in flight is unknown."""


class RefusedError(Exception):
    """The server answered with an error."""

    def __init__(self, error: Mapping[str, Any]) -> None:
        super().__init__(dict(error))
        self.code = error["code"]
        self.temporary = bool(error.get("temporary"))


class RealtimeClient:
    """One connection: `rpc` waits for its own reply, pushes gather in `pushes`, pings are
    answered. After the connection broke every call raises `UnknownOutcomeError`."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._number = 0
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._closed = False
        self._arrived = asyncio.Event()
        self.pushes: list[dict[str, Any]] = []
        self.welcome: dict[str, Any] = {}
        self._reader = asyncio.create_task(self._read())

    @classmethod
    async def open(
        cls, url: str, token: str, subs: Mapping[str, Mapping[str, Any]] | None = None
    ) -> Self:
        """Connect as the token's user; `subs` are positions to recover from."""
        try:
            client = cls(await connect(url, max_size=None, ping_interval=None, proxy=None))
        except (OSError, InvalidMessage, ConnectionClosed) as error:
            raise UnknownOutcomeError from error
        command: dict[str, Any] = {"token": token, "name": "faults"}
        if subs:
            command["subs"] = subs
        try:
            client.welcome = (await client._ask({"connect": command}))["connect"]
        except BaseException:
            await client.close()
            raise
        return client

    async def rpc(self, method: str, data: Mapping[str, Any]) -> dict[str, Any]:
        """The reply's data. Raises `RefusedError` or `UnknownOutcomeError`."""
        reply = await self._ask({"rpc": {"method": method, "data": data}})
        result: dict[str, Any] = reply["rpc"]["data"]
        return result

    async def publications(self, channel: str, count: int) -> list[dict[str, Any]]:
        """The first `count` publications of `channel`, once they are there."""
        while True:
            found = [p["pub"] for p in self.pushes if p.get("channel") == channel and "pub" in p]
            if len(found) >= count:
                return found[:count]
            if self._closed:
                raise UnknownOutcomeError
            self._arrived.clear()
            await self._arrived.wait()

    async def close(self) -> None:
        await self._socket.close()
        await self._reader

    async def _ask(self, command: dict[str, Any]) -> dict[str, Any]:
        if self._closed:
            raise UnknownOutcomeError
        self._number += 1
        future: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._waiting[self._number] = future
        try:
            await self._socket.send(json.dumps({"id": self._number, **command}, ensure_ascii=False))
        except ConnectionClosed as error:
            self._waiting.pop(self._number, None)
            raise UnknownOutcomeError from error
        reply = await future
        if "error" in reply:
            raise RefusedError(reply["error"])
        return reply

    async def _read(self) -> None:
        try:
            async for frame in self._socket:
                for line in str(frame).split("\n"):
                    await self._take(json.loads(line))
        except ConnectionClosed:
            pass
        finally:
            self._closed = True
            self._arrived.set()
            for future in self._waiting.values():
                if not future.done():
                    future.set_exception(UnknownOutcomeError())

    async def _take(self, line: dict[str, Any]) -> None:
        if "id" in line and line["id"] in self._waiting:
            future = self._waiting.pop(line["id"])
            if not future.done():
                future.set_result(line)
        elif "push" in line:
            self.pushes.append(line["push"])
            self._arrived.set()
        else:
            await self._socket.send("{}")
