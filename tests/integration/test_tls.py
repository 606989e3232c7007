"""TLS by the node itself: HTTP and WebSocket on one port, over both backends."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import ssl
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import msgspec
import pytest
from websockets.asyncio.client import connect

from certificates import Certificate, make_certificate
from qunxin.config import Settings
from qunxin.errors import QunxinError
from qunxin.tls import HANDSHAKE_SECONDS, tls_context
from serving import ServerProcess, answer, eventually

pytestmark = pytest.mark.processes

TEXT = "加密了 🔒 مشفر " * 2_000


class TlsServer(ServerProcess):
    """A server that speaks TLS and nothing else."""

    def __init__(self, folder: Path, certificate: Certificate, *options: str) -> None:
        self.certificate = certificate
        files = ("--tls-certificate", str(certificate.chain), "--tls-key", str(certificate.key))
        super().__init__(folder, *files, *options)
        self.url = f"https://localhost:{self.port}"
        self.websocket_url = f"wss://localhost:{self.port}/connection/websocket"

    def client(self, key: str | None = None) -> httpx.Client:
        headers = {"Authorization": f"Bearer {key or self.key}"}
        trusting = self.certificate.trusting
        return httpx.Client(base_url=self.url, headers=headers, verify=trusting, timeout=20)


@pytest.fixture(params=["picows", "websockets"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[TlsServer]:
    """A fresh one with two users."""
    options = ("--websocket-backend", request.param, "--tls-min-version", "1.3")
    certificate = make_certificate(tmp_path, "localhost")
    with TlsServer(tmp_path / "数据", certificate, *options) as made:
        with made.client() as client:
            for user in ("alice", "bob"):
                answer(client.put(f"/v1/users/{user}", json={"name": "爱丽丝 👩🏽‍🚀"}))
        yield made


async def test_http_and_websockets_over_tls(server: TlsServer) -> None:
    """A long message sent over HTTP is heard over the WebSocket, and the other way."""
    tls = server.certificate.trusting
    headers = {"Authorization": f"Bearer {server.key}"}
    async with httpx.AsyncClient(base_url=server.url, headers=headers, verify=tls) as client:
        token = answer(await client.post("/v1/tokens", json={"user": "bob"}))["token"]
        async with connect(server.websocket_url, ssl=tls, max_size=2**20) as bob:
            await bob.send(msgspec.json.encode({"id": 1, "connect": {"token": token}}).decode())
            assert '"connect"' in str(await bob.recv())
            message = {"type": "private", "from": "alice", "to": "bob", "text": TEXT}
            answer(await client.post("/v1/messages", json=message))
            heard = ""
            while TEXT[:9] not in heard:
                heard = str(await bob.recv())
            data = {"type": "private", "to": "alice", "text": TEXT}
            rpc = {"id": 2, "rpc": {"method": "message.send", "data": data}}
            await bob.send(msgspec.json.encode(rpc).decode())
            while '"id":2' not in heard:
                heard = str(await bob.recv())
            assert '"position":2' in heard


def test_nothing_but_good_tls_is_spoken(server: TlsServer) -> None:
    """An older version than the least, and plain HTTP, get nowhere."""
    old = ssl.create_default_context(cafile=server.certificate.chain)
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    with (
        socket.create_connection(("localhost", server.port)) as plain,
        pytest.raises(ssl.SSLError),
    ):
        old.wrap_socket(plain, server_hostname="localhost")
    with pytest.raises(httpx.TransportError):
        httpx.get(f"http://localhost:{server.port}/health/live")


def _hello() -> bytes:
    """What a client says first."""
    said = ssl.MemoryBIO()
    context = ssl.create_default_context()
    client = context.wrap_bio(ssl.MemoryBIO(), said, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return said.read()


@pytest.mark.parametrize("server", ["picows"], indirect=True)
async def test_whoever_never_ends_its_handshake_is_cut(server: TlsServer) -> None:
    """Having said nothing, half of the first message, or all of it, after the deadline and not
    before; others connect meanwhile."""
    begun = asyncio.get_running_loop().time()
    cut = [
        asyncio.create_task(_cut_after(server.port, said, begun))
        for said in (b"", _hello()[:40], _hello())
    ]
    served = 0
    while not all(task.done() for task in cut):
        served += await asyncio.to_thread(_new_connection, server) == 200
        await asyncio.wait(cut, timeout=0.5)
    assert served >= 5
    for task in cut:
        assert HANDSHAKE_SECONDS - 1 < task.result() < HANDSHAKE_SECONDS + 10


async def _cut_after(port: int, said: bytes, begun: float) -> float:
    """The seconds until the server ends a connection that says that and no more."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(said)
    with suppress(ConnectionError):
        await reader.read()
    writer.close()
    return asyncio.get_running_loop().time() - begun


