"""Tokens signed by others: RS256, ES256 and EdDSA, with the keys of a set that changes."""

from __future__ import annotations

import asyncio
import hmac
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm
from jwt.utils import base64url_encode

from qunxin.engine import Engine
from qunxin.engine.access import Caller
from qunxin.errors import QunxinError
from qunxin.gateways.auth import Authenticator
from qunxin.gateways.jwks import (
    MAX_AGE_SECONDS,
    MAX_SET_BYTES,
    RETRY_SECONDS,
    TOO_OLD_SECONDS,
    KeySet,
    fetch_bounded,
    open_key_set,
    parse_key_set,
    read_key_set,
)
from qunxin.gateways.keyring import TokenKeys, new_key
from qunxin.testing.clock import ManualClock

RSA = rsa.generate_private_key(65537, 2048)
EC = ec.generate_private_key(ec.SECP256R1())
ED = ed25519.Ed25519PrivateKey.generate()
SIGNERS: dict[str, Any] = {"RS256": RSA, "ES256": EC, "EdDSA": ED}
ISSUER = "https://登录.example"


def jwk(algorithm: str, key_id: str, **fields: Any) -> dict[str, Any]:
    key = SIGNERS[algorithm].public_key()
    kinds: dict[str, Any] = {"RS256": RSAAlgorithm, "ES256": ECAlgorithm, "EdDSA": OKPAlgorithm}
    made: dict[str, Any] = kinds[algorithm].to_jwk(key, as_dict=True)
    return made | {"kid": key_id} | fields


def key_set(*rows: dict[str, Any]) -> bytes:
    return json.dumps({"keys": rows}).encode()


class Source:
    """Where the keys are read from; fails while `text` is None, answers while `gate` is set."""

    def __init__(self, *rows: dict[str, Any]) -> None:
        self.text: bytes | None = key_set(*rows)
        self.asked = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.reached = asyncio.Event()

    async def fetch(self) -> bytes:
        self.asked += 1
        if not self.gate.is_set():
            self.reached.set()
            await self.gate.wait()
        if self.text is None:
            raise ConnectionRefusedError
        return self.text


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@asynccontextmanager
async def authenticator(
    engine: Engine, source: Source, clock: ManualClock, issuer: str = ""
) -> AsyncIterator[Authenticator]:
    own = new_key()
    keys = KeySet(source.fetch, clock)
    yield Authenticator(
        engine,
        TokenKeys(active=own.id, keys=(own,)),
        others=keys,
        others_issuer=issuer,
        clock=clock,
    )
    await keys.close()


def signed(clock: ManualClock, algorithm: str, key_id: str, **claims: Any) -> str:
    now = clock.now_ms() // 1000
    whole = {"sub": "alice", "aud": "qunxin", "iat": now, "exp": now + 3600, **claims}
    return jwt.encode(whole, SIGNERS[algorithm], algorithm, headers={"kid": key_id})


async def refusal(verifier: Authenticator, token: str) -> str:
    with pytest.raises(QunxinError) as refused:
        await verifier.verify_token(token)
    return refused.value.code


@pytest.mark.parametrize("algorithm", SIGNERS)
async def test_tokens_of_others_are_accepted(
    engine: Engine, clock: ManualClock, algorithm: str
) -> None:
    """With the key that they name; HTTP knows the caller. Our own tokens go on beside them."""
    await engine.put_user("alice", name="爱丽丝 👩🏽‍🚀")
    async with authenticator(engine, Source(jwk(algorithm, "钥匙 1")), clock) as verifier:
        token = signed(clock, algorithm, "钥匙 1")
        caller = await verifier.authenticate_http({"authorization": f"Bearer {token}"})
        assert caller == Caller.as_user("alice")
        assert (await verifier.verify_token(verifier.issue_token("bob")[0])).user == "bob"


