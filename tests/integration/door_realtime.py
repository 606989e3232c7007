"""Realtime as a door: people send over WebSockets of their own, and devices are WebSockets.

What only a key may do (accounts, other people's memberships) goes over HTTP beside it.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
from collections.abc import Mapping
from typing import Any

from door_http import HttpDoor
from doors import At, Device, Json, Refusal, Start
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from qunxin.wire.codes import ERROR_NUMBERS

_CODES = {number: code for code, number in ERROR_NUMBERS.items()}


class RawClient(Device):
    """The protocol as it is written, without an SDK. Pings are answered, unless `mute`."""

    def __init__(self, user: str, *, mute: bool = False) -> None:
        super().__init__(user)
        self.mute = mute
        self.pings = 0
        self._ids = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Json]] = {}
        self._socket: ClientConnection | None = None
        self._pump: asyncio.Task[None] | None = None
        self._paused = False

    # --- beginning and end -------------------------------------------------------------------

    async def open(
        self, url: str, token: str, positions: Mapping[str, At], language: str = "en"
    ) -> None:
        """Connected on return. Raises `Refusal`."""
        self._socket = await connect(url, max_size=None)
        self._pump = asyncio.create_task(self._read_all(), name=f"device of {self.user}")
        subs = {name: {"recover": True, "epoch": at.epoch, "offset": at.position}
                for name, at in positions.items()}  # fmt: skip
        data = {"language": language}
        try:
            await self.command("connect", {"token": token, "subs": subs, "data": data})
        except BaseException:
            await self.close()
            raise

    def _welcome(self, subs: Mapping[str, Json]) -> None:
        for name, sub in subs.items():
            self.began(name, _start(sub))

    def stop_reading(self) -> None:
        """Leave everything that comes in the socket."""
        assert self._socket is not None
        self._socket.transport.pause_reading()
        self._paused = True

    def read_on(self) -> None:
        assert self._socket is not None
        self._socket.transport.resume_reading()
        self._paused = False

    async def close(self) -> None:
        if self._socket is not None and self._paused:
            self._socket.transport.abort()
        elif self._socket is not None:
            await self._socket.close()
        if self._pump is not None:
            await asyncio.wait([self._pump])

    @property
    def online(self) -> bool:
        return self._pump is not None and not self._pump.done()

    # --- what it says ------------------------------------------------------------------------

    async def command(self, kind: str, body: Json) -> Json:
        """One command and its reply. Raises `Refusal`."""
        number = next(self._ids)
        reply = self._waiting[number] = asyncio.get_running_loop().create_future()
        await self.say(json.dumps({"id": number, kind: body}, ensure_ascii=False))
        answer: Json = (await reply).get(kind, {})
        return answer

    async def rpc(self, method: str, data: Json) -> Any:
        return (await self.command("rpc", {"method": method, "data": data})).get("data")

    async def say(self, frame: str | bytes) -> None:
        """Send a frame as it is."""
        assert self._socket is not None
        try:
            await self._socket.send(frame)
        except ConnectionClosed:
            raise Refusal("outcome_unknown", self.ended or "the connection is gone") from None

    # --- what it hears -----------------------------------------------------------------------

    async def _read_all(self) -> None:
        assert self._socket is not None
        try:
            async for frame in self._socket:
                for line in str(frame).split("\n"):
                    await self._hear(json.loads(line))
        except ConnectionClosed:
            pass  # its code and reason are kept below
        finally:
            self._over(f"{self._socket.close_code} {self._socket.close_reason}")

    def _over(self, words: str) -> None:
        """Nothing is heard any more: whoever waits for a reply is told."""
        self.ended = words
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(Refusal("outcome_unknown", words))
                future.exception()
        self.changed.set()

    async def _hear(self, line: Json) -> None:
        if "id" in line:
            self._answered(line)
        elif "push" in line:
            self._pushed(line["push"])
        else:
            self.pings += 1
            if not self.mute:
                await self._pong()

    async def _pong(self) -> None:
        assert self._socket is not None
        with contextlib.suppress(ConnectionClosed):  # the reading side ends by itself
            await self._socket.send("{}")

    def _answered(self, line: Json) -> None:
        future = self._waiting.pop(line["id"], None)
        if "connect" in line:
            self._welcome(line["connect"]["subs"])
        if future is None or future.done():
            return
        if "error" in line:
            error = line["error"]
            future.set_exception(Refusal(_CODES.get(error["code"], "?"), error["message"]))
        else:
            future.set_result(line)

    def _pushed(self, push: Json) -> None:
        name = push["channel"]
        if "subscribe" in push:
            self.began(name, _start(push["subscribe"]))
        elif "pub" in push:
            entry = push["pub"]["data"]
            assert (entry["conversation"], entry["position"]) == (name, push["pub"]["offset"])
            self.take(entry, self.starts[name].epoch)


def _start(sub: Json) -> Start:
    must_reload = sub.get("was_recovering", False) and not sub.get("recovered", False)
    return Start(sub["epoch"], sub["offset"], must_reload)


class RealtimeDoor(HttpDoor):
    """A real server; people act over WebSockets, keys over HTTP."""

    name = "realtime"
    pushes = True

    def acts_as(self, user: str | None) -> str | None:
        return None if user in self.inactive else user

    async def call(
        self, operation: str, fields: Json, by: str | None = None, language: str = "en"
    ) -> Any:
        """Over a device of `by` that is online, or over a connection for this alone. That one
        answers no ping: nobody keeps what it is given, so it must prove nothing."""
        if by is None:
            return await super().call(operation, fields, None, language)
        online = self._online(by) if language == "en" else None
        if online is not None:
            return await online.rpc(operation, fields)
        client = await self._open(by, {}, language, mute=True)
        try:
            return await client.rpc(operation, fields)
        finally:
            await client.close()

    def _online(self, user: str) -> RawClient | None:
        """A device of `user` that is connected already."""
        for device in self._devices:
            if isinstance(device, RawClient) and device.user == user and device.online:
                return device
        return None

    async def _open(
        self, user: str, positions: Mapping[str, At], language: str = "en", *, mute: bool = False
    ) -> RawClient:
        token = await self.token(user)
        client = RawClient(user, mute=mute)
        await client.open(self.server.websocket_url, token, positions, language)
        return client

    async def connect(self, user: str, positions: Mapping[str, At]) -> RawClient:
        return await self._open(user, positions)

    async def mute_device(self, user: str) -> RawClient:
        """A device that never answers a ping."""
        client = await self._open(user, {}, mute=True)
        self._devices.append(client)
        return client

    async def say_anything(self, user: str, frame: str | bytes) -> None:
        """Send a frame as it is over the user's device, and wait until it was answered or the
        device ended: a ping behind it is answered in order."""
        client = self._online(user)
        assert client is not None
        with contextlib.suppress(Refusal):
            await client.say(frame)
            await client.command("ping", {})

    async def restart(self) -> None:
        await super().restart()
        for device in self._devices:
            if isinstance(device, RawClient):
                await device.until(lambda device=device: not device.online)  # type: ignore[misc]
