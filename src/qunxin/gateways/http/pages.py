"""The documents that the gateway serves: the page at ``/``, the module for browsers, the API's
description and its readable page."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Final

import msgspec

from qunxin.model import JsonObject


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
_CHAT: Final = (*_HTML, (b"content-security-policy", CHAT_POLICY))
_REFERENCE: Final = (*_HTML, (b"content-security-policy", REFERENCE_POLICY))
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


_WEB: Final = Path(__file__).parents[2] / "web"


@cache
def documents() -> Mapping[str, Callable[[], Page]]:
    """By its path what makes each document: a tenth of a second for the description of the API,
    which few nodes are ever asked for."""
    files = {f"/assets/{file.name}": file for file in _WEB.iterdir() if _is_asset(file)}
    return {
        "/": partial(_file, _WEB / "index.html", _CHAT),
        "/docs": _reference,
        "/openapi.json": _description,
        "/qunxin.js": partial(_file, _WEB / "qunxin.js", _MODULE),
        **{path: partial(_file, file, _asset_headers(file)) for path, file in files.items()},
    }


def pages() -> dict[str, Page]:
    """Every document by its path."""
    return {path: make() for path, make in documents().items()}


def _file(path: Path, headers: tuple[tuple[bytes, bytes], ...]) -> Page:
    return Page(headers, path.read_bytes())


def _is_asset(file: Path) -> bool:
    """Whether it is one of the pages' styles, scripts and pictures."""
    return file.suffix in _ASSET_TYPES and file.name != "qunxin.js"


def _asset_headers(file: Path) -> tuple[tuple[bytes, bytes], ...]:
    kind = (b"content-type", _ASSET_TYPES[file.suffix])
    return (kind, (b"cross-origin-resource-policy", b"same-origin"))


def _reference() -> Page:
    from qunxin.gateways.http.reference import reference_page  # noqa: PLC0415 - see `documents`

    return Page(_REFERENCE, reference_page(_described()).encode())


def _description() -> Page:
    return Page(_DESCRIPTION, msgspec.json.encode(_described()))


def _described() -> JsonObject:
    from qunxin.gateways.http.openapi import describe  # noqa: PLC0415 - see `documents`

    return describe()
