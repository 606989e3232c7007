"""The documents that the gateway serves: the API's description, its readable page, its style."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Final

import msgspec

from qunxin.gateways.http.openapi import describe
from qunxin.gateways.http.reference import reference_page


class Page(msgspec.Struct, frozen=True):
    """A fixed document and the headers it goes with."""

    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes


POLICY: Final = (
    b"default-src 'none'; style-src 'self'; img-src 'self' data:; base-uri 'none'; "
    b"form-action 'none'; frame-ancestors 'none'"
)
_HTML: Final = (
    (b"content-type", b"text/html; charset=utf-8"),
    (b"content-security-policy", POLICY),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
_CSS: Final = ((b"content-type", b"text/css; charset=utf-8"),)
_DESCRIPTION: Final = ((b"content-type", b"application/json"),)


@cache
def pages() -> dict[str, Page]:
    """Every document by its path."""
    description = describe()
    page = Page(_HTML, reference_page(description).encode())
    style = (files("qunxin") / "web" / "reference.css").read_bytes()
    return {
        "/": page,
        "/docs": page,
        "/openapi.json": Page(_DESCRIPTION, msgspec.json.encode(description)),
        "/assets/reference.css": Page(_CSS, style),
    }
