"""nginx in front of a real node, with the file that the how-to shows."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import httpx
import msgspec
import pytest
from websockets.asyncio.client import connect

from certificates import Certificate, make_certificate
from serving import ServerProcess, answer, free_port

NGINX = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "proxies.md"
HOST = "chat.example.org"

pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(NGINX is None, reason="nginx is not installed"),
]

FRAME = """
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


class Site(NamedTuple):
    """A node, the address of nginx in front of it, and whom to trust."""

    server: ServerProcess
    address: str
    port: int
    certificate: Certificate
    tokens: dict[str, str]

    def client(self, key: str) -> httpx.Client:
        return httpx.Client(
            base_url=f"https://{self.address}:{self.port}",
            headers={"Authorization": f"Bearer {key}", "Host": HOST},
            verify=self.certificate.trusting,
        )


def _own_address() -> str:
    """An address of this machine that is not its loopback one, since that is not limited."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return "127.0.0.1"
        return str(probe.getsockname()[0])


def _configuration(folder: Path, port: int, node: int, certificate: Certificate) -> str:
    found = re.search(r"```nginx\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    assert found is not None
    changes = {
        "listen 443 ssl;": f"listen {port} ssl;",
        "127.0.0.1:8000": f"127.0.0.1:{node}",
        "/etc/ssl/chat.example.org.pem": str(certificate.chain),
        "/etc/ssl/private/chat.example.org.key": str(certificate.key),
    }
    shown = found[1]
    for written, used in changes.items():
        assert written in shown
        shown = shown.replace(written, used)
    user = "user root;" if os.geteuid() == 0 else ""
    return FRAME.format(user=user, folder=folder, shown=shown)


def _wait_until_it_listens(process: subprocess.Popen[bytes], port: int, folder: Path) -> None:
    for _ in range(500):
        assert process.poll() is None, (folder / "error.log").read_text("utf-8")
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    raise AssertionError("nginx does not listen")


def _tokens(server: ServerProcess, *users: str) -> dict[str, str]:
    with server.client() as api:
        for user in users:
            answer(api.put(f"/v1/users/{user}", json={"name": "茶友 🍵"}))
    return {user: server.token(user) for user in users}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder, port = tmp_path_factory.mktemp("nginx"), free_port()
    address = _own_address()
    certificate = make_certificate(folder, HOST, address)
    options = (
        *("--allowed-hosts", HOST),
        *("--trusted-proxies", "127.0.0.1"),
        *("--address-requests-per-second", "3"),
    )
    with ServerProcess(folder / "数据", *options) as server:
        tokens = _tokens(server, "alice", "bob")
        path = folder / "nginx.conf"
        path.write_text(_configuration(folder, port, server.port, certificate), "utf-8")
        command = [str(NGINX), "-p", str(folder), "-c", str(path), "-g", "daemon off;"]
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
            _wait_until_it_listens(process, port, folder)
            yield Site(server, address, port, certificate, tokens)
            process.terminate()


async def test_websockets_and_http_through_nginx(site: Site) -> None:
    """One talks, the other hears it, both over TLS."""
    url = f"wss://{HOST}:{site.port}/connection/websocket"
    tls = site.certificate.trusting
    async with connect(url, ssl=tls, host=site.address, port=site.port) as bob:
        hello = {"id": 1, "connect": {"token": site.tokens["bob"]}}
        await bob.send(msgspec.json.encode(hello).decode())
        assert b'"connect"' in (await bob.recv(decode=False))
        headers = {"Authorization": f"Bearer {site.tokens['alice']}", "Host": HOST}
        base = f"https://{site.address}:{site.port}"
        async with httpx.AsyncClient(base_url=base, headers=headers, verify=tls) as client:
            message = {"type": "private", "to": "bob", "text": "穿过代理 🌉 שלום"}
            assert answer(await client.post("/v1/messages", json=message))["position"] == 1
        heard = ""
        while "穿过代理" not in heard:
            heard = str(await bob.recv())


def test_nginx_keeps_what_the_page_says(site: Site) -> None:
    """Large bodies end there, and metrics are not for the public."""
    with site.client(site.server.key) as client:
        large = client.post("/v1/messages", content=b" " * 2_000_000)
        assert large.status_code == 413
        assert client.get("/metrics").status_code == 403


def test_the_node_limits_the_client_and_not_nginx(site: Site) -> None:
    """It is told the client's address, and believes nothing that the client says of itself."""
    if site.address == "127.0.0.1":
        pytest.skip("this machine has no address but its loopback one")
    with site.client(site.server.key) as client:
        answers = [
            client.get("/health/live", headers={"X-Forwarded-For": f"203.0.113.{n}"})
            for n in range(60)
        ]
    refused = [one for one in answers if one.status_code == 429]
    assert refused
    assert refused[0].json()["code"] == "rate_limited"
    assert int(refused[0].headers["retry-after"]) >= 1
    with site.server.client() as direct:
        assert direct.get("/health/live").status_code == 200
