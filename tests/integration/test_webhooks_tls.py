"""Webhooks over TLS, to receivers that are who they say they are, and to one that is not."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
from pathlib import Path

import pytest

from qunxin.engine import Engine
from qunxin.gateways.webhooks import WebhookSender, WebhookSettings
from webhook_receiver import Receiver

SETTINGS = WebhookSettings(
    webhook_networks=("127.0.0.0/8",),
    webhook_retry_first_seconds=0.01,
    webhook_retry_max_seconds=0.05,
    webhook_progress_seconds=0.01,
)


def certificate(folder: Path, name: str) -> tuple[Path, ssl.SSLContext]:
    """A certificate that `name` signed for itself, and a server's context with it."""
    chain, key = folder / f"{name}.pem", folder / f"{name}.key"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-days", "2", "-subj", f"/CN={name}", "-addext"),
            *(f"subjectAltName=DNS:{name}", "-keyout", str(key), "-out", str(chain)),
        ],
        check=True,
        capture_output=True,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain, key)
    return chain, context


async def test_receiver_that_lies_about_its_certificate(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a stranger's certificate nor a trusted one for another name is given an event; when
    the right one is there, nothing was lost and the order holds."""
    good, good_tls = certificate(tmp_path, "localhost")
    other, other_tls = certificate(tmp_path, "elsewhere.example")
    _, stranger_tls = certificate(tmp_path, "stranger.example")
    trusted = tmp_path / "trusted.pem"
    trusted.write_bytes(good.read_bytes() + other.read_bytes())
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
    await engine.put_user("ann")
    await engine.put_user("bo")
    receiver = Receiver(stranger_tls)
    await receiver.start()
    try:
        async with WebhookSender(engine, SETTINGS):
            hook = await engine.create_webhook(receiver.url)
            wrote = asyncio.Event()
            engine.watch(lambda _: wrote.set())
            for tls in (stranger_tls, other_tls):
                await receiver.stop()
                await receiver.start(tls)
                await engine.send("private", "bo", sender="ann", text="机密 🔏")
                failed = (await engine.get_webhook(hook.id)).failures
                async with asyncio.timeout(20):
                    while (found := await engine.get_webhook(hook.id)).failures < failed + 2:
                        wrote.clear()
                        await wrote.wait()
                assert "certificate" in (found.error or "").lower()
            assert receiver.requests == []
            await receiver.stop()
            await receiver.start(good_tls)
            await receiver.until_taken(2)
    finally:
        await receiver.stop()
    assert [one.place[1] for one in receiver.taken] == [1, 2]
    for one in receiver.taken:
        one.check(hook.secret)
