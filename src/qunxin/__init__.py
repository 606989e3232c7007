"""Qunxin 群信: group messaging that tells the truth about every message.

::

    async with qunxin.open("chat.db") as chat:
        await chat.put_user("alice")
        await chat.put_user("bob")
        await chat.put_group("tea", owner="alice", members=["bob"])
        receipt = await chat.send("group", "tea", sender="alice", text="你好")
"""

from qunxin.embed import open  # noqa: A004 - read as qunxin.open
from qunxin.engine import Engine, EngineSettings
from qunxin.errors import QunxinError, Tier
from qunxin.model import Entry, EventType, MessageType, Require, Role

__all__ = [
    "Engine",
    "EngineSettings",
    "Entry",
    "EventType",
    "MessageType",
    "QunxinError",
    "Require",
    "Role",
    "Tier",
    "open",
]
