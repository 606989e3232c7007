"""The Python SDK: one user's device, which loses nothing and doubles nothing.

::

    async with qunxin.client.connect(url, fetch_token, outbox="alice.db") as client:
        receipt = await client.send("group", "tea", "你好")
        async for event in client:
            if isinstance(event, Entry):
                print(event.conversation, event.position, event.sender, event.text)

`docs/how-to/python-sdk.md` goes on from here.
"""

from qunxin.client.client import Client, connect
from qunxin.client.events import Event, Reload, Unsent
from qunxin.client.outbox import Posted
from qunxin.client.refusals import RefusedError, UnansweredError
from qunxin.client.results import (
    ConversationView,
    Ledger,
    MemberList,
    MemberView,
    RoleName,
    SavedGroup,
)
from qunxin.engine.results import EntriesPage, MembersChange, RecallReceipt, Receipt
from qunxin.engine.sink import Position
from qunxin.errors import QunxinError
from qunxin.model import Entry, EventType, MessageType

__all__ = [
    "Client",
    "ConversationView",
    "EntriesPage",
    "Entry",
    "Event",
    "EventType",
    "Ledger",
    "MemberList",
    "MemberView",
    "MembersChange",
    "MessageType",
    "Position",
    "Posted",
    "QunxinError",
    "RecallReceipt",
    "Receipt",
    "RefusedError",
    "Reload",
    "RoleName",
    "SavedGroup",
    "UnansweredError",
    "Unsent",
    "connect",
]