def _new_connection(server: TlsServer) -> int:
    with server.client() as client:
        return client.get("/health/live").status_code


def _served_certificate(server: TlsServer, name: str | None) -> bytes:
    """What a new connection is shown, asking for that name or for none."""
    anybody = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    anybody.check_hostname = False
    anybody.verify_mode = ssl.CERT_NONE
    with (
        socket.create_connection(("localhost", server.port)) as plain,
        anybody.wrap_socket(plain, server_hostname=name) as secure,
    ):
        return secure.getpeercert(binary_form=True) or b""


def _hang_up(server: TlsServer, told: str) -> None:
    """Have the certificate read anew; on return the server has said `told` once more."""
    before = server.log.count(told)
    os.kill(server.pid, signal.SIGHUP)
    eventually(lambda: server.log.count(told) > before)


async def test_a_renewed_certificate_needs_no_restart(server: TlsServer, tmp_path: Path) -> None:
    """It serves new connections after SIGHUP, with a name asked for or without; open ones go on.
    Files that cannot be used, or do not belong together, change nothing."""
    (tmp_path / "新").mkdir()
    renewed = make_certificate(tmp_path / "新", "localhost")
    chain, key = server.certificate.chain, server.certificate.key
    pair = ssl.PEM_cert_to_DER_cert(renewed.chain.read_text())
    old = _served_certificate(server, "localhost")
    token, tls = server.token("bob"), server.certificate.trusting
    async with connect(server.websocket_url, ssl=tls) as bob:
        hello = {"id": 1, "connect": {"token": token}}
        await bob.send(msgspec.json.encode(hello).decode())
        chain.write_bytes(renewed.chain.read_bytes())
        _hang_up(server, "the certificate stays as it was")
        assert _served_certificate(server, "localhost") == old
        key.write_bytes(renewed.key.read_bytes())
        assert _served_certificate(server, "localhost") == old
        _hang_up(server, "the certificate was read anew")
        for name in ("localhost", None):
            assert _served_certificate(server, name) == pair != old
        key.write_text("不是钥匙", "utf-8")
        _hang_up(server, "the certificate stays as it was")
        assert _served_certificate(server, "localhost") == pair
        await bob.send('{"id":2,"ping":{}}')
        while '"id":2' not in str(await bob.recv()):
            pass


def _refusal(chain: Path, key: Path) -> QunxinError:
    with pytest.raises(QunxinError) as refused:
        tls_context(Settings(tls_certificate=str(chain), tls_key=str(key)))
    return refused.value


def test_files_that_cannot_be_used_stop_the_start(tmp_path: Path) -> None:
    """Not there, no certificate, or the key of another one."""
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
    one = make_certificate(tmp_path / "one", "localhost")
    other = make_certificate(tmp_path / "other", "localhost")
    (tmp_path / "坏.pem").write_text("不是证书", "utf-8")
    for chain, key in (
        (one.chain, other.key),
        (one.chain, tmp_path / "没有.pem"),
        (tmp_path / "坏.pem", one.key),
    ):
        assert _refusal(chain, key).code == "cannot_start"
    assert tls_context(Settings()) is None
