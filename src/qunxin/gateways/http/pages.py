"""The documents that the gateway serves: the page at ``/``, the module for browsers, the API's
description and its readable page."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from pathlib import PurePath
from typing import Final

import msgspec

from qunxin.gateways.http.openapi import describe
from qunxin.gateways.http.reference import reference_page


class Page(msgspec.Struct, frozen=True):
    """A fixed document and the headers it goes with."""

    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes


REFERENCE_POLICY: Final = (
    b"default-src 'none'; style-src 'self'; img-src 'self' data:; base-uri 'none'; "
    b"form-action 'none'; frame-ancestors 'none'"
)
CHAT_POLICY: Final = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    b"img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    b"require-trusted-types-for 'script'; trusted-types 'none'"
)
"""Only this node's own files run and style; no text can become markup or script, whatever a
message, a name or an address holds."""

_HTML: Final = (
    (b"content-type", b"text/html; charset=utf-8"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=(), payment=(), usb=()"),
)
_DESCRIPTION: Final = ((b"content-type", b"application/json"),)
_ASSET_TYPES: Final = {
    ".css": b"text/css; charset=utf-8",
    ".js": b"text/javascript; charset=utf-8",
    ".svg": b"image/svg+xml",
}
_MODULE: Final = (
    (b"content-type", _ASSET_TYPES[".js"]),
    (b"cross-origin-resource-policy", b"cross-origin"),
)
"""The module for browsers; pages of other origins that may use this node (`allowed_origins`) may
import it too."""


@cache
def pages() -> dict[str, Page]:
    """Every document by its path."""
    description = describe()
    web = files("qunxin") / "web"
    chat = (web / "index.html").read_bytes()
    reference = reference_page(description).encode()
    return {
        "/": Page((*_HTML, (b"content-security-policy", CHAT_POLICY)), chat),
        "/docs": Page((*_HTML, (b"content-security-policy", REFERENCE_POLICY)), reference),
        "/openapi.json": Page(_DESCRIPTION, msgspec.json.encode(description)),
        "/qunxin.js": Page(_MODULE, (web / "qunxin.js").read_bytes()),
        **{f"/assets/{name}": page for name, page in _assets()},
    }


def _assets() -> Iterator[tuple[str, Page]]:
    """Styles, scripts and pictures of the pages."""
    for file in (files("qunxin") / "web").iterdir():
        kind = _ASSET_TYPES.get(PurePath(file.name).suffix)
        if kind is not None and file.name != "qunxin.js":
            headers = ((b"content-type", kind), (b"cross-origin-resource-policy", b"same-origin"))
            yield file.name, Page(headers, file.read_bytes())
