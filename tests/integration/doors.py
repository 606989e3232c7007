"""One door, three ways through it: what a scenario may do, whatever carries it.

A scenario speaks to a `Door` and watches `Device`s; it never knows whether the embedded engine,
HTTP or realtime is behind them. Operations are named as everywhere, their fields and answers are
the JSON of the HTTP API.
"""

from __future__ import annotations

import asyncio
import itertools
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeAlias, TypeVar

import msgspec

from qunxin.engine.results import MembersChange, RecallReceipt, Receipt
from qunxin.store.reads import LedgerPage

Json: TypeAlias = dict[str, Any]

PATIENCE_SECONDS = 8.0
"""How long a device may take to get what is on its way, before a test fails."""

_numbers = itertools.count(1)


class Refusal(Exception):  # noqa: N818 - an answer like any other
    """A refusal as it came through the door: its stable code, its text, its facts where the door
    carries any."""

    def __init__(self, code: str, text: str, facts: Mapping[str, Any] | None = None) -> None:
        self.code = code
        self.text = text
        self.facts = dict(facts or {})
        super().__init__(f"{code}: {text}")


class At(msgspec.Struct, frozen=True):
    """Where a device stands in one conversation."""

    epoch: str
    position: int


class Start(msgspec.Struct, frozen=True):
    """Where a device's subscription began, as it was told."""

    epoch: str
    position: int
    must_reload: bool


class Page(msgspec.Struct, frozen=True):
    """A page of a log."""

    epoch: str
    entries: tuple[Json, ...]
    through: int
    head: int
    next_after: int | None


class Device(ABC):
    """One device of one user, and everything that it was given, in the order of arrival.

    It checks on the spot what must hold everywhere: in one conversation each entry or hidden
    range follows the one before without a gap and without a repeat.
    """

    def __init__(self, user: str) -> None:
        self.user = user
        self.record: dict[str, list[Json]] = {}
        self.starts: dict[str, Start] = {}
        self.ended: str | None = None
        """Why the server ended it: an error's code, or the words of the close frame."""
        self.faults: list[str] = []
        self.changed = asyncio.Event()
        self._at: dict[str, int] = {}
        self._epochs: dict[str, str] = {}

    # --- what it was given -------------------------------------------------------------------

    def entries(self, conversation: str) -> list[Json]:
        return self.record.get(conversation, [])

    def messages(self, conversation: str) -> list[str | None]:
        """The texts, None for tombstones."""
        return [text_of(e) for e in self.entries(conversation) if is_message(e)]

    def at(self, conversation: str) -> int:
        """The last position that it was given there, or began at."""
        return self._at.get(conversation, 0)

    def positions(self) -> dict[str, At]:
        """Where it stands, for its next connection."""
        return {name: At(self._epochs[name], at) for name, at in self._at.items()}

    def began(self, conversation: str, start: Start) -> None:
        """A subscription begins, or begins again: never below what was given before."""
        self.starts[conversation] = start
        if not start.must_reload and start.position < self._at.get(conversation, 0):
            self.faults.append(f"{conversation} begins again at {start}")
        self._at[conversation] = start.position
        self._epochs[conversation] = start.epoch
        self.changed.set()

    def take(self, entry: Json, epoch: str) -> None:
        """One entry arrives."""
        name, position = entry["conversation"], entry["position"]
        first = entry["first"] if entry["type"] == "hidden" else position
        before = self._at.get(name)
        if before is not None and first != before + 1:
            self.faults.append(f"{name}: {first} after {before}")
        self.record.setdefault(name, []).append(entry)
        self._at[name] = position
        self._epochs[name] = epoch
        self.changed.set()

    # --- waiting -----------------------------------------------------------------------------

    async def until(self, condition: Callable[[], bool]) -> None:
        """Return once `condition` holds for what has arrived."""
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                while not condition():
                    await self.wait_for_more()
        except TimeoutError:
            raise AssertionError(f"{self!r} does not get what it is due") from None

    async def reach(self, conversation: str, position: int) -> None:
        """Return once it was given everything up to `position`."""
        await self.until(lambda: self.at(conversation) >= position)

    async def wait_for_more(self) -> None:
        """Return when something may have arrived."""
        self.changed.clear()
        await self.changed.wait()

    @abstractmethod
    async def close(self) -> None:
        """Go offline."""

    def __repr__(self) -> str:
        seen = {name: [entry["position"] for entry in found] for name, found in self.record.items()}
        return f"<device of {self.user}: at {self._at}, seen {seen}, ended {self.ended}>"


