"""Qunxin 群信: group messaging that tells the truth about every message.

::

    async with qunxin.open("chat.db") as chat:
        await chat.put_user("alice")
        await chat.put_user("bob")
        await chat.put_group("tea", owner="alice", members=["bob"])
        receipt = await chat.send("group", "tea", sender="alice", text="你好")
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
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

_HOMES: Final = {
    "qunxin.embed": ("open",),
    "qunxin.engine": ("Engine", "EngineSettings"),
    "qunxin.errors": ("QunxinError", "Tier"),
    "qunxin.model": ("Entry", "EventType", "MessageType", "Require", "Role"),
}


def __getattr__(name: str) -> Any:
    """Loaded when it is first named (PEP 562): the command line, the SDK and whoever only catches
    an error need no engine and no store."""
    for home, names in _HOMES.items():
        if name in names:
            found = globals()[name] = getattr(import_module(home), name)
            return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *__all__]
