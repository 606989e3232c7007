"""The examples run, and do what they say."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from serving import ServerProcess, answer, eventually, run_cli

EXAMPLES = Path(__file__).parents[2] / "examples"
README = EXAMPLES.parent / "README.md"
BEGIN = "uv run qunxin "


def _run(name: str, *arguments: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, EXAMPLES / name, *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=40,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@contextmanager
def _running(name: str, **environment: str) -> Iterator[None]:
    process = subprocess.Popen([sys.executable, EXAMPLES / name], env={**os.environ, **environment})
    try:
        yield
    finally:
        process.kill()
        process.wait()


def test_every_example_is_run() -> None:
    """An example without a test could rot."""
    source = "".join(path.read_text("utf-8") for path in Path(__file__).parent.glob("test_*.py"))
    assert [path.name for path in EXAMPLES.glob("*.py") if f'"{path.name}"' not in source] == []


def test_embed(tmp_path: Path) -> None:
    """Partial reach, a duplicate, a refusal in Chinese, live entries, recall and ledger."""
    lines = _run("embed.py", str(tmp_path / "聊天.db")).splitlines()
    assert lines == [
        "position 2, partial: 1 unreachable",
        "position 2, duplicate: True",
        "refused: 部分成员不可达（3 人中有 1 人）",
        "bob has group:tea 2",
        "bob reads [(1, 'created', None), (2, 'group', None), (3, 'recalled', None)]",
        "ledger {'bob': 'queued', 'carol': 'unreachable'}",
    ]


def test_the_readmes_ten_lines_run(tmp_path: Path) -> None:
    """The embedding code of the README is a program that works."""
    code = README.read_text("utf-8").partition("```python\n")[2].partition("```")[0]
    code = code.replace("import qunxin\n", "").replace("print(", "return print(")
    body = code.strip().replace("\n", "\n    ")
    program = f"import asyncio, qunxin\nasync def main():\n    {body}\nasyncio.run(main())"
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=40,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(("group:tea 1 created", "broadcast:all", "inbox:bob 1 member"))


@pytest.mark.processes
def test_the_readmes_commands_run(data_folder: Path) -> None:
    """What the README lets people type after the start works, in its order."""
    lines = [line for line in README.read_text("utf-8").splitlines() if line.startswith(BEGIN)]
    assert len(lines) >= 4
    said = ""
    for line in lines:
        done = run_cli(*shlex.split(line.removeprefix(BEGIN)), "--data", str(data_folder))
        assert done.returncode == 0, done.stderr
        said = done.stdout
    assert "group:tea 2" in said


def test_http_send(server: ServerProcess) -> None:
    """A receipt for a message that is really in the log."""
    printed = _run(
        "http_send.py",
        *("alice", "tea", "你好，大家 👩‍👩‍👧"),
        QUNXIN_URL=server.url,
        QUNXIN_KEY=server.key,
    )
    receipt = json.loads(printed)
    assert (receipt["position"], receipt["grade"], receipt["duplicate"]) == (2, "complete", False)
    with server.client() as api:
        page = answer(api.get("/v1/conversations/group:tea/entries"))
    assert page["entries"][-1]["content"] == [{"type": "text", "text": "你好，大家 👩‍👩‍👧"}]


class BrokenProxy(ThreadingHTTPServer):
    """Passes everything on, and answers the first two messages with pages of its own: the first
    after it was accepted."""

    def __init__(self, target: str) -> None:
        super().__init__(("127.0.0.1", 0), _Passing)
        self.target = target
        self.pages = [HTTPStatus.GATEWAY_TIMEOUT, HTTPStatus.BAD_GATEWAY]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Passing(BaseHTTPRequestHandler):
    server: BrokenProxy

    def _pass(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        headers = {
            name: self.headers[name]
            for name in ("authorization", "content-type")
            if name in self.headers
        }
        url = self.server.target + self.path
        passed = httpx.request(self.command, url, content=body, headers=headers)
        status, content = passed.status_code, passed.content
        if self.command == "POST" and self.server.pages:
            status, content = self.server.pages.pop(0), "<html>网关错误</html>".encode()
        self.send_response(status)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_PUT = do_POST = _pass  # noqa: N815 - the names are the library's

    def log_message(self, *_: object) -> None:
        """Nobody reads it."""


def test_http_send_through_a_proxy_that_fails(server: ServerProcess) -> None:
    """Its pages tell nothing of the outcome: the message is sent again with its key, and there
    once."""
    with BrokenProxy(server.url) as proxy:
        serving = threading.Thread(target=proxy.serve_forever)
        serving.start()
        try:
            printed = _run(
                "http_send.py",
                *("alice", "tea", "再来一次 🍵"),
                QUNXIN_URL=proxy.url,
                QUNXIN_KEY=server.key,
            )
        finally:
            proxy.shutdown()
            serving.join()
    assert proxy.pages == []
    receipt = json.loads(printed)
    assert (receipt["position"], receipt["duplicate"]) == (2, True)


@pytest.mark.processes
def test_what_examples_let_people_type_works(data_folder: Path) -> None:
    """After the quickstart's accounts: each command prints what the shell is to keep, alone."""
    folder = ("--data", str(data_folder))
    for command in ("user create alice", "group create tea --owner alice"):
        assert run_cli(*command.split(), *folder).returncode == 0
    texts = [path.read_text("utf-8").split('"""')[1] for path in EXAMPLES.glob("*.py")]
    kept = 0
    for line in (line for text in texts for line in text.splitlines() if BEGIN in line):
        command = line.partition(BEGIN)[2]
        done = run_cli(*shlex.split(command.removesuffix(")")), *folder)
        assert done.returncode == 0, done.stderr
        if command.endswith(")"):
            kept += 1
            assert len(done.stdout.split()) == 1
    assert kept == 3


