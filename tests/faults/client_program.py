"""A program with the Python SDK that may be killed at any moment: it sends and receives, and
keeps what it received in a database of its own, together with how far it has got.

    python client_program.py FOLDER

`FOLDER` holds `program.json` (who, where, with what token) and is where everything is kept. The
program goes on until there is a file `finish` (then it empties its outbox and says so with a file
`sent`) and a file `heads` (then it ends, once it has everything up to there).
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw

from qunxin.client import Client, Entry, Event, Position, connect

BODIES = ("好的 👩\u200d👩\u200d👧", "مرحبا بالعالم", "换行\n与\u2028分隔", "长" * 2_000, " ")
MOST_UNSENT = 8
LOOK_SECONDS = 0.05

_SCHEMA = """
    CREATE TABLE IF NOT EXISTS got (id INTEGER PRIMARY KEY, conversation, position, first, key);
    CREATE TABLE IF NOT EXISTS positions (conversation PRIMARY KEY, epoch, position);
    CREATE TABLE IF NOT EXISTS posted (number INTEGER PRIMARY KEY, state);
"""


class Ledger:
    """The program's own database: what it received, and what it gave to the SDK."""

    def __init__(self, path: Path) -> None:
        self._database = apsw.Connection(str(path))
        self._database.execute("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL")
        self._database.execute(_SCHEMA)

    def positions(self) -> dict[str, Position]:
        rows = self._database.execute("SELECT conversation, epoch, position FROM positions")
        return {str(name): Position(str(epoch), int(at)) for name, epoch, at in rows}

    def take(self, entry: Entry, at: Position) -> None:
        """The entry and the position behind it, in one transaction."""
        first = (entry.body or {}).get("first", entry.position) if entry.type == "hidden" else None
        row = (entry.conversation, entry.position, first or entry.position, entry.key)
        with self._database:
            self._database.execute(
                "INSERT INTO got (conversation, position, first, key) VALUES (?, ?, ?, ?)", row
            )
            self._database.execute(
                "INSERT OR REPLACE INTO positions VALUES (?, ?, ?)",
                (entry.conversation, at.epoch, at.position),
            )

    def next_number(self) -> int:
        """The number of the next message; the one that may or may not be in the outbox is not
        tried again, unless it has a key of the program's own."""
        row = self._database.execute("SELECT max(number), state FROM posted").fetchone()
        if row is None or row[0] is None:
            return 1
        number = int(row[0])
        return number if row[1] == "begun" and has_own_key(number) else number + 1

    def note(self, number: int, state: str) -> None:
        self._database.execute("INSERT OR REPLACE INTO posted VALUES (?, ?)", (number, state))

    def close(self) -> None:
        self._database.close()


def has_own_key(number: int) -> bool:
    """Whether the program chooses the key of a message, or leaves it to the SDK."""
    return number % 2 == 0


def message(user: str, number: int, others: list[str], groups: list[str]) -> dict[str, Any]:
    """Message `number` of `user`: always the same."""
    chance = random.Random(f"{user} {number}")
    is_private = chance.random() < 0.2
    return {
        "type": "private" if is_private else "group",
        "to": chance.choice(others if is_private else groups),
        "text": f"{user} {number} {chance.choice(BODIES)}",
        "key": f"{user}-{number}" if has_own_key(number) else None,
    }


def read_got(path: Path) -> Iterator[tuple[str, int, int, str | None]]:
    """Conversation, first and last position and key of everything received, in order."""
    database = apsw.Connection(str(path))
    rows = database.execute("SELECT conversation, first, position, key FROM got ORDER BY id")
    yield from rows.fetchall()  # type: ignore[misc]
    database.close()


def read_posted(path: Path) -> dict[int, str]:
    """What became of each number, as far as the program knows."""
    database = apsw.Connection(str(path))
    rows = database.execute("SELECT number, state FROM posted").fetchall()
    database.close()
    return {int(number): str(state) for number, state in rows}  # type: ignore[arg-type]


async def send(client: Client, ledger: Ledger, about: dict[str, Any], folder: Path) -> None:
    """Post without pause until told to finish, and return when all of it was accepted."""
    number = ledger.next_number()
    while not (folder / "finish").exists():
        while client.unsent >= MOST_UNSENT:  # noqa: ASYNC110 - the pace of this program
            await asyncio.sleep(0.005)
        ledger.note(number, "begun")
        await client.post(**message(about["user"], number, about["others"], about["groups"]))
        ledger.note(number, "posted")
        number += 1
    await client.wait_sent()
    (folder / "sent").touch()


async def receive(client: Client, ledger: Ledger) -> None:
    def take(event: Event) -> None:
        assert isinstance(event, Entry), event
        ledger.take(event, client.positions[event.conversation])

    await client.run(take)


async def has_everything(client: Client, folder: Path) -> None:
    while not (folder / "heads").exists():  # noqa: ASYNC110 - a file has no event
        await asyncio.sleep(LOOK_SECONDS)
    heads = json.loads((folder / "heads").read_text("utf-8"))
    while any(at.position < heads.get(name, 0) for name, at in client.positions.items()):  # noqa: ASYNC110
        await asyncio.sleep(LOOK_SECONDS)


async def main(folder: Path) -> None:
    about = json.loads((folder / "program.json").read_text("utf-8"))
    ledger = Ledger(folder / "program.db")
    async with connect(
        about["url"],
        about["token"],
        outbox=folder / "发件箱.db",
        positions=ledger.positions(),
        max_reconnect_seconds=0.5,
    ) as client:
        receiving = asyncio.create_task(receive(client, ledger))
        await send(client, ledger, about, folder)
        await has_everything(client, folder)
        receiving.cancel()
        await asyncio.wait([receiving])
        if not receiving.cancelled():
            receiving.result()
    ledger.close()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    asyncio.run(main(Path(sys.argv[1])))
