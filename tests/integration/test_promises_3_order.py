"""Promise 3: one order."""

from __future__ import annotations

import asyncio

from doors import Door, positions_of

PEOPLE = 5
EACH = 12


async def test_promise_3_everyone_sees_one_order(door: Door) -> None:
    """Five people write at once: positions 1, 2, 3 … for everybody, the same entry at each, and
    each sender's messages in the order of sending."""
    people = await door.users(*(f"p{n}" for n in range(PEOPLE)))
    tea = await door.group("tea", *people)
    devices = await door.devices(*people)

    async def talk(person: str) -> list[int]:
        return [
            (await door.send("group", tea, person, f"{person} 第{n}条 🧋")).position
            for n in range(EACH)
        ]

    answered = await asyncio.gather(*(talk(person) for person in people))
    head = 1 + PEOPLE * EACH
    assert sorted(position for own in answered for position in own) == list(range(2, head + 1))
    log = await door.read_all(f"group:{tea}")
    assert positions_of(log) == list(range(1, head + 1))
    for own, person in zip(answered, people, strict=True):
        assert own == sorted(own)
        assert own == [entry["position"] for entry in log if entry.get("from") == person]
    for device in devices:
        await device.reach(f"group:{tea}", head)
        seen = device.entries(f"group:{tea}")
        assert seen == log[-len(seen) :]
        assert len(seen) >= PEOPLE * EACH


async def test_promise_3_positions_go_on_after_a_restart(door: Door) -> None:
    """Nothing is renumbered, nothing is numbered again; devices go on from where they were."""
    alice, bob = await door.users("alice", "bob")
    tea = await door.group("tea", alice, bob)
    before = await door.device(bob)
    for n in range(5):
        await door.send("group", tea, alice, f"之前 {n}")
    await before.reach(f"group:{tea}", 6)
    log = await door.read_all(f"group:{tea}")
    await door.restart()
    sent = [await door.send("group", tea, alice, f"之后 {n}") for n in range(5)]
    assert [receipt.position for receipt in sent] == [7, 8, 9, 10, 11]
    assert (await door.read_all(f"group:{tea}"))[: len(log)] == log
    after = await door.device(bob, before.positions())
    await after.reach(f"group:{tea}", 11)
    assert positions_of(after.entries(f"group:{tea}")) == [7, 8, 9, 10, 11]
    assert not after.starts[f"group:{tea}"].must_reload


async def test_promise_3_reconnecting_changes_no_order(door: Door) -> None:
    """A device that comes and goes while others write has every entry once, in order."""
    alice, bob = await door.users("alice", "bob")
    tea = await door.group("tea", alice, bob)
    device = await door.device(bob)
    await device.reach(f"group:{tea}", 1 if not door.pushes else 0)
    seen: list[int] = []

    async def talk() -> None:
        for n in range(60):
            await door.send("group", tea, alice, f"{n} 🏃🏽‍♀️")

    talking = asyncio.create_task(talk())
    while not talking.done():
        await device.until(lambda device=device: bool(device.record) or talking.done())  # type: ignore[misc]
        await device.close()
        seen += positions_of(device.entries(f"group:{tea}"))
        device = await door.device(bob, device.positions())
    await talking
    await device.reach(f"group:{tea}", 61)
    seen += positions_of(device.entries(f"group:{tea}"))
    assert seen == list(range(seen[0], 62))
