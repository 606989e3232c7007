"""The Python SDK against the gateway: what its program is handed, and what becomes of its sends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from client_device import PATIENCE_SECONDS, WORDS, cut, quick_node, running

import qunxin
from qunxin.client import (
    Entry,
    Event,
    Position,
    QunxinError,
    RefusedError,
    Reload,
    RoleName,
    UnansweredError,
    Unsent,
    connect,
)
from qunxin.client.link import Link, LinkBrokenError
from qunxin.engine import Engine, EngineSettings
from qunxin.model import DeliveryState
from qunxin.wire.codes import FAILED
from realtime_client import TEA, RealtimeNode, put_tea, realtime_node

ALICE_BOB = "private:alice~bob"


@pytest.fixture
async def node(engine: Engine) -> AsyncIterator[RealtimeNode]:
    async with quick_node(engine) as running_node:
        yield running_node


# --- sending and receiving --------------------------------------------------------------------


async def test_own_and_others_messages_come_once_with_keys(node: RealtimeNode) -> None:
    """The receipt names the place; sender and receiver are handed the same entry there."""
    async with running(node, "alice") as alice, running(node, "bob") as bob:
        receipt = await alice.client.send("group", "tea", WORDS, key="键 1")
        private = await bob.client.send("private", "alice", " ")
        for program in (alice, bob):
            await program.has(TEA, receipt.position)
            await program.has(ALICE_BOB, private.position)
            assert program.positions(TEA)[-1] == receipt.position
            entry = program.entries(TEA)[-1]
            assert (entry.sender, entry.key, entry.text) == ("alice", "键 1", WORDS)
            assert program.entries(ALICE_BOB)[-1].key
        assert (receipt.members, receipt.duplicate, alice.client.unsent) == (2, False, 0)


async def test_a_body_of_64_kb_passes(node: RealtimeNode) -> None:
    """The largest message, in the largest characters."""
    text = "长" * 21_000
    async with running(node, "alice") as alice, running(node, "bob") as bob:
        receipt = await alice.client.send("group", "tea", text)
        await bob.has(TEA, receipt.position)
        assert bob.entries(TEA)[-1].text == text


async def test_messages_to_one_recipient_keep_their_order(node: RealtimeNode) -> None:
    """Posted without waiting, to several recipients: each log has them as they were posted."""
    async with running(node, "alice") as alice:
        posted = [
            await alice.client.post(*recipient, f"第 {number} 条")
            for number in range(20)
            for recipient in (("group", "tea"), ("private", "bob"))
        ]
        await alice.client.wait_sent()
        receipts = [await one.receipt() for one in posted]
        for conversation in (TEA, ALICE_BOB):
            positions = [r.position for r in receipts if r.conversation == conversation]
            assert positions == sorted(positions)
        assert alice.client.unsent == 0


async def test_a_refusal_is_typed_and_speaks(node: RealtimeNode) -> None:
    """Code, tier, text in the language asked for; what cannot succeed is not repeated."""
    async with running(node, "alice", language="zh") as alice:
        with pytest.raises(RefusedError) as refused:
            await alice.client.send("group", "nowhere", "?")
        assert (refused.value.code, refused.value.retryable) == ("group_not_found", False)
        assert refused.value.text() == "群组不存在"
        with pytest.raises(QunxinError) as unknown:
            await alice.client.send("channel", "tea", "?")
        assert unknown.value.code == "unknown_message_type"
        assert alice.client.unsent == 0


async def test_a_refusal_that_nobody_waits_for_comes_as_an_event(
    node: RealtimeNode, tmp_path: Path
) -> None:
    """It stays in the file until the program has been told, over a restart too."""
    file = tmp_path / "发件箱.db"
    async with running(node, "alice", file) as alice:
        await alice.client.post("group", "nowhere", WORDS, key="k")
        await alice.client.wait_sent()
        told = await alice.until(lambda event: isinstance(event, Unsent))
        assert isinstance(told, Unsent)
        assert (told.key, told.error.code) == ("k", "group_not_found")
    async with connect(node.url, node.token("alice"), outbox=file) as client:
        assert client.unsent == 0
        await client.post("group", "nowhere", WORDS, key="谁也没听到")
        await client.wait_sent()
    async with connect(node.url, node.token("alice"), outbox=file) as client:
        async with asyncio.timeout(PATIENCE_SECONDS):
            told = await anext(client)
        assert isinstance(told, Unsent)
        assert (told.key, told.error.text()) == ("谁也没听到", "There is no such group")
    async with running(node, "alice", file) as alice:
        await alice.has(TEA, (await alice.client.send("group", "tea", WORDS)).position)
        assert not any(isinstance(event, Unsent) for event in alice.events)


async def test_an_advised_repeat_is_made(node: RealtimeNode, monkeypatch: Any) -> None:
    """A retryable error is repeated with the same key until it is no more."""
    tries: list[str | None] = []
    send = node.engine.send

    async def overloaded(*args: Any, **fields: Any) -> Any:
        tries.append(fields["key"])
        if len(tries) < 2:
            raise QunxinError("overloaded")
        return await send(*args, **fields)

    monkeypatch.setattr(node.engine, "send", overloaded)
    async with running(node, "alice") as alice:
        receipt = await alice.client.send("group", "tea", WORDS)
    assert (len(tries), len(set(tries)), receipt.duplicate) == (2, 1, False)


# --- catching up ------------------------------------------------------------------------------


async def test_what_was_missed_comes_once_after_a_cut(node: RealtimeNode) -> None:
    """Cut in the middle of a stream again and again: nothing lost, doubled, reordered."""
    async with running(node, "alice") as alice, running(node, "bob") as bob:
        last = 0
        for number in range(60):
            last = (await alice.client.send("group", "tea", f"{number} {WORDS}")).position
            if number % 20 == 10:
                cut(node)
        for program in (alice, bob):
            await program.has(TEA, last)
            assert program.positions(TEA) == list(range(program.positions(TEA)[0], last + 1))


async def test_a_cut_while_the_program_is_slow(node: RealtimeNode) -> None:
    """What was not handed on is asked for again; the event in hand does not come twice."""
    async with running(node, "bob") as bob:
        cuts = 0

        async def slow(event: Event) -> None:
            nonlocal cuts
            if isinstance(event, Entry) and event.position % 20 == 0:
                cuts += 1
                cut(node)
                await asyncio.sleep(0.3)

        bob.handling = slow
        last = 0
        for number in range(100):
            receipt = await node.engine.send("group", "tea", sender="alice", text=f"慢 {number}")
            last = receipt.position
        await bob.has(TEA, last)
        positions = bob.positions(TEA)
        assert cuts >= 5
        assert positions == list(range(positions[0], last + 1))


async def test_too_long_away_is_told_to_reload(tmp_path: Path) -> None:
    """Beyond the recovery budget comes a `Reload`, and then what follows; history has the rest."""
    settings = EngineSettings(recovery_budget_entries=10)
    async with qunxin.open(tmp_path / "chat.db", settings=settings) as engine:
        await put_tea(engine, "carol")
        async with realtime_node(engine) as node:
            file = tmp_path / "bob.db"
            async with running(node, "bob", file) as bob:
                await bob.has(TEA, 1)
            for number in range(30):
                await engine.send("group", "tea", sender="alice", text=f"{number}")
            async with running(node, "bob", file) as bob:
                reload = await bob.until(lambda event: isinstance(event, Reload))
                assert isinstance(reload, Reload)
                assert (reload.conversation, reload.position) == (TEA, 31)
                after = await engine.send("group", "tea", sender="alice", text=WORDS)
                await bob.has(TEA, after.position)
                assert bob.positions(TEA) == [32]
                page = await bob.client.history(TEA, after=1, limit=100)
                assert [entry.position for entry in page.entries] == list(range(2, 33))


async def test_a_restart_goes_on_where_the_program_was(node: RealtimeNode, tmp_path: Path) -> None:
    """Positions are in the file: nothing comes a second time, nothing of the meantime is lost."""
    file = tmp_path / "bob 鲍勃.db"
    first = await node.engine.send("group", "tea", sender="alice", text="一")
    async with running(node, "bob", file) as bob:
        await bob.has(TEA, first.position)
    second = await node.engine.send("group", "tea", sender="alice", text="二")
    async with running(node, "bob", file) as bob:
        await bob.has(TEA, second.position)
        assert bob.positions(TEA) == [second.position]


async def test_an_event_that_was_not_finished_comes_again(
    node: RealtimeNode, tmp_path: Path
) -> None:
    """A program that fails in the middle of one gets that one again, and nothing else twice."""
    file = tmp_path / "bob.db"
    for number in range(4):
        await node.engine.send("group", "tea", sender="alice", text=f"{number} {WORDS}")

    def fail(event: Event) -> None:
        if isinstance(event, Entry) and (event.conversation, event.position) == (TEA, 3):
            raise ZeroDivisionError

    async with connect(node.url, node.token("bob"), outbox=file) as client:
        with pytest.raises(ZeroDivisionError):
            await client.run(fail)
    async with running(node, "bob", file) as bob:
        await bob.has(TEA, 5)
        assert bob.positions(TEA) == [3, 4, 5]


async def test_another_history_is_told(node: RealtimeNode) -> None:
    """Positions of another epoch, as after a restore, bring a `Reload`."""
    positions = {TEA: Position("another epoch", 1)}
    async with running(node, "bob", positions=positions) as bob:
        reload = await bob.until(lambda event: isinstance(event, Reload))
        assert isinstance(reload, Reload)
        assert (reload.conversation, reload.epoch) == (TEA, node.engine.epoch)


async def test_positions_of_the_programs_own(node: RealtimeNode) -> None:
    """What the program keeps with its own data takes the place of the file's."""
    for number in range(5):
        await node.engine.send("group", "tea", sender="alice", text=f"{number}")
    async with running(node, "bob") as bob:
        await bob.has(TEA, 3)
        kept = dict(bob.client.positions)
    kept[TEA] = Position(kept[TEA].epoch, 3)
    async with running(node, "bob", positions=kept) as bob:
        await bob.has(TEA, 6)
        assert bob.positions(TEA) == [4, 5, 6]


