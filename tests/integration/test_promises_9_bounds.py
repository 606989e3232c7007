"""Promise 9: a slow or hostile client hurts only itself."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from door_embedded import SETTINGS, EmbeddedDoor
from door_http import HttpDoor
from door_realtime import RealtimeDoor
from doors import PATIENCE_SECONDS, Device, Door, Json, text_of

from qunxin.engine.access import Caller
from qunxin.store.reads import LedgerPage
from qunxin.stores.sqlite.reads import ledger
from serving import ServerProcess

LARGE = "大" * 20_000
"""60 KB as UTF-8."""


async def _undisturbed(door: Door, witness: Device, tea: str, sender: str) -> None:
    """A member's stream goes on as if nothing were."""
    sent = await door.send("group", tea, sender, "一切正常 ✅")
    await witness.reach(sent.conversation, sent.position)
    assert witness.messages(sent.conversation)[-1] == "一切正常 ✅"


async def test_promise_9_embedded_an_overflowing_queue_ends_its_own(tmp_path: Path) -> None:
    """A program that takes nothing is ended with `overloaded` at its bound; it comes back and
    gets everything; the others never notice."""
    settings = msgspec.structs.replace(SETTINGS, live_queue_entries=50)
    door = EmbeddedDoor(tmp_path / "chat.db", settings)
    await door.open()
    try:
        alice, quick, slow = await door.users("alice", "quick", "slow")
        tea = await door.group("tea", alice, quick, slow)
        witness = await door.device(quick)
        device = await door.slow_device(slow)
        await _in_step(door, tea, slow)  # who still catches up is waited for, not ended
        for n in range(79):
            await door.send("group", tea, alice, f"{n} 🌊")
        last = await door.send("group", tea, alice, "79 🌊")
        device.go_on()
        await device.until(lambda: device.ended is not None)
        assert device.ended == "overloaded"
        again = await door.device(slow, device.positions())
        for one in (witness, again):
            await one.reach(last.conversation, last.position)
        seen = device.messages(last.conversation) + again.messages(last.conversation)
        assert seen[-80:] == [f"{n} 🌊" for n in range(80)]
        await _undisturbed(door, witness, tea, alice)
        await door.close_devices()
    finally:
        await door.close()


