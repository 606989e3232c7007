"""TLS by the node itself, for whoever has no proxy in front of it."""

from __future__ import annotations

import asyncio
import logging
import signal
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from qunxin.config import Settings
from qunxin.errors import QunxinError

_log = logging.getLogger("qunxin.server")

HANDSHAKE_SECONDS: Final = 10.0
"""For a client to get through the handshake; a connection that takes longer is cut."""
_VERSIONS: Final = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


def tls_context(settings: Settings) -> ssl.SSLContext | None:
    """What the public port speaks; None where it is plain. Raises `cannot_start` where the files
    cannot be read, do not belong together, or the key has a passphrase, which nobody is there to
    type."""
    if not settings.tls_certificate:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = _VERSIONS[settings.tls_min_version]
    context.set_alpn_protocols(["http/1.1"])
    chain, key = (Path(name).expanduser() for name in (settings.tls_certificate, settings.tls_key))
    try:
        context.load_cert_chain(chain, key, password="")
    except OSError as error:  # ssl.SSLError is one
        detail = f"tls_certificate and tls_key cannot be used: {error}"
        raise QunxinError("cannot_start", detail=detail) from None
    return context


@contextmanager
def current_tls(settings: Settings) -> Iterator[ssl.SSLContext | None]:
    """The same, reading its files anew on each SIGHUP while the block runs: handshakes that begin
    afterwards use what was read, connections that are open go on. Files that cannot be used
    change nothing but the log."""
    context = tls_context(settings)
    if context is None:
        yield None
        return
    current = context

    def choose(connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        connection.context = current

    def reload() -> None:
        nonlocal current
        try:
            current = tls_context(settings) or current
        except QunxinError as error:
            _log.error("the certificate stays as it was: %s", error)
        else:
            _log.info("the certificate was read anew")

    # A context into which half of a new pair was loaded would serve nobody: each handshake is
    # given a whole one instead.
    context.sni_callback = choose
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGHUP, reload)
    try:
        yield context
    finally:
        loop.remove_signal_handler(signal.SIGHUP)
