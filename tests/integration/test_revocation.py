"""A revoked token is refused at every door from the moment the revocation is accepted, and the
sessions that came with it end."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import jwt
import pytest
from http_node import http_node

from qunxin.engine import Engine
from qunxin.engine.tokens import TokenMark
from qunxin.gateways.auth import Authenticator
from qunxin.gateways.keyring import TokenKeys, new_key
from qunxin.stores.sqlite import SqliteStore
from qunxin.testing.clock import ManualClock
from realtime_client import RawClient, RealtimeNode, realtime_node

ENDED = 4502
REVOKED = 1012


def token_id(token: str) -> str:
    claims = jwt.decode(token, options={"verify_signature": False})
    return str(claims["jti"])


async def reply_to_connect(node: RealtimeNode, token: str) -> dict[str, object]:
    client = await RawClient.open(node.port)
    reply = await client.call(connect={"token": token})
    found: dict[str, object] = reply["error"]
    return found


async def test_one_token_is_revoked_and_the_others_go_on(engine: Engine) -> None:
    """Its own session ends, for good; another device of the same user stays connected and may
    come back."""
    await engine.put_user("alice", name="爱丽丝 👩🏽‍🚀")
    async with realtime_node(engine) as node:
        lost, kept = node.token("alice"), node.token("alice")
        stolen, own = await RawClient.open(node.port), await RawClient.open(node.port)
        await stolen.connect(lost)
        await own.connect(kept)
        await own.rpc("token.revoke", id=token_id(lost))
        assert (await stolen.closed()).code == ENDED
        error = await reply_to_connect(node, lost)
        assert (error["code"], error.get("temporary", False)) == (REVOKED, False)
        assert len((await own.rpc("user.sessions"))["sessions"]) == 1
        await (await RawClient.open(node.port)).connect(kept)


async def test_all_tokens_up_to_now_are_revoked(engine: Engine) -> None:
    """Every session ends, what was issued before is refused, what is issued later is good, and
    other users notice nothing."""
    for user in ("alice", "bob"):
        await engine.put_user(user)
    async with realtime_node(engine) as node:
        old = node.token("alice")
        alice, bob = await RawClient.open(node.port), await node.client("bob")
        await alice.connect(old)
        await engine.revoke_tokens("alice")
        assert (await alice.closed()).code == ENDED
        assert (await reply_to_connect(node, old))["code"] == REVOKED
        await node.client("alice")
        assert (await bob.rpc("user.get"))["user"] == "bob"


async def test_a_revoked_token_does_not_refresh(engine: Engine) -> None:
    """The session goes on with the token that it came with; renewed with a good one, it ends
    with that one."""
    await engine.put_user("alice")
    async with realtime_node(engine) as node:
        alice = await node.client("alice")
        lost, good = node.token("alice"), node.token("alice")
        await engine.revoke_tokens("alice", token_id(lost))
        reply = await alice.call(refresh={"token": lost})
        assert reply["error"]["code"] == REVOKED
        assert "refresh" in await alice.call(refresh={"token": good})
        await engine.revoke_tokens("alice", token_id(good))
        assert (await alice.closed()).code == ENDED


async def test_http_refuses_a_revoked_token(engine: Engine) -> None:
    """401 with a code that says so; by the user's own wish too."""
    await engine.put_user("alice")
    async with http_node(engine) as node:
        lost, kept = node.as_user("alice"), node.as_user("alice")
        name = token_id(lost["Authorization"].partition(" ")[2])
        assert (await node.api.get("/v1/users/alice", headers=lost)).status_code == 200
        done = await node.api.delete(f"/v1/users/alice/tokens/{name}", headers=kept)
        assert done.json() == {"user": "alice", "id": name}
        refused = await node.api.get("/v1/users/alice", headers=lost)
        assert (refused.status_code, refused.json()["code"]) == (401, "token_revoked")
        assert (await node.api.get("/v1/users/alice", headers=kept)).status_code == 200
        assert (await node.api.delete("/v1/users/alice/tokens")).json()["id"] is None
        refused = await node.api.get("/v1/users/alice", headers=kept)
        assert refused.json()["code"] == "token_revoked"


@pytest.mark.parametrize("name", ["ab/cd+ef==", "/", "a//b/", "令牌/🎫?#%2F", " "])
async def test_an_id_may_hold_what_paths_are_made_of(engine: Engine, name: str) -> None:
    """Whoever issues tokens chooses their ids; each can be revoked over HTTP."""
    await engine.put_user("alice")
    async with http_node(engine) as node:
        mark = TokenMark(name, engine.clock.now_ms())
        lost, _ = node.authenticator.issue_token("alice", mark=mark)
        path = f"/v1/users/alice/tokens/{quote(name, safe='')}"
        assert (await node.api.delete(path)).json() == {"user": "alice", "id": name}
        bearer = {"Authorization": f"Bearer {lost}"}
        refused = await node.api.get("/v1/users/alice", headers=bearer)
        assert refused.json()["code"] == "token_revoked"
        empty = await node.api.delete("/v1/users/alice/tokens/")
        assert empty.status_code == 400


async def test_a_revocation_outlives_the_process(tmp_path: Path, engine: Engine) -> None:
    """It stands in the store: another process on the same data refuses the token too."""
    await engine.put_user("alice")
    path = tmp_path / "复制.db"
    await engine.revoke_tokens("alice", "令牌 🎫")
    await engine.revoke_tokens("alice", "ב")
    await engine.store.backup(path)
    store = SqliteStore(path)
    await store.open()
    refused = {}
    for one in ("令牌 🎫", "ב", "别的"):
        found = await store.read_sign_in("alice", one)
        assert found is not None
        refused[one] = found.revoked
    await store.close()
    assert refused == {"令牌 🎫": True, "ב": True, "别的": False}


async def test_a_token_without_a_time_of_issue_counts_as_old(engine: Engine) -> None:
    """It cannot be told from one that was issued before."""
    clock = ManualClock()
    key = new_key()
    authenticator = Authenticator(engine, TokenKeys(active=key.id, keys=(key,)), clock=clock)
    await engine.put_user("alice")
    await engine.revoke_tokens("alice")
    claims = {"sub": "alice", "aud": "qunxin", "exp": clock.now_ms() // 1000 + 60}
    token = jwt.encode(claims, key.secret, "HS256")
    identity = await authenticator.verify_token(token)
    assert identity.token == TokenMark(None, 0)
    with pytest.raises(Exception, match="token_revoked"):
        await authenticator.authenticate_http({"authorization": f"Bearer {token}"})


async def test_one_session_is_ended(engine: Engine) -> None:
    """The others stay; what is not there is nothing to end."""
    await engine.put_user("alice")
    async with realtime_node(engine) as node:
        one, other = await node.client("alice"), await node.client("alice")
        listed = (await one.rpc("user.sessions"))["sessions"]
        asked = {"user": "alice", "session": listed[1]["session"]}
        assert await one.rpc("user.end_session", **asked) == {**asked, "ended": True}
        assert (await other.closed()).code == ENDED
        assert await one.rpc("user.end_session", **asked) == {**asked, "ended": False}
        assert len((await one.rpc("user.sessions"))["sessions"]) == 1