async def test_each_key_has_its_one_algorithm(engine: Engine, clock: ManualClock) -> None:
    """A public key is no HMAC secret, and no key verifies another algorithm's signature."""
    source = Source(*(jwk(algorithm, algorithm) for algorithm in SIGNERS))
    async with authenticator(engine, source, clock) as verifier:
        for algorithm in SIGNERS:
            for key_id in SIGNERS:
                token = signed(clock, algorithm, key_id)
                if key_id == algorithm:
                    assert (await verifier.verify_token(token)).user == "alice"
                else:
                    assert await refusal(verifier, token) == "unauthenticated"
        now = clock.now_ms() // 1000
        claims = {"sub": "alice", "aud": "qunxin", "exp": now + 60}
        stretched = jwt.encode(claims, RSA, "RS512", headers={"kid": "RS256"})
        unsigned = jwt.encode(claims, "", "none", headers={"kid": "RS256"})
        public = RSA.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        head = b'{"alg":"HS256","kid":"RS256"}'
        text = b".".join(map(base64url_encode, (head, json.dumps(claims).encode())))
        signature = hmac.digest(public, text, "sha256")
        confused = (text + b"." + base64url_encode(signature)).decode()
        for token in (stretched, unsigned, confused):
            assert await refusal(verifier, token) == "unauthenticated"


async def test_the_issuer_is_asked_for(engine: Engine, clock: ManualClock) -> None:
    """Where the settings name one; of our own tokens never."""
    async with authenticator(engine, Source(jwk("ES256", "e")), clock, ISSUER) as verifier:
        assert (await verifier.verify_token(signed(clock, "ES256", "e", iss=ISSUER))).user
        assert await refusal(verifier, signed(clock, "ES256", "e")) == "unauthenticated"
        other = signed(clock, "ES256", "e", iss="https://别处.example")
        assert await refusal(verifier, other) == "unauthenticated"
        assert (await verifier.verify_token(verifier.issue_token("bob")[0])).user == "bob"


async def test_a_new_key_is_found_at_a_bounded_rate(engine: Engine, clock: ManualClock) -> None:
    """An unknown id has the set read again, however many ask at once, and not again for a while:
    until then the answer is to try again, since the key may be a new one."""
    source = Source(jwk("ES256", "old"))
    async with authenticator(engine, source, clock) as verifier:
        tokens = [signed(clock, "ES256", "old") for _ in range(20)]
        await asyncio.gather(*map(verifier.verify_token, tokens))
        assert source.asked == 1
        source.text = key_set(jwk("ES256", "old"), jwk("EdDSA", "new"))
        new = signed(clock, "EdDSA", "new")
        for _ in range(50):
            assert await refusal(verifier, new) == "token_keys_unavailable"
        assert source.asked == 1
        clock.advance(int(RETRY_SECONDS * 1000))
        assert (await verifier.verify_token(new)).user == "alice"
        clock.advance(int(RETRY_SECONDS * 1000))
        assert await refusal(verifier, signed(clock, "EdDSA", "never")) == "unauthenticated"
        assert source.asked == 3


async def test_the_last_good_set_stays_in_use(engine: Engine, clock: ManualClock) -> None:
    """While its source fails or talks nonsense; a key unknown to it may be good, so that one is
    to try again."""
    source = Source(jwk("ES256", "kept"))
    async with authenticator(engine, source, clock) as verifier:
        token = signed(clock, "ES256", "kept")
        await verifier.verify_token(token)
        for text in (None, "不是密钥".encode(), b'{"keys": []}'):
            source.text = text
            clock.advance(int(MAX_AGE_SECONDS * 1000) + 1)
            token = signed(clock, "ES256", "kept")
            assert (await verifier.verify_token(token)).user == "alice"
            clock.advance(int(RETRY_SECONDS * 1000))
            assert await refusal(verifier, signed(clock, "ES256", "x")) == "token_keys_unavailable"