# --- membership -------------------------------------------------------------------------------


async def test_added_and_removed_while_connected(node: RealtimeNode) -> None:
    """Added: everything from the joining. Removed: the entry that says so, and nothing later.
    Back again: what lay between as a hidden range."""
    async with running(node, "carol") as carol:
        await node.engine.send("group", "tea", sender="alice", text="之前")
        change = await node.engine.add_members("tea", ["carol"])
        await carol.has(TEA, change.membership_version)
        assert carol.positions(TEA) == [change.membership_version]
        row = next(row for row in carol.client.conversations if row.conversation == TEA)
        assert (row.name, row.role) == ("茶友会 🍵", RoleName.MEMBER)
        removed = await node.engine.remove_member("tea", "carol")
        await carol.has(TEA, removed.membership_version)
        await node.engine.send("group", "tea", sender="alice", text="外面")
        again = await node.engine.add_members("tea", ["carol"])
        await carol.has(TEA, again.membership_version)
        types = [(entry.type, entry.position) for entry in carol.entries(TEA)]
        assert types == [("joined", 3), ("left", 4), ("hidden", 5), ("joined", 6)]


async def test_a_stay_that_passed_while_away_is_loaded(node: RealtimeNode, tmp_path: Path) -> None:
    """Added, written to and removed again while the device was away: it gets what it may read."""
    file = tmp_path / "carol.db"
    async with running(node, "carol", file):
        pass
    await node.engine.add_members("tea", ["carol"])
    await node.engine.send("group", "tea", sender="alice", text=WORDS)
    removed = await node.engine.remove_member("tea", "carol")
    await node.engine.send("group", "tea", sender="alice", text="后来")
    async with running(node, "carol", file) as carol:
        await carol.has(TEA, removed.membership_version)
        assert [entry.type for entry in carol.entries(TEA)] == ["joined", "group", "left"]
        assert not carol.client.follows(TEA)
        assert TEA not in [row.conversation for row in carol.client.conversations]


