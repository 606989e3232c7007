"""A SQLite store whose readings a test can hold back, and whose disk it can fill."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from qunxin.errors import QunxinError
from qunxin.model import ApiKey, SignIn
from qunxin.store.commands import Command
from qunxin.store.reads import LogPage
from qunxin.store.results import Outcome
from qunxin.stores.sqlite import SqliteStore


class GatedStore(SqliteStore):
    """Answers some kinds of reading when its gate opens, with what was true before."""

    gate: asyncio.Event | None = None
    reached: asyncio.Event
    full = False
    """While it is set no transaction is carried out."""

    async def commit(self, commands: Sequence[Command]) -> Sequence[Outcome]:
        if self.full:
            return [QunxinError("store_unavailable")] * len(commands)
        return await super().commit(commands)

    async def read_sign_in(self, user: str, token: str | None = None) -> SignIn | None:
        found = await super().read_sign_in(user, token)
        await self._pass()
        return found

    async def read_api_keys(self) -> tuple[ApiKey, ...]:
        found = await super().read_api_keys()
        await self._pass()
        return found

    async def read_log(self, *arguments: Any, **options: Any) -> LogPage:
        found = await super().read_log(*arguments, **options)
        await self._pass()
        return found

    async def _pass(self) -> None:
        gate, self.gate = self.gate, None
        if gate is not None:
            self.reached.set()
            await gate.wait()

    def close_gate(self) -> asyncio.Event:
        """The next reading sets `reached` and waits until this event is set."""
        self.reached = asyncio.Event()
        self.gate = asyncio.Event()
        return self.gate