async def test_a_key_taken_out_of_the_set_comes_out_of_use(
    engine: Engine, clock: ManualClock
) -> None:
    """Once the set has aged: the request that finds it aged has it read again."""
    source = Source(jwk("ES256", "gone"), jwk("EdDSA", "kept"))
    async with authenticator(engine, source, clock) as verifier:
        await verifier.verify_token(signed(clock, "ES256", "gone"))
        source.text = key_set(jwk("EdDSA", "kept"))
        clock.advance(int(MAX_AGE_SECONDS * 1000) + 1)
        await verifier.verify_token(signed(clock, "EdDSA", "kept"))
        async with asyncio.timeout(5):
            while source.asked < 2:  # noqa: ASYNC110 - the reading goes on beside
                await asyncio.sleep(0)
        clock.advance(int(RETRY_SECONDS * 1000))
        assert await refusal(verifier, signed(clock, "ES256", "gone")) == "unauthenticated"


async def test_after_a_silence_the_set_is_read_before_it_is_used(
    engine: Engine, clock: ManualClock
) -> None:
    """However long no token came, none with a key that was taken out meanwhile is accepted; all
    that come at once wait for one reading, and one who gives up takes it from nobody."""
    source = Source(jwk("ES256", "拿走了"), jwk("EdDSA", "还在"))
    async with authenticator(engine, source, clock) as verifier:
        await verifier.verify_token(signed(clock, "ES256", "拿走了"))
        source.text = key_set(jwk("EdDSA", "还在"))
        clock.advance(int(TOO_OLD_SECONDS * 1000) + 1)
        source.gate.clear()
        gone, kept = signed(clock, "ES256", "拿走了"), signed(clock, "EdDSA", "还在")
        impatient = asyncio.create_task(verifier.verify_token(kept))
        waiting = [asyncio.create_task(refusal(verifier, gone)) for _ in range(10)]
        patient = asyncio.create_task(verifier.verify_token(kept))
        await source.reached.wait()
        assert not any(task.done() for task in (impatient, *waiting, patient))
        impatient.cancel()
        source.gate.set()
        assert await asyncio.gather(*waiting) == ["unauthenticated"] * 10
        assert (await patient).user == "alice"
        assert source.asked == 2


async def test_after_a_silence_the_last_good_set_stays_too(
    engine: Engine, clock: ManualClock
) -> None:
    """Where its source fails; and it is not waited for again at once."""
    source = Source(jwk("ES256", "还在 🗝️"))
    async with authenticator(engine, source, clock) as verifier:
        await verifier.verify_token(signed(clock, "ES256", "还在 🗝️"))
        source.text = None
        clock.advance(int(TOO_OLD_SECONDS * 1000) + 1)
        for seconds in (60, 61):
            token = signed(clock, "ES256", "还在 🗝️", exp=clock.now_ms() // 1000 + seconds)
            assert (await verifier.verify_token(token)).user == "alice"
        assert source.asked == 2


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[]",
        b"{}",
        "密钥".encode(),
        b"\xff",
        b'{"keys": 1}',
        b'{"keys": [[]]}',
        b"[" * 100_000,
        key_set({"kty": "oct", "k": "c2VjcmV0", "kid": "秘密"}),
        key_set(jwk("ES256", "a"), jwk("EdDSA", "a")),
        key_set(jwk("ES256", "a", use="enc")),
        key_set(jwk("ES256", "a", alg="HS256")),
        key_set(jwk("ES256", "a", x="!!")),
        key_set(jwk("ES256", "a", crv="P-384")),
        key_set(jwk("EdDSA", "a", crv="Ed448")),
        key_set(jwk("EdDSA", "")),
        key_set(jwk("EdDSA", "a") | {"kid": 7}),
        key_set(jwk("EdDSA", "a") | {"kty": ["OKP"]}),
    ],
)
def test_sets_that_are_not_taken(text: bytes) -> None:
    """No set, no usable key in it, or an id that names two."""
    with pytest.raises(QunxinError) as refused:
        parse_key_set(text)
    assert refused.value.code == "invalid_request"


