"""A body must come at a least rate: one that drips is answered and cut, one that only takes its
time is not."""

from __future__ import annotations

import asyncio
import json

from http_node import HttpNode, RawConnection, http_node, raw_connection, raw_request

from qunxin.engine import Engine
from qunxin.gateways.http import HttpSettings

BODY = json.dumps({"name": "慢慢来 🐢 " * 8}).encode().ljust(1_000)
SETTINGS = HttpSettings(body_grace_seconds=1.0, min_body_bytes_per_second=1_000)


async def _begin(node: HttpNode, raw: RawConnection) -> None:
    head = (f"Content-Length: {len(BODY)}", "Content-Type: application/json")
    await raw.send(raw_request(node, "PUT", "/v1/users/alice", *head))


async def _drip(raw: RawConnection, part_bytes: int, pause_seconds: float) -> None:
    """The pace is what is being tested: there is no event to wait for."""
    for begin in range(0, len(BODY), part_bytes):
        await raw.send(BODY[begin : begin + part_bytes])
        await asyncio.sleep(pause_seconds)


async def test_a_body_that_drips_is_answered_and_cut(engine: Engine) -> None:
    """Long before the deadline of the whole request: at a tenth of the rate it gets little more
    than the grace."""
    loop = asyncio.get_running_loop()
    async with http_node(engine, SETTINGS) as node, raw_connection(node.port) as raw:
        await _begin(node, raw)
        begun = loop.time()
        dripping = asyncio.create_task(_drip(raw, 10, 0.1))
        answer = await raw.answer()
        assert (answer.status, answer.problem["code"]) == (408, "invalid_request")
        assert answer.headers["connection"] == "close"
        assert loop.time() - begun < SETTINGS.request_deadline_seconds / 2
        dripping.cancel()
        await asyncio.wait([dripping])


async def test_a_slow_body_that_keeps_the_rate_is_taken(engine: Engine) -> None:
    """Although it takes longer than the grace."""
    async with http_node(engine, SETTINGS) as node, raw_connection(node.port) as raw:
        await _begin(node, raw)
        await _drip(raw, 100, 0.14)
        assert (await raw.answer()).status == 201


async def test_bodies_that_come_take_no_place_from_whole_requests(engine: Engine) -> None:
    """As many as may be carried out at once are still coming, and another is carried out."""
    settings = HttpSettings(max_requests_in_flight=1, max_bodies_in_flight=2)
    async with http_node(engine, settings) as node, raw_connection(node.port) as raw:
        await _begin(node, raw)
        async with raw_connection(node.port) as second:
            await _begin(node, second)
            while (await node.api.get("/v1/users/bob")).status_code != 503:
                continue  # not both have been seen yet
        while (put := await node.api.put("/v1/users/bob", json={})).status_code == 503:
            continue  # the second has not been seen to go yet
        assert put.status_code == 201
        await raw.send(BODY)
        assert (await raw.answer()).status == 201
