"""What a scrape of a running server shows, and what it never shows."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from serving import ServerProcess, answer

WORDS = "秘密 👩\u200d👩\u200d👧 مرحبا"


def scrape(server: ServerProcess) -> dict[str, dict[tuple[str, ...], float]]:
    """Every sample by its name and the values of its labels, these in the order of their names."""
    text = httpx.get(f"{server.url}/metrics").raise_for_status().text
    assert WORDS not in text
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for family in text_string_to_metric_families(text):
        for one in family.samples:
            labels = tuple(one.labels[name] for name in sorted(one.labels))
            found.setdefault(one.name, {})[labels] = one.value
    return found


def test_a_scrape_tells_what_happened(server: ServerProcess) -> None:
    """Requests, errors, sockets, batches, files: each counted where it belongs, and whatever a
    client makes up is no label."""
    with server.client() as client:
        answer(client.put("/v1/users/alice", json={"name": WORDS}))
        answer(client.put("/v1/groups/tea", json={"owner": "alice"}))
        message = {"type": "group", "to": "tea", "from": "alice", "text": WORDS}
        answer(client.post("/v1/messages", json=message))
        assert client.get("/v1/users/没有").status_code == 400
        for path in ("/nowhere/1", "/nowhere/2"):
            assert client.get(path).status_code == 404
        assert client.request("PATCH", "/v1/messages").status_code == 405
    token = server.token("alice")
    before = scrape(server)
    with connect(server.websocket_url) as device:
        device.send(json.dumps({"id": 1, "connect": {"token": token}}))
        device.send(json.dumps({"id": 2, "rpc": {"method": "无", "data": {}}}))
        while '"id":2' not in str(device.recv(10)):
            pass
        during = scrape(server)
    assert during["qunxin_sessions"][()] == during["qunxin_connections"][()] == 1
    errors = during["qunxin_answered_errors_total"]
    assert {code: n for (code, door), n in errors.items() if door == "realtime"} == {
        "unknown_method": 1
    }
    requests = before["qunxin_http_requests_total"]
    assert requests["PUT", "/v1/users/{user}", "201"] == 1
    assert requests["POST", "/v1/messages", "201"] == 1
    assert requests["other", "other", "404"] == 2
    assert requests["other", "other", "405"] == 1
    assert before["qunxin_http_request_seconds_count"]["/v1/messages",] == 1
    assert before["qunxin_answered_errors_total"]["not_found", "http"] == 2
    assert before["qunxin_commit_bytes_sum"][()] >= len(WORDS.encode())
    assert before["qunxin_commit_queue_commands"][()] == 0
    assert before["qunxin_store_file_bytes"][()] > 0
    assert before["qunxin_store_log_bytes"][()] > 0
    assert before["process_open_fds"][()] > 0


PROXIED = ("--trusted-proxies", "127.0.0.1", "--forwarded-header", "x-forwarded-for")


@pytest.mark.processes
@pytest.mark.parametrize(
    ("options", "forwarded", "status"),
    [
        ((), None, 200),
        ((), "203.0.113.9", 200),  # said by nobody whose word is taken
        (PROXIED, None, 200),
        (PROXIED, "127.0.0.2", 200),
        (PROXIED, "203.0.113.9", 403),
        (PROXIED, "127.0.0.1, 203.0.113.9", 403),
        (PROXIED, "不是地址", 403),
        ((*PROXIED, "--metrics-networks", "203.0.113.0/24"), "203.0.113.9", 200),
        ((*PROXIED, "--metrics-networks", "203.0.113.0/24"), None, 403),
        (("--metrics-networks", "2001:db8::/32"), None, 403),
    ],
)
def test_metrics_are_for_the_networks_that_are_named(
    data_folder: Path, options: tuple[str, ...], forwarded: str | None, status: int
) -> None:
    """By the client's address, as trusted proxies tell it; the refusal names the setting, whatever
    the path is spelt like, and health stays open."""
    headers = {} if forwarded is None else {b"x-forwarded-for": forwarded.encode()}
    with ServerProcess(data_folder, *options) as server:
        for path in ("/metrics", "/%6Detrics", "/metrics%0A", "/metrics?茶"):
            got = httpx.get(server.url + path, headers=headers)
            assert got.status_code in (status, 404)
            assert "qunxin_sessions" not in got.text or status == 200
        refused = httpx.get(f"{server.url}/metrics", headers=headers)
        assert refused.status_code == status
        if status == 403:
            assert refused.headers["content-type"] == "application/problem+json"
            assert "metrics_networks" in refused.json()["detail"]
        assert httpx.get(f"{server.url}/health/live", headers=headers).status_code == 200


def test_ends_are_counted_by_code(server: ServerProcess) -> None:
    """Those that the server makes by the code that it closes with, the others together."""
    with connect(server.websocket_url) as device:
        device.send("{}")
        with pytest.raises(ConnectionClosed):
            device.recv(10)
        code = device.close_code
    assert code is not None
    assert scrape(server)["qunxin_disconnects_total"] == {(str(code),): 1}
