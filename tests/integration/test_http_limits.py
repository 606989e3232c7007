"""The HTTP gateway against bad, hostile and broken clients, over raw sockets."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from itertools import product

import msgspec
import pytest
from http_node import HttpNode, RawConnection, http_node, raw_connection, raw_request

from qunxin.engine import Engine
from qunxin.gateways.http import HttpSettings

JSON = "Content-Type: application/json"
CHUNKED = "Transfer-Encoding: chunked"
SMALL = HttpSettings(
    max_body_bytes=100_000,
    request_deadline_seconds=2.0,
    header_deadline_seconds=0.3,
    write_deadline_seconds=0.3,
    drain_bytes=200_000,
    drain_seconds=0.3,
)


@pytest.fixture
async def node(engine: Engine) -> AsyncIterator[HttpNode]:
    async with http_node(engine, SMALL) as running:
        await engine.put_user("alice", name="小爱")
        await engine.put_user("bob")
        await engine.put_group("tea", owner="alice", members=("bob",))
        yield running


@pytest.fixture
async def raw(node: HttpNode) -> AsyncIterator[RawConnection]:
    async with raw_connection(node.port) as connection:
        yield connection


def _post(node: HttpNode, body: bytes, *lines: str, path: str = "/v1/messages") -> bytes:
    return raw_request(node, "POST", path, JSON, f"Content-Length: {len(body)}", *lines, body=body)


def _message(**fields: object) -> bytes:
    whole = {"type": "group", "to": "tea", "from": "alice", "text": "你好", **fields}
    return json.dumps(whole, ensure_ascii=False).encode()


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


async def _keep_sending(raw: RawConnection, data: bytes, pause: float = 0) -> None:
    """Send the same again and again, for much longer than any limit here."""
    for _ in range(20_000):
        await raw.send(data)
        await asyncio.sleep(pause)


async def _problem(raw: RawConnection, request: bytes, status: int, code: str) -> str:
    """Send, expect that problem; its detail."""
    await raw.send(request)
    answer = await raw.answer()
    assert (answer.status, answer.problem["code"]) == (status, code), answer
    assert answer.problem["status"] == status
    detail: str = answer.problem["detail"]
    return detail


# --- size -------------------------------------------------------------------------------------


async def test_a_body_announced_too_large_is_refused_before_it_comes(
    node: HttpNode, raw: RawConnection
) -> None:
    """413 at once, with none of the body sent; then the connection ends by itself."""
    request = raw_request(node, "POST", "/v1/messages", JSON, "Content-Length: 100000001")
    detail = await _problem(raw, request, 413, "message_too_large")
    assert "100000001" in detail
    assert await raw.closed()


async def test_a_client_that_keeps_writing_reads_the_413(
    node: HttpNode, raw: RawConnection
) -> None:
    """The connection is drained a little, so that the answer is not lost to a reset."""
    body = "水".encode() * 50_000
    await raw.send(_post(node, body))
    answer = await raw.answer()
    assert answer.status == 413
    assert answer.headers["connection"] == "close"
    assert await raw.closed()


async def test_whoever_writes_on_beyond_what_is_drained_is_not_reset(engine: Engine) -> None:
    """They are left waiting with the refusal: a reset under it is what proxies make a 502 of."""
    patient = msgspec.structs.replace(SMALL, drain_seconds=3.0)
    async with http_node(engine, patient) as node, raw_connection(node.port) as raw:
        sending = asyncio.create_task(raw.send(_post(node, "水".encode() * 5_000_000)))
        assert (await raw.answer()).status == 413
        ended, _ = await asyncio.wait({sending}, timeout=0.5)
        assert not ended
        with pytest.raises(ConnectionError):
            await sending


async def test_the_413_comes_to_clients_with_a_library_too(node: HttpNode) -> None:
    """Also without credentials, and ten times over the limit."""
    message = {"type": "group", "to": "tea", "from": "alice", "text": "🌊" * 100_000}
    for _ in range(3):
        answer = await node.api.post("/v1/messages", json=message)
        assert (answer.status_code, answer.json()["code"]) == (413, "message_too_large")


async def test_a_chunked_body_is_cut_at_the_limit(node: HttpNode, raw: RawConnection) -> None:
    """No length is announced: refused as soon as the limit is passed, while more is coming."""
    await raw.send(raw_request(node, "POST", "/v1/messages", JSON, CHUNKED))
    for _ in range(26):
        await raw.send(_chunk(b" " * 4096))
    answer = await raw.answer()
    assert (answer.status, answer.problem["code"]) == (413, "message_too_large")
    assert await raw.closed()


async def test_draining_ends(node: HttpNode, raw: RawConnection) -> None:
    """A client that never stops is cut off after the bound, in bytes or in seconds."""
    await raw.send(raw_request(node, "POST", "/v1/messages", JSON, CHUNKED))
    with pytest.raises(ConnectionError):
        await _keep_sending(raw, _chunk(b" " * 65_536))


async def test_a_chunked_body_is_read(node: HttpNode, raw: RawConnection) -> None:
    """In chunks of one byte too, split in the middle of characters."""
    body = _message(text="👩🏽‍🚀 שלום 你好")
    await raw.send(raw_request(node, "POST", "/v1/messages", JSON, CHUNKED))
    for byte in body:
        await raw.send(_chunk(bytes((byte,))))
    await raw.send(b"0\r\n\r\n")
    assert (await raw.answer()).status == 201


@pytest.mark.parametrize("text", ["好" * 21_800, "👩🏽‍🚀" * 4_300, "א" * 32_700])
async def test_64_kilobytes_of_any_script_pass(engine: Engine, text: str) -> None:
    """Escaped or not, up to the limit of a message, and not beyond it."""
    async with http_node(engine) as roomy:
        await engine.put_user("alice")
        await engine.put_group("tea", owner="alice")
        fields = {"type": "group", "to": "tea", "from": "alice", "text": text}
        for escaped in (True, False):
            body = json.dumps(fields, ensure_ascii=escaped).encode()
            headers = {"Content-Type": "application/json"}
            sent = await roomy.api.post("/v1/messages", content=body, headers=headers)
            assert sent.status_code == 201
            place = {"after": sent.json()["position"] - 1}
            page = await roomy.api.get("/v1/conversations/group:tea/entries", params=place)
            assert page.json()["entries"][0]["content"][0]["text"] == text
        over = {**fields, "text": text * 2}
        refused = await roomy.api.post("/v1/messages", json=over)
        assert (refused.status_code, refused.json()["code"]) == (413, "message_too_large")


# --- time -------------------------------------------------------------------------------------


async def test_headers_that_do_not_come_end_the_connection(raw: RawConnection) -> None:
    """Drop by drop does not help: the deadline is for all of them."""
    await raw.send(b"GET /health/live HT")
    await asyncio.sleep(0.1)
    await raw.send(b"TP/1.1\r\nHost: loc")
    answer = await raw.answer()
    assert (answer.status, answer.problem["code"]) == (408, "invalid_request")
    assert await raw.closed()


async def test_a_connection_that_says_nothing_is_ended(raw: RawConnection) -> None:
    """It would hold a socket for ever."""
    assert (await raw.answer()).status == 408
    assert await raw.closed()


async def test_a_body_that_does_not_come_ends_the_request(
    node: HttpNode, raw: RawConnection
) -> None:
    """408 and the end, not a bare time-out."""
    request = raw_request(node, "POST", "/v1/messages", JSON, "Content-Length: 50", body=b"{")
    await _problem(raw, request, 408, "invalid_request")
    assert await raw.closed()


async def test_a_client_that_does_not_read_is_cut_off(node: HttpNode) -> None:
    """Its unread answers are bounded by one connection's buffers, and by time."""
    async with raw_connection(node.port) as raw:
        request = raw_request(node, "GET", "/openapi.json")
        with pytest.raises(ConnectionError):
            await _keep_sending(raw, request, pause=0.001)
    assert (await node.api.get("/health/live")).status_code == 200


