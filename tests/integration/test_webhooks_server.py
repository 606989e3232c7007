"""Webhooks of a real server, and on the command line."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from command_line import CommandLine
from serving import ServerProcess, answer, free_port

EXAMPLE = Path(__file__).parents[2] / "examples" / "webhook_push.py"
URL = "https://shop.example.org/钩子"


@contextmanager
def _example(port: int, secret: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, EXAMPLE],
        env={**os.environ, "PORT": str(port), "SECRET": secret},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.terminate()
        process.communicate()


def _populate(client: httpx.Client) -> None:
    for user in ("alice", "bob"):
        answer(client.put(f"/v1/users/{user}", json={}))
    answer(client.put("/v1/groups/tea", json={"owner": "alice", "members": ["bob"]}))


def _say(client: httpx.Client, text: str) -> None:
    message = {"type": "group", "to": "tea", "from": "alice", "text": text}
    answer(client.post("/v1/messages", json=message))


@pytest.mark.processes
def test_the_example_is_told_even_of_what_happened_while_it_was_down(
    data_folder: Path, folder_cli: CommandLine
) -> None:
    """A server with the setting, a webhook from the command line, a receiver that starts late:
    it verifies, and would wake the offline member. The server's metrics tell of it."""
    port = free_port()
    with ServerProcess(data_folder, "--webhook-networks", "127.0.0.0/8") as server:
        with server.client() as client:
            _populate(client)
            made = folder_cli("webhook", "create", f"http://127.0.0.1:{port}/")
            _say(client, "你在吗 🌙")
            with _example(port, made["secret"]) as receiver:
                assert receiver.stdout is not None
                assert receiver.stdout.readline() == "push to bob: 你在吗 🌙\n"
                _say(client, "مرحبا 👋🏽")
                assert receiver.stdout.readline() == "push to bob: مرحبا 👋🏽\n"
            metrics = client.get("/metrics").text
            assert 'qunxin_webhook_attempts_total{result="taken"}' in metrics
        assert server.stop() == 0


def test_webhooks_on_the_command_line(folder_cli: CommandLine) -> None:
    """Made, listed, shown, changed, paused, resumed, given a new secret, replayed, deleted; the
    secret is shown once."""
    cli = folder_cli
    cli("user", "create", "alice")
    done = cli.run("webhook", "create", URL)
    assert (done.code, done.out.startswith("whsec_")) == (0, True)
    (hook,) = cli("webhook", "list")["webhooks"]
    assert (hook["url"], hook["events"], hook["paused"]) == (URL, [], None)
    name = hook["id"]
    assert done.out.strip() not in cli.run("webhook", "list").out
    assert cli("webhook", "show", name) == hook
    changed = cli("webhook", "change", name, "--event", "member.left")
    assert changed["events"] == ["member.left"]
    assert cli("webhook", "change", name, "--all-events", "--url", URL + "2")["events"] == []
    assert cli("webhook", "pause", name)["paused"] == "paused by hand"
    assert "paused by hand" in cli.run("webhook", "show", name).out
    assert cli("webhook", "resume", name)["paused"] is None
    rotated = cli("webhook", "rotate", name)
    assert rotated["secret"].startswith("whsec_")
    assert rotated["secret"] != done.out.strip()
    for when in ("beginning", "now", "2026-11-23T08:00"):
        assert cli("webhook", "replay", name, "--from", when)["id"] == name
    assert cli.refusal("webhook", "replay", name, "--from", "昨天")["code"] == "invalid_request"
    assert cli.refusal("webhook", "delete", name)["code"] == "invalid_request"
    assert cli("webhook", "delete", name, "--yes") == {"id": name}
    assert cli.refusal("webhook", "show", name)["code"] == "not_found"


@pytest.mark.parametrize("network", ["10.2.0.1/16", "内网", "*"])
def test_networks_that_are_none(folder_cli: CommandLine, network: str) -> None:
    """The server does not start with them, and says so."""
    done = folder_cli.run("serve", "--port", "0", "--webhook-networks", network)
    assert done.code == 2
    assert "webhook" in done.err
