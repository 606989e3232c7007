"""The owner's door to a node: a local socket in its data folder.

One process owns a data folder. Beside a running server the command line speaks to it through
``control.sock``, which only the folder's owner can open; without one it opens the node itself
for as long as it takes. Either way the same HTTP application answers, so the answers are the
same.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import httpx
import msgspec

from qunxin.config import Settings
from qunxin.control_socket import SOCKET_NAME, short_socket_path
from qunxin.errors import ERRORS, QunxinError
from qunxin.gateways.operations import OPERATIONS, Operation, Place

_BASE_URL: Final = "http://localhost"
_OPENING_SECONDS: Final = 10.0
"""How long a folder may stay locked without a server that answers: another command at work, or
a server that is starting or stopping."""
_RETRY_SECONDS: Final = 0.05
_NO_SERVER: Final = ("store_unavailable", "outcome_unknown")
"""Nobody listens at a socket that a killed server left behind, or the server ends just now."""
MAX_PAGE: Final = 1_000
"""What a list gives at once."""
_FACTS_SECONDS: Final = 5.0
_TIMEOUT: Final = httpx.Timeout(60.0, connect=5.0)


class Control:
    """Calls the node that owns a folder, as its owner."""

    def __init__(
        self,
        http: httpx.AsyncClient,
        export_here: Callable[[], AsyncGenerator[bytes, None]] | None = None,
    ) -> None:
        """`export_here` exports without HTTP, where the node is in this process: the transport
        inside a process holds answers whole."""
        self._http = http
        self._export_here = export_here

    async def call(self, operation: str, **fields: Any) -> dict[str, Any]:
        """The operation's answer. Fields that are None are left out. Raises `QunxinError`."""
        row = OPERATIONS[operation]
        given = {name: value for name, value in fields.items() if value is not None}
        return await self._answer(_build_request(self._http, row, given))

    async def find(self, operation: str, missing: str, **fields: Any) -> dict[str, Any] | None:
        """The answer, or None where it is refused with the code `missing`."""
        try:
            return await self.call(operation, **fields)
        except QunxinError as error:
            if error.code == missing:
                return None
            raise

    async def pages(
        self, operation: str, rows: str, limit: int, *, cursor: str | None = None, **fields: Any
    ) -> list[Any]:
        """Up to `limit` of the list named `rows`, page by page, from `cursor` on."""
        found: list[Any] = []
        while len(found) < limit:
            part = min(limit - len(found), MAX_PAGE)
            page = await self.call(operation, cursor=cursor, limit=part, **fields)
            found += page[rows]
            cursor = page["next_cursor"]
            if cursor is None:
                break
        return found

    async def token_keys(self, method: str = "GET", key_id: str | None = None) -> dict[str, Any]:
        """The keys that sign tokens: listed (GET), after a rotation (POST), or after the key
        `key_id` was retired (DELETE). Raises `not_found`, `invalid_request`."""
        path = "/control/token-keys" + ("" if key_id is None else "/" + quote(key_id, safe=""))
        return await self._answer(self._http.build_request(method, path))

    async def facts(self) -> dict[str, Any]:
        """What is known of the process that owns the folder: `pid`, `version`, `url`."""
        request = self._http.build_request("GET", "/control/facts", timeout=_FACTS_SECONDS)
        return await self._answer(request)

    async def link(self, **fields: Any) -> dict[str, Any]:
        """A sign-in link to the running server's page, of an owner's `LinkRequest`."""
        given = {name: value for name, value in fields.items() if value is not None}
        return await self._answer(self._http.build_request("POST", "/control/link", json=given))

    async def export(self) -> AsyncGenerator[bytes, None]:
        """The node's history as JSON Lines, in parts that end anywhere; it is whole where the
        last line is its end record. Holds a part at a time."""
        if self._export_here is not None:
            async with aclosing(self._export_here()) as parts:
                async for part in parts:
                    yield part
            return
        request = self._http.build_request("GET", "/control/export")
        async with _streamed(self._http, request) as response:
            if response.is_error:
                await response.aread()
                raise _error_of(response)
            async for part in response.aiter_bytes():
                yield part

    async def _answer(self, request: httpx.Request) -> dict[str, Any]:
        async with _streamed(self._http, request) as response:
            await response.aread()
        if response.is_error:
            raise _error_of(response)
        answer: dict[str, Any] = msgspec.json.decode(response.content)
        return answer