async def test_500_conversations_are_followed(engine: Engine) -> None:
    """More than a connection begins with: the others are subscribed on demand, and each goes on
    where it stood after a cut."""
    await put_tea(engine, "carol")
    groups = [f"g{number}" for number in range(500)]
    put = (
        engine.put_group(group, name=f"群 {group}", owner="alice", members=("bob",))
        for group in groups
    )
    await asyncio.gather(*put)
    async with realtime_node(engine) as node, running(node, "bob") as bob:
        for position in (2, 3):
            await asyncio.gather(
                *(engine.send("group", group, sender="alice", text=WORDS) for group in groups)
            )
            for group in groups:
                await bob.has(f"group:{group}", position)
            cut(node)
        for group in groups:
            assert bob.positions(f"group:{group}") == [1, 2, 3]
        assert len(bob.client.conversations) >= len(groups)


# --- recall -----------------------------------------------------------------------------------


async def test_recalled_content_does_not_come(node: RealtimeNode) -> None:
    """Recalled while it waits for a slow program: a tombstone, and the entry that says so."""
    async with running(node, "bob") as bob:
        held, go_on = asyncio.Event(), asyncio.Event()

        async def wait(event: Event) -> None:
            if isinstance(event, Entry) and event.text == "停":
                held.set()
                await go_on.wait()

        bob.handling = wait
        await node.engine.send("group", "tea", sender="alice", text="停")
        secret = await node.engine.send("group", "tea", sender="alice", text=WORDS)
        await held.wait()
        recall = await node.engine.recall(TEA, secret.position, acting="alice")
        async with asyncio.timeout(PATIENCE_SECONDS):
            while bob.client._receiver.streams[TEA].received < recall.position:
                await bob.client._changed.wait()
        go_on.set()
        await bob.has(TEA, recall.position)
        entries = {entry.position: entry for entry in bob.entries(TEA)}
        assert entries[secret.position].content is None
        assert entries[secret.position].recalled == recall.position
        assert entries[recall.position].type == "recalled"
        page = await bob.client.history(TEA)
        assert all(entry.text != WORDS for entry in page.entries)


