"""A device that knows a conversation from before, when its user comes back into it."""

import asyncio
from pathlib import Path

import qunxin
from qunxin.engine.sink import Position


async def test_a_device_that_was_there_before_is_given_nothing_twice(tmp_path: Path) -> None:
    """A device connects while its user is out of a group and says where it stood there. When
    the user is added again it goes on from that position, the time outside as a hidden range,
    although none of the user's devices had proved to have what it already has."""
    async with qunxin.open(tmp_path / "茶.db") as chat:
        for user in ("alice", "bob"):
            await chat.put_user(user)
        await chat.put_group("tea", owner="alice", members=["bob"])
        for text in ("一", "二", "三"):
            await chat.send("group", "tea", sender="alice", text=text)
        await chat.remove_member("tea", "bob")
        await chat.send("group", "tea", sender="alice", text="不给鲍勃看 🙈")
        positions = {"group:tea": Position(chat.epoch, 5)}
        async with chat.listen("bob", positions=positions) as live:
            await chat.add_members("tea", ["bob"])
            await chat.send("group", "tea", sender="alice", text="欢迎回来")
            seen: list[tuple[str, int]] = []
            async with asyncio.timeout(5):
                while not seen or seen[-1] != ("group", 8):
                    entry = await anext(live)
                    if entry.conversation == "group:tea":
                        seen.append((entry.type, entry.position))
    assert seen == [("hidden", 6), ("joined", 7), ("group", 8)]
