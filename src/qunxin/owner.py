"""What answers at the owner's door: the HTTP application with all rights, and the few things
that only the owner of the data folder may ask for."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from http import HTTPStatus
from typing import Annotated, Any
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Mount, Route

from qunxin.engine.access import SYSTEM, Caller
from qunxin.errors import QunxinError
from qunxin.gateways.auth import Authenticator
from qunxin.gateways.http import HttpSettings, build_app
from qunxin.gateways.operations.wording import in_words
from qunxin.gateways.problems import problem_response
from qunxin.gateways.sign_in import LINK_SECONDS
from qunxin.node import Node
from qunxin.records import encode_record
from qunxin.version import VERSION


class OwnerAuthenticator(Authenticator):
    """Whoever can open the door is the owner: the folder's permissions have checked it."""

    async def authenticate_http(self, headers: Mapping[str, str]) -> Caller:  # noqa: ARG002
        return SYSTEM


class LinkRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """For whom a link is made (None: a new account), for how long, and which address it begins
    with where that is not the node's own."""

    user: str | None = None
    seconds: Annotated[int, Meta(ge=1, le=24 * 3600)] = LINK_SECONDS
    url: str | None = None


def link_address(url: str, secret: str, user: str | None) -> str:
    """The address that a person opens. What follows the # never leaves the browser: it stands in
    no proxy's log, and a fetch ahead of the click cannot use it up."""
    return f"{url.rstrip('/')}/#link={secret}" + ("" if user is None else f"&user={user}")


def build_owner_app(
    node: Node, facts: Mapping[str, Any], metrics: Callable[[], bytes] = bytes
) -> Starlette:
    """The application for the owner's door. `facts` says more of the process (`url`).
    `metrics` renders those of the node, where any are counted."""
    door = _Door(node, {"pid": os.getpid(), "version": VERSION, **facts})
    api = build_app(
        node.engine,
        node.authenticator(OwnerAuthenticator),
        node.settings.part(HttpSettings),
        metrics,
    )
    return Starlette(
        routes=[
            Route("/control/facts", door.facts),
            Route("/control/export", door.export),
            Route("/control/token-keys", door.token_keys),
            Route("/control/token-keys", door.rotate_token_keys, methods=["POST"]),
            Route("/control/token-keys/{id}", door.retire_token_key, methods=["DELETE"]),
            Route("/control/link", door.link, methods=["POST"]),
            Mount("/", api),
        ]
    )


class _Door:
    def __init__(self, node: Node, facts: Mapping[str, Any]) -> None:
        self._node = node
        self._facts = facts

    async def facts(self, _request: Request) -> Response:
        return Response(msgspec.json.encode(self._facts), media_type="application/json")

    async def token_keys(self, _request: Request) -> Response:
        """The keys that tokens are signed with, without their secrets."""
        keys = self._node.token_keys.current
        rows = [
            {"id": key.id, "created": key.created, "active": key.id == keys.active}
            for key in keys.keys
        ]
        return Response(msgspec.json.encode({"keys": rows}), media_type="application/json")

    async def rotate_token_keys(self, request: Request) -> Response:
        return await self._change_token_keys(request, self._node.token_keys.rotate)

    async def retire_token_key(self, request: Request) -> Response:
        key_id = request.path_params["id"]
        return await self._change_token_keys(request, lambda: self._node.token_keys.retire(key_id))

    async def _change_token_keys(self, request: Request, change: Callable[[], object]) -> Response:
        """The keys after the change. It ends with an fsync of one small file, which may hold the
        loop for that long: a change in another thread would race with the next one."""
        try:
            change()
        except QunxinError as error:
            return _refusal(error)
        return await self.token_keys(request)

    async def link(self, request: Request) -> Response:
        """A link to the page that works once, for an account that may act or for a new one."""
        try:
            made = await self._make_link(await request.body())
        except QunxinError as error:
            return _refusal(error)
        return Response(msgspec.json.encode(made), HTTPStatus.CREATED)

    async def _make_link(self, body: bytes) -> dict[str, Any]:
        try:
            asked = msgspec.json.decode(body, type=LinkRequest)
        except msgspec.DecodeError as error:
            raise QunxinError("invalid_request", detail=in_words(error)) from None
        if self._facts["url"] is None:
            detail = "no server runs on this folder, and a link ends with its server"
            raise QunxinError("invalid_request", detail=detail)
        if asked.url is not None:
            _check_url(asked.url)
        if asked.user is not None:
            await self._node.engine.sign_in(asked.user, None)
        secret, link = self._node.links.make(asked.user, asked.seconds)
        address = link_address(asked.url or self._facts["url"], secret, asked.user)
        return {"link": address, "user": asked.user, "expires": link.expires_ms}

    async def export(self, _request: Request) -> Response:
        return StreamingResponse(export_parts(self._node), media_type="application/x-ndjson")


def _check_url(url: str) -> None:
    """Refuse what a browser could not open."""
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if not good or not url.isprintable() or not set(url).isdisjoint(" ?#"):
        detail = "url: an address such as https://chat.example.org"
        raise QunxinError("invalid_request", detail=detail)


def _refusal(error: QunxinError) -> Response:
    status, headers, body = problem_response(error, "en")
    response = Response(body, status)
    response.raw_headers += headers
    return response


async def export_parts(node: Node) -> AsyncGenerator[bytes, None]:
    """The node's history as JSON Lines, several lines at a time; where it fails, the last line is
    one object `error`."""
    try:
        async with aclosing(node.engine.store.export_records()) as parts:
            async for records in parts:
                yield b"".join(map(encode_record, records))
    except QunxinError as error:
        yield _error_line(error)


def _error_line(error: QunxinError) -> bytes:
    problem = {"code": error.code, "retry_after": error.retry_after, "facts": error.facts}
    return msgspec.json.encode({"error": problem}) + b"\n"