# --- operations -------------------------------------------------------------------------------


async def test_operations_are_typed(node: RealtimeNode) -> None:
    """Groups, members, history, recall, ledger and read cursor, each as its struct."""
    async with running(node, "alice") as alice, running(node, "bob") as bob:
        group = await alice.client.put_group("books", name="书友会 📚", members=("bob", "nobody"))
        assert (group.new, group.grade, group.members) == (True, "partial", 2)
        added = await alice.client.add_members("books", ("carol",))
        assert added.membership_version == 2
        member = await alice.client.change_member("books", "bob", role=RoleName.ADMIN)
        assert member.role is RoleName.ADMIN
        listed = await bob.client.members("books")
        assert {m.user for m in listed.members} == {"alice", "bob", "carol"}
        receipt = await alice.client.send("group", "books", WORDS)
        await bob.has("group:books", receipt.position)
        row = next(r for r in bob.client.conversations if r.conversation == "group:books")
        assert (row.unread, row.role, row.head) == (1, RoleName.ADMIN, receipt.position)
        cursor = await bob.client.mark_read("group:books", receipt.position)
        assert cursor.read == receipt.position
        row = next(r for r in bob.client.conversations if r.conversation == "group:books")
        assert row.unread == 0
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                ledger = await alice.client.ledger("group:books", receipt.position)
                if ledger.counts[DeliveryState.READ] == 1:
                    break
        recalled = await alice.client.recall("group:books", receipt.position)
        assert recalled.recalled == receipt.position
        await bob.client.remove_member("books", "bob")
        assert (await alice.client.get_group("books")).members == 2
        assert (await alice.client.dissolve_group("books")).state == "dissolved"


async def test_delivered_means_that_the_program_had_it(node: RealtimeNode) -> None:
    """The pong waits for the program: what it has not taken is not delivered."""
    async with running(node, "bob") as bob:
        held, go_on = asyncio.Event(), asyncio.Event()

        async def wait(event: Event) -> None:
            if isinstance(event, Entry) and event.text == WORDS:
                held.set()
                await go_on.wait()

        bob.handling = wait
        receipt = await node.engine.send("group", "tea", sender="alice", text=WORDS)
        await held.wait()
        for session in list(node.gateway._sessions):
            session.ping_now()
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not len(bob.client._receiver.inflow):
                await bob.client._changed.wait()
        page = await node.engine.deliveries(TEA, receipt.position)
        assert page.counts[DeliveryState.DELIVERED] == 0
        go_on.set()
        async with asyncio.timeout(PATIENCE_SECONDS):
            while page.counts[DeliveryState.DELIVERED] == 0:
                await asyncio.sleep(0.02)
                page = await node.engine.deliveries(TEA, receipt.position)


# --- the connection ---------------------------------------------------------------------------


async def test_an_ending_token_is_replaced_without_a_break(node: RealtimeNode) -> None:
    """The refresh comes before the end of the token, over the same connection."""
    asked = 0
    replaced = asyncio.Event()

    async def token() -> str:
        nonlocal asked
        asked += 1
        if asked > 1:
            replaced.set()
        return node.token("bob", 2 if asked == 1 else 3600)

    async with running(node, "bob", token=token) as bob:
        link = bob.client._keeper.link
        async with asyncio.timeout(PATIENCE_SECONDS):
            await replaced.wait()
        receipt = await node.engine.send("group", "tea", sender="alice", text=WORDS)
        await bob.has(TEA, receipt.position)
        assert bob.client._keeper.link is link