async def _in_step(door: Door, group: str, user: str) -> None:
    """Return once a device of `user` is told at once what is said there."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while user not in [one["user"] for one in await _followers(door, group)]:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def _followers(door: Door, group: str) -> list[Json]:
    followers: list[Json] = (await door.call("group.presence", {"group": group}))["present"]
    return followers


async def test_promise_9_realtime_a_socket_that_is_never_read(realtime: RealtimeDoor) -> None:
    """Megabytes wait for one client that reads nothing: it is ended, in words that make it come
    back; the others have everything."""
    alice, quick, slow = await realtime.users("alice", "quick", "slow")
    tea = await realtime.group("tea", alice, quick, slow)
    witness = await realtime.device(quick)
    device = await realtime.mute_device(slow)
    await device.reach(f"group:{tea}", 1)
    device.stop_reading()
    for n in range(90):
        await realtime.send("group", tea, alice, f"{n} {LARGE}")
    last = await realtime.send("group", tea, alice, "最后 🏁")
    await witness.reach(last.conversation, last.position)
    async with asyncio.timeout(PATIENCE_SECONDS):
        while (await realtime.call("user.sessions", {"user": slow}))["sessions"]:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    device.read_on()
    await device.until(lambda: device.ended is not None)
    assert device.ended is not None
    assert device.ended.startswith(("4001 ", "1006"))
    again = await realtime.device(slow, device.positions())
    await again.reach(last.conversation, last.position)
    await _undisturbed(realtime, witness, tea, alice)


async def test_promise_9_realtime_a_client_that_reads_and_never_answers_pings(
    realtime: RealtimeDoor,
) -> None:
    """What is sent and not proven is bounded too: such a client is ended while it reads."""
    alice, quick, mute = await realtime.users("alice", "quick", "mute")
    tea = await realtime.group("tea", alice, quick, mute)
    witness = await realtime.device(quick)
    device = await realtime.mute_device(mute)
    await device.reach(f"group:{tea}", 1)
    for n in range(90):
        await realtime.send("group", tea, alice, f"{n} {LARGE}")
    await device.until(lambda: device.ended is not None)
    assert device.ended is not None
    assert device.ended.startswith("4001 ")
    await _undisturbed(realtime, witness, tea, alice)


HOSTILE_FRAMES: dict[str, str | bytes] = {
    "not JSON": "不是 JSON 🤖",
    "empty lines": "\n\n\n",
    "binary": b"\x00\xff\x00",
    "no id": '{"publish":{}}',
    "two commands": '{"id":9,"ping":{},"publish":{"channel":"x","data":{}}}',
    "an unknown command": '{"id":9,"разрушь":{}}',
    "deep nesting": '{"id":9,"rpc":{"method":"message.send","data":' + "[" * 50_000 + "}}",
    "deep and balanced": '{"id":9,"rpc":{"data":' + "[" * 5_000 + "]" * 5_000 + "}}",
    "a huge number": '{"id":' + "9" * 5_000 + ',"ping":{}}',
    "a huge frame": '{"id":9,"rpc":{"method":"' + "长" * 400_000 + '"}}',
    "a lone surrogate": '{"id":9,"rpc":{"method":"message.send","data":{"text":"\\ud800"}}}',
    "a pong that nobody asked for": "{}",
    "connect again": '{"id":9,"connect":{"token":"x"}}',
    "an entry of its own": '{"push":{"channel":"group:tea","pub":{"data":{}}}}',
    "very many commands": "\n".join(f'{{"id":{n},"ping":{{}}}}' for n in range(1, 5_000)),
}


@pytest.mark.parametrize("what", HOSTILE_FRAMES)
async def test_promise_9_realtime_hostile_frames(realtime: RealtimeDoor, what: str) -> None:
    """Whatever one client sends, it is answered or ended, and another's stream goes on."""
    alice, bob, eve = await realtime.users("alice", "bob", "eve")
    tea = await realtime.group("tea", alice, bob, eve)
    witness = await realtime.device(bob)
    client = await realtime.device(eve)
    await realtime.say_anything(eve, HOSTILE_FRAMES[what])
    await _undisturbed(realtime, witness, tea, alice)
    assert all(e.get("from") != eve for e in witness.entries(f"group:{tea}"))
    await client.close()


async def test_promise_9_what_a_client_wrote_reaches_others_encoded_anew(door: Door) -> None:
    """Newlines, quotes, escapes and separators inside a message break nobody's frames."""
    alice, bob = await door.users("alice", "bob")
    tea = await door.group("tea", alice, bob)
    witness = await door.device(bob)
    texts = [
        "一\n二\r\n三\u2028四\u2029五",
        '{"id":1,"push":{}}\n{}',
        '"\\"\u0000\u001f\u007f \ufeff',
        "\u202eעברית\u202c 👩‍👩‍👧‍👦 e\u0301",
        "}" * 500 + "{" * 500,
    ]
    for text in texts:
        await door.send("group", tea, alice, text)
    await witness.reach(f"group:{tea}", 1 + len(texts))
    assert witness.messages(f"group:{tea}") == texts


