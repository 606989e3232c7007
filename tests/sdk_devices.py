"""The SDKs as they are, behind one face: centrifuge-python in this process, centrifuge for
JavaScript in a Node process of its own."""

from __future__ import annotations

import asyncio
import fcntl
import json
import shutil
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import centrifuge
import pytest

PATIENCE_SECONDS = 30
JAVASCRIPT = Path(__file__).parent / "javascript"
INSTALL_SECONDS = 100

Event = tuple[Any, ...]
GetToken = Callable[[], Awaitable[str]]


class SdkError(Exception):
    """What an SDK's call was refused with."""

    def __init__(self, code: int, message: str, temporary: bool) -> None:
        super().__init__(code, message, temporary)
        self.code = code
        self.temporary = temporary


class Kind(NamedTuple):
    """Which SDK, and how it is to connect."""

    language: str
    transport: str
    protobuf: bool

    @property
    def name(self) -> str:
        return f"{self.language} {self.transport} {'protobuf' if self.protobuf else 'json'}"


PYTHON = (Kind("python", "websocket", False), Kind("python", "websocket", True))
NODE = (
    Kind("javascript", "websocket", False),
    Kind("javascript", "websocket", True),
    Kind("javascript", "http_stream", False),
    Kind("javascript", "http_stream", True),
    Kind("javascript", "sse", False),
)


