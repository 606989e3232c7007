"""Links become sessions and sessions tokens, over a real store, by a clock that stands still."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

import pytest
from door_embedded import SETTINGS
from gated_store import GatedStore

from qunxin.brokers.local import LocalBroker
from qunxin.engine import Engine
from qunxin.errors import QunxinError
from qunxin.gateways.auth import DEFAULT_AUDIENCE, Authenticator
from qunxin.gateways.keyring import TokenKeys, new_key
from qunxin.gateways.sign_in import SESSION_SECONDS, Session, SignIn, SignInLinks, session_audience
from qunxin.model import MAX_REVOKED_TOKENS
from qunxin.testing.clock import ManualClock


class Door(NamedTuple):
    """Where links are used, and what it stands on."""

    clock: ManualClock
    store: GatedStore
    engine: Engine
    tokens: Authenticator
    links: SignInLinks
    sign_in: SignIn

    async def let_in(self, token: str) -> str:
        """Whom a token lets in now."""
        identity = await self.tokens.verify_token(token)
        return (await self.engine.sign_in(identity.user, identity.token)).user


@pytest.fixture
async def door(tmp_path: Path) -> AsyncIterator[Door]:
    clock = ManualClock()
    store = GatedStore(tmp_path / "对话.db", clock)
    engine = Engine(store, LocalBroker(), settings=SETTINGS, clock=clock)
    await engine.open()
    key = new_key()
    keys = TokenKeys(active=key.id, keys=(key,))
    tokens = Authenticator(engine, keys, clock=clock)
    audience = session_audience(DEFAULT_AUDIENCE)
    sessions = Authenticator(engine, keys, audience=audience, clock=clock)
    links = SignInLinks(clock)
    sign_in = SignIn(engine, links, tokens, sessions, clock)
    await engine.put_user("alice", name="爱丽丝 🍵")
    yield Door(clock, store, engine, tokens, links, sign_in)
    await engine.close()


async def test_a_session_that_is_renewed_while_all_is_revoked(door: Door) -> None:
    """It was found good before the revocation, and is exchanged after it: neither the token nor
    the new secret lets anybody in."""
    session = await door.sign_in.use_link(door.links.make("alice")[0], None, None)
    door.clock.advance(SESSION_SECONDS * 1000 * 2 // 3)
    gate = door.store.close_gate()
    renewing = asyncio.create_task(door.sign_in.renew(session.secret))
    await door.store.reached.wait()
    await door.engine.revoke_tokens("alice")
    door.clock.advance(1_000)
    gate.set()
    renewed = await renewing
    assert renewed.secret != session.secret
    with pytest.raises(QunxinError, match="token_revoked"):
        await door.let_in(renewed.token)
    with pytest.raises(QunxinError, match="token_revoked"):
        await door.sign_in.renew(renewed.secret)


async def test_a_session_lasts_as_long_as_it_is_renewed(door: Door) -> None:
    """However long ago it was signed in; what it is exchanged for lives from the exchange on."""
    session = await door.sign_in.use_link(door.links.make("alice")[0], None, None)
    for _ in range(5):
        door.clock.advance((SESSION_SECONDS - 1) * 1000)
        session = await door.sign_in.renew(session.secret)
        assert session.expires == door.clock.now_ms() + 3600 * 1000
        assert await door.let_in(session.token) == "alice"


async def test_signing_out_is_never_refused(door: Door) -> None:
    """Whoever holds a token of the user can revoke any number of ids that never were; a browser
    is signed out all the same, and lets somebody else in."""
    first, second = [
        await door.sign_in.use_link(door.links.make("alice")[0], None, None) for _ in range(2)
    ]
    made_up = [f"编造的 🎭 {n}" for n in range(MAX_REVOKED_TOKENS)]
    await asyncio.gather(*(door.engine.revoke_tokens("alice", one) for one in made_up))
    assert await door.let_in(first.token) == "alice"
    await door.engine.put_user("bob")
    door.clock.advance(60_000)
    bobs = await door.sign_in.use_link(door.links.make("bob")[0], None, None, first.secret)
    assert await door.let_in(bobs.token) == "bob"
    await door.sign_in.end(second.secret)
    for ended in (first, second):
        with pytest.raises(QunxinError, match="token_revoked"):
            await door.let_in(ended.token)
    alices = await door.sign_in.use_link(door.links.make("alice")[0], None, None)
    assert await door.let_in(alices.token) == "alice"


async def test_a_link_that_has_made_its_account_opens_it(door: Door) -> None:
    """Where what comes after that fails, the link can be used again: for that account, and no
    other."""
    alices = await door.sign_in.use_link(door.links.make("alice")[0], None, None)
    secret, _ = door.links.make(None)
    gate = door.store.close_gate()
    using = asyncio.create_task(door.sign_in.use_link(secret, "lin", "林 🌳", alices.secret))
    await door.store.reached.wait()
    door.store.full = True
    gate.set()
    with pytest.raises(QunxinError, match="store_unavailable"):
        await using
    door.store.full = False
    with pytest.raises(QunxinError, match="the link is not for alice"):
        await door.sign_in.use_link(secret, "alice", None, alices.secret)
    assert await door.let_in(alices.token) == "alice"
    lins = await door.sign_in.use_link(secret, "lin", "林 🌳", alices.secret)
    assert await door.let_in(lins.token) == "lin"
    assert (await door.engine.get_user("lin")).name == "林 🌳"
    with pytest.raises(QunxinError, match="token_revoked"):
        await door.let_in(alices.token)


async def test_two_links_that_want_the_same_id(door: Door) -> None:
    """One makes the account; to the other it exists, and is neither opened nor renamed."""
    secrets = [door.links.make(None)[0] for _ in range(10)]
    names = [f"{n} 号 🌳" for n in range(10)]
    asked = zip(secrets, names, strict=True)
    done = await asyncio.gather(
        *(door.sign_in.use_link(secret, "lin", name) for secret, name in asked),
        return_exceptions=True,
    )
    (won,) = (n for n, one in enumerate(done) if isinstance(one, Session))
    refused = [one for one in done if isinstance(one, QunxinError)]
    assert [one.facts["taken"] for one in refused] == [True] * 9
    assert (await door.engine.get_user("lin")).name == names[won]
