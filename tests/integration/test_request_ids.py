"""Each request has a name: on its answer, and on what is logged for it."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from collections.abc import AsyncIterator, Iterator

import pytest
from http_node import HttpNode, http_node

from qunxin.engine import Engine
from qunxin.ops.logs import configure_logs


@pytest.fixture
async def node(engine: Engine) -> AsyncIterator[HttpNode]:
    async with http_node(engine) as running:
        yield running


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """Where this test's logs go; the process's own handlers come back afterwards."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    made = io.StringIO()
    configure_logs("json", "info", made)
    yield made
    root.handlers[:] = handlers
    root.setLevel(level)


async def test_a_given_name_is_kept(node: HttpNode) -> None:
    """Whatever becomes of the request."""
    for path, status in (("/health/live", 200), ("/nowhere", 404), ("/v1/users/nobody", 404)):
        answer = await node.api.get(path, headers={"X-Request-Id": "proxy.1_2-3"})
        assert (answer.status_code, answer.headers["x-request-id"]) == (status, "proxy.1_2-3")


@pytest.mark.parametrize("given", ["", "a b", "x" * 65, "名字", 'a"b'])
async def test_what_does_not_belong_into_a_log_is_replaced(node: HttpNode, given: str) -> None:
    """By a name of our own."""
    answer = await node.api.get("/health/live", headers=[(b"x-request-id", given.encode())])
    assert answer.headers["x-request-id"] not in {"", given}


async def test_no_two_requests_share_a_name(node: HttpNode) -> None:
    """Side by side, one after the other."""
    answers = await asyncio.gather(*(node.api.get("/health/live") for _ in range(50)))
    assert len({answer.headers["x-request-id"] for answer in answers}) == 50


async def test_what_is_logged_for_a_request_carries_its_name(
    node: HttpNode, stream: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And nothing of another request's."""

    async def broken(_user: str) -> None:
        await asyncio.sleep(0)
        raise ZeroDivisionError("坏了")

    monkeypatch.setattr(node.engine.store, "read_user", broken)
    names = [f"n{number}" for number in range(10)]
    await asyncio.gather(
        *(node.api.get("/v1/users/alice", headers={"X-Request-Id": name}) for name in names)
    )
    logging.getLogger("qunxin.test").info("之后")
    told = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert sorted(line["request_id"] for line in told if "exception" in line) == names
    assert "request_id" not in told[-1]