@asynccontextmanager
async def open_control(settings: Settings) -> AsyncIterator[Control]:
    """The owner's door to the data folder of `settings`.

    Through the running server where there is one; otherwise the node is opened here, which makes
    the folder where it is missing, and closed at the end. A folder that another command holds is
    waited for, up to 10 seconds; raises `cannot_start` then.
    """
    loop = asyncio.get_running_loop()
    async with AsyncExitStack() as stack:
        deadline = loop.time() + _OPENING_SECONDS
        while (control := await find_server(settings.data_folder, stack)) is None:
            control = await _open_here(settings, stack, patient=loop.time() < deadline)
            if control is not None:
                break
            await asyncio.sleep(_RETRY_SECONDS)  # no event tells when another process lets go
        yield control


async def find_server(folder: Path, stack: AsyncExitStack) -> Control | None:
    """The running server's door, for as long as `stack`; None where no server answers on
    `folder`."""
    if not (folder / SOCKET_NAME).exists():
        return None
    async with AsyncExitStack() as attempt:
        path = attempt.enter_context(short_socket_path(folder))
        transport = httpx.AsyncHTTPTransport(uds=path)
        client = httpx.AsyncClient(transport=transport, base_url=_BASE_URL, timeout=_TIMEOUT)
        control = Control(await attempt.enter_async_context(client))
        try:
            await control.facts()
        except QunxinError as error:
            if error.code in _NO_SERVER:
                return None
            raise
        stack.push_async_exit(attempt.pop_all())
        return control


async def _open_here(settings: Settings, stack: AsyncExitStack, *, patient: bool) -> Control | None:
    # Beside a running server a command can do without all that a node is made of.
    from qunxin.node import try_node  # noqa: PLC0415
    from qunxin.owner import build_owner_app, export_parts  # noqa: PLC0415

    node = await try_node(settings, stack, patient=patient)
    if node is None:
        return None
    transport = httpx.ASGITransport(build_owner_app(node, {"url": None}))
    client = httpx.AsyncClient(transport=transport, base_url=_BASE_URL, timeout=_TIMEOUT)
    return Control(await stack.enter_async_context(client), partial(export_parts, node))


def _build_request(
    http: httpx.AsyncClient, row: Operation, given: Mapping[str, Any]
) -> httpx.Request:
    places = {field.name: field.place for field in row.fields}
    parts: dict[Place, dict[str, Any]] = {place: {} for place in Place}
    for name, value in given.items():
        parts[places[name]][name] = value
    for name, value in parts[Place.PATH].items():
        if value == "":
            raise QunxinError("invalid_request", detail=f"{name}: missing")
    quoted = {name: quote(str(value), safe="") for name, value in parts[Place.PATH].items()}
    body = msgspec.json.encode(parts[Place.BODY]) if row.has_body else None
    return http.build_request(
        row.method,
        row.path.format(**quoted),
        params=parts[Place.QUERY],
        content=body,
        headers={"content-type": "application/json"} if body is not None else {},
    )


@asynccontextmanager
async def _streamed(
    http: httpx.AsyncClient, request: httpx.Request
) -> AsyncIterator[httpx.Response]:
    try:
        response = await http.send(request, stream=True)
    except httpx.ConnectError as error:
        raise QunxinError("store_unavailable", detail="the server does not answer") from error
    except httpx.TransportError as error:
        raise QunxinError("outcome_unknown", detail=str(error)) from error
    try:
        yield response
    finally:
        await response.aclose()


def _error_of(response: httpx.Response) -> QunxinError:
    return _error_from(msgspec.json.decode(response.content))


def error_of_line(line: bytes) -> QunxinError | None:
    """The error that the last line of a stream tells of, if it does."""
    if not line.startswith(b'{"error":'):
        return None
    return _error_from(msgspec.json.decode(line)["error"])


def _error_from(problem: dict[str, Any]) -> QunxinError:
    """The error that a problem document tells of, its facts included."""
    code = problem.get("code")
    if code not in ERRORS:
        return QunxinError("internal")
    facts = problem.get("facts", {})
    return QunxinError(code, retry_after=problem.get("retry_after"), **facts)
