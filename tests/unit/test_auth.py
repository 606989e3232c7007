"""Tokens: what is accepted, what is refused, and by which code."""

from __future__ import annotations

import base64
import hmac
import json
from typing import Any

import jwt
import pytest

from qunxin.engine import Engine
from qunxin.engine.access import Caller, Scope
from qunxin.engine.tokens import LEEWAY_SECONDS
from qunxin.errors import QunxinError
from qunxin.gateways.auth import Authenticator
from qunxin.gateways.keyring import TokenKeys, new_key

NOW = 1_764_000_000


class FakeClock:
    def __init__(self) -> None:
        self.seconds: float = NOW

    def now_ms(self) -> int:
        return int(self.seconds * 1000)

    def monotonic(self) -> float:
        return self.seconds


KEY = new_key()
KEYS = TokenKeys(active=KEY.id, keys=(KEY,))


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def authenticator(engine: Engine, clock: FakeClock) -> Authenticator:
    return Authenticator(engine, KEYS, clock=clock)


def _token(secret: bytes = KEY.secret, headers: dict[str, Any] | None = None, **claims: Any) -> str:
    """A token as an application would sign it; a claim of None is left out."""
    whole = {"sub": "alice", "aud": "qunxin", "exp": NOW + 60, **claims}
    kept = {name: value for name, value in whole.items() if value is not None}
    return jwt.encode(kept, secret, "HS256", headers=headers or {"kid": KEY.id})


def _handmade(header: object, claims: object, secret: bytes = KEY.secret) -> str:
    """A token with any header at all, signed with HMAC-SHA256."""

    def part(value: object) -> bytes:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=")

    signed = part(header) + b"." + part(claims)
    signature = hmac.digest(secret, signed, "sha256")
    return (signed + b"." + base64.urlsafe_b64encode(signature).rstrip(b"=")).decode()


async def _refusal(authenticator: Authenticator, token: str) -> str:
    with pytest.raises(QunxinError) as refused:
        await authenticator.verify_token(token)
    return refused.value.code


async def test_an_issued_token_names_its_user(authenticator: Authenticator) -> None:
    """For an hour unless told otherwise."""
    token, expires = authenticator.issue_token("a@b.example")
    assert expires == (NOW + 3600) * 1000
    identity = await authenticator.verify_token(token)
    assert (identity.user, identity.expires_at_ms) == ("a@b.example", expires)


async def test_an_applications_own_token_is_accepted(authenticator: Authenticator) -> None:
    """Signed elsewhere with the same key, with and without its id."""
    assert (await authenticator.verify_token(_token())).user == "alice"
    assert (await authenticator.verify_token(_token(headers={"typ": "JWT"}))).user == "alice"
    assert (await authenticator.verify_token(_token(aud=["else", "qunxin"]))).user == "alice"
    assert (
        await authenticator.verify_token(_token(exp=NOW + 0.5))
    ).expires_at_ms == NOW * 1000 + 500


async def test_a_token_expires_with_little_leeway(
    authenticator: Authenticator, clock: FakeClock
) -> None:
    """Up to its time and a few seconds, then `token_expired`."""
    token = _token()
    clock.seconds = NOW + 60 + LEEWAY_SECONDS - 0.001
    assert (await authenticator.verify_token(token)).user == "alice"
    clock.seconds = NOW + 60 + LEEWAY_SECONDS
    assert await _refusal(authenticator, token) == "token_expired"


async def test_a_token_is_not_accepted_before_its_time(
    authenticator: Authenticator, clock: FakeClock
) -> None:
    """RFC 7519, 4.1.5."""
    token = _token(nbf=NOW + 30)
    assert await _refusal(authenticator, token) == "unauthenticated"
    clock.seconds = NOW + 30
    assert (await authenticator.verify_token(token)).user == "alice"


