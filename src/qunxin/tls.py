"""TLS by the node itself, for whoever has no proxy in front of it."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Final

from qunxin.config import Settings
from qunxin.errors import QunxinError

HANDSHAKE_SECONDS: Final = 10.0
"""For a client to get through the handshake; a connection that takes longer is cut."""
_VERSIONS: Final = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


def tls_context(settings: Settings) -> ssl.SSLContext | None:
    """What the public port speaks; None where it is plain. Raises `cannot_start` where the files
    cannot be read, or do not belong together."""
    if not settings.tls_certificate:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = _VERSIONS[settings.tls_min_version]
    context.set_alpn_protocols(["http/1.1"])
    chain, key = (Path(name).expanduser() for name in (settings.tls_certificate, settings.tls_key))
    try:
        context.load_cert_chain(chain, key)
    except OSError as error:  # ssl.SSLError is one
        detail = f"tls_certificate and tls_key cannot be used: {error}"
        raise QunxinError("cannot_start", detail=detail) from None
    return context