async def test_a_client_that_goes_away_disturbs_nobody(node: HttpNode) -> None:
    """In the headers, in the body, before the answer."""
    whole = _post(node, _message())
    for size in (0, 1, 40, len(whole) - 1, len(whole)):
        async with raw_connection(node.port) as raw:
            await raw.send(whole[:size])
    assert (await node.api.get("/health/ready")).status_code == 200


async def test_one_user_cannot_keep_the_others_out(engine: Engine) -> None:
    """Bodies that never end count against the user who sends them, and nobody else."""
    settings = HttpSettings(max_requests_in_flight=10, max_requests_per_user=3)
    async with http_node(engine, settings) as node, AsyncExitStack() as stack:
        for user in ("mallory", "alice"):
            await engine.put_user(user, name="慢 🐢")
        mallory, alice = node.as_user("mallory"), node.as_user("alice")
        lines = (f"Authorization: {mallory['Authorization']}", JSON, "Content-Length: 50")
        slow = raw_request(node, "POST", "/v1/messages", *lines, body=b"{", key=False)
        for _ in range(3):
            connection = await stack.enter_async_context(raw_connection(node.port))
            await connection.send(slow)
        while (answer := await node.api.get("/v1/users/alice", headers=mallory)).is_success:
            continue  # not all three have been seen yet
        assert (answer.status_code, answer.json()["code"]) == (429, "rate_limited")
        assert int(answer.headers["retry-after"]) >= 1
        assert (await node.api.get("/v1/users/alice", headers=alice)).status_code == 200
        assert (await node.api.get("/v1/users/alice")).status_code == 200


