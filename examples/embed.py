"""The engine inside a program: no server, one SQLite file.

    python examples/embed.py [FILE]

A group in which one account is suspended: the message is accepted for the others and says so, the
ledger says who got it, and a recall takes it back.
"""

import asyncio
import sys
import tempfile
from pathlib import Path

import qunxin


async def main(database: Path) -> None:
    async with qunxin.open(database) as chat:
        for user in ("alice", "bob", "carol"):
            await chat.put_user(user)
        await chat.put_group("tea", name="茶友会 🍵", owner="alice", members=["bob", "carol"])
        await chat.put_user("carol", state="suspended")

        receipt = await chat.send("group", "tea", sender="alice", text="你好，大家", key="k1")
        print(
            f"position {receipt.position}, {receipt.grade}: {receipt.unreachable_count} unreachable"
        )

        again = await chat.send("group", "tea", sender="alice", text="你好，大家", key="k1")
        print(f"position {again.position}, duplicate: {again.duplicate}")

        try:
            await chat.send("group", "tea", sender="alice", text="…", require="all")
        except qunxin.QunxinError as error:
            print(f"refused: {error.text('zh')}")

        async with chat.listen("bob") as live:
            async for entry in live:
                if entry.type == "group":
                    print(f"bob has {entry.conversation} {entry.position}")
                    break

        await chat.recall("group:tea", receipt.position, acting="alice")
        page = await chat.entries("group:tea", reader="bob")
        print("bob reads", [(entry.position, entry.type, entry.content) for entry in page.entries])

        ledger = await chat.deliveries("group:tea", receipt.position)
        print("ledger", {row.user: str(row.state) for row in ledger.deliveries})


if __name__ == "__main__":
    if len(sys.argv) > 1:
        asyncio.run(main(Path(sys.argv[1])))
    else:
        with tempfile.TemporaryDirectory() as folder:
            asyncio.run(main(Path(folder, "chat.db")))
