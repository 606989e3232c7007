"""The page at `/` and its door, `/session`, over real HTTP."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from http.cookies import Morsel, SimpleCookie
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from http_node import HttpNode, http_node

from command_line import CommandLine
from qunxin.engine import Engine
from qunxin.gateways.http import HttpSettings
from qunxin.gateways.http.sessions import COOKIE
from qunxin.gateways.sign_in import SESSION_SECONDS
from serving import ServerProcess

FRIEND = "https://friend.example"


@pytest.fixture
async def node(engine: Engine) -> AsyncIterator[HttpNode]:
    await engine.put_user("alice", name="爱丽丝 🍵")
    async with http_node(engine, HttpSettings(allowed_origins=(FRIEND,))) as running:
        yield running


def _browser(node: HttpNode, **headers: str) -> httpx.AsyncClient:
    """What a page of the node's own sends."""
    own = {"origin": node.url, "sec-fetch-site": "same-origin"}
    return httpx.AsyncClient(base_url=node.url, headers={**own, **headers})


def _cookie(answer: httpx.Response) -> Morsel[str]:
    return SimpleCookie(answer.headers["set-cookie"])[COOKIE]


async def _sign_in(node: HttpNode, browser: httpx.AsyncClient, user: str = "alice") -> Any:
    secret, _ = node.links.make(user)
    answer = await browser.post("/session", json={"link": secret, "user": user})
    assert answer.status_code == 201, answer.text
    return answer


async def test_the_page_comes_with_the_strictest_headers(node: HttpNode) -> None:
    """Only its own files, no inline script or style, no frame around it, no markup from text."""
    async with _browser(node) as browser:
        page = await browser.get("/")
        policy = page.headers["content-security-policy"]
        rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
        assert rules["default-src"] == "'none'"
        assert rules["script-src"] == rules["style-src"] == rules["connect-src"] == "'self'"
        assert rules["frame-ancestors"] == rules["base-uri"] == rules["form-action"] == "'none'"
        assert rules["require-trusted-types-for"] == "'script'"
        assert "unsafe" not in policy
        assert page.headers["referrer-policy"] == "no-referrer"
        assert page.headers["x-content-type-options"] == "nosniff"
        assert page.headers["cross-origin-opener-policy"] == "same-origin"
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        script = await browser.get("/assets/page.js")
        assert script.headers["content-type"] == "text/javascript; charset=utf-8"
        assert (await browser.get("/assets/qunxin.js")).status_code == 404
        assert (await browser.get("/assets/../config.py")).status_code == 404


async def test_the_module_is_served_to_allowed_pages_too(node: HttpNode) -> None:
    """An application of another origin that may use the node imports it from there."""
    async with _browser(node, origin=FRIEND) as browser:
        module = await browser.get("/qunxin.js")
        assert module.headers["content-type"] == "text/javascript; charset=utf-8"
        assert module.headers["access-control-allow-origin"] == FRIEND
        assert module.headers["cross-origin-resource-policy"] == "cross-origin"
        assert b"export class Chat" in module.content


async def test_a_link_signs_in_once(node: HttpNode) -> None:
    """The cookie is for `/session` only, unreadable to scripts, never sent across sites; with it
    come tokens that work as any other."""
    async with _browser(node) as browser:
        secret, _ = node.links.make("alice")
        asked = {"link": secret, "user": "alice"}
        answer = await browser.post("/session", json=asked)
        cookie = _cookie(answer)
        assert (cookie["path"], cookie["samesite"], cookie["secure"]) == ("/session", "Strict", "")
        assert cookie["httponly"]
        assert int(cookie["max-age"]) == SESSION_SECONDS
        assert answer.headers["cache-control"] == "no-store"
        again = await browser.post("/session", json=asked)
        assert (again.status_code, again.json()["code"]) == (401, "unauthenticated")
        renewed = (await browser.post("/session/token")).json()
        assert renewed["user"] == "alice"
        bearer = {"Authorization": f"Bearer {renewed['token']}"}
        me = await browser.get("/v1/users/alice", headers=bearer)
        assert me.json()["name"] == "爱丽丝 🍵"
        kept = browser.cookies[COOKIE]
        left = await browser.delete("/session")
        assert int(_cookie(left)["max-age"]) == 0
        assert (await browser.post("/session/token")).status_code == 204
        assert (await browser.delete("/session")).status_code == 200
    async with _browser(node, cookie=f"{COOKIE}={kept}") as thief:
        assert (await thief.post("/session/token")).json()["code"] == "token_revoked"


