"""Webhooks against real receivers: what they are told, in what order, and when it goes wrong."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web
from standardwebhooks.webhooks import WebhookVerificationError

import qunxin
from qunxin.engine import Engine, EngineSettings
from qunxin.errors import QunxinError
from qunxin.gateways.webhooks import WebhookSender, WebhookSettings
from qunxin.gateways.webhooks.window import Window
from qunxin.store.reads import OutboxItem
from webhook_help import FAST, NEAR, check_order, nothing_waits, say, sending, status_until
from webhook_receiver import Received, Receiver

TEXTS = ("茶好了 🍵", "👩‍👩‍👧‍👦 全家福", "مرحبا بالعالم", "长" * 15_000)


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[Engine]:
    """One that takes addresses of receivers on this machine; the senders judge for themselves."""
    async with qunxin.open(tmp_path / "chat.db", settings=NEAR) as chat:
        yield chat


@pytest.fixture(autouse=True)
async def _people(engine: Engine) -> None:
    for user in ("ann", "bo.2", "cy", "sue"):
        await engine.put_user(user, name=f"用户 {user}")
    for group in ("tea", "rice"):
        members = ("bo.2", "cy", "sue")
        await engine.put_group(group, name=f"群 {group} 🍵", owner="ann", members=members)


async def test_event_of_a_message(engine: Engine, receiver: Receiver) -> None:
    """Signed, with entry, conversation, and who is offline: not the sender, not who is connected,
    not who cannot be reached."""
    await engine.put_user("sue", state="suspended")
    async with engine.listen("cy") as live, sending(engine, receiver) as hook:
        await say(engine, "tea", "先到 🥇")
        async for entry in live:
            if entry.conversation == "group:tea" and entry.text:
                break  # from here on this device is in step
        await receiver.until_taken(1)
        receiver.taken.clear()
        for text in TEXTS:
            await say(engine, "tea", text)
        await receiver.until_taken(len(TEXTS))
    first = receiver.taken[0]
    first.check(hook.secret)
    assert first.type == "message.created"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", first.event["timestamp"])
    assert first.headers["content-type"] == "application/json"
    data = first.event["data"]
    assert data["conversation"] == {
        "conversation": "group:tea",
        "kind": "group",
        "group": "tea",
        "name": "群 tea 🍵",
        "members": 4,
    }
    assert data["offline"] == {"count": 1, "users": ["bo.2"], "next": None}
    assert data["epoch"] == engine.epoch
    assert (data["entry"]["from"], data["entry"]["position"]) == ("ann", 3)
    assert [one.text for one in receiver.taken] == list(TEXTS)
    assert first.id == f"{engine.epoch}:group:tea:3"


async def test_every_kind_of_event(engine: Engine, receiver: Receiver) -> None:
    """Membership, settings, recalls and private messages are told too, inboxes are not; an id has
    no full stop, which would end it in what is signed."""
    async with sending(engine, receiver) as hook:
        sent = await engine.send("private", "ann", sender="bo.2", text="私下 🤫")
        await engine.recall(sent.conversation, sent.position)
        await engine.put_group("tea", name="新名")
        await engine.remove_member("tea", "cy")
        await engine.add_members("tea", ["cy"])
        await engine.dissolve_group("tea")
        await receiver.until_taken(6)
    for one in receiver.taken:
        one.check(hook.secret)
        assert "." not in one.id
    types = sorted(one.type for one in receiver.taken)
    assert types == [
        "group.changed",
        "group.dissolved",
        "member.joined",
        "member.left",
        "message.created",
        "message.recalled",
    ]
    private = next(one for one in receiver.taken if one.type == "message.recalled")
    assert private.id.endswith("bo%2E2:2")
    assert private.event["data"]["conversation"]["users"] == ["ann", "bo.2"]


async def test_only_what_is_wanted(engine: Engine, receiver: Receiver) -> None:
    """A webhook with a choice of events is told of no others, and of nothing before it was made."""
    await say(engine, "tea", "以前")
    async with sending(engine, receiver, events=("message.created",)) as hook:
        await engine.remove_member("tea", "cy")
        await say(engine, "tea", "现在")
        await receiver.until_taken(1)
        await status_until(engine, hook, nothing_waits)
    assert [one.text for one in receiver.requests] == ["现在"]


async def test_many_offline_members_are_read_on_in_the_ledger(
    engine: Engine, receiver: Receiver
) -> None:
    """The first hundred are named, all are counted, and the path of the rest is given."""
    users = [f"u{number}" for number in range(150)]
    for user in users:
        await engine.put_user(user)
    await engine.put_group("big", owner="ann", members=users)
    async with sending(engine, receiver):
        await say(engine, "big", "大家好 👋🏽")
        await receiver.until_taken(1)
    offline = receiver.taken[0].event["data"]["offline"]
    assert (offline["count"], len(offline["users"])) == (150, 100)
    path, _, query = offline["next"].partition("?")
    assert path == "/v1/conversations/group%3Abig/entries/2/deliveries"
    cursor = query.removeprefix("state=queued&cursor=")
    rest = await engine.deliveries("group:big", 2, state="queued", cursor=cursor)
    assert sorted(offline["users"] + [one.user for one in rest.deliveries]) == sorted(users)


async def test_very_large_groups_are_not_counted(
    engine: Engine, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their members who are not connected are estimated, so that an event costs no reading of every
    cursor; names are as exact as ever."""
    monkeypatch.setattr("qunxin.gateways.webhooks.events.COUNTED_MEMBERS", 3)
    await engine.put_user("sue", state="suspended")
    async with sending(engine, receiver):
        await say(engine, "tea", "人山人海 🏔️")
        await receiver.until_taken(1)
    offline = receiver.taken[0].event["data"]["offline"]
    assert offline == {"count": 3, "users": ["bo.2", "cy"], "next": None}