def _tea_group(server: ServerProcess) -> None:
    with server.client() as api:
        for user in ("alice", "bob"):
            answer(api.put(f"/v1/users/{user}", json={}))
        answer(api.put("/v1/groups/tea", json={"owner": "alice", "members": ["bob"]}))


def test_chat_client(server: ServerProcess, tmp_path: Path) -> None:
    """What is typed is sent, in order; the second run prints what came since the first."""
    _tea_group(server)

    def chat(user: str, typed: str) -> str:
        done = subprocess.run(
            [sys.executable, EXAMPLES / "chat_client.py", "group", "tea", tmp_path / f"{user}.db"],
            env={**os.environ, "QUNXIN_URL": server.url, "QUNXIN_TOKEN": server.token(user)},
            input=typed,
            capture_output=True,
            text=True,
            timeout=40,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    chat("alice", "你好\nمرحبا 👩‍👩‍👧\n")
    with server.client() as api:
        page = answer(api.get("/v1/conversations/group:tea/entries"))
    texts = [entry["content"][0]["text"] for entry in page["entries"] if "content" in entry]
    assert texts == ["你好", "مرحبا 👩‍👩‍👧"]


def test_the_sdk_guides_first_program_runs(
    server: ServerProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The code at the top of the page sends, and shows what it sent."""
    _tea_group(server)
    monkeypatch.chdir(tmp_path)
    page = (EXAMPLES.parent / "docs" / "how-to" / "python-sdk.md").read_text("utf-8")
    seen: list[tuple[Any, ...]] = []
    program: dict[str, Any] = {"print": lambda *words: seen.append(words)}
    exec(page.partition("```python\n")[2].partition("```")[0], program)  # noqa: S102
    token = server.token("alice")

    async def fetch_token() -> str:
        return token

    async def run() -> None:
        running = asyncio.create_task(program["main"](server.url, fetch_token))
        async with asyncio.timeout(40):
            while not any(words[:2] == ("group:tea", 2) for words in seen):
                assert not running.done(), running.exception()
                await asyncio.sleep(0.02)
        running.cancel()
        await asyncio.wait([running])

    asyncio.run(run())
    assert ("position", 2) in seen
    assert ("group:tea", 2, "group", "alice", "你好") in seen


@pytest.mark.timeout(120)
def test_bot_echo(server: ServerProcess) -> None:
    """The bot answers what was written while it was away, and what is written now, each once."""
    with server.client() as api:
        for user in ("alice", "echo"):
            answer(api.put(f"/v1/users/{user}", json={}))
        answer(api.put("/v1/groups/tea", json={"owner": "alice", "members": ["echo"]}))
        message = {"type": "group", "to": "tea", "from": "alice"}
        answer(api.post("/v1/messages", json={**message, "text": "مرحبا"}))

        def answers() -> list[Any]:
            page = answer(api.get("/v1/conversations/group:tea/entries"))
            return [e["content"] for e in page["entries"] if e.get("from") == "echo"]

        environment = {
            "QUNXIN_WEBSOCKET_URL": server.websocket_url,
            "QUNXIN_TOKEN": server.token("echo"),
        }
        with _running("bot_echo.py", **environment):
            eventually(answers)
            answer(api.post("/v1/messages", json={**message, "text": "在吗？"}))
            texts = eventually(lambda: found if len(found := answers()) > 1 else None)
    assert [[part for part in text if part["type"] == "text"] for text in texts] == [
        [{"type": "text", "text": "مرحبا"}],
        [{"type": "text", "text": "在吗？"}],
    ]
    assert [text[0]["position"] for text in texts] == [2, 4]
