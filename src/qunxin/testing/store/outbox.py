"""The outbox: the log of all conversations in the order of its commits, and who is told of it."""

from __future__ import annotations

import asyncio

import pytest

from qunxin.model import UserState, Webhook, WebhookReport
from qunxin.store.commands import Command, DeleteWebhook, MoveWebhook, PutUser, PutWebhook, Recall
from qunxin.store.reads import EventRead, OutboxItem, Queued
from qunxin.store.results import Done
from qunxin.testing.store.base import StoreBase
from qunxin.testing.store.chat import (
    Chat,
    StoreMaker,
    broadcast_message,
    group_message,
    private_message,
    text_of,
)

_URL = "https://例え.example/hook?q=é"
_NEW = PutWebhook("h1", url=_URL, secret="whsec_c2VjcmV0", events=("message.created",))


async def _webhook(chat: Chat, command: Command) -> Webhook:
    result = (await chat.done(command)).result
    assert isinstance(result, Webhook)
    return result


async def _outbox(chat: Chat, after: int = 0, limit: int = 3) -> list[OutboxItem]:
    """All above `after`, read in small pages."""
    items: list[OutboxItem] = []
    while True:
        page = await chat.store.read_outbox(after, limit=limit)
        items += page.items
        assert after <= page.through <= page.head
        if page.through == page.head:
            return items
        assert page.through > after
        after = page.through


