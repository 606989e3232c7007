"""Hostile use of the ways in without WebSockets: streams that open with anything, commands posted
for them and for nobody, in the wrong form, of the wrong kind, again and again."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from random import Random
from typing import Any, Final

import httpx
from fuzz_payloads import PayloadMaker
from fuzz_protobuf import BAD_UTF8, ProtobufMaker
from fuzz_verdict import Seen
from google.protobuf.json_format import MessageToDict

from qunxin.wire.protobuf import split_messages
from qunxin.wire.realtime_pb2 import Emulation, Reply
from serving import ServerProcess

ATTACKERS: Final = 4
POSTS: Final = 30
WAYS: Final = ("http_stream", "sse", "protobuf")
BINARY_KIND: Final = "application/octet-stream"
KINDS: Final = (
    "application/json",
    "APPLICATION/OCTET-STREAM ; charset=茶".encode(),
    "text/plain; charset=utf-16",
    "multipart/form-data",
    "image/png",
    "",
)
PATHS: Final = ("/emulation", "/connection/http_stream", "/connection/sse")
NOT_HERE: Final = {"session": "无", "node": "无"}
PATIENCE_SECONDS: Final = 20
END_SECONDS: Final = 0.1
"""How long the last message has to end its stream; some are harmless, and nothing tells."""


class StreamAttack:
    """Streams one after another, each with a batch of posts, until `sent` requests were made."""

    def __init__(self, server: ServerProcess, seed: int) -> None:
        self.server = server
        self.seed = seed
        self.sent = 0
        self.streams = 0
        self.seen = Seen()
        self.token = server.token("mallory")

    async def run(self, requests: int) -> None:
        goal = self.sent + requests
        http = httpx.AsyncClient(base_url=self.server.url, timeout=PATIENCE_SECONDS)
        async with http, asyncio.TaskGroup() as attackers:
            for _ in range(ATTACKERS):
                attackers.create_task(self._attack(http, goal))

    async def _attack(self, http: httpx.AsyncClient, goal: int) -> None:
        while self.sent < goal:
            self.streams += 1
            self.sent += 1
            await _Stream(self, http, self.seed * 1_000_003 + self.streams).run()


class _Stream:
    """One of them. Half of what is posted is what the session speaks."""

    def __init__(self, attack: StreamAttack, http: httpx.AsyncClient, seed: int) -> None:
        self.attack = attack
        self.http = http
        self.random = Random(seed)
        self.way = self.random.choice(WAYS)
        self.is_protobuf = self.way == "protobuf"
        self.maker: PayloadMaker = (ProtobufMaker if self.is_protobuf else PayloadMaker)(
            self.random
        )
        self.session = NOT_HERE
        self.answered = asyncio.Event()
        self.last: dict[str, Any] = {}

    async def run(self) -> None:
        is_stranger = self.random.random() < 0.3
        first = self.maker.opening() if is_stranger else self.maker.connect(self.attack.token)
        async with self._open(first, is_stranger) as response:
            if response.status_code != 200:
                self.attack.seen.problem(response.status_code, await response.aread())
                return
            reading = asyncio.create_task(self._read(response))
            if not is_stranger:
                await asyncio.wait_for(self.answered.wait(), PATIENCE_SECONDS)
            await self._post_all()
            if self.random.random() < 0.7:
                await self._post(self._wrap(self.maker.final()))
                await asyncio.wait([reading], timeout=END_SECONDS)
            await self._end(reading)

    def _open(self, first: bytes, is_stranger: bool) -> Any:
        """A stranger may say that it speaks what it does not."""
        if self.way == "sse" and len(first) < 30_000:
            return self.http.stream("GET", "/connection/sse", params={"cf_connect": first})
        kind = BINARY_KIND if self.is_protobuf else "text/plain"
        headers = {"content-type": self.random.choice(KINDS) if is_stranger else kind}
        return self.http.stream(
            "POST",
            "/connection/http_stream",
            content=first,
            headers=headers,  # type: ignore[arg-type]
        )

    async def _end(self, reading: asyncio.Task[None]) -> None:
        """Where nothing has ended the stream it goes on until it is left."""
        if reading.done():
            reading.result()
            code = self.last.get("push", {}).get("disconnect", {}).get("code")
            self.attack.seen.end(code)
        reading.cancel()
        await asyncio.wait([reading])

    # --- what it is told ---------------------------------------------------------------------

    async def _read(self, response: httpx.Response) -> None:
        is_binary = response.headers["content-type"] == BINARY_KIND
        lines = self._messages(response) if is_binary else self._lines(response)
        async for line in lines:
            self.attack.seen.lines([line])
            self.last = line or self.last
            if "connect" in line:
                self.session = {name: line["connect"][name] for name in ("session", "node")}
            if line:
                self.answered.set()

    async def _lines(self, response: httpx.Response) -> AsyncIterator[dict[str, Any]]:
        held = b""
        async for piece in response.aiter_raw():
            *lines, held = (held + piece).split(b"\n")
            for line in lines:
                text = line.removeprefix(b"data: ")
                if text:
                    yield json.loads(text)
        assert not held

    async def _messages(self, response: httpx.Response) -> AsyncIterator[dict[str, Any]]:
        held = b""
        async for piece in response.aiter_raw():
            held += piece
            parts = split_messages(held)
            if parts is None:  # the rest is under way
                continue
            held = b""
            for part in parts:
                yield MessageToDict(Reply.FromString(part), preserving_proto_field_name=True)
        assert not held

    # --- what it posts -----------------------------------------------------------------------

    async def _post_all(self) -> None:
        for _ in range(self.random.randrange(POSTS)):
            body, kind = self._wrap(self.maker.harmless())
            if self.random.random() < 0.5:
                body, kind = self._spoil(body, kind)
            times = 1 if self.random.random() < 0.9 else 3
            await asyncio.gather(*(self._post((body, kind)) for _ in range(times)))

    def _wrap(self, payload: bytes) -> tuple[bytes, str | bytes]:
        """Sometimes in the other encoding, with the bytes of this one."""
        if self.is_protobuf != (self.random.random() < 0.05):
            return Emulation(**self.session, data=payload).SerializeToString(), BINARY_KIND
        text = payload.decode("utf-8", "surrogateescape")
        return json.dumps({**self.session, "data": text}).encode(), "application/json"

    def _spoil(self, body: bytes, kind: str | bytes) -> tuple[bytes, str | bytes]:
        random = self.random
        name = random.choice(("session", "node", "data"))
        fields = {**self.session, "data": "{}"}
        bodies = (
            body[: random.randrange(len(body) + 1)],
            body + random.randbytes(20),
            random.randbytes(random.randrange(200)),
            self.maker.nested_data(),
            b'{"session":"x","node":"y","data":"","z":%b}' % self.maker.nested_data(),
            json.dumps(fields | {name: self.maker.value()}).encode(),
            json.dumps({key: fields[key] for key in fields if key != name}).encode(),
            body.replace(b'"data"', b'"data":"%b","data"' % random.choice(BAD_UTF8)),
            body,
        )
        kinds = (kind, kind, *KINDS, BINARY_KIND)
        return random.choice(bodies), random.choice(kinds)

    async def _post(self, what: tuple[bytes, str | bytes]) -> None:
        self.attack.sent += 1
        body, kind = what
        path = PATHS[0] if self.random.random() < 0.95 else self.random.choice(PATHS)
        method = "POST" if path == PATHS[0] else "PUT"
        headers = {"content-type": kind}
        answer = await self.http.request(method, path, content=body, headers=headers)  # type: ignore[arg-type]
        if answer.status_code != 204:
            self.attack.seen.problem(answer.status_code, answer.content)