async def test_an_expired_token_at_connect_is_replaced(node: RealtimeNode) -> None:
    """One that has expired by the time it is used is no reason to give up, nor to wait."""
    tokens = [node.expired_token("bob"), node.token("bob")]

    async def token() -> str:
        return tokens.pop(0)

    async with running(node, "bob", token=token) as bob:
        assert (bob.client.user, tokens) == ("bob", [])


async def test_a_token_that_nobody_can_renew_ends_the_client(node: RealtimeNode) -> None:
    """Sending, asking and receiving say why, and the message stays."""
    async with connect(node.url, "not a token") as client:
        for attempt in (
            client.wait_connected(),
            client.send("group", "tea", WORDS),
            client.history(TEA),
            client.wait_sent(),
            anext(client),
        ):
            with pytest.raises(QunxinError) as refused:
                async with asyncio.timeout(PATIENCE_SECONDS):
                    await attempt
            assert refused.value.code == "unauthenticated"
        assert client.unsent == 1


async def test_suspension_ends_the_client(node: RealtimeNode) -> None:
    """A code that does not come back is an error of its own; others come back."""
    async with connect(node.url, node.token("bob")) as client:
        await client.wait_connected()
        link = client._keeper.link
        for session in list(node.gateway._sessions):
            session.disconnect(FAILED)
        async with asyncio.timeout(PATIENCE_SECONDS):
            while client._keeper.link in (link, None):
                await client._changed.wait()
            await node.engine.put_user("bob", state="suspended")
            with pytest.raises(QunxinError) as ended:
                async for _event in client:
                    pass
        assert ended.value.code == "user_suspended"


async def test_a_file_belongs_to_one_user_and_one_process(
    node: RealtimeNode, tmp_path: Path
) -> None:
    """Another user's token, and a second client at the same time, are refused with the reason."""
    file = tmp_path / "bob.db"
    async with running(node, "bob", file):
        with pytest.raises(QunxinError) as in_use:
            async with connect(node.url, node.token("bob"), outbox=file):
                pytest.fail("two clients with one file")
        assert "another process uses it" in in_use.value.text()
    async with connect(node.url, node.token("alice"), outbox=file) as client:
        with pytest.raises(QunxinError) as other:
            await client.wait_connected()
    assert "belongs to bob" in other.value.text()


async def test_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    """With its name, and left as it was."""
    file = tmp_path / "照片.png"
    file.write_bytes("不是数据库 🖼️".encode() * 100)
    with pytest.raises(QunxinError) as refused:
        async with connect("ws://127.0.0.1:9", "t", outbox=file):
            pytest.fail("opened")
    assert (refused.value.code, "照片.png" in refused.value.text()) == ("cannot_start", True)


async def test_errors_help(node: RealtimeNode) -> None:
    """No address, a wrong path, nobody there: each says what it is."""
    with pytest.raises(QunxinError) as no_address:
        connect("chat.example.org", "t")
    assert "chat.example.org" in no_address.value.text()
    async with connect(f"http://127.0.0.1:{node.port}/wrong", "t") as client:
        with pytest.raises(QunxinError) as wrong:
            await client.wait_connected()
    assert "404" in wrong.value.text()
    async with connect("http://127.0.0.1:9", "t", patience_seconds=0.3) as client:
        with pytest.raises(UnansweredError) as nobody:
            await client.history(TEA)
        assert (nobody.value.code, nobody.value.retryable) == ("outcome_unknown", True)
        assert "127.0.0.1:9" in nobody.value.text()
        posted = await client.post("group", "tea", WORDS)
        waiting = asyncio.create_task(posted.receipt())
    with pytest.raises(UnansweredError):
        await waiting


class _Nobody:
    """A listener that is told nothing."""

    def welcomed(self, link: Link, welcome: Any) -> None: ...

    def pushed(self, link: Link, push: Any) -> None: ...

    def subscribed(self, link: Link, conversation: str, start: Any) -> None: ...

    def pinged(self, link: Link) -> None: ...


async def test_a_broken_link_is_not_usable_before_its_reader_knows(node: RealtimeNode) -> None:
    """Whoever sends in the very turn in which the socket ends must not find the link usable
    again: trying would never end, and never let the reader have its turn."""
    link = await Link.open(node.url, _Nobody(), call_seconds=5, ssl=None)
    link._reader.cancel()
    await asyncio.wait([link._reader])
    link._socket.transport.abort()
    await link._socket.wait_closed()
    link._why, link.closed = None, asyncio.get_running_loop().create_future()
    assert link.usable
    with pytest.raises(LinkBrokenError):
        await link.call("user.get", {})
    assert not link.usable
