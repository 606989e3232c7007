"""A bot that answers every group message with the same words, over the realtime protocol.

    uv run qunxin user create echo
    uv run qunxin group add tea echo
    export QUNXIN_TOKEN=$(uv run qunxin token create echo)
    uv run python examples/bot_echo.py

The group is that of the quickstart. Uses the Centrifugo SDK for Python as it is. What was written
while the bot was away reaches it when it comes back; each answer has a key made of what it answers,
so that none is given twice.
"""

import asyncio
import os
from typing import Any

from centrifuge import (
    CentrifugeError,
    Client,
    ClientEventHandler,
    ReplyError,
    ServerPublicationContext,
)

URL = os.environ.get("QUNXIN_WEBSOCKET_URL", "ws://127.0.0.1:8000/connection/websocket")
TOKEN = os.environ["QUNXIN_TOKEN"]
BOT = os.environ.get("QUNXIN_BOT", "echo")


class Listener(ClientEventHandler):  # type: ignore[misc]  # the SDK has no types
    """Hands entries on at once: a handler that waits would keep the server's ping waiting too."""

    def __init__(self, entries: "asyncio.Queue[dict[str, Any]]") -> None:
        self._entries = entries

    async def on_publication(self, ctx: ServerPublicationContext) -> None:
        self._entries.put_nowait(ctx.pub.data)


def plan_answer(entry: dict[str, Any]) -> dict[str, Any] | None:
    """The message that answers `entry`; None where there is nothing to answer."""
    if entry["type"] != "group" or entry.get("from") == BOT or "content" not in entry:
        return None
    reply = {"type": "reply", "position": entry["position"]}
    return {
        "type": "group",
        "to": entry["conversation"].removeprefix("group:"),
        "content": [reply, *entry["content"]][:200],
        "key": f"echo {entry['position']}",
    }


async def send(client: Client, answer: dict[str, Any]) -> None:
    """Send, and repeat with the same key for as long as the outcome is not known."""
    while True:
        try:
            await client.rpc("message.send", answer)
        except CentrifugeError as error:
            print(f"{answer['key']}: {error}", flush=True)
            if not isinstance(error, ReplyError) or error.temporary:
                await asyncio.sleep(1)
                continue
        return


async def main() -> None:
    entries: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    client = Client(URL, events=Listener(entries), token=TOKEN)
    await client.connect()
    while True:
        answer = plan_answer(await entries.get())
        if answer is not None:
            await send(client, answer)


if __name__ == "__main__":
    asyncio.run(main())
