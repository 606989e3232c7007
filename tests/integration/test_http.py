"""The HTTP gateway in conversations: what a server that uses Qunxin does with it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest
from http_node import METRICS, HttpNode, http_node

from qunxin.engine import Engine
from qunxin.errors import QunxinError
from qunxin.gateways.http import HttpSettings
from qunxin.gateways.operations import OPERATIONS

ZWJ = "👩🏽‍🚀👨‍👩‍👧‍👦 שלום مرحبا 你好"


@pytest.fixture
async def node(engine: Engine) -> AsyncIterator[HttpNode]:
    async with http_node(engine) as running:
        yield running


@pytest.fixture
async def tea(node: HttpNode) -> HttpNode:
    """The node with alice (owner), bob and carol in the group tea."""
    for user in ("alice", "bob", "carol", "dave"):
        assert (await node.api.put(f"/v1/users/{user}", json={"name": ZWJ})).status_code == 201
    made = await node.api.put(
        "/v1/groups/tea",
        json={"name": "茶友会 🍵", "owner": "alice", "members": ["bob", "carol", "nobody"]},
    )
    assert made.status_code == 201
    assert made.json()["grade"] == "partial"
    assert {"user": "nobody", "result": "user_not_found"} in made.json()["results"]
    return node


def _message(**fields: object) -> dict[str, object]:
    return {"type": "group", "to": "tea", "from": "alice", "text": ZWJ, **fields}


async def test_users_from_creation_to_erasure(node: HttpNode) -> None:
    """201 at the creation, 200 afterwards, 404 for nobody, 410 for ever after an erasure."""
    created = await node.api.put("/v1/users/alice", json={"name": ZWJ})
    assert (created.status_code, created.json()["new"]) == (201, True)
    updated = await node.api.put("/v1/users/alice", json={"name": "小爱"})
    assert (updated.status_code, updated.json()["name"]) == (200, "小爱")
    assert (await node.api.get("/v1/users/alice")).json()["state"] == "active"
    assert (await node.api.get("/v1/users/nobody")).status_code == 404
    assert (await node.api.delete("/v1/users/alice")).json()["state"] == "erased"
    for method in ("GET", "PUT", "DELETE"):
        gone = await node.api.request(method, "/v1/users/alice")
        assert (gone.status_code, gone.json()["code"]) == (410, "user_erased")


async def test_a_user_is_put_without_a_body(node: HttpNode) -> None:
    """Every field is optional, so the body is too."""
    created = await node.api.put("/v1/users/bob")
    assert (created.status_code, created.json()["name"]) == (201, "bob")


async def test_a_message_is_sent_read_and_recalled(tea: HttpNode) -> None:
    """201 with the receipt; the entry reads back as it was sent; the recall leaves a tombstone."""
    sent = await tea.api.post("/v1/messages", json=_message(key="早安 🌅"))
    receipt = sent.json()
    assert sent.status_code == 201
    assert receipt["conversation"] == "group:tea"
    assert (receipt["members"], receipt["duplicate"]) == (3, False)
    page = await tea.api.get("/v1/conversations/group:tea/entries", params={"as": "bob"})
    entry = page.json()["entries"][-1]
    assert entry["content"] == [{"type": "text", "text": ZWJ}]
    assert (entry["from"], entry["key"]) == ("alice", "早安 🌅")
    place = f"/v1/conversations/group:tea/entries/{receipt['position']}"
    recalled = await tea.api.post(f"{place}/recall", json={"from": "alice"})
    assert recalled.status_code == 200
    page = await tea.api.get(
        "/v1/conversations/group%3Atea/entries", params={"after": receipt["position"] - 1}
    )
    tombstone, event = page.json()["entries"]
    assert "content" not in tombstone
    assert tombstone["recalled"] == event["position"] == recalled.json()["position"]
    assert ZWJ not in page.text


async def test_a_repeat_answers_200_with_the_first_outcome(tea: HttpNode) -> None:
    """Same key and content: the first receipt, marked; other content: refused."""
    first = await tea.api.post("/v1/messages", json=_message(key="k"))
    again = await tea.api.post("/v1/messages", json=_message(key="k"))
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json() == {**first.json(), "duplicate": True}
    other = await tea.api.post("/v1/messages", json=_message(key="k", text="别的 🙃"))
    assert (other.status_code, other.json()["code"]) == (409, "idempotency_conflict")


async def test_the_key_may_come_in_a_header(tea: HttpNode) -> None:
    """`Idempotency-Key` is the body's `key`; both may agree, must not differ, and a read does
    not care."""
    header = {b"Idempotency-Key": "早安-7".encode()}
    first = await tea.api.post("/v1/messages", json=_message(), headers=header)
    again = await tea.api.post("/v1/messages", json=_message(key="早安-7"), headers=header)
    assert (first.status_code, again.status_code) == (201, 200)
    clash = await tea.api.post("/v1/messages", json=_message(key="other"), headers=header)
    assert (clash.status_code, clash.json()["code"]) == (400, "invalid_request")
    too_long = {"Idempotency-Key": "k" * 129}
    refused = await tea.api.post("/v1/messages", json=_message(), headers=too_long)
    assert refused.status_code == 400
    assert (await tea.api.get("/v1/users/bob", headers=header)).status_code == 200


async def test_the_type_is_never_guessed(tea: HttpNode) -> None:
    """Missing, unknown, null and of another JSON type: each is `unknown_message_type`."""
    for message in (
        {"to": "tea", "from": "alice", "text": ZWJ},
        _message(type="群"),
        _message(type=None),
        _message(type=["group"]),
        _message(type=""),
    ):
        answer = await tea.api.post("/v1/messages", json=message)
        assert (answer.status_code, answer.json()["code"]) == (422, "unknown_message_type")


async def test_errors_of_the_group_have_their_statuses(tea: HttpNode) -> None:
    """No group 404, not a member 403, dissolved 410, somebody unreachable 409 with names."""
    missing = await tea.api.post("/v1/messages", json=_message(to="bob"))
    assert (missing.status_code, missing.json()["code"]) == (404, "group_not_found")
    outside = await tea.api.post("/v1/messages", json=_message(**{"from": "dave"}))
    assert (outside.status_code, outside.json()["code"]) == (403, "not_a_member")
    await tea.api.put("/v1/users/carol", json={"state": "suspended"})
    refused = await tea.api.post("/v1/messages", json=_message(require="all"))
    assert (refused.status_code, refused.json()["code"]) == (409, "members_unreachable")
    assert "部分成员不可达" not in refused.json()["detail"]
    partial = (await tea.api.post("/v1/messages", json=_message())).json()
    assert (partial["grade"], partial["unreachable_count"]) == ("partial", 1)
    assert partial["unreachable"] == [{"user": "carol", "reason": "suspended"}]
    assert (await tea.api.delete("/v1/groups/tea")).json()["state"] == "dissolved"
    gone = await tea.api.post("/v1/messages", json=_message())
    assert (gone.status_code, gone.json()["code"]) == (410, "group_dissolved")


async def test_errors_speak_chinese_when_asked(tea: HttpNode) -> None:
    """By `Accept-Language`; `facts` and `code` stay the same."""
    await tea.api.delete("/v1/groups/tea")
    chinese = {"Accept-Language": "en;q=0.5, zh-CN"}
    answer = await tea.api.post("/v1/messages", json=_message(), headers=chinese)
    assert answer.json()["detail"] == "群组已解散"
    assert answer.headers["content-language"] == "zh"
    assert answer.json()["type"] == "/docs#group_dissolved"
    english = await tea.api.post("/v1/messages", json=_message())
    assert english.json()["detail"] == "The group has been dissolved"
    assert english.json()["code"] == answer.json()["code"]


async def test_memberships_over_http(tea: HttpNode) -> None:
    """Add (some without account), change the role, list by pages, remove."""
    added = await tea.api.post("/v1/groups/tea/members", json={"users": ["dave", "nobody"]})
    assert (added.status_code, added.json()["grade"]) == (200, "partial")
    changed = await tea.api.patch("/v1/groups/tea/members/bob", json={"role": "admin"})
    assert changed.json()["role"] == "admin"
    found: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        page = await tea.api.get("/v1/groups/tea/members", params={"limit": "3", **cursor})
        found += [member["user"] for member in page.json()["members"]]
        if page.json()["next_cursor"] is None:
            break
        cursor = {"cursor": page.json()["next_cursor"]}
    assert sorted(found) == ["alice", "bob", "carol", "dave"]
    removed = await tea.api.delete("/v1/groups/tea/members/dave", params={"from": "bob"})
    assert removed.json()["results"] == [{"user": "dave", "result": "removed"}]
    group = (await tea.api.get("/v1/groups/tea")).json()
    assert group["membership_version"] == removed.json()["membership_version"]
    assert group["members"] == 3


async def test_cursors_ledger_and_conversations(tea: HttpNode) -> None:
    """Reading raises the cursor, empties the unread count and shows in the ledger."""
    sent = (await tea.api.post("/v1/messages", json=_message())).json()
    listed = (await tea.api.get("/v1/users/bob/conversations")).json()["conversations"]
    row = next(row for row in listed if row["conversation"] == "group:tea")
    assert (row["unread"], row["role"], row["name"]) == (1, "member", "茶友会 🍵")
    read = await tea.api.put(
        "/v1/users/bob/conversations/group:tea/read", json={"position": sent["position"]}
    )
    assert read.json()["read"] == sent["position"]
    ledger = (
        await tea.api.get(f"/v1/conversations/group:tea/entries/{sent['position']}/deliveries")
    ).json()
    assert ledger["counts"] == {"queued": 1, "delivered": 0, "read": 1, "unreachable": 0}
    assert {"user": "bob", "state": "read", "reason": None} in ledger["deliveries"]


async def test_private_messages_and_blocks(tea: HttpNode) -> None:
    """A block refuses, its end admits again."""
    private = {"type": "private", "to": "bob", "from": "alice", "text": ZWJ}
    assert (await tea.api.put("/v1/users/bob/blocks/alice")).json()["on"] is True
    refused = await tea.api.post("/v1/messages", json=private)
    assert (refused.status_code, refused.json()["code"]) == (403, "blocked")
    assert (await tea.api.get("/v1/users/bob/blocks")).json()["blocked"] == ["alice"]
    assert (await tea.api.delete("/v1/users/bob/blocks/alice")).json()["on"] is False
    assert (await tea.api.get("/v1/users/bob/blocks")).json()["blocked"] == []
    sent = await tea.api.post("/v1/messages", json=private)
    assert sent.json()["conversation"] == "private:alice~bob"
    page = await tea.api.get("/v1/conversations/private:alice~bob/entries", params={"as": "bob"})
    assert page.json()["entries"][0]["from"] == "alice"


async def test_whom_nobody_blocks_is_a_refusal(tea: HttpNode) -> None:
    """An account that was never made or is erased blocks nobody, and is not said to."""
    await tea.api.put("/v1/users/bob/blocks/alice")
    await tea.api.delete("/v1/users/bob")
    for user, status, code in (("nobody", 404, "user_not_found"), ("bob", 410, "user_erased")):
        refused = await tea.api.get(f"/v1/users/{user}/blocks")
        assert (refused.status_code, refused.json()["code"]) == (status, code)


async def test_a_user_acts_as_themself_only(tea: HttpNode) -> None:
    """With their own token: their own messages yes, other people's no, and no secrets of groups
    that they are not in."""
    alice, dave = tea.as_user("alice"), tea.as_user("dave")
    message = {"type": "group", "to": "tea", "text": ZWJ}
    async with httpx.AsyncClient(base_url=tea.url) as client:
        sent = await client.post("/v1/messages", json=message, headers=alice)
        assert sent.status_code == 201
        forged = {**message, "from": "bob"}
        refused = await client.post("/v1/messages", json=forged, headers=alice)
        assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
        hidden = await client.get("/v1/groups/tea", headers=dave)
        assert (hidden.status_code, hidden.json()["code"]) == (404, "group_not_found")
        as_bob = await client.get("/v1/groups/tea", params={"as": "bob"}, headers=dave)
        assert as_bob.status_code == 403
        broadcast = {"type": "broadcast", "text": ZWJ}
        refused = await client.post("/v1/messages", json=broadcast, headers=alice)
        assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
        own = await client.get("/v1/users/alice/conversations", headers=alice)
        assert own.status_code == 200


async def test_a_suspended_or_erased_users_token_is_refused(tea: HttpNode) -> None:
    """At once, on every operation, however long the token would still run."""
    alice, dave = tea.as_user("alice"), tea.as_user("dave")
    await tea.api.put("/v1/users/alice", json={"state": "suspended"})
    await tea.api.delete("/v1/users/dave")
    async with httpx.AsyncClient(base_url=tea.url) as client:
        for headers, status, code in (
            (alice, 403, "user_suspended"),
            (dave, 410, "user_erased"),
            (tea.as_user("nobody"), 404, "user_not_found"),
        ):
            answer = await client.get("/v1/users/bob", headers=headers)
            assert (answer.status_code, answer.json()["code"]) == (status, code)


async def test_tokens_are_made_for_accounts_that_may_connect(tea: HttpNode) -> None:
    """With a key and for an active account; the token works."""
    made = await tea.api.post("/v1/tokens", json={"user": "bob", "ttl_seconds": 60})
    assert made.status_code == 201
    bearer = {"Authorization": f"Bearer {made.json()['token']}"}
    async with httpx.AsyncClient(base_url=tea.url, headers=bearer) as client:
        assert (await client.get("/v1/users/bob")).status_code == 200
        refused = await client.post("/v1/tokens", json={"user": "bob"})
        assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
    assert (await tea.api.post("/v1/tokens", json={"user": "nobody"})).status_code == 404
    await tea.api.put("/v1/users/bob", json={"state": "suspended"})
    assert (await tea.api.post("/v1/tokens", json={"user": "bob"})).status_code == 403
    month = {"user": "carol", "ttl_seconds": 30 * 24 * 3600 + 1}
    assert (await tea.api.post("/v1/tokens", json=month)).status_code == 400


async def test_keys_are_made_listed_and_revoked(node: HttpNode) -> None:
    """Only by a key that may; a revoked one is refused at once; secrets are shown once."""
    assert (await node.api.post("/v1/keys", json={"name": "第二把"})).status_code == 403
    master = (await node.engine.create_key("主 master", scopes=("keys", "read"))).key
    headers = {"Authorization": f"Bearer {master}"}
    async with httpx.AsyncClient(base_url=node.url, headers=headers) as client:
        made = await client.post("/v1/keys", json={"name": "只读 👀", "scopes": ["read"]})
        assert made.status_code == 201
        other = {"Authorization": f"Bearer {made.json()['key']}"}
        assert (await client.get("/v1/users/x", headers=other)).status_code == 404
        assert (await client.put("/v1/users/x", headers=other)).status_code == 403
        listed = await client.get("/v1/keys")
        assert made.json()["key"] not in listed.text
        assert made.json()["id"] in [key["id"] for key in listed.json()["keys"]]
        revoked = await client.delete(f"/v1/keys/{made.json()['id']}")
        assert revoked.json()["revoked"] > 0
        refused = await client.get("/v1/users/x", headers=other)
        assert (refused.status_code, refused.json()["code"]) == (401, "unauthenticated")
        assert (await client.delete("/v1/keys/无")).status_code == 404


async def test_ten_thousand_longest_ids_fit_in_one_call(tea: HttpNode) -> None:
    """The body limit leaves room for the largest request that the operations allow."""
    users = [f"{number:064d}" for number in range(10_000)]
    answer = await tea.api.post("/v1/groups/tea/members", json={"users": users})
    assert answer.status_code == 200
    assert len(answer.json()["results"]) == 10_000
    too_many = await tea.api.post("/v1/groups/tea/members", json={"users": [*users, "one-more"]})
    assert (too_many.status_code, too_many.json()["code"]) == (400, "invalid_request")


async def test_sessions_can_be_listed_and_ended(tea: HttpNode) -> None:
    """Nobody is connected here; both answer all the same."""
    assert (await tea.api.get("/v1/users/bob/sessions")).json() == {"sessions": []}
    assert (await tea.api.delete("/v1/users/bob/sessions")).json() == {"user": "bob"}


async def test_health_and_metrics_are_open(node: HttpNode) -> None:
    """Without credentials; the metrics are the injected callable's."""
    async with httpx.AsyncClient(base_url=node.url) as client:
        assert (await client.get("/health/live")).json() == {"status": "live"}
        assert (await client.get("/health/ready")).json() == {"status": "ready"}
        metrics = await client.get("/metrics")
        assert metrics.content == METRICS
        assert metrics.headers["content-type"].startswith("text/plain; version=0.0.4")