async def test_receiver_that_is_down(engine: Engine, receiver: Receiver) -> None:
    """Nothing is lost and each conversation keeps its order; the status says what is wrong and
    since when."""
    await receiver.stop()
    async with sending(engine, receiver) as hook:
        for number in range(10):
            await say(engine, ("tea", "rice")[number % 2], f"第{number}")
        found = await status_until(engine, hook, lambda status: status.failures >= 4)
        assert "Cannot connect" in (found.error or "")
        assert found.waiting_since is not None
        assert found.behind >= 10
        await receiver.start()
        await receiver.until_taken(10)
        found = await status_until(engine, hook, nothing_waits)
        assert found.failures == 0
    check_order(receiver.taken)


async def test_receiver_that_answers_500(engine: Engine, receiver: Receiver) -> None:
    """It is tried until it takes each event; a conversation that fails holds up its own events
    and no others."""
    failing = True

    async def fail_for_tea(received: Received) -> int:
        return 500 if failing and received.place[0] == "group:tea" else 204

    receiver.behave = fail_for_tea
    async with sending(engine, receiver):
        for number in range(6):
            await say(engine, "tea", f"茶{number}")
            await say(engine, "rice", f"米{number}")
        await receiver.until_taken(6)
        assert {one.place[0] for one in receiver.taken} == {"group:rice"}
        tried = {one.place for one in receiver.requests if one.place[0] == "group:tea"}
        assert tried == {("group:tea", 2)}
        failing = False
        await receiver.until_taken(12)
    check_order(receiver.taken)


async def test_receiver_that_never_answers(engine: Engine, receiver: Receiver) -> None:
    """An attempt ends by its time; the event goes out again; senders never wait for it."""
    hanging = asyncio.Event()
    silent = 3

    async def hang(_: Received) -> int:
        if len(receiver.requests) <= silent:
            await hanging.wait()
        return 204

    receiver.behave = hang
    settings = WebhookSettings(
        webhook_networks=("127.0.0.0/8",),
        webhook_timeout_seconds=0.15,
        webhook_retry_first_seconds=0.01,
        webhook_progress_seconds=0.01,
    )
    async with sending(engine, receiver, settings) as hook:
        await say(engine, "tea", "有人吗 🕳️")
        await receiver.until_taken(1)
        found = await status_until(engine, hook, nothing_waits)
        assert found.error == "no answer within 0.15 seconds"
        hanging.set()
    assert len({one.id for one in receiver.requests}) == 1