@pytest.mark.parametrize(
    "claims",
    [
        {"exp": None},
        {"aud": None},
        {"sub": None},
        {"aud": "elsewhere"},
        {"aud": []},
        {"aud": {"qunxin": 1}},
        {"sub": ""},
        {"sub": "爱丽丝"},
        {"sub": "a..b"},
        {"sub": "a" * 65},
        {"exp": 1e300},
        {"exp": -1},
        {"exp": 2**70},
        {"nbf": float("inf")},
        {"nbf": 2**80},
        {"exp": NOW + 30 * 86_400 + 6},
        {"iat": NOW + 6},
        {"iat": "今天"},
        {"jti": ""},
        {"jti": 7},
        {"jti": "十" * 129},
    ],
)
async def test_claims_that_are_missing_or_wrong(
    authenticator: Authenticator, claims: dict[str, Any]
) -> None:
    """Each is `unauthenticated`, never anything unforeseen."""
    assert await _refusal(authenticator, _token(**claims)) == "unauthenticated"


@pytest.mark.parametrize("claim", ["sub", "exp", "aud", "nbf"])
@pytest.mark.parametrize("value", [True, [], {}, "明天", float("nan")])
async def test_claims_of_a_wrong_type(
    authenticator: Authenticator, claim: str, value: object
) -> None:
    """Signed by hand, as no library would."""
    claims = {"sub": "alice", "aud": "qunxin", "exp": NOW + 60, claim: value}
    token = _handmade({"alg": "HS256", "kid": KEY.id}, claims)
    assert await _refusal(authenticator, token) == "unauthenticated"


async def test_the_algorithm_is_the_keys_not_the_tokens(authenticator: Authenticator) -> None:
    """No `none`, no other HMAC, no public-key algorithm over our secret."""
    claims = {"sub": "alice", "aud": "qunxin", "exp": NOW + 60}
    unsigned = jwt.encode(claims, "", "none", headers={"kid": KEY.id})
    assert await _refusal(authenticator, unsigned) == "unauthenticated"
    longer = jwt.encode(claims, KEY.secret * 2, "HS512", headers={"kid": KEY.id})
    assert await _refusal(authenticator, longer) == "unauthenticated"
    for algorithm in ("none", "None", "RS256", "HS384", "", None, 1, ["HS256"]):
        token = _handmade({"alg": algorithm, "kid": KEY.id}, claims)
        assert await _refusal(authenticator, token) == "unauthenticated", algorithm


async def test_a_signature_that_is_not_ours(authenticator: Authenticator) -> None:
    """Another secret, a changed claim, a cut signature, no token at all."""
    assert await _refusal(authenticator, _token(new_key().secret)) == "unauthenticated"
    head, _, signature = _token().split(".")
    forged = _token(sub="bob").split(".")[1]
    broken = ("", ".", "..", "你好", "a.b.c", _token()[:-2], f"{head}.{forged}.{signature}")
    for token in (*broken, "x" * 5000, _token() + "\x00", "\ud800"):
        assert await _refusal(authenticator, token) == "unauthenticated", token[:40]


@pytest.mark.parametrize("key_id", ["unknown", "", 5, None, [KEY.id], {"a": 1}])
async def test_a_key_id_that_is_not_ours(authenticator: Authenticator, key_id: object) -> None:
    """An id that names no key is refused, not replaced by the active one."""
    claims = {"sub": "alice", "aud": "qunxin", "exp": NOW + 60}
    token = _handmade({"alg": "HS256", "kid": key_id}, claims)
    assert await _refusal(authenticator, token) == "unauthenticated"