async def test_not_ready_while_nothing_can_be_kept(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node that reads and cannot write, as with a full disk, takes no work; it does again as soon
    as something was kept."""

    async def full(_: object) -> None:
        raise QunxinError("store_unavailable")

    async with http_node(engine) as node:
        with monkeypatch.context() as patch:
            patch.setattr(engine.store, "commit", full)
            assert (await node.api.get("/health/ready")).status_code == 200
            assert (await node.api.put("/v1/users/ai")).status_code == 503
            assert (await node.api.get("/health/ready")).status_code == 503
        assert (await node.api.put("/v1/users/ai")).status_code == 201
        assert (await node.api.get("/health/ready")).status_code == 200


async def test_not_ready_once_the_engine_is_closed(engine: Engine) -> None:
    """503 as a problem, so that a load balancer sends nobody here; alive all the same."""
    async with http_node(engine) as node:
        await engine.close()
        answer = await node.api.get("/health/ready")
        assert (answer.status_code, answer.json()["code"]) == (503, "store_unavailable")
        assert int(answer.headers["retry-after"]) >= 1
        assert (await node.api.get("/health/live")).status_code == 200
        sent = await node.api.put("/v1/users/alice")
        assert sent.status_code in (401, 503)


async def test_the_page_and_the_description_are_served(node: HttpNode) -> None:
    """Open to all, with a policy under which no script can run, and not sent twice."""
    async with httpx.AsyncClient(base_url=node.url) as client:
        page = await client.get("/docs")
        assert "default-src 'none'" in page.headers["content-security-policy"]
        assert all(f'id="{name}"' in page.text for name in OPERATIONS)
        style = await client.get("/assets/reference.css")
        assert style.headers["content-type"].startswith("text/css")
        described = await client.get("/openapi.json")
        assert described.json()["openapi"] == "3.1.0"
        tag = {"If-None-Match": described.headers["etag"]}
        same = await client.get("/openapi.json", headers=tag)
        assert (same.status_code, same.content) == (304, b"")


async def test_head_answers_like_get_without_a_body(node: HttpNode) -> None:
    """RFC 9110, 9.3.2."""
    answer = await node.api.head("/v1/users/nobody")
    assert (answer.status_code, answer.content) == (404, b"")


async def test_an_overdue_write_is_outcome_unknown(
    tea: HttpNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine's answer does not come in time: 504 with advice for a write, 503 for a read;
    never a bare time-out, and the same key tells later what happened."""
    settings = HttpSettings(request_deadline_seconds=0.2)
    async with http_node(tea.engine, settings) as hurried:
        held = asyncio.Event()
        commit, read = tea.engine.store.commit, tea.engine.store.read_group

        async def slow_commit(commands):  # type: ignore[no-untyped-def]
            await held.wait()
            return await commit(commands)

        async def slow_read(group):  # type: ignore[no-untyped-def]
            await held.wait()
            return await read(group)

        monkeypatch.setattr(tea.engine.store, "commit", slow_commit)
        monkeypatch.setattr(tea.engine.store, "read_group", slow_read)
        message = _message(key="慢 🐌")
        write = await hurried.api.post("/v1/messages", json=message)
        assert (write.status_code, write.json()["code"]) == (504, "outcome_unknown")
        assert write.json()["retryable"] is True
        late = await hurried.api.get("/v1/groups/tea")
        assert (late.status_code, late.json()["code"]) == (503, "overloaded")
        held.set()
        again = await tea.api.post("/v1/messages", json=message)
        assert again.status_code == 200
        assert again.json()["duplicate"] is True


async def test_what_nobody_foresaw_is_internal(
    tea: HttpNode, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Logged whole, shown as `internal` without a trace of it."""

    async def broken(_user: str) -> None:
        raise ZeroDivisionError("内部机密 secret detail")

    monkeypatch.setattr(tea.engine.store, "read_user", broken)
    answer = await tea.api.get("/v1/users/alice")
    assert (answer.status_code, answer.json()["code"]) == (500, "internal")
    assert "secret detail" not in answer.text
    assert "ZeroDivisionError" not in answer.text
    assert "secret detail" in caplog.text


async def test_beyond_the_requests_in_flight_it_is_overloaded(
    tea: HttpNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The third of two allowed is refused at once; the two are answered."""
    settings = HttpSettings(max_requests_in_flight=2)
    async with http_node(tea.engine, settings) as small:
        held, read = asyncio.Event(), tea.engine.store.read_user

        async def slow_read(user):  # type: ignore[no-untyped-def]
            await held.wait()
            return await read(user)

        monkeypatch.setattr(tea.engine.store, "read_user", slow_read)
        calls = [asyncio.create_task(small.api.get("/v1/users/bob")) for _ in range(3)]
        done, waiting = await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
        assert [call.result().json()["code"] for call in done] == ["overloaded"]
        held.set()
        assert [(await call).status_code for call in waiting] == [200, 200]