# --- headers ----------------------------------------------------------------------------------


async def test_endless_headers_are_refused(raw: RawConnection) -> None:
    """One large header, many small ones: 431 at the limit."""
    await raw.send(b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Big: " + b"a" * 40_000)
    assert (await raw.answer()).status == 431
    assert await raw.closed()


async def test_endless_trailers_are_cut_off(node: HttpNode, raw: RawConnection) -> None:
    """After a chunked body nothing is read, so nothing is kept."""
    await raw.send(raw_request(node, "POST", "/v1/messages", JSON, CHUNKED))
    await raw.send(_chunk(_message()) + b"0\r\n")
    with pytest.raises(ConnectionError):
        await _keep_sending(raw, b"X-Trailer: " + b"t" * 1000 + b"\r\n")


async def test_a_foreign_host_is_refused(node: HttpNode, raw: RawConnection) -> None:
    """421, on every path, credentials or not."""
    hosts = ("evil.example", "localhost.evil.example:80", "169.254.169.254", "evil@localhost")
    for host, path in product(hosts, ("/v1/users/alice", "/", "/health/live", "/nowhere")):
        request = raw_request(node, "GET", path, host=host)
        await _problem(raw, request, 421, "invalid_request")


async def test_a_host_is_needed_once(node: HttpNode, raw: RawConnection) -> None:
    """None (HTTP/1.0 has none) and two are refused; the bound address and localhost pass."""
    for host in ("localhost", f"localhost:{node.port}", "127.0.0.1", "[::1]:9"):
        await raw.send(raw_request(node, "GET", "/health/live", host=host))
        assert (await raw.answer()).status == 200
    twice = raw_request(node, "GET", "/health/live", "Host: localhost")
    await _problem(raw, twice, 400, "invalid_request")
    await _problem(raw, b"GET /health/live HTTP/1.0\r\n\r\n", 400, "invalid_request")


async def test_pages_of_other_sites_are_refused(node: HttpNode) -> None:
    """No CORS unless allowed; our own pages need none."""
    for origin in ("https://evil.example", "null", "http://localhost:1"):
        headers = {"Origin": origin}
        refused = await node.api.get("/v1/users/alice", headers=headers)
        assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
        preflight = {**headers, "Access-Control-Request-Method": "POST"}
        assert (await node.api.options("/v1/messages", headers=preflight)).status_code == 403
    own = await node.api.get("/v1/users/alice", headers={"Origin": node.url})
    assert own.status_code == 200
    assert "access-control-allow-origin" not in own.headers


async def test_an_allowed_origin_gets_cors(engine: Engine) -> None:
    """Preflight, answer and refusal alike."""
    settings = HttpSettings(allowed_origins=("https://chat.example",))
    async with http_node(engine, settings) as node:
        headers = {"Origin": "https://chat.example", "Access-Control-Request-Method": "POST"}
        preflight = await node.api.options("/v1/messages", headers=headers)
        assert preflight.status_code == 204
        assert "POST" in preflight.headers["access-control-allow-methods"]
        assert "authorization" in preflight.headers["access-control-allow-headers"]
        for method, path in (("GET", "/v1/users/nobody"), ("POST", "/v1/messages")):
            answer = await node.api.request(method, path, headers=headers)
            assert answer.headers["access-control-allow-origin"] == "https://chat.example"
            assert "origin" in answer.headers["vary"]


BROKEN_LINES = [
    "Content-Length: -1",
    "Content-Length: x",
    "Content-Length: ٣",
    "Content-Length: 5\r\nContent-Length: 6",
    "Content-Length: 99999999999999999999999",
    "Content-Length: 5\r\nTransfer-Encoding: chunked",
    "Transfer-Encoding: gzip",
    "Bad Header: x",
    "X: a\x00b",
]


async def test_broken_http_is_a_problem_document_too(node: HttpNode) -> None:
    """What never becomes a request is refused in the same form."""
    for line in BROKEN_LINES:
        async with raw_connection(node.port) as raw:
            request = raw_request(node, "POST", "/v1/messages", JSON, line)
            await _problem(raw, request, 400, "invalid_request")
            assert await raw.closed()


async def test_what_is_no_http_at_all(node: HttpNode) -> None:
    """Other protocols, broken first lines."""
    for data in (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc", "你好\r\n\r\n".encode(), b"\x00" * 64):
        async with raw_connection(node.port) as raw:
            await raw.send(data)
            assert (await raw.answer()).status == 400


# --- body -------------------------------------------------------------------------------------


NO_MESSAGES = [
    b"{",
    b"[]",
    b"null",
    b'"text"',
    b"nonsense",
    b"\xff\xfe",
    b'{"type":"group","to":"tea","from":"alice","text":"\xed\xa0\x80"}',
    rb'{"type":"group","to":"tea","from":"alice","text":"\ud800"}',
    rb'{"type":"group","to":"tea","from":"alice","text":"\udc00\ud800"}',
    b'{"type":"group","to":"tea","from":"alice","text":"a\nb"}',
    b'{"type":"group","to":"tea","from":"alice","text":"a"} x',
    b'{"type":"group","to":"tea","from":"alice","text":"a","extra":1}',
    b'{"type":"group","to":"tea","from":"alice","text":5}',
    b'{"type":"group","to":["tea"],"from":"alice","text":"a"}',
    '{"type":"group","to":"茶","from":"alice","text":"a"}'.encode(),
    rb'{"type":"group","to":"t\u0000","from":"alice","text":"a"}',
    b'{"type":"group","to":"tea","from":"a..b","text":"a"}',
    b'{"type":"group","to":"tea","from":"alice","text":""}',
    b'{"type":"group","to":"tea","from":"alice"}',
    b'{"type":"group","to":"tea","from":"alice","text":"a","content":[]}',
    b'{"type":"group","to":"tea","from":"alice","content":[]}',
    b'{"type":"group","to":"tea","from":"alice","content":[{"type":"other"}]}',
    b'{"type":"group","to":"tea","from":"alice","content":[{"type":"reply","position":1e400}]}',
    b'{"type":"group","to":"tea","from":"alice","text":"a","key":""}',
    b'{"type":"group","to":"tea","from":"alice","text":"a","require":"some"}',
    b"[" * 50_000,
    b'{"content":' + b'{"a":' * 5_000 + b"1" + b"}" * 5_000 + b"}",
    b"\xef\xbb\xbf{}",
]


async def test_bodies_that_are_no_message(node: HttpNode, raw: RawConnection) -> None:
    """Each is a 400 problem, and the connection can be used again."""
    for body in NO_MESSAGES:
        await _problem(raw, _post(node, body), 400, "invalid_request")
    await raw.send(_post(node, _message()))
    assert (await raw.answer()).status == 201


async def test_no_body_is_an_empty_object(node: HttpNode, raw: RawConnection) -> None:
    """So the error names what is missing."""
    await _problem(raw, _post(node, b""), 422, "unknown_message_type")
    request = raw_request(node, "POST", "/v1/messages")
    await _problem(raw, request, 422, "unknown_message_type")


async def test_custom_data_has_bounds(node: HttpNode) -> None:
    """Depth and integers; what passes comes back as it was."""

    def nested(depth: int) -> object:
        return [nested(depth - 1)] if depth else "深"

    async def send(data: object) -> int:
        content = [{"type": "custom", "name": "测试.x", "data": data}]
        message = {"type": "group", "to": "tea", "from": "alice", "content": content}
        return (await node.api.post("/v1/messages", json=message)).status_code

    assert await send({"\u0000": [1.5, -(2**53) + 1, None, True, "\u0000 🧨"]}) == 201
    assert await send(nested(30)) == 201
    assert await send(nested(36)) == 400
    assert await send(nested(500)) == 400
    assert await send(2**53) == 400
    assert await send(10**400) == 400


async def test_nul_and_odd_characters_survive(node: HttpNode) -> None:
    """Text is any Unicode."""
    text = "a\x00b\x7f\u2028\u202e\ufeff\uffff\U0010ffff e\u0301 שָׁלוֹם 👨‍👩‍👧‍👦"
    message = {"type": "group", "to": "tea", "from": "alice", "text": text}
    sent = await node.api.post("/v1/messages", json=message)
    place = {"after": sent.json()["position"] - 1}
    page = await node.api.get("/v1/conversations/group:tea/entries", params=place)
    assert page.json()["entries"][0]["content"][0]["text"] == text


OTHER_TYPES = [
    None,
    "text/plain",
    "application/x-www-form-urlencoded",
    "application/json; charset=gbk",
    "中",
]


async def test_other_media_types_are_refused(node: HttpNode, raw: RawConnection) -> None:
    """415, as a problem."""
    body = _message()
    for content_type in OTHER_TYPES:
        lines = [f"Content-Length: {len(body)}"]
        if content_type is not None:
            lines.append(f"Content-Type: {content_type}")
        request = raw_request(node, "POST", "/v1/messages", *lines, body=body)
        await _problem(raw, request, 415, "invalid_request")


async def test_json_types_that_pass(node: HttpNode) -> None:
    """Case and charset as senders write them."""
    for value in (
        "application/json; charset=UTF-8",
        "APPLICATION/JSON",
        'application/json;charset="utf-8"',
    ):
        headers = {"Content-Type": value}
        sent = await node.api.post("/v1/messages", content=_message(), headers=headers)
        assert sent.status_code == 201


async def test_reads_take_no_body(node: HttpNode, raw: RawConnection) -> None:
    """A body that would be passed over may mean something to who sent it."""
    body = b'{"from":"alice"}'
    for method in ("GET", "DELETE"):
        lines = (JSON, f"Content-Length: {len(body)}")
        request = raw_request(node, method, "/v1/groups/tea", *lines, body=body)
        await _problem(raw, request, 400, "invalid_request")
    assert (await node.api.get("/v1/groups/tea")).json()["state"] == "active"


# --- path and query ---------------------------------------------------------------------------


WRONG_PATHS = [
    "/v1/users/a..b",
    "/v1/users/-a",
    "/v1/users/%E7%88%B1",
    "/v1/users/%FF",
    "/v1/users/a%00b",
    "/v1/users/a%0Ab",
    "/v1/users/alice%0A",
    "/v1/users/" + "a" * 65,
    "/v1/groups/tea?as=a..b",
    "/v1/groups/tea?unknown=1",
    "/v1/groups/tea?as=alice&as=alice",
    "/v1/groups/tea?as",
    "/v1/groups/tea?as=%FF",
    "/v1/groups/tea?" + "&".join(f"f{n}=1" for n in range(40)),
    "/v1/groups/tea/members?limit=0",
    "/v1/groups/tea/members?limit=1001",
    "/v1/groups/tea/members?limit=1.5",
    "/v1/groups/tea/members?limit=%2B1",
    "/v1/groups/tea/members?limit=%D9%A3",
    "/v1/groups/tea/members?limit=99999999999999999999999",
    "/v1/groups/tea/members?limit=",
    "/v1/groups/tea/members?cursor=%F0%9F%8D%B5",
    "/v1/groups/tea/members?cursor=" + "9" * 400,
    "/v1/conversations/tea/entries",
    "/v1/conversations/team:tea/entries",
    "/v1/conversations/group:tea/entries?after=-1",
    "/v1/conversations/group:tea/entries?after=9007199254740992",
    "/v1/conversations/group:tea/entries/0/deliveries",
    "/v1/conversations/group:tea/entries/x/deliveries",
    "/v1/conversations/group:tea/entries/1/deliveries?state=gone",
    "/v1/users/alice/conversations?cursor=%00",
]


async def test_paths_and_queries_are_strict(node: HttpNode, raw: RawConnection) -> None:
    """400, never a guess."""
    for path in WRONG_PATHS:
        await _problem(raw, raw_request(node, "GET", path), 400, "invalid_request")


async def test_ids_at_their_limits(node: HttpNode) -> None:
    """64 characters, every kind of them."""
    for user in ("a", "Z9", "a" * 64, "a.b-c_d@e.F", "0", "null", "me@example.org"):
        assert (await node.api.put(f"/v1/users/{user}")).status_code == 201
        assert (await node.api.get(f"/v1/users/{user}")).json()["user"] == user


ABSENT_PATHS = [
    "/v1",
    "/v1/",
    "/v1/user",
    "/v1/users/alice/",
    "//",
    "/v1/users/a%2Fb",
    "/../x",
    "/%00",
]


async def test_paths_that_are_not_there(node: HttpNode, raw: RawConnection) -> None:
    """404 as a problem; no redirect."""
    for path in ABSENT_PATHS:
        await _problem(raw, raw_request(node, "GET", path), 404, "not_found")


async def test_methods_that_a_path_does_not_take(node: HttpNode, raw: RawConnection) -> None:
    """405 with all that it takes; OPTIONS tells the same."""
    request = raw_request(node, "POST", "/v1/users/alice")
    await raw.send(request)
    answer = await raw.answer()
    assert (answer.status, answer.problem["code"]) == (405, "invalid_request")
    assert answer.headers["allow"] == "delete, get, head, options, put"
    assert (await node.api.options("/v1/users/alice")).headers["allow"].lower() == answer.headers[
        "allow"
    ]
    assert (await node.api.request("TRACE", "/v1/messages")).status_code == 405


async def test_requests_in_a_row_on_one_connection(node: HttpNode, raw: RawConnection) -> None:
    """Pipelined: answered in order, a refused one between."""
    good = _post(node, _message())
    await raw.send(good + _post(node, b"{") + good + raw_request(node, "GET", "/nowhere") + good)
    assert [(await raw.answer()).status for _ in range(5)] == [201, 400, 201, 404, 201]


async def test_credentials_are_asked_for_before_a_body_is_read(
    node: HttpNode, raw: RawConnection
) -> None:
    """Whoever has none cannot make the server read."""
    lines = (JSON, "Content-Length: 90000")
    request = raw_request(node, "POST", "/v1/messages", *lines, key=False)
    await raw.send(request)
    answer = await raw.answer()
    assert (answer.status, answer.problem["code"]) == (401, "unauthenticated")
    assert answer.headers["www-authenticate"] == "bearer"
    twice = raw_request(node, "GET", "/v1/users/alice", f"Authorization: Bearer {node.key}")
    async with raw_connection(node.port) as other:
        await _problem(other, twice, 400, "invalid_request")
        binary = raw_request(node, "GET", "/v1/users/alice").replace(b"Bearer ", b"Bearer \xff")
        await _problem(other, binary, 400, "invalid_request")