class Door(ABC):
    """Everything that a scenario does. The scenario's own words are translated to operations
    here; how they travel is the business of `call` and `connect`."""

    name: str
    pushes = True
    """Whether devices are given entries, rather than asking for them."""

    def __init__(self) -> None:
        self._devices: list[Device] = []
        self.inactive: set[str] = set()
        """Users who may not connect: a key acts for them, whatever the door does otherwise."""

    # --- how it travels ----------------------------------------------------------------------

    @abstractmethod
    async def call(
        self, operation: str, fields: Json, by: str | None = None, language: str = "en"
    ) -> Any:
        """Carry out one operation; `by` asks with their own token, nobody means a key with all
        scopes. Raises `Refusal`."""

    @abstractmethod
    async def connect(self, user: str, positions: Mapping[str, At]) -> Device:
        """A device of `user`, online. Raises `Refusal`."""

    @abstractmethod
    async def restart(self) -> None:
        """Stop in order and start again on the same data. Devices are offline afterwards."""

    @abstractmethod
    async def open(self) -> None:
        """Be ready."""

    @abstractmethod
    async def close(self) -> None:
        """Let go of everything but the data."""

    def acts_as(self, user: str | None) -> str | None:  # noqa: ARG002 - the doors' own answer
        """Whose token carries what `user` does: by default a key acts for them."""
        return None

    # --- people ------------------------------------------------------------------------------

    def ids(self, *names: str) -> list[str]:
        """Ids that no other test has."""
        return [f"{name}.{next(_numbers)}" for name in names]

    async def users(self, *names: str) -> list[str]:
        """New accounts, with names that are not ASCII."""
        made = self.ids(*names)
        for user in made:
            await self.put_user(user, name=f"{user} 👩🏽‍🚀 שלום")
        return made

    async def put_user(self, user: str, **fields: str) -> Json:
        put: Json = await self.call("user.put", {"user": user, **fields})
        return put

    async def suspend(self, user: str) -> None:
        await self.put_user(user, state="suspended")

    async def reactivate(self, user: str) -> None:
        await self.put_user(user, state="active")

    async def erase(self, user: str) -> None:
        await self.call("user.erase", {"user": user})

    async def block(self, user: str, blocked: str, *, on: bool = True) -> None:
        await self.call("user.block" if on else "user.unblock", {"user": user, "blocked": blocked})

    # --- groups ------------------------------------------------------------------------------

    async def group(self, name: str, owner: str, *members: str, **fields: Any) -> str:
        """A new group and its id."""
        (group,) = self.ids(name)
        await self.put_group(group, owner=owner, members=list(members), **fields)
        return group

    async def put_group(self, group: str, **fields: Any) -> Json:
        put: Json = await self.call("group.put", {"group": group, **fields})
        return put

    async def dissolve(self, group: str) -> None:
        await self.call("group.dissolve", {"group": group})

    async def add(self, group: str, *users: str) -> MembersChange:
        change = await self.call("member.add", {"group": group, "users": list(users)})
        return msgspec.convert(change, MembersChange)

    async def remove(self, group: str, user: str, *, by: str | None = None) -> MembersChange:
        fields = {"group": group, "user": user} | ({"from": by} if by else {})
        return msgspec.convert(await self.call("member.remove", fields), MembersChange)

    async def change_member(self, group: str, user: str, **fields: Any) -> None:
        await self.call("member.change", {"group": group, "user": user, **fields})

    # --- messages ----------------------------------------------------------------------------

    async def send(
        self,
        type: str | None,  # noqa: A002 - the field's own word
        to: str | None,
        sender: str | None,
        text: str,
        *,
        own: bool = False,
        language: str = "en",
        **fields: Any,
    ) -> Receipt:
        """Send; with `own` by the sender's own token, whatever the door does otherwise."""
        given: Json = {"to": to, "text": text, **fields}
        if type is not None:
            given["type"] = type
        by = sender if own else self.acts_as(sender)
        return await self._send(given, sender, by, language)

    async def send_by_key(
        self,
        type: str,  # noqa: A002 - the field's own word
        to: str | None,
        sender: str | None,
        text: str,
    ) -> Receipt:
        """The same by a key that acts for the sender, whatever the door does otherwise."""
        return await self._send({"type": type, "to": to, "text": text}, sender, None, "en")

    async def _send(
        self, given: Json, sender: str | None, by: str | None, language: str
    ) -> Receipt:
        if by is None and sender is not None:
            given["from"] = sender
        given = {name: value for name, value in given.items() if value is not None}
        answer = await self.call("message.send", given, by, language)
        return msgspec.convert(answer, Receipt)

    async def recall(
        self, conversation: str, position: int, actor: str | None = None
    ) -> RecallReceipt:
        fields = {"conversation": conversation, "position": position}
        by = self.acts_as(actor)
        if by is None and actor is not None:
            answer = await self.call("message.recall", {**fields, "from": actor})
        else:
            answer = await self.call("message.recall", fields, by)
        return msgspec.convert(answer, RecallReceipt)

    async def page(self, conversation: str, reader: str | None = None, **fields: int) -> Page:
        """A page as `reader` may see it; as everything is, where there is none."""
        return await self._page(conversation, reader, self.acts_as(reader), fields)

    async def _page(
        self, conversation: str, reader: str | None, by: str | None, fields: dict[str, int]
    ) -> Page:
        given: Json = {"conversation": conversation, **fields}
        if by is None and reader is not None:
            given["as"] = reader
        return msgspec.convert(await self.call("conversation.entries", given, by), Page)

    async def read_all(
        self, conversation: str, reader: str | None = None, after: int = 0
    ) -> list[Json]:
        """Everything above `after` that `reader` may see, hidden ranges included."""
        return await self._read_all(conversation, reader, self.acts_as(reader), after)

    async def read_all_by_key(
        self, conversation: str, reader: str | None = None, after: int = 0
    ) -> list[Json]:
        """The same by a key, whatever the door does otherwise."""
        return await self._read_all(conversation, reader, None, after)

    async def _read_all(
        self, conversation: str, reader: str | None, by: str | None, after: int
    ) -> list[Json]:
        entries: list[Json] = []
        following: int | None = after
        while following is not None:
            fields = {"after": following, "limit": 500}
            page = await self._page(conversation, reader, by, fields)
            entries += page.entries
            following = page.next_after
        return entries

    async def ledger(
        self, conversation: str, position: int, by: str | None = None, **fields: Any
    ) -> LedgerPage:
        """The ledger of one message, as a key sees it or as `by` does."""
        given = {"conversation": conversation, "position": position, **fields}
        return msgspec.convert(await self.call("message.deliveries", given, by), LedgerPage)

    async def mark_read(self, user: str, conversation: str, position: int) -> None:
        fields = {"user": user, "conversation": conversation, "position": position}
        await self.call("cursor.read", fields)

    # --- devices -----------------------------------------------------------------------------

    async def device(self, user: str, positions: Mapping[str, At] | None = None) -> Device:
        """A device of `user`, online until it is closed, at the latest with the door."""
        device = await self.connect(user, positions or {})
        self._devices.append(device)
        return device

    async def devices(self, *users: str) -> list[Device]:
        return [await self.device(user) for user in users]

    async def close_devices(self) -> None:
        """All offline. Fails where any of them saw a gap or a repeat."""
        devices, self._devices = self._devices, []
        for device in devices:
            await device.close()
        faults = [f"{device.user}: {fault}" for device in devices for fault in device.faults]
        assert not faults, faults

    async def proven(self, receipt: Receipt, counts: Mapping[str, int]) -> LedgerPage:
        """Return the ledger once it counts `counts`."""
        page = await self.ledger(receipt.conversation, receipt.position)
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                while {str(k): n for k, n in page.counts.items() if n} != dict(counts):
                    await asyncio.sleep(0.05)
                    page = await self.ledger(receipt.conversation, receipt.position)
        except TimeoutError:
            raise AssertionError(f"the ledger stays {page.counts}, not {counts}") from None
        return page


def is_message(entry: Json) -> bool:
    return entry["type"] in ("private", "group", "broadcast")


def text_of(entry: Json) -> str | None:
    """A message's text, None where it was recalled."""
    if "content" not in entry:
        return None
    return "".join(segment.get("text", "") for segment in entry["content"])


def positions_of(entries: Sequence[Json]) -> list[int]:
    return [entry["position"] for entry in entries]


AnyDoor = TypeVar("AnyDoor", bound=Door)


@asynccontextmanager
async def opened(door: AnyDoor) -> AsyncIterator[AnyDoor]:
    """`door`, open while the block runs. At its end no device has seen a gap or a repeat."""
    await door.open()
    yield door
    try:
        await door.close_devices()
    finally:
        await door.close()