async def test_promise_9_http_bad_requests_are_refused(shared_server: ServerProcess) -> None:
    """Bodies that are broken, deep, huge or of the wrong kind get an answer with a code, never a
    500, and the next request is served."""
    door = HttpDoor(shared_server)
    alice, bob = await door.users("alice", "bob")
    tea = await door.group("tea", alice, bob)
    bodies = [
        b"",
        b"\xff\xfe",
        "不是 JSON".encode(),
        b"[" * 100_000,
        b'{"type":' * 5_000,
        json.dumps({"type": "group", "to": tea, "from": alice, "text": 5}).encode(),
        json.dumps({"type": "group", "to": tea, "from": alice, "text": "\ud800"}).encode(),
        json.dumps({"type": "group", "to": tea, "from": alice, "text": LARGE * 20}).encode(),
    ]
    headers = {"Authorization": f"Bearer {shared_server.key}", "Content-Type": "application/json"}
    async with httpx.AsyncClient(base_url=shared_server.url, headers=headers) as client:
        answers = await asyncio.gather(*(client.post("/v1/messages", content=b) for b in bodies))
    assert {a.headers["content-type"] for a in answers} == {"application/problem+json"}
    assert all(400 <= a.status_code < 500 for a in answers), [a.status_code for a in answers]
    witness = await door.device(bob)
    await _undisturbed(door, witness, tea, alice)
    await door.close()


async def test_promise_9_a_message_over_the_limit_is_refused_whole(door: Door) -> None:
    """64 KB go through, in any script; one byte more does not, and takes no position."""
    alice, bob = await door.users("alice", "bob")
    tea = await door.group("tea", alice, bob)
    frame = len(json.dumps([{"type": "text", "text": ""}], separators=(",", ":")))
    largest = "茶" * ((65_536 - frame) // 3)
    largest += "x" * (65_536 - frame - len(largest.encode()))
    sent = await door.send("group", tea, alice, largest)
    code = None
    try:
        await door.send("group", tea, alice, largest + "x")
    except Exception as error:  # noqa: BLE001 - its code is looked at below
        code = getattr(error, "code", repr(error))
    assert code == "message_too_large"
    following = await door.send("group", tea, alice, "小 🐜")
    assert following.position == sent.position + 1
    device = await door.device(bob)
    await device.reach(following.conversation, following.position)
    assert device.messages(following.conversation)[-2:] == [largest, "小 🐜"]


class SlowLedgers:
    """Ledgers that the store's readers are at until they are let go."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.under_way = 0
        self._read = ledger.list_deliveries
        self._lock = threading.Lock()
        self._go = threading.Event()
        monkeypatch.setattr(ledger, "list_deliveries", self._wait_and_read)

    def _wait_and_read(self, *asked: Any) -> LedgerPage | None:
        with self._lock:
            self.under_way += 1
        self._go.wait()
        return self._read(*asked)

    def let_go(self) -> None:
        self._go.set()


@pytest.fixture
def slow_ledgers(monkeypatch: pytest.MonkeyPatch) -> Iterator[SlowLedgers]:
    slow = SlowLedgers(monkeypatch)
    yield slow
    slow.let_go()


@pytest.mark.parametrize(("askers", "under_way"), [(1, 1), (4, 2)])
async def test_promise_9_embedded_ledgers_leave_a_reader_free(
    embedded: EmbeddedDoor, slow_ledgers: SlowLedgers, askers: int, under_way: int
) -> None:
    """While some ask again and again for ledgers that take long, everybody else reads on: of one
    person one is read at a time, and two in all."""
    people = await embedded.users("alice", "bob", "eve", "mallory")
    tea = await embedded.group("tea", *people)
    sent = await embedded.send("group", tea, people[0], "谁看到了？ 👀")
    for user in people[1:]:
        await embedded.change_member(tea, user, role="admin")
    name, position = sent.conversation, sent.position
    asking = [
        asyncio.create_task(embedded.engine.deliveries(name, position, caller=Caller.as_user(user)))
        for _ in range(20)
        for user in people[:askers]
    ]
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while slow_ledgers.under_way < under_way:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            read = await embedded.read_all(name, people[1])
        assert text_of(read[position - 1]) == "谁看到了？ 👀"
        assert slow_ledgers.under_way == under_way
    finally:
        slow_ledgers.let_go()
    assert {sum(page.counts.values()) for page in await asyncio.gather(*asking)} == {3}
