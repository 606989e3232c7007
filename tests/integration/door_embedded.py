"""The embedded engine as a door: its own methods, its own live streams."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
from doors import At, Device, Door, Json, Refusal, Start

import qunxin
from qunxin.engine import Engine, EngineSettings
from qunxin.engine.access import SYSTEM, Caller
from qunxin.engine.results import EntriesPage
from qunxin.engine.sink import Position
from qunxin.errors import QunxinError
from qunxin.wire.entries import encode_entry

SETTINGS = EngineSettings(cursor_flush_seconds=0.05, catchup_page_entries=7)

Call = Callable[[Engine, Caller, Json], Awaitable[Any]]


async def _put_user(engine: Engine, caller: Caller, f: Json) -> Any:
    user = f.pop("user")
    return (await engine.put_user(user, **f, caller=caller)).user


async def _entries(engine: Engine, caller: Caller, f: Json) -> Any:
    page = await engine.entries(f.pop("conversation"), reader=f.pop("as", None), **f, caller=caller)
    return _page(page)


def _page(page: EntriesPage) -> Json:
    return {
        "epoch": page.epoch,
        "entries": [json.loads(encode_entry(entry)) for entry in page.entries],
        "through": page.through,
        "head": page.head,
        "next_after": page.next_after,
    }


def _acting(f: Json) -> str | None:
    acting: str | None = f.pop("from", None) or f.pop("as", None)
    return acting


async def _send(engine: Engine, caller: Caller, f: Json) -> Any:
    given = {"type": f.pop("type", None), "to": f.pop("to", None), "sender": f.pop("from", None)}
    return await engine.send(**given, **f, caller=caller)


async def _conversations(engine: Engine, caller: Caller, f: Json) -> Any:
    rows, _ = await engine.conversations(f.pop("user"), **f, caller=caller)
    return {"conversations": rows}


async def _sessions(engine: Engine, caller: Caller, f: Json) -> Any:
    return engine.sessions(f["user"], caller=caller)


async def _end_session(engine: Engine, caller: Caller, f: Json) -> Any:
    return engine.end_session(f["user"], f["session"], caller=caller)


CALLS: dict[str, Call] = {
    "user.put": _put_user,
    "user.get": lambda e, c, f: e.get_user(f["user"], caller=c),
    "user.list": lambda e, c, f: e.list_users(**f, caller=c),
    "user.erase": lambda e, c, f: e.erase_user(f["user"], caller=c),
    "user.block": lambda e, c, f: e.set_block(f["user"], f["blocked"], True, caller=c),
    "user.unblock": lambda e, c, f: e.set_block(f["user"], f["blocked"], False, caller=c),
    "user.blocks": lambda e, c, f: e.blocks(f["user"], caller=c),
    "user.conversations": _conversations,
    "user.sessions": _sessions,
    "user.end_sessions": lambda e, c, f: e.end_sessions(f["user"], caller=c),
    "user.end_session": _end_session,
    "token.revoke": lambda e, c, f: e.revoke_tokens(f["user"], f["id"], caller=c),
    "token.revoke_all": lambda e, c, f: e.revoke_tokens(f["user"], caller=c),
    "group.put": lambda e, c, f: e.put_group(f.pop("group"), acting=_acting(f), **f, caller=c),
    "group.get": lambda e, c, f: e.get_group(f["group"], acting=_acting(f), caller=c),
    "group.list": lambda e, c, f: e.list_groups(**f, caller=c),
    "group.members": lambda e, c, f: e.members(f.pop("group"), acting=_acting(f), **f, caller=c),
    "group.presence": lambda e, c, f: e.presence(f.pop("group"), acting=_acting(f), **f, caller=c),
    "group.dissolve": lambda e, c, f: e.dissolve_group(f["group"], acting=_acting(f), caller=c),
    "member.add": lambda e, c, f: e.add_members(
        f["group"], f["users"], acting=_acting(f), caller=c
    ),
    "member.remove": lambda e, c, f: e.remove_member(
        f["group"], f["user"], acting=_acting(f), caller=c
    ),
    "member.change": lambda e, c, f: e.change_member(
        f.pop("group"), f.pop("user"), acting=_acting(f), **f, caller=c
    ),
    "message.send": _send,
    "message.recall": lambda e, c, f: e.recall(
        f["conversation"], f["position"], acting=_acting(f), caller=c
    ),
    "message.deliveries": lambda e, c, f: e.deliveries(
        f.pop("conversation"), f.pop("position"), acting=_acting(f), **f, caller=c
    ),
    "conversation.entries": _entries,
    "cursor.read": lambda e, c, f: e.mark_read(
        f["user"], f["conversation"], f["position"], caller=c
    ),
    "key.create": lambda e, c, f: e.create_key(f.pop("name"), **f, caller=c),
    "key.list": lambda e, c, _: e.list_keys(caller=c),
    "key.revoke": lambda e, c, f: e.revoke_key(f["id"], caller=c),
    "webhook.create": lambda e, c, f: e.create_webhook(f.pop("url"), **f, caller=c),
    "webhook.list": lambda e, c, _: e.list_webhooks(caller=c),
    "webhook.get": lambda e, c, f: e.get_webhook(f["id"], caller=c),
    "webhook.change": lambda e, c, f: e.change_webhook(f.pop("id"), **f, caller=c),
    "webhook.rotate": lambda e, c, f: e.rotate_webhook(f["id"], caller=c),
    "webhook.replay": lambda e, c, f: e.replay_webhook(f["id"], f["since"], caller=c),
    "webhook.delete": lambda e, c, f: e.delete_webhook(f["id"], caller=c),
}


class EmbeddedDevice(Device):
    """`engine.listen(user)`, and a task that takes what comes. With `slow` nobody takes it."""

    def __init__(
        self, engine: Engine, user: str, positions: Mapping[str, At], *, slow: bool = False
    ) -> None:
        super().__init__(user)
        self._epoch = engine.epoch
        asked = {name: Position(at.epoch, at.position) for name, at in positions.items()}
        self._live = engine.listen(user, positions=asked)
        self._slow = slow
        self._pump: asyncio.Task[None] | None = None

    async def open(self) -> None:
        await self._live.__aenter__()
        for start in self._live.starts:
            told = Start(start.epoch, start.position, not start.recovered)
            self.began(start.conversation, told)
        if not self._slow:
            self.go_on()

    def go_on(self) -> None:
        """Take what comes from now on."""
        self._pump = asyncio.create_task(self._take_all(), name=f"device of {self.user}")

    async def _take_all(self) -> None:
        try:
            async for entry in self._live:
                self.take(json.loads(encode_entry(entry)), self._epoch)
        except QunxinError as error:
            self.ended = error.code
        self.changed.set()

    async def close(self) -> None:
        if self._pump is not None:
            self._pump.cancel()
            await asyncio.wait([self._pump])
        await self._live.__aexit__(None, None, None)


class EmbeddedDoor(Door):
    """The engine over SQLite and the local broker, in this process."""

    name = "embedded"

    def __init__(self, path: Path, settings: EngineSettings = SETTINGS) -> None:
        super().__init__()
        self.path = path
        self.settings = settings
        self.engine = qunxin.open(path, settings=settings)

    async def open(self) -> None:
        await self.engine.open()

    async def close(self) -> None:
        await self.engine.close()

    async def restart(self) -> None:
        await self.close()
        self.engine = qunxin.open(self.path, settings=self.settings)
        await self.open()

    async def call(
        self, operation: str, fields: Json, by: str | None = None, language: str = "en"
    ) -> Any:
        return await self.call_as(
            SYSTEM if by is None else Caller.as_user(by), operation, fields, language
        )

    async def call_as(
        self, caller: Caller, operation: str, fields: Json, language: str = "en"
    ) -> Any:
        """Carry out one operation for any caller."""
        try:
            result = await CALLS[operation](self.engine, caller, dict(fields))
        except QunxinError as error:
            facts = msgspec.to_builtins(error.facts)
            raise Refusal(error.code, error.text(language), facts) from None
        return msgspec.to_builtins(result)

    async def connect(self, user: str, positions: Mapping[str, At]) -> EmbeddedDevice:
        return await self._listen(user, positions, slow=False)

    async def slow_device(self, user: str) -> EmbeddedDevice:
        """A device whose program takes nothing until `go_on`."""
        device = await self._listen(user, {}, slow=True)
        self._devices.append(device)
        return device

    async def _listen(
        self, user: str, positions: Mapping[str, At], *, slow: bool
    ) -> EmbeddedDevice:
        device = EmbeddedDevice(self.engine, user, positions, slow=slow)
        try:
            await device.open()
        except QunxinError as error:
            raise Refusal(error.code, error.text("en")) from None
        return device