class SdkDevice(ABC):
    """One client and what it was told: events in order, and the entries of each conversation."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.given: dict[str, list[int]] = {}
        self._changed = asyncio.Condition()

    @abstractmethod
    async def connect(self, url: str, get_token: GetToken, data: Any = None) -> None:
        """Begin; the SDK goes on by itself. `data` goes with every `connect`."""

    @abstractmethod
    async def call(self, name: str, **fields: Any) -> Any:
        """`rpc`, `publish`, `history`, `presence` or `presenceStats`; `subscribe` makes a
        subscription object that asks who comes and goes, and notes that with `of` it, and
        `unsubscribe` ends it. Raises `SdkError`."""

    @abstractmethod
    async def close(self) -> None:
        """Leave, if it ever came."""

    async def rpc(self, method: str, **data: Any) -> Any:
        return await self.call("rpc", method=method, data=data)

    async def note(self, *event: Any) -> None:
        async with self._changed:
            if event[0] == "publication":
                self.given.setdefault(event[1], []).append(event[2])
            self.events.append(event)
            self._changed.notify_all()

    async def until(self, *event: Any) -> Event:
        """The first event that begins like that; it and all before it are then forgotten."""
        async with asyncio.timeout(PATIENCE_SECONDS), self._changed:
            while True:
                for index, seen in enumerate(self.events):
                    if seen[: len(event)] == event:
                        del self.events[: index + 1]
                        return seen
                await self._changed.wait()

    async def until_given(self, channel: str, position: int) -> list[int]:
        """Everything given of `channel`, once that position is there."""
        async with asyncio.timeout(PATIENCE_SECONDS), self._changed:
            while position not in self.given.get(channel, []):
                await self._changed.wait()
        return list(self.given[channel])


class PythonDevice(SdkDevice, centrifuge.ClientEventHandler):  # type: ignore[misc]
    """centrifuge-python."""

    def __init__(self, kind: Kind) -> None:
        super().__init__()
        self._protobuf = kind.protobuf
        self._client: Any = None

    async def connect(self, url: str, get_token: GetToken, data: Any = None) -> None:
        self._client = centrifuge.Client(
            f"{url.replace('http', 'ws', 1)}/connection/websocket",
            events=self,
            get_token=get_token,
            min_reconnect_delay=0.05,
            max_reconnect_delay=0.5,
            use_protobuf=self._protobuf,
            data=None if data is None else self._write(data),
        )
        await self._client.connect()

    async def call(self, name: str, **fields: Any) -> Any:
        try:
            return await self._call(name, fields)
        except centrifuge.ReplyError as error:
            raise SdkError(error.code, str(error), error.temporary) from None

    async def _call(self, name: str, fields: dict[str, Any]) -> Any:
        client = self._client
        if name == "rpc":
            return self._read(
                (await client.rpc(fields["method"], self._write(fields["data"]))).data
            )
        if name == "subscribe":
            channel = fields["channel"]
            events = SubscriptionNotes(self)
            subscription = client.new_subscription(channel, events=events, join_leave=True)
            await subscription.subscribe()
            return await subscription.ready()
        if name == "unsubscribe":
            return await client.get_subscription(fields["channel"]).unsubscribe()
        if name == "publish":
            return await client.publish(fields["channel"], self._write(fields["data"]))
        if name == "history":
            page = await client.history(**fields)
            return {
                "offset": page.offset,
                "publications": [publication.offset for publication in page.publications],
            }
        if name == "presence":
            found = await client.presence(fields["channel"])
            return [one.user for one in found.clients.values()]
        stats = await client.presence_stats(fields["channel"])
        return {"numClients": stats.num_clients, "numUsers": stats.num_users}

    async def close(self) -> None:
        if self._client is not None:
            await self._client.disconnect()

    def _read(self, data: Any) -> Any:
        """`data` is JSON text where the SDK speaks Protobuf."""
        return json.loads(data) if isinstance(data, bytes) and data else data

    def _write(self, data: Any) -> Any:
        return json.dumps(data).encode() if self._protobuf else data

    async def on_connected(self, _ctx: centrifuge.ConnectedContext) -> None:
        await self.note("connected")

    async def on_connecting(self, ctx: centrifuge.ConnectingContext) -> None:
        await self.note("connecting", ctx.code)

    async def on_disconnected(self, ctx: centrifuge.DisconnectedContext) -> None:
        await self.note("disconnected", ctx.code, ctx.reason)

    async def on_subscribed(self, ctx: centrifuge.ServerSubscribedContext) -> None:
        data = self._read(ctx.data)
        await self.note("subscribed", ctx.channel, ctx.was_recovering, ctx.recovered, data)

    async def on_unsubscribed(self, ctx: centrifuge.ServerUnsubscribedContext) -> None:
        await self.note("unsubscribed", ctx.channel)

    async def on_publication(self, ctx: centrifuge.ServerPublicationContext) -> None:
        await self.note("publication", ctx.channel, ctx.pub.offset, self._read(ctx.pub.data))

    async def on_join(self, ctx: centrifuge.ServerJoinContext) -> None:
        await self.note("join", ctx.channel, ctx.info.user, ctx.info.client)

    async def on_leave(self, ctx: centrifuge.ServerLeaveContext) -> None:
        await self.note("leave", ctx.channel, ctx.info.user, ctx.info.client)


class SubscriptionNotes(centrifuge.SubscriptionEventHandler):  # type: ignore[misc]
    """What a subscription object tells of comings and goings."""

    def __init__(self, device: PythonDevice) -> None:
        self._device = device

    async def on_join(self, ctx: centrifuge.JoinContext) -> None:
        await self._device.note("join of", ctx.info.user, ctx.info.client)

    async def on_leave(self, ctx: centrifuge.LeaveContext) -> None:
        await self._device.note("leave of", ctx.info.user, ctx.info.client)


class NodeDevice(SdkDevice):
    """centrifuge for JavaScript, in Node (`javascript/device.mjs`)."""

    def __init__(self, kind: Kind) -> None:
        super().__init__()
        self._kind = kind
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self._calls: dict[int, asyncio.Future[Any]] = {}

    async def connect(self, url: str, get_token: GetToken, data: Any = None) -> None:
        base = url.replace("http", "ws", 1) if self._kind.transport == "websocket" else url
        options = {
            "url": f"{base}/connection/{self._kind.transport}",
            "emulation": f"{url}/emulation",
            "transport": self._kind.transport,
            "protobuf": self._kind.protobuf,
            "data": data,
        }
        self._process = await asyncio.create_subprocess_exec(
            "node",
            "device.mjs",
            json.dumps(options),
            cwd=JAVASCRIPT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            limit=2**24,
        )
        self._reader = asyncio.create_task(self._read(get_token))

    async def call(self, name: str, **fields: Any) -> Any:
        number = len(self._calls)
        answer = self._calls[number] = asyncio.get_running_loop().create_future()
        self._write({"id": number, "call": name, **fields})
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await answer

    async def close(self) -> None:
        if self._process is None or self._reader is None:
            return
        with suppress(ConnectionError):
            self._write({"call": "disconnect"})
        async with asyncio.timeout(PATIENCE_SECONDS):
            await self._process.wait()
            await self._reader

    def _write(self, line: dict[str, Any]) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(line).encode() + b"\n")

    async def _read(self, get_token: GetToken) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            told = json.loads(line)
            event = told.pop("event")
            if event == "token":
                self._write({"token": await get_token()})
            elif event == "result":
                self._settle(**told)
            else:
                await self.note(event, *told.values())

    def _settle(self, id: int, result: Any = None, error: Any = None) -> None:  # noqa: A002
        answer = self._calls[id]
        if error is None:
            answer.set_result(result)
        else:
            answer.set_exception(SdkError(**error))


def make_device(kind: Kind) -> SdkDevice:
    """A device that has not connected yet."""
    return PythonDevice(kind) if kind.language == "python" else NodeDevice(kind)


def install_javascript() -> None:
    """Have npm fetch what `javascript/package.json` names, once for all workers; skips the test
    where that cannot be."""
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    if (JAVASCRIPT / "node_modules/centrifuge").is_dir():
        return
    with (JAVASCRIPT / "package.json").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if (JAVASCRIPT / "node_modules/centrifuge").is_dir():
            return
        command = ["npm", "install", "--no-package-lock", "--ignore-scripts", "--no-audit"]
        try:
            done = subprocess.run(
                command,
                cwd=JAVASCRIPT,
                capture_output=True,
                text=True,
                timeout=INSTALL_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            pytest.skip("npm does not reach its registry in time")
        if done.returncode != 0:
            pytest.skip(f"npm cannot install the SDK: {done.stderr.strip()[-300:]}")
