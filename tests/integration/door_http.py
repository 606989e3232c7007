"""HTTP as a door: a real server; devices are clients that ask for pages again and again."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import httpx
from doors import At, Device, Door, Json, Refusal, Start

from qunxin.gateways.operations import OPERATIONS
from qunxin.gateways.operations.table import Place
from serving import ServerProcess

_POLL_SECONDS = 0.02


class HttpDevice(Device):
    """Reads the pages of the inbox, and of every conversation that the inbox tells of."""

    def __init__(self, door: HttpDoor, user: str) -> None:
        super().__init__(user)
        self._door = door
        self._inbox = f"inbox:{user}"
        self._known: dict[str, int | None] = {}
        """To the last position that is this user's to read, None while they are in it."""

    async def open(self, positions: Mapping[str, At]) -> None:
        rows = await self._door.call("user.conversations", {"user": self.user, "limit": 1000})
        for row in rows["conversations"]:
            self._known[row["conversation"]] = None
        for name in (self._inbox, *self._known):
            await self._begin(name, positions.get(name))

    async def _begin(self, name: str, asked: At | None) -> None:
        """Compare what it keeps with what the server says; without anything, from the start."""
        page = await self._door.page(name, self.user, limit=1)
        fits = asked is None or (asked.epoch == page.epoch and asked.position <= page.head)
        position = 0 if asked is None else asked.position
        self.began(name, Start(page.epoch, position if fits else page.head, not fits))

    async def sync(self) -> None:
        """Ask for everything that is new, the inbox first."""
        await self._read(self._inbox)
        for name, last in list(self._known.items()):
            if last is None or self.at(name) < last:
                await self._read(name)

    async def _read(self, name: str) -> None:
        following: int | None = self.at(name)
        while following is not None:
            page = await self._door.page(name, self.user, after=following)
            for entry in page.entries:
                self.take(entry, page.epoch)
                self._note(entry)
            following = page.next_after

    def _note(self, entry: Json) -> None:
        if entry["type"] in ("member", "contact"):
            name = entry["conversation_joined"]
            self._known[name] = None
            if name not in self.starts:
                first = entry.get("joined", 1)
                self.began(name, Start("", max(self.at(name), first - 1), must_reload=False))
        elif entry["type"] == "ceased":
            self._known[entry["conversation_left"]] = entry["last"]

    async def wait_for_more(self) -> None:
        await asyncio.sleep(_POLL_SECONDS)
        await self.sync()

    async def close(self) -> None:
        """Nothing is held open."""


class HttpDoor(Door):
    """A real server, asked with an API key, or with a user's own token."""

    name = "http"
    pushes = False

    def __init__(self, server: ServerProcess) -> None:
        super().__init__()
        self.server = server
        self._client = httpx.AsyncClient(timeout=30)
        self._tokens: dict[str, str] = {}

    async def open(self) -> None:
        """The server runs already."""

    async def close(self) -> None:
        await self._client.aclose()

    async def restart(self) -> None:
        await asyncio.to_thread(self.server.stop)
        await asyncio.to_thread(self.server.start)

    async def token(self, user: str) -> str:
        """A token for `user`, made once."""
        if user not in self._tokens:
            self._tokens[user] = (await self.call("token.create", {"user": user}))["token"]
        return self._tokens[user]

    async def call(
        self, operation: str, fields: Json, by: str | None = None, language: str = "en"
    ) -> Any:
        credential = self.server.key if by is None else await self.token(by)
        return await self.call_with(credential, operation, fields, language)

    async def call_with(
        self, credential: str, operation: str, fields: Json, language: str = "en"
    ) -> Any:
        """Carry out one operation with any credential."""
        row = OPERATIONS[operation]
        places = {field.name: field.place for field in row.fields}
        path = row.path.format(
            **{name: quote(str(fields[name]), safe="") for name, place in places.items()
               if place is Place.PATH}
        )  # fmt: skip
        rest = {name: value for name, value in fields.items()
                if places.get(name) is not Place.PATH}  # fmt: skip
        response = await self._client.request(
            row.method,
            self.server.url + path,
            params=None if row.has_body else rest,
            json=rest if row.has_body else None,
            headers={"Authorization": f"Bearer {credential}", "Accept-Language": language},
        )
        return _answer(response)

    async def connect(self, user: str, positions: Mapping[str, At]) -> Device:
        device = HttpDevice(self, user)
        await device.open(positions)
        return device


def _answer(response: httpx.Response) -> Any:
    body = response.json()
    if response.is_success:
        return body
    assert response.headers["content-type"] == "application/problem+json", body
    raise Refusal(body["code"], body["detail"], body["facts"])
