"""Proxies in front of a real node, each with the file that the how-to shows."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import msgspec
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from certificates import Certificate, make_certificate
from serving import ServerProcess, answer, eventually, free_port

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "proxies.md"
HOST = "chat.example.org"
NODE = "127.0.0.1:8000"
PATIENCE_SECONDS = 20
TEXT = "穿过代理 🌉 שלום"

pytestmark = pytest.mark.processes

NGINX = """
{user}
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    {shown}
}}
"""
CADDY = """
{{
    admin off
    auto_https disable_redirects
    storage file_system {folder}/caddy
}}
{shown}
"""


class Place(NamedTuple):
    """Where a proxy of a test has its files, and what it listens on."""

    folder: Path
    port: int
    certificate: Certificate


class Proxy(NamedTuple):
    """How one is started with the file of the page: what in that file is another in a test."""

    title: str
    program: str
    frame: str
    command: tuple[str, ...]
    listens: str
    test_listens: str
    files: dict[str, str]

    def configuration(self, place: Place, node: int) -> str:
        """The page's file for this machine, inside of what the system's own file would hold."""
        pattern = rf"\n### {self.title}\n.*?```\w*\n(.*?)```"
        found = re.search(pattern, PAGE.read_text("utf-8"), re.DOTALL)
        assert found is not None
        both = place.folder / "both.pem"
        both.write_bytes(place.certificate.chain.read_bytes() + place.certificate.key.read_bytes())
        names = {
            "chain": place.certificate.chain,
            "key": place.certificate.key,
            "both": both,
            "port": place.port,
        }
        changes = {
            NODE: f"127.0.0.1:{node}",
            self.listens: self.test_listens.format(**names),
            **{written: used.format(**names) for written, used in self.files.items()},
        }
        shown = found[1]
        for written, used in changes.items():
            assert written in shown
            shown = shown.replace(written, used)
        user = "user root;" if os.geteuid() == 0 else ""
        return self.frame.format(user=user, folder=place.folder, shown=shown)


PROXIES = {
    "nginx": Proxy(
        title="nginx",
        program="nginx",
        frame=NGINX,
        command=("-p", "{folder}", "-c", "{path}", "-g", "daemon off;"),
        listens="listen 443 ssl;",
        test_listens="listen {port} ssl;",
        files={
            "/etc/ssl/chat.example.org.pem": "{chain}",
            "/etc/ssl/private/chat.example.org.key": "{key}",
        },
    ),
    "caddy": Proxy(
        title="Caddy",
        program="caddy",
        frame=CADDY,
        command=("run", "--adapter", "caddyfile", "--config", "{path}"),
        listens="chat.example.org {",
        test_listens="chat.example.org:{port} {{\n    tls {chain} {key}",
        files={},
    ),
    "haproxy": Proxy(
        title="HAProxy",
        program="haproxy",
        frame="{shown}",
        command=("-db", "-f", "{path}"),
        listens="bind :443 ",
        test_listens="bind :{port} ",
        files={"/etc/haproxy/chat.example.org.pem": "{both}"},
    ),
}


class Site(NamedTuple):
    """A node, the address of the proxy in front of it, and whom to trust."""

    server: ServerProcess
    address: str
    port: int
    certificate: Certificate
    tokens: dict[str, str]

    @property
    def http(self) -> dict[str, Any]:
        """What makes an HTTP client one of this site."""
        return {
            "base_url": f"https://{self.address}:{self.port}",
            "verify": self.certificate.trusting,
            "timeout": PATIENCE_SECONDS,
        }

    def headers(self, key: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {key}", "Host": HOST}

    def client(self) -> httpx.Client:
        return httpx.Client(headers=self.headers(self.server.key), **self.http)

    def async_client(self, user: str) -> httpx.AsyncClient:
        return httpx.AsyncClient(headers=self.headers(self.tokens[user]), **self.http)

    @asynccontextmanager
    async def websocket(self, user: str) -> AsyncIterator[ClientConnection]:
        """One that is connected."""
        url = f"wss://{HOST}:{self.port}/connection/websocket"
        tls = self.certificate.trusting
        async with connect(url, ssl=tls, host=self.address, port=self.port) as socket:
            hello = {"id": 1, "connect": {"token": self.tokens[user]}}
            await socket.send(msgspec.json.encode(hello).decode())
            assert b'"connect"' in (await socket.recv(decode=False))
            yield socket

    async def send(self, text: str) -> None:
        """From alice to bob."""
        async with self.async_client("alice") as client:
            message = {"type": "private", "to": "bob", "text": text}
            answer(await client.post("/v1/messages", json=message))


def _own_address() -> str:
    """An address of this machine that is not its loopback one, since that is not limited."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return "127.0.0.1"
        return str(probe.getsockname()[0])


def _listens(process: subprocess.Popen[bytes], port: int, log: Path) -> bool:
    assert process.poll() is None, log.read_text("utf-8")
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _tokens(server: ServerProcess, *users: str) -> dict[str, str]:
    with server.client() as api:
        for user in users:
            answer(api.put(f"/v1/users/{user}", json={"name": "茶友 🍵"}))
    return {user: server.token(user) for user in users}


