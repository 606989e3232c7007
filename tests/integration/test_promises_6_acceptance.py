"""Promise 6: acceptance does not wait for delivery.

No time is absolute here: two groups are compared in one run, send by send in turn, and the bound
is far above what noise does and far below what waiting for members would cost.
"""

from __future__ import annotations

import asyncio
import time
from statistics import median

import pytest
from door_embedded import EmbeddedDoor
from door_realtime import RealtimeDoor
from doors import Door

SENDS = 40
MOST_TIMES_SLOWER = 5.0
MANY = {"embedded": 5_000, "http": 500, "realtime": 500}


async def _seconds(door: Door, group: str, sender: str, text: str) -> float:
    started = time.perf_counter()
    await door.send("group", group, sender, text)
    return time.perf_counter() - started


async def _times_slower(door: Door, sender: str, plain: str, other: str, text: str) -> float:
    """How many times longer the median reply takes in `other` than in `plain`."""
    for group in (plain, other):
        await door.send("group", group, sender, "热身 🔥")
    times: dict[str, list[float]] = {plain: [], other: []}
    for _ in range(SENDS):
        for group, taken in times.items():
            taken.append(await _seconds(door, group, sender, text))
    return median(times[other]) / median(times[plain])


@pytest.mark.processes
async def test_promise_6_a_large_group_answers_like_a_small_one(door: Door) -> None:
    """A hundred or a thousand times the members, most of them offline, one of them suspended: the
    reply takes about as long as with five."""
    people = door.ids(*(f"m{n}" for n in range(MANY[door.name])))
    for start in range(0, len(people), 100):
        await asyncio.gather(*(door.put_user(user) for user in people[start : start + 100]))
    await door.suspend(people[-1])
    alice, bob = people[:2]
    small = await door.group("small", *people[:4], people[-1])
    large = await door.group("large", *people)
    await door.device(alice)
    await door.device(bob)
    assert await _times_slower(door, alice, small, large, "大群 🏟") < MOST_TIMES_SLOWER
    sent = await door.send("group", large, alice, "数一数")
    assert (sent.members, sent.unreachable_count) == (len(people), 1)


async def test_promise_6_embedded_a_reader_that_takes_nothing(embedded: EmbeddedDoor) -> None:
    """Fifty devices whose programs take nothing: the sender does not notice."""
    alice, *slow = await embedded.users("alice", *(f"slow{n}" for n in range(50)))
    quiet = await embedded.group("quiet", alice)
    busy = await embedded.group("busy", alice, *slow)
    devices = [await embedded.slow_device(user) for user in slow]
    assert await _times_slower(embedded, alice, quiet, busy, "没人看") < MOST_TIMES_SLOWER
    assert not any(device.record for device in devices)


async def test_promise_6_realtime_a_reader_that_never_reads(realtime: RealtimeDoor) -> None:
    """Sockets that are never read while 8 KB messages come for them: the sender, on a socket of
    their own, does not notice."""
    alice, *slow = await realtime.users("alice", *(f"slow{n}" for n in range(5)))
    quiet = await realtime.group("quiet", alice)
    busy = await realtime.group("busy", alice, *slow)
    await realtime.device(alice)
    for user in slow:
        (await realtime.mute_device(user)).stop_reading()
    text = "看不见的消息" * 450
    assert await _times_slower(realtime, alice, quiet, busy, text) < MOST_TIMES_SLOWER
