"""The HTTP gateway on a loopback port inside the test's own loop: real engine, real sockets."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any, NamedTuple

import httpx
import uvicorn

from qunxin.engine import Engine
from qunxin.gateways.auth import DEFAULT_AUDIENCE, Authenticator
from qunxin.gateways.client_limits import ClientLimits
from qunxin.gateways.http import HttpSettings, build_app
from qunxin.gateways.http.protocol import http_protocol
from qunxin.gateways.keyring import TokenKeys, new_key
from qunxin.gateways.sign_in import SignIn, SignInLinks, session_audience

METRICS = "# HELP qunxin_测试 metrics\nqunxin_test 1\n".encode()


class HttpNode(NamedTuple):
    """A running gateway; `api` speaks with an API key that may do everything but make keys."""

    engine: Engine
    authenticator: Authenticator
    port: int
    key: str
    api: httpx.AsyncClient
    links: SignInLinks

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def as_user(self, user: str) -> dict[str, str]:
        """The headers of a request with that user's own token."""
        token, _ = self.authenticator.issue_token(user)
        return {"Authorization": f"Bearer {token}"}

    @property
    def as_key(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}"}


class _Server(uvicorn.Server):
    """uvicorn without signals, and without the tenths of seconds after which it looks around."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = asyncio.Event()
        self.stop = asyncio.Event()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()

    async def main_loop(self) -> None:
        await self.stop.wait()


@asynccontextmanager
async def http_node(
    engine: Engine, settings: HttpSettings | None = None
) -> AsyncIterator[HttpNode]:
    """The gateway over `engine` while the block runs."""
    settings = settings or HttpSettings()
    key = new_key()
    keys = TokenKeys(active=key.id, keys=(key,))
    authenticator, links = Authenticator(engine, keys), SignInLinks()
    sessions = Authenticator(engine, keys, audience=session_audience(DEFAULT_AUDIENCE))
    sign_in = SignIn(engine, links, authenticator, sessions)
    app = build_app(engine, authenticator, settings, lambda: METRICS, sign_in)
    async with serving(app, settings) as port:
        secret = (await engine.create_key("测试 tests")).key
        headers = {"Authorization": f"Bearer {secret}"}
        url = f"http://127.0.0.1:{port}"
        async with httpx.AsyncClient(base_url=url, headers=headers, timeout=20) as api:
            yield HttpNode(engine, authenticator, port, secret, api, links)


@asynccontextmanager
async def serving(
    app: Any, settings: HttpSettings, limits: ClientLimits | None = None
) -> AsyncIterator[int]:
    """`app` behind uvicorn on a free port, which is given."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(128)
        config = uvicorn.Config(
            app,
            http=http_protocol(settings, limits),
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
        )
        server = _Server(config)
        task = asyncio.create_task(server.serve([listener]), name="uvicorn")
        await server.ready.wait()
        try:
            yield listener.getsockname()[1]
        finally:
            server.stop.set()
            await task


class Answer(NamedTuple):
    """A raw answer, taken apart."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def problem(self) -> dict[str, Any]:
        assert self.headers["content-type"] == "application/problem+json"
        document: dict[str, Any] = json.loads(self.body)
        return document


class RawConnection:
    """A client that can do what no library would."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self) -> Answer:
        """The next answer, by its Content-Length."""
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode()
        first, *lines = head.strip().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines)
        body = await self.reader.readexactly(int(headers.get("content-length", "0")))
        return Answer(int(first.split()[1]), headers, body)

    async def closed(self) -> bool:
        """Wait for the server's end of the connection; whether nothing more came before it."""
        try:
            return await self.reader.read(1) == b""
        except ConnectionError:
            return True


@asynccontextmanager
async def raw_connection(port: int) -> AsyncIterator[RawConnection]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield RawConnection(reader, writer)
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


def raw_request(
    node: HttpNode,
    method: str,
    path: str,
    *lines: str,
    body: bytes = b"",
    host: str | None = None,
    key: bool = True,
) -> bytes:
    """A request as bytes; Content-Length is the caller's, in `lines`."""
    head = [f"{method} {path} HTTP/1.1", f"Host: {host or f'127.0.0.1:{node.port}'}"]
    if key:
        head.append(f"Authorization: Bearer {node.key}")
    head += lines
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body