@pytest.fixture(scope="module", params=PROXIES)
def site(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    proxy = PROXIES[request.param]
    program = shutil.which(proxy.program, path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None:
        pytest.skip(f"{proxy.title} is not installed: apt-get install {proxy.program}")
    folder, address = tmp_path_factory.mktemp(proxy.program), _own_address()
    place = Place(folder, free_port(), make_certificate(folder, HOST, address))
    options = (
        *("--allowed-hosts", HOST),
        *("--trusted-proxies", "127.0.0.1"),
        *("--address-requests-per-second", "10"),
    )
    with ServerProcess(folder / "数据", *options) as server:
        tokens = _tokens(server, "alice", "bob")
        path, log = folder / "shown.conf", folder / "proxy.log"
        path.write_text(proxy.configuration(place, server.port), "utf-8")
        command = [program, *(part.format(folder=folder, path=path) for part in proxy.command)]
        with log.open("wb") as told, subprocess.Popen(command, stdout=told, stderr=told) as process:
            try:
                eventually(lambda: _listens(process, place.port, log))
                yield Site(server, address, place.port, place.certificate, tokens)
            finally:
                process.terminate()


async def _hear(socket: ClientConnection, text: str) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while text not in str(await socket.recv()):
            pass


async def test_websockets_and_http_get_through(site: Site) -> None:
    """One talks, the other hears it, both over TLS."""
    async with site.websocket("bob") as bob:
        await site.send(TEXT)
        await _hear(bob, TEXT)


class Streamed:
    """What a streamed answer has told, as soon as it is there."""

    def __init__(self, response: httpx.Response) -> None:
        self._pieces = response.aiter_raw()
        self.text = ""

    async def until(self, words: str) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while words not in self.text:
                self.text += (await anext(self._pieces)).decode("utf-8", "replace")


@asynccontextmanager
async def _stream(site: Site, kind: str) -> AsyncIterator[Streamed]:
    """Bob's, connected."""
    first = json.dumps({"id": 1, "connect": {"token": site.tokens["bob"]}})
    path = f"/connection/{kind}"
    async with site.async_client("bob") as client:
        way: Any = ("GET", path) if kind == "sse" else ("POST", path)
        fields: Any = {"params": {"cf_connect": first}} if kind == "sse" else {"content": first}
        async with client.stream(*way, **fields) as response:
            assert response.status_code == 200, await response.aread()
            streamed = Streamed(response)
            await streamed.until('"connect"')
            yield streamed


@pytest.mark.parametrize("kind", ["http_stream", "sse"])
async def test_streams_are_not_held_back(site: Site, kind: str) -> None:
    """Each thing told arrives although the answer goes on; commands come by requests beside it."""
    async with _stream(site, kind) as bob, site.async_client("bob") as client:
        reply = re.search(r'"session":"([^"]+)","node":"([^"]+)"', bob.text)
        assert reply is not None
        await site.send(f"{TEXT} {kind}")
        await bob.until(f"{TEXT} {kind}")
        posted = {"session": reply[1], "node": reply[2], "data": '{"id":2,"ping":{}}'}
        assert (await client.post("/emulation", json=posted)).status_code == 204
        await bob.until('"id":2')


def test_the_page_may_sign_in_through_the_proxy(site: Site) -> None:
    """On whatever port it is served: the node sees the `Host` that the page's origin has."""
    place = f"{HOST}:{site.port}"
    with httpx.Client(headers={"Host": place}, **site.http) as browser:
        assert "群信" in browser.get("/").text
        own = {"Origin": f"https://{place}", "Sec-Fetch-Site": "same-origin"}
        assert browser.post("/session/token", headers=own).status_code == 204
        other = {**own, "Origin": f"https://{HOST}:1"}
        assert browser.post("/session/token", headers=other).status_code == 403


def test_the_proxy_keeps_what_the_page_says(site: Site) -> None:
    """Large bodies go no further, and metrics are not for the public, however they are spelt."""
    with site.client() as client:
        large = client.post("/v1/messages", content=b" " * 2_000_000)
        assert large.status_code == 413
    with site.client() as client:
        message = {"type": "private", "from": "alice", "to": "bob", "text": "大" * 20_000}
        answer(client.post("/v1/messages", json=message))
        for path in ("/metrics", "/%6Detrics", "/metrics?x"):
            assert client.get(path).status_code in (403, 404), path


async def test_a_node_that_stops_is_told_of_through_the_proxy(site: Site) -> None:
    """Whoever is connected is told to come back, whichever way they came; until the node is there
    again the proxy says so, and then they are served."""
    async with site.websocket("bob") as bob, _stream(site, "http_stream") as stream:
        assert await asyncio.to_thread(site.server.stop) == 0
        with pytest.raises(ConnectionClosed) as closed:
            await _hear(bob, "nothing of the kind")
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 4000
        await stream.until('"code":4000')
    async with site.async_client("bob") as client:
        try:
            assert (await client.get("/health/ready")).status_code in (502, 503)
        finally:
            await asyncio.to_thread(site.server.start)
        assert (await client.get("/health/ready")).status_code == 200
    async with site.websocket("bob") as bob:
        await site.send(f"{TEXT} 又来了")
        await _hear(bob, "又来了")


def test_the_node_limits_the_client_and_not_the_proxy(site: Site) -> None:
    """It is told the client's address, and believes nothing that the client says of itself."""
    if site.address == "127.0.0.1":
        pytest.skip("this machine has no address but its loopback one")
    with site.client() as client:
        answers = (
            client.get("/health/live", headers={"X-Forwarded-For": f"203.0.113.{n}"})
            for n in range(500)
        )
        refused = next((one for one in answers if one.status_code == 429), None)
    assert refused is not None
    assert refused.json()["code"] == "rate_limited"
    assert int(refused.headers["retry-after"]) >= 1
    with site.server.client() as direct:
        assert direct.get("/health/live").status_code == 200
