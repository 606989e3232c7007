"""Closing the engine in order."""

import asyncio
from pathlib import Path

import pytest

import qunxin
from qunxin import QunxinError


async def test_closing_answers_and_delivers_what_was_accepted(tmp_path: Path) -> None:
    """Every send taken before the close is answered, a device in step gets each of them and is
    then told why it ends, and whatever comes later is refused as `shutting_down`."""
    chat = qunxin.open(tmp_path / "茶.db")
    await chat.open()
    for user in ("alice", "bob"):
        await chat.put_user(user)
    await chat.put_group("tea", owner="alice", members=["bob"])
    texts: list[str] = []
    async with chat.listen("bob") as live:
        while (await anext(live)).type != "created":
            pass

        async def read() -> None:
            async for entry in live:
                texts.append(entry.text)  # noqa: PERF401 - what came before the end stays

        reader = asyncio.create_task(read())
        sends = [
            asyncio.create_task(chat.send("group", "tea", sender="alice", text=f"第{n}杯 🍵"))
            for n in range(50)
        ]
        await asyncio.sleep(0)
        await chat.close()
        receipts = await asyncio.gather(*sends)
        with pytest.raises(QunxinError, match="shutting_down"):
            await reader
    assert [receipt.position for receipt in receipts] == list(range(2, 52))
    assert texts == [f"第{n}杯 🍵" for n in range(50)]
    with pytest.raises(QunxinError, match="shutting_down"):
        await chat.send("group", "tea", sender="alice", text="晚了")
