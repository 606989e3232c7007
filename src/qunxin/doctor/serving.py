"""What a start would stumble over: certificate, keys of others, port. Each check builds what
`qunxin serve` builds, and lets go of it."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from qunxin.config import Settings
from qunxin.control import find_server
from qunxin.doctor.findings import Finding, Words, fine, problem, warning
from qunxin.errors import QunxinError
from qunxin.server import listening
from qunxin.tls import tls_context

_SOON: Final = timedelta(days=14)


async def check_certificate(settings: Settings) -> list[Finding]:
    """Whether TLS can be spoken, and for how long with this certificate."""
    if not settings.tls_certificate:
        return fine("certificate", "None: the port is plain", "未配置：端口不加密")
    try:
        await asyncio.to_thread(tls_context, settings)
    except QunxinError as error:
        advice = Words(
            "Give the chain and its key, readable by the node's user and without a passphrase, in "
            "tls_certificate and tls_key.",
            "请在 tls_certificate 与 tls_key 中给出证书链及其私钥：服务用户可读、没有口令。",
        )
        return [problem("certificate", Words(error.text(), error.text("zh")), advice)]
    return await asyncio.to_thread(_judge_times, settings.tls_certificate)


def _judge_times(name: str) -> list[Finding]:
    from cryptography import x509  # noqa: PLC0415 - for nodes that speak TLS alone

    certificate = x509.load_pem_x509_certificates(Path(name).expanduser().read_bytes())[0]
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    now = datetime.now(UTC)
    if begins <= now < ends - _SOON:
        return fine("certificate", f"Good until {ends:%Y-%m-%d}", f"有效期至 {ends:%Y-%m-%d}")
    advice = Words(
        "Renew it, and have it read anew: systemctl reload qunxin (SIGHUP).",
        "请续期，然后重新加载：systemctl reload qunxin（SIGHUP）。",
    )
    if now >= ends:
        text = Words(
            f"Ran out at {ends:%Y-%m-%d %H:%M} UTC", f"已于 {ends:%Y-%m-%d %H:%M} UTC 过期"
        )
        return [problem("certificate", text, advice)]
    if now < begins:
        text = Words(
            f"Not good before {begins:%Y-%m-%d %H:%M} UTC",
            f"{begins:%Y-%m-%d %H:%M} UTC 之前尚未生效",
        )
        return [problem("certificate", text, advice)]
    text = Words(f"Runs out at {ends:%Y-%m-%d %H:%M} UTC", f"将于 {ends:%Y-%m-%d %H:%M} UTC 过期")
    return [warning("certificate", text, advice)]


async def check_token_keys(settings: Settings) -> list[Finding]:
    """Whether the keys of others who sign tokens can be read now."""
    if not settings.jwks:
        return fine("token keys", "The node's own alone", "仅使用节点自己的密钥")
    # The library that fetches is for those alone who need it.
    from qunxin.gateways.jwks import read_key_set  # noqa: PLC0415

    allow_private = settings.jwks_private_addresses == "allow"
    try:
        keys = await read_key_set(settings.jwks, allow_private=allow_private)
    except QunxinError as error:
        advice = Words(
            "See that jwks names a file that the node's user can read, or an https:// URL that "
            "this machine reaches, with a JSON Web Key Set.",
            "请确认 jwks 指向服务用户可读的文件，或本机可访问的 https:// 地址，"
            "内容为 JSON Web Key Set。",
        )
        return [problem("token keys", Words(error.text(), error.text("zh")), advice)]
    return fine("token keys", f"{len(keys)} in {settings.jwks}", f"{settings.jwks}：{len(keys)} 个")


async def check_port(settings: Settings) -> list[Finding]:
    """Whether the port is free, or this node's own server has it."""
    place = f"{settings.port} on {settings.host}"
    try:
        with listening(settings.host, settings.port):
            return fine("port", f"{place} is free", f"{settings.host} 的 {settings.port} 端口空闲")
    except QunxinError as error:
        text = Words(error.text(), error.text("zh"))
    if await _own_port(settings) == settings.port:
        return fine("port", f"{place} is this node's", f"{settings.port} 端口由本节点使用")
    advice = Words(
        "End what has it, or choose another address with --host and --port.",
        "请停止占用者，或用 --host 与 --port 另选地址。",
    )
    return [problem("port", text, advice)]


async def _own_port(settings: Settings) -> int | None:
    """The port of the server that runs on the folder; None where none answers."""
    async with AsyncExitStack() as stack:
        try:
            control = await find_server(settings.data_folder.absolute(), stack)
            facts = {} if control is None else await control.facts()
        except QunxinError:  # `check_server` says what is wrong with it
            return None
    return urlsplit(facts.get("url") or "").port