async def test_a_good_token_is_verified_once_in_a_while(
    authenticator: Authenticator, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not at each request; and it expires in its time all the same."""
    verified: list[str] = []
    decode = jwt.decode

    def counting(token: str, *rest: Any, **options: Any) -> Any:
        verified.append(token)
        return decode(token, *rest, **options)

    monkeypatch.setattr(jwt, "decode", counting)
    token = _token(exp=NOW + 90)
    assert [(await authenticator.verify_token(token)).user for _ in range(5)] == ["alice"] * 5
    assert len(verified) == 1
    clock.seconds = NOW + 61
    await authenticator.verify_token(token)
    assert len(verified) == 2
    clock.seconds = NOW + 90 + LEEWAY_SECONDS
    assert await _refusal(authenticator, token) == "token_expired"


async def test_keys_take_turns(authenticator: Authenticator) -> None:
    """After a rotation old tokens still hold and new ones are signed with the new key; without
    the old key its tokens are refused."""
    old, _ = authenticator.issue_token("alice")
    rotated = KEYS.rotated()
    authenticator.use_keys(rotated)
    new, _ = authenticator.issue_token("bob")
    assert jwt.get_unverified_header(new)["kid"] == rotated.active != KEYS.active
    assert (await authenticator.verify_token(old)).user == "alice"
    authenticator.use_keys(rotated.without(KEY.id))
    assert await _refusal(authenticator, old) == "unauthenticated"
    assert (await authenticator.verify_token(new)).user == "bob"


@pytest.mark.parametrize(
    ("user", "seconds"), [("爱丽丝", 60), ("", 60), ("a", 0), ("a", -1), ("a", 30 * 86_400 + 1)]
)
def test_tokens_that_are_not_made(authenticator: Authenticator, user: str, seconds: int) -> None:
    """Not for an id that cannot be, and for a second to thirty days only."""
    with pytest.raises(QunxinError) as refused:
        authenticator.issue_token(user, seconds)
    assert refused.value.code == "invalid_request"


async def _caller(authenticator: Authenticator, value: str | None) -> Caller:
    return await authenticator.authenticate_http({} if value is None else {"authorization": value})


async def test_a_header_with_a_users_token(authenticator: Authenticator, engine: Engine) -> None:
    """The caller is the user, as long as the account may act."""
    await engine.put_user("alice", name="爱丽丝 👩🏽‍🚀")
    header = f"bearer  {_token()}"
    assert await _caller(authenticator, header) == Caller.as_user("alice")
    await engine.put_user("alice", state="suspended")
    with pytest.raises(QunxinError, match="user_suspended"):
        await _caller(authenticator, header)
    await engine.erase_user("alice")
    with pytest.raises(QunxinError, match="user_erased"):
        await _caller(authenticator, header)
    await engine.put_user("bob")
    await engine.revoke_tokens("bob", "第一个 🎫")
    with pytest.raises(QunxinError, match="token_revoked"):
        await _caller(authenticator, f"Bearer {_token(sub='bob', iat=NOW, jti='第一个 🎫')}")
    bobs = f"Bearer {_token(sub='bob', iat=NOW, jti='第二个')}"
    assert await _caller(authenticator, bobs) == Caller.as_user("bob")
    with pytest.raises(QunxinError, match="user_not_found"):
        await _caller(authenticator, f"Bearer {_token(sub='nobody')}")


async def test_a_header_with_an_api_key(authenticator: Authenticator, engine: Engine) -> None:
    """The caller has the key's scopes, until it is revoked."""
    made = await engine.create_key("钥匙 🔑", scopes=("read",))
    caller = await _caller(authenticator, f"Bearer {made.key}")
    assert (caller.is_key, caller.scopes) == (True, frozenset({Scope.READ}))
    for wrong in (made.key[:-1], made.key + "x", "qx_", "qx__", f"qx_{made.id}_", "qx_你_好"):
        with pytest.raises(QunxinError, match="unauthenticated"):
            await _caller(authenticator, f"Bearer {wrong}")
    await engine.revoke_key(made.id)
    with pytest.raises(QunxinError, match="unauthenticated"):
        await _caller(authenticator, f"Bearer {made.key}")


@pytest.mark.parametrize(
    "value", [None, "", "Bearer", "Bearer ", "Basic YTpi", "qx_key", "Bearer a, Bearer b"]
)
async def test_a_header_without_credentials(
    authenticator: Authenticator, value: str | None
) -> None:
    """Nothing, another scheme, half a header: `unauthenticated`."""
    with pytest.raises(QunxinError, match="unauthenticated"):
        await _caller(authenticator, value)
