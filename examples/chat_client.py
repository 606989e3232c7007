"""A small chat in a terminal, with the Python SDK: what is typed is sent, what comes is printed.

    export QUNXIN_TOKEN=$(uv run qunxin token create alice)
    uv run python examples/chat_client.py group tea alice.db

Alice and the group are those of the quickstart. Kill it, or the server, whenever you like: what was
typed is sent once, and what comes is printed once. The token is read from the environment; a real
program fetches one from its own server.
"""

import asyncio
import os
import sys

from qunxin.client import Client, Reload, Unsent, connect

URL = os.environ.get("QUNXIN_URL", "http://127.0.0.1:8000")
TOKEN = os.environ["QUNXIN_TOKEN"]


async def show(client: Client) -> None:
    """Print one event after the other."""
    async for event in client:
        if isinstance(event, Reload):
            print(f"{event.conversation}: too much was missed, see its history", flush=True)
        elif isinstance(event, Unsent):
            print(f"not sent: {event.error.text()}", flush=True)
        elif event.is_message:
            text = "(recalled)" if event.recalled else event.text
            print(f"{event.conversation} {event.position} {event.sender}: {text}", flush=True)


async def typed(client: Client, kind: str, to: str) -> None:
    """Put every line of the standard input into the outbox; return once all were sent."""
    while line := await asyncio.to_thread(sys.stdin.readline):
        if line.strip():
            await client.post(kind, to, line.rstrip("\n"))
    await client.wait_sent()


async def main(kind: str, to: str, file: str) -> None:
    async with connect(URL, TOKEN, outbox=file) as client:
        showing = asyncio.create_task(show(client))
        await typed(client, kind, to)
        showing.cancel()
        await asyncio.wait([showing])


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:4]))