class OutboxSuite(StoreBase):
    """What the contract says of the outbox, `find_serial` and webhooks."""

    async def test_outbox_holds_every_entry_once(self, chat: Chat) -> None:
        """All conversations' entries but those of inboxes are in it, each once, with serials
        that rise, in each conversation by position; an item says what its entry says."""
        await chat.group("tea", "ann", "bo")
        await chat.say("tea", "ann", "一 👩‍👩‍👧")
        await chat.post(private_message("ann", "bo"))
        await chat.done(Recall("group:tea", 2))
        await chat.add("tea", "cy")
        items = await _outbox(chat)
        assert [(item.conversation, item.position, item.type) for item in items] == [
            ("group:tea", 1, "created"),
            ("group:tea", 2, "group"),
            ("private:ann~bo", 1, "private"),
            ("group:tea", 3, "recalled"),
            ("group:tea", 4, "joined"),
        ]
        serials = [item.serial for item in items]
        assert serials == sorted(set(serials))
        assert {item.time for item in items} == {chat.clock.now_ms()}
        assert await _outbox(chat, after=serials[2]) == items[3:]

    async def test_outbox_at_single_serials(self, chat: Chat) -> None:
        """They give what the pages gave, ascending; where no entry of the outbox is, nothing."""
        await chat.group("tea", "ann", "bo")
        await chat.post(private_message("ann", "bo"))
        await chat.say("tea", "ann", "一 👩‍👩‍👧")
        created, private, said = await _outbox(chat)
        await chat.done(Recall("group:tea", 2))
        head = (await chat.store.read_outbox(0)).head
        asked = [said.serial, created.serial, created.serial]
        assert await chat.store.read_outbox_at(asked) == (created, said)
        every = await chat.store.read_outbox_at(range(-1, head + 10))
        assert every == (created, private, said, *await _outbox(chat, after=said.serial))
        assert await chat.store.read_outbox_at([]) == ()
        assert await chat.store.read_outbox_at([0, head + 1]) == ()

    async def test_outbox_of_an_empty_store(self, chat: Chat) -> None:
        """Nothing is in it, up to serial 0."""
        page = await chat.store.read_outbox(0)
        assert (page.items, page.through, page.head) == ((), 0, 0)

    async def test_outbox_read_beside_commits_misses_nothing(self, chat: Chat) -> None:
        """A reader that goes on from where a page ended, while many commit, gets every entry
        once and in order."""
        await chat.group("tea", "ann", "bo")
        await chat.group("rice", "ann", "bo")
        (start,) = {(await chat.store.read_outbox(0)).head}
        posts = [group_message(("tea", "rice")[n % 2], "ann", f"第{n}") for n in range(300)]
        writing = asyncio.gather(*(chat.store.commit([post]) for post in posts))
        seen: list[OutboxItem] = []
        after = start
        while len(seen) < len(posts):
            page = await chat.store.read_outbox(after, limit=7)
            seen += page.items
            after = page.through
        await writing
        for group in ("tea", "rice"):
            positions = [i.position for i in seen if i.conversation == f"group:{group}"]
            assert positions == list(range(2, 152))
        assert [item.serial for item in seen] == sorted({item.serial for item in seen})
        assert (await chat.store.read_outbox(after)).items == ()

    async def test_outbox_after_a_restart(self, chat: Chat, make_store: StoreMaker) -> None:
        """Serials are the same after a restart, and go on above the last."""
        await chat.group("tea", "ann", "bo")
        before = await _outbox(chat)
        await chat.store.close()
        store = make_store(chat.clock)
        await store.open()
        try:
            again = Chat(store, chat.clock)
            await again.say("tea", "bo")
            items = await _outbox(again)
        finally:
            await store.close()
            await chat.store.open()
        assert items[:-1] == before
        assert items[-1].serial > before[-1].serial

    async def test_events_say_what_single_reads_say(self, chat: Chat) -> None:
        """Each comes in the order asked with its group as it is and those who are queued; an event
        and a recalled message have no ledger, and a recalled one no content."""
        await chat.group("tea", "ann", "bo", "cy", "di", "sue", name="茶 🍵")
        await chat.say("tea", "ann", "一 👩‍👩‍👧")
        await chat.say("tea", "ann", "二")
        await chat.move("cy", "group:tea", 2)
        await chat.done(PutUser("sue", state=UserState.SUSPENDED))
        await chat.post(private_message("ann", "bo"))
        await chat.post(broadcast_message())
        await chat.done(Recall("group:tea", 3))
        names = [("group:tea", 3), ("private:ann~bo", 1), ("group:tea", 2), ("group:tea", 4)]
        asked = [EventRead(*name) for name in names]
        third, private, second, recall = await chat.store.read_events(asked)
        asked = [EventRead("broadcast:all", 1, ("bo", "无"))]
        (broadcast,) = await chat.store.read_events(asked)
        (log,) = (await chat.store.read_log("group:tea", None, after=1, limit=1)).entries
        assert second.entry == log
        assert text_of(second.entry) == "一 👩‍👩‍👧"
        assert second.group == await chat.store.read_group("tea")
        assert second.queued == Queued(("bo", "di"), 2, None)
        assert (third.entry.content, third.entry.recalled, third.queued) == (None, 4, None)
        assert (recall.entry.type, recall.entry.body, recall.queued) == (
            "recalled",
            (await chat.log("group:tea"))[3].body,
            None,
        )
        assert (private.group, private.queued) == (None, Queued(("bo",), 1, None))
        assert (broadcast.group, broadcast.queued) == (None, Queued(("ann", "cy", "di"), 3, None))

    async def test_events_of_large_audiences(self, chat: Chat) -> None:
        """Some are named, all are counted, and the ledger goes on from the cursor; above the
        audience asked for they are not counted."""
        users = [f"u{number}" for number in range(9)]
        await chat.group("tea", "ann", *users)
        await chat.say("tea", "ann")
        asked = [EventRead("group:tea", 2, ("u3",))]
        (event,) = await chat.store.read_events(asked, named=5, audience=10)
        assert event.queued is not None
        assert (len(event.queued.users), event.queued.count) == (5, 8)
        rest = await chat.store.list_deliveries(
            "group:tea", 2, cursor=event.queued.next_cursor, without=("u3",)
        )
        assert rest is not None
        found = {*event.queued.users, *(one.user for one in rest.deliveries)}
        assert found == set(users) - {"u3"}
        (whole,) = await chat.store.read_events(asked, named=8, audience=10)
        assert whole.queued is not None
        assert (len(whole.queued.users), whole.queued.count, whole.queued.next_cursor) == (
            8,
            8,
            None,
        )
        for named in (5, 8):
            (event,) = await chat.store.read_events(asked, named=named, audience=9)
            assert event.queued is not None
            assert (len(event.queued.users), event.queued.count) == (named, None)

    async def test_a_page_of_events_is_bounded(self, chat: Chat) -> None:
        """By bytes and by whom its ledgers are about; one is always read, and events that are no
        messages are not counted in."""
        await chat.group("tea", "ann", "bo", "cy")
        for _ in range(4):
            await chat.say("tea", "ann", "长" * 1_000)
        for text in ("广播 📢", "又一 📢"):
            await chat.post(broadcast_message(text=text))
        tea = [EventRead("group:tea", position) for position in range(1, 6)]
        all_ = [EventRead("broadcast:all", 1), EventRead("broadcast:all", 2)]

        async def read(asked: list[EventRead], **limits: int) -> int:
            found = await chat.store.read_events(asked, **limits)
            assert [(e.entry.conversation, e.entry.position) for e in found] == [
                (one.conversation, one.position) for one in asked[: len(found)]
            ]
            return len(found)

        assert await read(tea) == 5
        assert await read(tea, max_bytes=1) == 1
        assert await read(tea[1:], max_bytes=1) == 1
        assert await read(tea[1:], max_bytes=7_000) == 2
        assert await read(tea, audience=6) == 3
        assert await read(tea[1:], audience=2) == 1
        assert await read(all_) == 1
        assert await read([]) == 0

    async def test_find_serial(self, chat: Chat) -> None:
        """It is the one below the first entry of that time or later."""
        await chat.group("tea", "ann", "bo")
        early = chat.clock.now_ms()
        chat.clock.advance(5_000)
        await chat.say("tea", "ann")
        *_, before, said = await _outbox(chat)
        assert await chat.store.find_serial(0) == 0
        assert await chat.store.find_serial(early) == 0
        found = await chat.store.find_serial(early + 1)
        assert before.serial <= found < said.serial
        assert await chat.store.find_serial(early + 5_001) == said.serial

    async def test_new_webhook_begins_at_the_end(self, chat: Chat) -> None:
        """A new webhook is told of what comes from now on, and stands in the list."""
        await chat.group("tea", "ann", "bo")
        made = await _webhook(chat, _NEW)
        assert made.serial == (await chat.store.read_outbox(0)).head
        assert (made.url, made.events, made.revision) == (_URL, ("message.created",), 1)
        assert (made.paused, made.report) == (None, WebhookReport())
        await chat.say("tea", "ann")
        (item,) = await _outbox(chat, after=made.serial)
        assert item.type == "group"
        assert await chat.store.read_webhooks() == (made,)

    async def test_webhook_changed(self, chat: Chat) -> None:
        """What is not named stays; a new secret keeps the one before beside it; every change
        raises the revision."""
        await _webhook(chat, _NEW)
        changed = await _webhook(
            chat, PutWebhook("h1", secret="whsec_bmV1", old_secret_until=99, paused="休息")
        )
        assert (changed.url, changed.events) == (_URL, ("message.created",))
        assert (changed.secret, changed.old_secret) == ("whsec_bmV1", _NEW.secret)
        assert (changed.old_secret_until, changed.paused, changed.revision) == (99, "休息", 2)
        resumed = await _webhook(chat, PutWebhook("h1", paused="", events=(), serial=0))
        assert (resumed.paused, resumed.events, resumed.serial) == (None, (), 0)
        assert (resumed.revision, resumed.old_secret) == (3, _NEW.secret)

    async def test_webhook_moved(self, chat: Chat) -> None:
        """Progress is kept with how it went; it raises no revision."""
        await chat.group("tea", "ann", "bo")
        made = await _webhook(chat, _NEW)
        report = WebhookReport(failures=2, error="拒绝", failed=5, succeeded=4)
        await chat.done(MoveWebhook("h1", 1, made.serial + 7, report))
        (moved,) = await chat.store.read_webhooks()
        assert (moved.serial, moved.report) == (made.serial + 7, report)
        assert (moved.revision, moved.paused) == (1, None)
        await chat.done(MoveWebhook("h1", 1, moved.serial, report, paused="410"))
        (paused,) = await chat.store.read_webhooks()
        assert paused.paused == "410"

    async def test_what_waits_is_kept(self, chat: Chat) -> None:
        """Until others are noted, over changes of the webhook too; a replay ends it."""
        made = await _webhook(chat, _NEW)
        assert made.waiting == ()
        many = tuple(range(1, 1_001, 2))
        await chat.done(MoveWebhook("h1", 1, 2_000, WebhookReport(), waiting=many))
        await chat.done(MoveWebhook("h1", 1, 2_001, WebhookReport(failures=1, error="不要")))
        (moved,) = await chat.store.read_webhooks()
        assert (moved.serial, moved.waiting, moved.report.failures) == (2_001, many, 1)
        changed = await _webhook(
            chat, PutWebhook("h1", events=(), secret="whsec_bmV1", paused="歇")
        )
        assert (changed.serial, changed.waiting) == (2_001, many)
        await chat.done(MoveWebhook("h1", 2, 2_002, WebhookReport(), waiting=()))
        (moved,) = await chat.store.read_webhooks()
        assert (moved.serial, moved.waiting) == (2_002, ())
        await chat.done(MoveWebhook("h1", 2, 2_002, WebhookReport(), waiting=(7, 9)))
        replayed = await _webhook(chat, PutWebhook("h1", serial=8))
        assert (replayed.serial, replayed.waiting) == (8, ())

    @pytest.mark.parametrize(
        "decision", [PutWebhook("h1", serial=0), PutWebhook("h1", events=("member.left",))]
    )
    async def test_progress_never_undoes_a_decision(self, chat: Chat, decision: PutWebhook) -> None:
        """Progress from before a replay, or before another choice of events, changes nothing,
        and of a webhook that is gone neither."""
        await _webhook(chat, _NEW)
        decided = await _webhook(chat, decision)
        report = WebhookReport(failures=1, error="晚了")
        await chat.done(MoveWebhook("h1", 1, 9_000, report, waiting=(3,), paused="410"))
        assert await chat.store.read_webhooks() == (decided,)
        await chat.done(MoveWebhook("h1", 2, 9_000, report, waiting=(3,)))
        (moved,) = await chat.store.read_webhooks()
        assert (moved.serial, moved.waiting) == (9_000, (3,))
        await chat.done(DeleteWebhook("h1"))
        await chat.done(MoveWebhook("h1", 2, 9_000, WebhookReport()))
        assert await chat.store.read_webhooks() == ()

    async def test_progress_outlives_other_changes(self, chat: Chat) -> None:
        """What was dealt with before a change of address, secret or pause is noted after it too; a
        pause that was found before it is not."""
        await _webhook(chat, _NEW)
        await _webhook(chat, PutWebhook("h1", events=("message.created",)))
        await _webhook(chat, PutWebhook("h1", secret="whsec_bmV1", old_secret_until=99))
        await _webhook(chat, PutWebhook("h1", url=_URL + "2"))
        resumed = await _webhook(chat, PutWebhook("h1", paused=""))
        report = WebhookReport(succeeded=4)
        await chat.done(MoveWebhook("h1", 2, 9_000, report, waiting=(3, 8), paused="410"))
        (moved,) = await chat.store.read_webhooks()
        assert (moved.serial, moved.waiting, moved.report) == (9_000, (3, 8), report)
        assert (moved.paused, moved.revision, moved.secret) == (None, 5, resumed.secret)
        await chat.done(MoveWebhook("h1", 1, 7, WebhookReport(), waiting=()))
        assert await chat.store.read_webhooks() == (moved,)

    @pytest.mark.parametrize(
        "command",
        [DeleteWebhook("没有"), PutWebhook("没有"), PutWebhook("没有", url=_URL)],
        ids=["delete", "change", "without a secret"],
    )
    async def test_unknown_webhook(self, chat: Chat, command: Command) -> None:
        """Nothing can be changed or deleted that is not there, and nothing is made of it."""
        assert await chat.code(command) == "not_found"
        assert await chat.store.read_webhooks() == ()

    async def test_webhooks_in_the_order_of_their_making(self, chat: Chat) -> None:
        """The oldest stands first."""
        for number in (3, 1, 2):
            chat.clock.advance(1)
            await _webhook(chat, PutWebhook(f"h{number}", url=_URL, secret="whsec_"))
        assert [one.id for one in await chat.store.read_webhooks()] == ["h3", "h1", "h2"]

    async def test_refused_commands_leave_no_hole_that_blocks(self, chat: Chat) -> None:
        """After a refusal the outbox ends at its head, so that nobody waits for what never was."""
        await chat.group("tea", "ann", "bo")
        outcomes = await chat.store.commit(
            [group_message("tea", "zoe"), group_message("tea", "bo"), PutUser("ann")]
        )
        assert [isinstance(outcome, Done) for outcome in outcomes] == [False, True, True]
        page = await chat.store.read_outbox(0)
        assert page.through == page.head
        assert page.items[-1].position == 2