async def test_recalled_while_it_waits(engine: Engine, receiver: Receiver) -> None:
    """A message recalled before the receiver could take it goes out as its tombstone; no request
    after the recall has the content."""

    async def fail(_: Received) -> int:
        return 503

    receiver.behave = fail
    async with sending(engine, receiver):
        await say(engine, "tea", "收回我 🙈")
        await receiver.until_asked(2)
        await engine.recall("group:tea", 2)
        before = len(receiver.requests)
        receiver.behave = None
        await receiver.until_taken(2)
    assert all("收回我" not in one.body.decode() for one in receiver.requests[before + 1 :])
    first, second = receiver.taken
    assert (first.type, first.event["data"]["entry"]["recalled"]) == ("message.created", 3)
    assert "content" not in first.event["data"]["entry"]
    assert "offline" not in first.event["data"]
    assert (second.type, second.event["data"]["entry"]["target"]) == ("message.recalled", 2)


async def test_recalled_while_it_is_under_way(engine: Engine, receiver: Receiver) -> None:
    """An attempt that carries recalled content is broken off, and the tombstone follows at
    once, not after the attempt's time."""
    never = asyncio.Event()

    async def hang_with_content(received: Received) -> int:
        if received.text:
            await never.wait()
        return 204

    receiver.behave = hang_with_content
    async with sending(engine, receiver) as hook:
        await say(engine, "tea", "收回我 🙉")
        await receiver.until_asked(1)
        await engine.recall("group:tea", 2)
        await receiver.until_taken(2)
        found = await status_until(engine, hook, nothing_waits)
        assert (found.failures, found.error) == (0, None)
        never.set()
    assert [one.text for one in receiver.requests] == ["收回我 🙉", "", ""]
    assert receiver.requests[0].id == receiver.requests[1].id


async def test_receiver_that_is_gone(engine: Engine, receiver: Receiver) -> None:
    """410 pauses the webhook; made to go on, it gets everything since."""

    async def gone(_: Received) -> int:
        return 410

    receiver.behave = gone
    async with sending(engine, receiver) as hook:
        await say(engine, "tea", "一")
        found = await status_until(engine, hook, lambda status: status.paused)
        assert found.paused == "the receiver answered 410 Gone"
        await say(engine, "tea", "二")
        receiver.behave = None
        await engine.change_webhook(hook.id, paused=False)
        await receiver.until_taken(2)
    assert [one.text for one in receiver.taken] == ["一", "二"]


