"""What the tests of the suite are written in: a store with short words for common commands."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any, TypeAlias

import msgspec

from qunxin.clock import Clock
from qunxin.errors import QunxinError
from qunxin.model import Conversation, Cursor, Entry, JsonObject, MessageType, Reach, Require, Role
from qunxin.store import Store
from qunxin.store.commands import (
    AddMembers,
    Command,
    Fence,
    MoveCursors,
    Post,
    PutGroup,
    PutUser,
    RemoveMember,
)
from qunxin.store.results import Done, Posted
from qunxin.testing.clock import ManualClock

StoreMaker: TypeAlias = Callable[[Clock], Store]
"""Makes a store that is not open yet; each one made in a test stands on the same data."""


def content_of(text: str) -> bytes:
    """The JSON text of one text segment."""
    return msgspec.json.encode([{"type": "text", "text": text}])


def text_of(entry: Entry) -> str:
    """The text of a message made by `content_of`."""
    assert entry.content is not None
    segments = msgspec.json.decode(entry.content)
    return str(segments[0]["text"])


def body_of(entry: Entry) -> JsonObject:
    """The facts of an event."""
    assert entry.body is not None
    return entry.body


def message(
    kind: MessageType,
    conversation: str,
    sender: str | None,
    text: str,
    *,
    key: str | None = None,
    require: Require | None = None,
    hint: Reach | None = None,
) -> Post:
    """A message as the engine hands it in, with the digest of its content."""
    content = content_of(text)
    digest = hashlib.sha256(content).digest() if key is not None else None
    return Post(kind, conversation, sender, content, key, digest, require, hint)


def group_message(group: str, sender: str, text: str = "茶好了 🍵", **options: Any) -> Post:
    return message(MessageType.GROUP, f"group:{group}", sender, text, **options)


def private_message(sender: str, to: str, text: str = "悄悄话 🤫", **options: Any) -> Post:
    return message(
        MessageType.PRIVATE, str(Conversation.private(sender, to)), sender, text, **options
    )


def broadcast_message(
    sender: str | None = None, text: str = "通知 إعلان 📢", **options: Any
) -> Post:
    return message(MessageType.BROADCAST, "broadcast:all", sender, text, **options)


def fence(actor: str, role: Role = Role.MEMBER, *, above_target: bool = False) -> Fence:
    return Fence(actor, role, above_target)


class Chat:
    """An open store, and the clock that it was given."""

    def __init__(self, store: Store, clock: ManualClock) -> None:
        self.store = store
        self.clock = clock

    async def done(self, command: Command) -> Done:
        """Carry out one command that must be accepted."""
        (outcome,) = await self.store.commit([command])
        assert isinstance(outcome, Done), outcome
        return outcome

    async def refused(self, command: Command) -> QunxinError:
        """Carry out one command that must be refused."""
        (outcome,) = await self.store.commit([command])
        assert isinstance(outcome, QunxinError), outcome
        return outcome

    async def code(self, command: Command) -> str:
        """The code with which one command is refused."""
        return (await self.refused(command)).code

    async def users(self, *names: str) -> None:
        for outcome in await self.store.commit([PutUser(name) for name in names]):
            assert isinstance(outcome, Done), outcome

    async def group(self, group: str, owner: str, *members: str, **settings: Any) -> Done:
        """Accounts for all of them, and the group."""
        await self.users(owner, *members)
        return await self.done(PutGroup(group, owner=owner, members=members, **settings))

    async def add(self, group: str, *users: str) -> Done:
        await self.users(*users)
        return await self.done(AddMembers(group, users))

    async def remove(self, group: str, user: str) -> Done:
        return await self.done(RemoveMember(group, user))

    async def post(self, command: Post) -> Posted:
        done = await self.done(command)
        assert isinstance(done.result, Posted)
        return done.result

    async def say(self, group: str, sender: str, text: str = "茶好了 🍵", **options: Any) -> Posted:
        """Post one message to a group."""
        return await self.post(group_message(group, sender, text, **options))

    async def move(self, user: str, conversation: str, delivered: int = 0, read: int = 0) -> None:
        await self.done(MoveCursors((Cursor(user, conversation, delivered, read),)))

    async def log(self, conversation: str, reader: str | None = None) -> list[Entry]:
        """All that `reader` may see of it, read page by page."""
        entries: list[Entry] = []
        after = 0
        while True:
            page = await self.store.read_log(conversation, reader, after=after, limit=97)
            entries.extend(page.entries)
            if page.through >= page.head:
                return entries
            assert page.through > after
            after = page.through

    async def events(self, conversation: str) -> list[str]:
        """The types of all entries."""
        return [entry.type for entry in await self.log(conversation)]

    async def inbox(self, user: str) -> list[Entry]:
        return await self.log(f"inbox:{user}", user)

    async def head(self, conversation: str) -> int:
        return (await self.store.read_heads([conversation]))[conversation]
