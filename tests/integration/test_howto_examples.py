"""The examples of the how-to pages for SDKs that can be run here, run as they stand."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from qunxin.engine import Engine
from realtime_client import put_tea, realtime_node
from sdk_devices import JAVASCRIPT, install_javascript

HOW_TO = Path(__file__).parents[2] / "docs/how-to"
WORDS = "你好 👋🏽"

DRIVER = """
import WebSocket from "ws";
import { connect, send } from "./howto.mjs";

globalThis.WebSocket = WebSocket;
const [server, token] = process.argv.slice(2);
let position;
let told = [];
const show = (channel, offset, data) => {
  if (channel === "group:tea") told.push([offset, data.from, data.key]);
};
const client = connect(server, async () => token, show);
const receipt = await send(client, "tea", "你好 👋🏽", "键");
const again = await send(client, "tea", "你好 👋🏽", "键");
while (!told.some(([offset]) => offset === receipt.position)) {
  await new Promise((resolve) => setTimeout(resolve, 10));
}
client.disconnect();
console.log(JSON.stringify({ receipt, again, told }));
"""


def example(page: str, language: str) -> str:
    """The first example in that language."""
    text = (HOW_TO / page).read_text("utf-8")
    found = re.search(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[1]


async def test_the_python_example(engine: Engine, capsys: pytest.CaptureFixture[str]) -> None:
    """Connects, sends, and is given what it sent."""
    await put_tea(engine)
    code = compile(example("centrifuge-python.md", "python"), "centrifuge-python.md", "exec")
    names: dict[str, Any] = {}
    exec(code, names)  # noqa: S102 - our own page
    async with realtime_node(engine) as node:

        async def get_token() -> str:
            return node.token("bob")

        await names["talk"](node.url, get_token)
    assert f"'text': '{WORDS}'" in capsys.readouterr().out


@pytest.fixture
def javascript() -> None:
    install_javascript()


@pytest.mark.browser
@pytest.mark.usefixtures("javascript")
async def test_the_javascript_example(engine: Engine) -> None:
    """Connects, sends twice with one key, and is given one message."""
    await put_tea(engine)
    files = {"howto.mjs": example("javascript.md", "js"), "howto-driver.mjs": DRIVER}
    for name, text in files.items():
        (JAVASCRIPT / "node_modules" / name).write_text(text, "utf-8")
    async with realtime_node(engine) as node:
        url = f"http://127.0.0.1:{node.port}"
        process = await _run("node", "node_modules/howto-driver.mjs", url, node.token("bob"))
    told = json.loads(process)
    assert told["again"]["duplicate"]
    assert told["again"]["position"] == told["receipt"]["position"]
    own = [entry for entry in told["told"] if entry[0] == told["receipt"]["position"]]
    assert own == [[told["receipt"]["position"], "bob", "键"]]


async def _run(*command: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *command, cwd=JAVASCRIPT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    async with asyncio.timeout(60):
        out, error = await process.communicate()
    assert process.returncode == 0, error.decode()
    return out.decode()
