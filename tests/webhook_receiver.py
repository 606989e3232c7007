"""A real receiver of webhooks on a loopback port, which behaves as it is told."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, NamedTuple, Self

from aiohttp import web
from standardwebhooks import Webhook as Verifier


class Received(NamedTuple):
    """One request as it came."""

    id: str
    headers: dict[str, str]
    body: bytes
    at: float

    @property
    def event(self) -> dict[str, Any]:
        decoded: dict[str, Any] = json.loads(self.body)
        return decoded

    @property
    def type(self) -> str:
        return str(self.event["type"])

    @property
    def place(self) -> tuple[str, int]:
        entry = self.event["data"]["entry"]
        return entry["conversation"], entry["position"]

    @property
    def text(self) -> str:
        content = self.event["data"]["entry"].get("content", ())
        return "".join(part["text"] for part in content)

    def check(self, secret: str) -> None:
        """Raises where the signature is not by `secret`, as receivers' own library sees it."""
        Verifier(secret).verify(self.body, self.headers)


Behaviour = Callable[[Received], Awaitable[web.StreamResponse | int]]


class Receiver:
    """Takes everything unless `behave` is set. `requests` has every attempt, `taken` those that
    were answered with success."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.requests: list[Received] = []
        self.taken: list[Received] = []
        self.behave: Behaviour | None = None
        self.port = 0
        self._tls = tls
        self._changed = asyncio.Event()
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        scheme = "http" if self._tls is None else "https"
        return f"{scheme}://localhost:{self.port}/钩子?q=é"

    async def start(self, tls: ssl.SSLContext | None = None) -> None:
        """Listen, on the same port as before where it was started before."""
        self._tls = tls or self._tls
        app = web.Application(client_max_size=1_000_000)
        app.router.add_post("/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, ssl_context=self._tls)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.stop()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until it holds; looked at after each request."""
        async with asyncio.timeout(30):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    async def until_taken(self, count: int) -> None:
        await self.until(lambda: len(self.taken) >= count)

    async def until_asked(self, count: int) -> None:
        await self.until(lambda: len(self.requests) >= count)

    @property
    def places(self) -> list[tuple[str, int]]:
        """Of what was taken, each once, in the order in which it first came."""
        return list(dict.fromkeys(one.place for one in self.taken))

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        headers = {name.lower(): value for name, value in request.headers.items()}
        at = asyncio.get_running_loop().time()
        received = Received(headers["webhook-id"], headers, body, at)
        self.requests.append(received)
        self._changed.set()
        answer = 204 if self.behave is None else await self.behave(received)
        response = web.Response(status=answer) if isinstance(answer, int) else answer
        if 200 <= response.status < 300:
            self.taken.append(received)
            self._changed.set()
        return response