async def test_a_session_ends_with_all_it_let_in(
    node: HttpNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tokens that it was exchanged for, before and after its secret was replaced, and the
    former secret; the same user's other browsers stay."""
    async with _browser(node) as other:
        staying = (await _sign_in(node, other)).json()["token"]
        async with _browser(node) as browser:
            signed = await _sign_in(node, browser)
            former = browser.cookies[COOKIE]
            monkeypatch.setattr("qunxin.gateways.sign_in.SESSION_SECONDS", 29 * 24 * 3600)
            renewed = await browser.post("/session/token")
            assert browser.cookies[COOKIE] != former
            tokens = [answer.json()["token"] for answer in (signed, renewed)]
            assert [await _code_of(node, token) for token in (*tokens, staying)] == ["", "", ""]
            assert (await browser.delete("/session")).status_code == 200
        assert {await _code_of(node, token) for token in tokens} == {"token_revoked"}
        assert await _code_of(node, staying) == ""
        assert (await other.post("/session/token")).status_code == 200
    async with _browser(node, cookie=f"{COOKIE}={former}") as thief:
        assert (await thief.post("/session/token")).json()["code"] == "token_revoked"


async def _code_of(node: HttpNode, token: str) -> str:
    """What Alice's token is refused with; nothing where it is good."""
    headers = {"Authorization": f"Bearer {token}"}
    async with httpx.AsyncClient(base_url=node.url, headers=headers) as device:
        return str((await device.get("/v1/users/alice")).json().get("code", ""))


async def test_whoever_comes_next_in_a_browser_ends_the_session_before(node: HttpNode) -> None:
    """Nobody has its cookie any more, so nobody could sign it out; a link that is not good ends
    nothing."""
    await node.engine.put_user("bob", name="鲍勃 🧋")
    async with _browser(node) as browser:
        token = (await _sign_in(node, browser)).json()["token"]
        assert (await browser.post("/session", json={"link": "猜 🎲"})).status_code == 401
        assert await _code_of(node, token) == ""
        assert (await _sign_in(node, browser, "bob")).json()["user"] == "bob"
        assert await _code_of(node, token) == "token_revoked"
        assert (await browser.post("/session/token")).json()["user"] == "bob"


@pytest.mark.parametrize(
    "around",
    [
        '{0}; prefs={{"theme": "dark"}}',
        'prefs={{"theme":"dark"}}; {0}',
        "a[b]=1; {0}; c=d",
        "no pair; =;; {0};",
        'a="; b=\\; {0}',
        "主题=夜 🌙; {0}",
        "x{0}; {0}; qunxin_session=others",
        "q={0};{0}",
    ],
)
async def test_a_session_among_the_cookies_of_others(node: HttpNode, around: str) -> None:
    """Other programs on the same host set what they like; the session is found beside it, and
    signing out ends it."""
    async with _browser(node) as browser:
        kept = _cookie(await _sign_in(node, browser)).value
    cookies: Any = {"cookie": around.format(f"{COOKIE}={kept}").encode()}
    async with _browser(node) as browser:
        assert (await browser.post("/session/token", headers=cookies)).status_code == 200
        browser.cookies.clear()
        assert (await browser.delete("/session", headers=cookies)).status_code == 200
        browser.cookies.clear()
        left = await browser.post("/session/token", headers=cookies)
        assert left.json()["code"] == "token_revoked"


async def test_an_erased_account_can_be_signed_out(node: HttpNode) -> None:
    """Nothing of it is signed in any more; the cookie goes."""
    async with _browser(node) as browser:
        await _sign_in(node, browser)
        await node.engine.erase_user("alice")
        left = await browser.delete("/session")
        assert (left.status_code, int(_cookie(left)["max-age"])) == (200, 0)


async def test_session_and_token_never_stand_for_each_other(node: HttpNode) -> None:
    """What the cookie holds opens no other door, and a device's token opens no session."""
    async with _browser(node) as browser:
        answer = await _sign_in(node, browser)
        bearer = {"Authorization": f"Bearer {_cookie(answer).value}"}
        assert (await browser.get("/v1/users/alice", headers=bearer)).status_code == 401
    async with _browser(node, cookie=f"{COOKIE}={answer.json()['token']}") as thief:
        assert (await thief.post("/session/token")).status_code == 401


async def test_behind_tls_the_cookie_is_secure(engine: Engine) -> None:
    """A proxy ends TLS: the page's own origin tells."""
    await engine.put_user("alice")
    settings = HttpSettings(allowed_hosts=("chat.example",))
    async with http_node(engine, settings) as node:
        headers = {"host": "chat.example", "origin": "https://chat.example"}
        async with _browser(node, **headers) as browser:
            assert _cookie(await _sign_in(node, browser))["secure"]


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": FRIEND},
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"sec-fetch-site": "same-site"},
        {"sec-fetch-site": "cross-site"},
    ],
    ids=str,
)
async def test_other_pages_cannot_sign_in(node: HttpNode, headers: dict[str, str]) -> None:
    """Not even those that may use the API; the link is not used up by it."""
    secret, _ = node.links.make("alice")
    async with _browser(node) as browser:
        await _sign_in(node, browser)
        for method, path in (
            ("POST", "/session"),
            ("POST", "/session/token"),
            ("DELETE", "/session"),
        ):
            body = {"link": secret} if path == "/session" and method == "POST" else None
            answer = await browser.request(method, path, json=body, headers=headers)
            assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
            assert "set-cookie" not in answer.headers
    assert node.links.take(secret).user == "alice"