def test_a_short_rsa_key_is_passed_over() -> None:
    """Under 2048 bits it protects nobody."""
    short = rsa.generate_private_key(65537, 1024).public_key()  # noqa: S505
    row: dict[str, Any] = RSAAlgorithm.to_jwk(short, as_dict=True)
    assert set(parse_key_set(key_set(row | {"kid": "short"}, jwk("ES256", "good")))) == {"good"}


async def test_a_file_of_keys(clock: ManualClock, tmp_path: Path) -> None:
    """Read like a URL is; a file that is not there is no reason to forget."""
    path = tmp_path / "公钥 🔑.json"
    path.write_bytes(key_set(jwk("RS256", "r")))
    keys = open_key_set(str(path), clock=clock)
    assert (await keys.find("r")).algorithm == "RS256"
    path.unlink()
    clock.advance(int(RETRY_SECONDS * 1000))
    with pytest.raises(QunxinError, match="token_keys_unavailable"):
        await keys.find("other")
    assert (await keys.find("r")).algorithm == "RS256"
    await keys.close()


# --- over a real socket -------------------------------------------------------------------------


@asynccontextmanager
async def key_server(head: str, body: bytes, *, cut: bool = True) -> AsyncIterator[str]:
    """Answers every request with the same bytes; the address is given."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(f"HTTP/1.1 {head}\r\nConnection: close\r\n\r\n".encode() + body)
        if not cut:
            await reader.read()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/keys"


@pytest.mark.parametrize("text", [None, "不是钥匙", '{"keys": []}'])
async def test_a_file_that_cannot_be_used_is_told_in_words(
    tmp_path: Path, text: str | None
) -> None:
    """Not there, no key set, or an empty one: a start is refused, and the file is named."""
    path = tmp_path / "钥匙.json"
    if text is not None:
        path.write_text(text, "utf-8")
    with pytest.raises(QunxinError) as refused:
        await read_key_set(str(path))
    assert refused.value.code == "cannot_start"
    assert str(path) in refused.value.text()


async def test_a_url_of_keys(clock: ManualClock) -> None:
    """Over HTTP, on a private address that was allowed."""
    async with key_server("200 OK", key_set(jwk("EdDSA", "ed"))) as url:
        keys = open_key_set(url, allow_private=True, clock=clock)
        assert (await keys.find("ed")).algorithm == "EdDSA"
        await keys.close()


async def test_private_addresses_are_refused_unless_allowed() -> None:
    """By the address, whatever the name; and plain HTTP with them."""
    async with key_server("200 OK", key_set(jwk("EdDSA", "ed"))) as url:
        for asked in (url, url.replace("http:", "https:"), "https://localhost:1/keys"):
            with pytest.raises(QunxinError) as refused:
                await fetch_bounded(asked)
            assert refused.value.code == "forbidden"


@pytest.mark.parametrize("head", ["302 Found\r\nLocation: http://127.0.0.1/", "404 Not Found"])
async def test_only_200_is_an_answer(head: str) -> None:
    """Redirects are not followed: they would lead past the check of whoever set the address."""
    async with key_server(head, key_set(jwk("EdDSA", "ed"))) as url:
        with pytest.raises(QunxinError, match="the answer is"):
            await fetch_bounded(url, allow_private=True)


async def test_an_answer_without_end_is_cut() -> None:
    """At the bound, not after it."""
    async with key_server("200 OK", b" " * (MAX_SET_BYTES + 1), cut=False) as url:
        with pytest.raises(QunxinError, match="bytes"):
            await fetch_bounded(url, allow_private=True)


async def test_an_answer_that_does_not_come_is_given_up(
    clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In bounded time; the token is to be tried again."""
    monkeypatch.setattr("qunxin.gateways.jwks.FETCH_SECONDS", 0.1)
    async with key_server("200 OK", b"{", cut=False) as url:
        keys = open_key_set(url, allow_private=True, clock=clock)
        with pytest.raises(QunxinError, match="token_keys_unavailable"):
            await keys.find("ed")
        await keys.close()
