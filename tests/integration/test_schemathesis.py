"""The OpenAPI description against the running gateway: whatever a client sends that fits the
description, or does not, the answer is one that the description names; never a 500."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import pytest
import schemathesis
from http_node import HttpNode, http_node
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from qunxin.embed import open as open_engine
from qunxin.engine.access import ALL_SCOPES
from qunxin.gateways.http.openapi import describe

Case: TypeAlias = schemathesis.Case[Any]

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    negative_data_rejection,
]
REFUSALS = ["400", "401", "403", "404", "405", "408", "410", "413", "415", "421", "422", "431"]
PLAIN = settings(
    max_examples=5, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)
LONG = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))

pytestmark = pytest.mark.may_block("what generates requests shares the interpreter with the node")

schema = schemathesis.openapi.from_dict(describe())
sampled = schemathesis.openapi.from_dict(describe())
for described in (schema, sampled):
    described.config.checks.negative_data_rejection.expected_statuses = REFUSALS
sampled.config.phases.coverage.enabled = False
"""The same without the systematic walk along every boundary of every field, for time's sake."""


class Target(NamedTuple):
    """Where the gateway is, and the credentials to try."""

    url: str
    key: str
    token: str


class _NodeThread(threading.Thread):
    """A gateway with a loop of its own: what generates requests here knows no asyncio."""

    def __init__(self, path: Path) -> None:
        super().__init__(name="gateway")
        self._path = path
        self._ready = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ending: asyncio.Event | None = None
        self.target: Target | None = None

    def run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        self._loop, self._ending = asyncio.get_running_loop(), asyncio.Event()
        try:
            async with open_engine(self._path) as engine, http_node(engine) as node:
                self.target = await _populate(node)
                self._ready.set()
                await self._ending.wait()
        finally:
            self._ready.set()

    def wait(self) -> Target:
        self._ready.wait(20)
        assert self.target is not None
        return self.target

    def stop(self) -> None:
        assert self._loop is not None
        assert self._ending is not None
        self._loop.call_soon_threadsafe(self._ending.set)
        self.join(20)
        assert not self.is_alive()


async def _populate(node: HttpNode) -> Target:
    """What the description's examples speak of: alice, bob, the group tea and what is said."""
    engine = node.engine
    for user in ("alice", "bob", "carol", "mallory"):
        await engine.put_user(user, name=f"{user} 小爱 👩🏽‍🚀")
    await engine.put_group("tea", owner="alice", members=("bob", "carol"))
    for number in range(30):
        await engine.send("group", "tea", sender="bob", text=f"你好 {number} 👋🏽")
    key = (await engine.create_key("模糊 fuzz", scopes=ALL_SCOPES)).key
    return Target(node.url, key, node.as_user("bob")["Authorization"].split()[1])


@pytest.fixture
def target(tmp_path: Path) -> Iterator[Target]:
    """Fresh for each operation: one of them dissolves the group, another erases alice."""
    thread = _NodeThread(tmp_path / "chat.db")
    thread.start()
    try:
        yield thread.wait()
    finally:
        thread.stop()


def _check(case: Case, target: Target, credential: str) -> None:
    """The credential is put into the case, so that a request which was wrong for want of it counts
    as what it then is."""
    case.headers["Authorization"] = f"Bearer {credential}"
    case.call_and_validate(base_url=target.url, checks=CHECKS)


@schema.parametrize()
@PLAIN
def test_with_an_api_key(case: Case, target: Target) -> None:
    """A server that acts for anybody."""
    _check(case, target, target.key)


@pytest.mark.fuzz
@sampled.parametrize()
@PLAIN
def test_with_a_users_token(case: Case, target: Target) -> None:
    """Somebody's device."""
    _check(case, target, target.token)


@pytest.mark.fuzz
@pytest.mark.timeout(3600)
@schema.parametrize()
@LONG
def test_with_an_api_key_at_length(case: Case, target: Target) -> None:
    """Many more requests of each operation."""
    _check(case, target, target.key)


@pytest.mark.fuzz
@pytest.mark.timeout(3600)
@schema.parametrize()
@LONG
def test_with_a_users_token_at_length(case: Case, target: Target) -> None:
    """Many more requests of each operation."""
    _check(case, target, target.token)