async def test_a_defect_stops_nothing_for_good(
    engine: Engine, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sending that ends by a defect of ours is logged, and begins anew from where it was."""
    whole = Window.take
    defects = iter([RuntimeError("坏了 🐛")])

    def take(window: Window, item: OutboxItem) -> None:
        whole(window, item)
        for defect in defects:
            raise defect

    monkeypatch.setattr(Window, "take", take)
    async with sending(engine, receiver):
        await say(engine, "tea", "还是到了")
        await receiver.until_taken(1)
    assert [one.text for one in receiver.requests] == ["还是到了"]


async def test_pause_by_hand(engine: Engine, receiver: Receiver) -> None:
    """A paused webhook is sent nothing, and everything afterwards."""
    async with sending(engine, receiver) as hook:
        await engine.change_webhook(hook.id, paused=True)
        await say(engine, "tea", "等等")
        await engine.change_webhook(hook.id, paused=False)
        await receiver.until_taken(1)
        await status_until(engine, hook, nothing_waits)
    assert [one.text for one in receiver.requests] == ["等等"]


async def test_retry_after_is_honoured(engine: Engine, receiver: Receiver) -> None:
    """The receiver's own wish counts for all its conversations, above our longest pause."""

    async def busy(_: Received) -> web.Response:
        receiver.behave = None
        return web.Response(status=429, headers={"Retry-After": "1"})

    receiver.behave = busy
    settings = WebhookSettings(
        webhook_networks=("127.0.0.0/8",),
        webhook_max_connections=1,
        webhook_retry_first_seconds=0.01,
        webhook_retry_max_seconds=0.02,
    )
    async with sending(engine, receiver, settings):
        await say(engine, "tea", "一")
        await say(engine, "rice", "二")
        await receiver.until_taken(2)
    first, *others = receiver.requests
    assert all(one.at - first.at >= 0.99 for one in others)


async def test_redirects_are_not_followed(engine: Engine, receiver: Receiver) -> None:
    """Where a receiver points to is never asked; the event waits."""
    async with Receiver() as other:

        async def redirect(_: Received) -> web.Response:
            return web.Response(status=307, headers={"Location": other.url})

        receiver.behave = redirect
        async with sending(engine, receiver) as hook:
            await say(engine, "tea", "别跟去 ↪️")
            await receiver.until_asked(2)
            found = await status_until(engine, hook, lambda status: status.error)
            assert found.error == "the receiver answered 307; redirects are not followed"
        assert other.requests == []


async def test_private_addresses_are_refused(engine: Engine, receiver: Receiver) -> None:
    """By number, by a name that means one, and over plain HTTP: no connection is made."""
    for url in (
        f"http://127.0.0.1:{receiver.port}/",
        receiver.url,
        "https://[::1]:1/",
        "https://10.0.0.1/",
    ):
        async with WebhookSender(engine, WebhookSettings(webhook_progress_seconds=0.01)):
            hook = await engine.create_webhook(url)
            await say(engine, "tea", "不该到 🚫")
            found = await status_until(engine, hook, lambda status: status.failures)
            assert "is not a public address" in (found.error or "")
        await engine.delete_webhook(hook.id)
    assert receiver.requests == []


async def test_a_new_secret(engine: Engine, receiver: Receiver) -> None:
    """For a while both secrets sign, then only the new one."""
    async with sending(engine, receiver) as hook:
        new = await engine.rotate_webhook(hook.id, overlap_seconds=3_600)
        assert new.secret != hook.secret
        await say(engine, "tea", "两把钥匙 🗝️🗝️")
        await receiver.until_taken(1)
        receiver.taken[0].check(hook.secret)
        receiver.taken[0].check(new.secret)
        newest = await engine.rotate_webhook(hook.id, overlap_seconds=0)
        await say(engine, "tea", "一把 🗝️")
        await receiver.until_taken(2)
        receiver.taken[1].check(newest.secret)
        with pytest.raises(WebhookVerificationError):
            receiver.taken[1].check(new.secret)


async def test_replay(engine: Engine, receiver: Receiver) -> None:
    """Everything since a time goes out again under the same ids, as it is now."""
    async with sending(engine, receiver) as hook:
        for text in ("一", "二"):
            await say(engine, "tea", text)
        await receiver.until_taken(2)
        await engine.recall("group:tea", 2)
        await receiver.until_taken(3)
        await engine.replay_webhook(hook.id, 0)
        await receiver.until(lambda: receiver.taken[-1].type == "message.recalled")
        await receiver.until_taken(3 + 5)
    ids = [one.id for one in receiver.taken]
    replayed = {one.id: one for one in receiver.taken[3:]}
    assert set(ids[:3]) <= set(replayed)
    assert replayed[ids[0]].text == ""
    assert replayed[ids[1]].text == "二"
    assert {one.type for one in receiver.taken} >= {"group.created", "message.created"}


async def test_nothing_is_lost_between_two_runs(tmp_path: Path, receiver: Receiver) -> None:
    """What was committed while nobody sent, and what was not taken before the end, goes out at the
    next start."""

    async def never(_: Received) -> int:
        return 500

    path = tmp_path / "两次.db"
    async with qunxin.open(path, settings=NEAR) as first:
        await first.put_user("ann")
        await first.put_group("tea", owner="ann", members=())
        receiver.behave = never
        async with sending(first, receiver):
            with pytest.raises(QunxinError):
                await first.send("group", "没有", sender="ann", text="无")
            await first.put_user("bo")
            await first.add_members("tea", ["bo"])
            await say(first, "tea", "一")
            await receiver.until_asked(1)
        await say(first, "tea", "二")
    receiver.behave = None
    async with qunxin.open(path) as second, WebhookSender(second, FAST):
        await say(second, "tea", "三")
        await receiver.until_taken(4)
    assert [one.text for one in receiver.taken] == ["", "一", "二", "三"]
    check_order(receiver.taken)


async def test_deleted_webhook(engine: Engine, receiver: Receiver) -> None:
    """Nothing more is sent, and it is not there any more."""
    async with sending(engine, receiver) as hook:
        await say(engine, "tea", "一")
        await receiver.until_taken(1)
        await engine.delete_webhook(hook.id)
        other = await engine.create_webhook(receiver.url)
        await say(engine, "tea", "二")
        await receiver.until_taken(2)
        receiver.taken[1].check(other.secret)
        with pytest.raises(QunxinError) as caught:
            await engine.get_webhook(hook.id)
    assert caught.value.code == "not_found"
    assert [one.text for one in receiver.requests] == ["一", "二"]


@pytest.mark.parametrize(
    "url",
    [
        "ftp://example.org/",
        "https://",
        "例え",
        "https://user:secret@example.org/",
        "https://example.org/#片段",
        "https://example.org/a b",
        "https://example.org:99999/",
        "https://[::1/",
        "https://example.org/" + "长" * 2_000,
    ],
)
async def test_addresses_that_are_none(engine: Engine, url: str) -> None:
    """They are refused when the webhook is made."""
    with pytest.raises(QunxinError) as caught:
        await engine.create_webhook(url)
    assert caught.value.code == "invalid_request"


@pytest.mark.parametrize(
    ("url", "networks", "reason"),
    [
        ("http://10.0.0.1/茶", (), "10.0.0.1 is not a public address"),
        ("https://10.0.0.1/茶", (), "10.0.0.1 is not a public address"),
        ("https://[::ffff:127.0.0.1]/", (), "is not a public address"),
        ("https://169.254.169.254/", ("10.0.0.0/8",), "is not a public address"),
        ("http://[fe80::1%25eth0]/", (), "is not a public address"),
        ("http://1.1.1.1/", ("10.0.0.0/8",), "http:// is for webhook_networks only"),
        ("http://shop.example.org/", (), "http:// is for webhook_networks only"),
    ],
)
async def test_addresses_that_can_never_be_sent_to(
    tmp_path: Path, url: str, networks: tuple[str, ...], reason: str
) -> None:
    """A literal private address, and plain HTTP, are refused at the making and at a change."""
    settings = EngineSettings(webhook_networks=networks)
    async with qunxin.open(tmp_path / "own.db", settings=settings) as chat:
        hook = await chat.create_webhook("https://shop.example.org/群")
        for attempt in (chat.create_webhook(url), chat.change_webhook(hook.id, url=url)):
            with pytest.raises(QunxinError) as refused:
                await attempt
            assert refused.value.code == "invalid_request"
            assert reason in refused.value.facts["detail"]
        assert len(await chat.list_webhooks()) == 1


async def test_addresses_in_the_networks_that_are_named(tmp_path: Path) -> None:
    """Over either scheme; what a name means is judged at the sending."""
    settings = EngineSettings(webhook_networks=("10.2.0.0/16", "fd00::/8"))
    async with qunxin.open(tmp_path / "own.db", settings=settings) as chat:
        for url in (
            "http://10.2.0.9/茶",
            "https://[fd00::7]/",
            "http://inside.example/",
            "https://1.1.1.1/",
        ):
            assert (await chat.create_webhook(url)).url == url


async def test_events_that_are_none(engine: Engine) -> None:
    """A type that does not exist is refused, and what there is is named."""
    with pytest.raises(QunxinError) as caught:
        await engine.create_webhook("https://example.org/", events=["消息"])
    assert "message.created" in caught.value.facts["detail"]