async def test_without_an_origin_or_json_nobody_signs_in(node: HttpNode) -> None:
    """A program is no page; a form cannot send JSON."""
    secret, _ = node.links.make("alice")
    async with httpx.AsyncClient(base_url=node.url) as program:
        assert (await program.post("/session", json={"link": secret})).status_code == 403
    async with _browser(node) as browser:
        body = json.dumps({"link": secret})
        form = {"content-type": "text/plain"}
        assert (await browser.post("/session", content=body, headers=form)).status_code >= 400
        bodies: list[Any] = [{}, [], {"link": ""}, {"link": "猜"}, {"link": secret, "as": "root"}]
        deep, kind = b'{"x":' * 10_000 + b"1" + b"}" * 10_000, {"content-type": "application/json"}
        assert (await browser.post("/session", content=deep, headers=kind)).status_code == 400
        for wrong in bodies:
            assert (await browser.post("/session", json=wrong)).status_code in (400, 401)
    assert node.links.take(secret).user == "alice"


async def test_a_link_without_a_user_makes_an_account_and_opens_none(node: HttpNode) -> None:
    """An id that is taken, or cannot be, is refused and the link stays good for another."""
    secret, _ = node.links.make(None)
    async with _browser(node) as browser:
        for user in ("alice", "不行", "a..b", "", None):
            answer = await browser.post("/session", json={"link": secret, "user": user})
            assert answer.status_code == 400, answer.text
            assert "set-cookie" not in answer.headers
        taken = await browser.post("/session", json={"link": secret, "user": "alice"})
        assert taken.json()["facts"]["taken"] is True
        made = {"link": secret, "user": "小茶".encode().hex(), "name": "小茶 🍵‍♀️"}
        assert (await browser.post("/session", json=made)).status_code == 201
        found = await node.engine.get_user(made["user"])
        assert found.name == made["name"]
        other = {"link": secret, "user": "second"}
        assert (await browser.post("/session", json=other)).status_code == 401


async def test_a_link_shows_whom_it_is_for(node: HttpNode) -> None:
    """An address that claims another user than its link's signs nobody in."""
    await node.engine.put_user("mallory")
    secret, _ = node.links.make("mallory")
    async with _browser(node) as browser:
        answer = await browser.post("/session", json={"link": secret, "user": "alice"})
        assert (answer.status_code, "set-cookie" in answer.headers) == (400, False)


async def test_a_suspended_account_gets_no_token(node: HttpNode) -> None:
    """Neither by its session nor by a link; let in again, it goes on."""
    async with _browser(node) as browser:
        await _sign_in(node, browser)
        await node.engine.put_user("alice", state="suspended")
        renewed = await browser.post("/session/token")
        assert (renewed.status_code, renewed.json()["code"]) == (403, "user_suspended")
        secret, _ = node.links.make("alice")
        refused = await browser.post("/session", json={"link": secret})
        assert refused.json()["code"] == "user_suspended"
        await node.engine.put_user("alice", state="active")
        assert (await browser.post("/session/token")).status_code == 200


def test_the_command_line_makes_links(server: ServerProcess, folder_cli: CommandLine) -> None:
    """`serve` prints one for a new account, `link` makes more, for those who exist; a session
    outlasts a kill of the server, a link does not."""
    printed = next(line.split()[-1] for line in server.log.splitlines() if "Sign in " in line)
    folder_cli("user", "create", "bob", "--name", "鲍勃 🧋")
    assert folder_cli.refusal("link", "nobody")["code"] == "user_not_found"
    made = folder_cli("link", "bob", "--minutes", "1", "--url", "https://chat.example/")
    assert made["link"].startswith("https://chat.example/#link=")
    assert folder_cli.run("link", "bob", "--minutes", "0").code == 1
    with httpx.Client(base_url=server.url, headers={"origin": server.url}) as browser:
        first = parse_qs(urlsplit(printed).fragment)["link"][0]
        wanted = {"link": first, "user": "carol", "name": "كارول"}
        assert browser.post("/session", json=wanted).status_code == 201
        server.kill()
        server.start()
        assert browser.post("/session/token").json()["user"] == "carol"
        fragment = parse_qs(urlsplit(made["link"]).fragment)
        late = {"link": fragment["link"][0], "user": fragment["user"][0]}
        assert browser.post("/session", json=late).status_code == 401


def test_without_a_server_there_is_no_link(folder_cli: CommandLine) -> None:
    """It would end with the command that made it."""
    folder_cli("user", "create", "bob")
    assert folder_cli.refusal("link", "bob")["code"] == "invalid_request"
