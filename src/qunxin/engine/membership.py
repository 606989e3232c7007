"""Membership: step 3. Who is in a group, and who of them cannot be reached.

A bounded cache of each active group's members, as bitmaps of integer keys, corrected by the log
itself: joins, leaves and dissolution are entries with positions, so it learns of them in order
with the messages. It decides nothing that a promise rests on. It gives the commit a hint, which
the store takes only where both its versions are the current ones.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Sequence

from pyroaring import BitMap64

from qunxin.errors import QunxinError
from qunxin.model import NAMED_LIMIT, Conversation, Entry, EventType, Reach, Unreachable
from qunxin.store import Store
from qunxin.store.reads import UnreachableUser
from qunxin.tasks import TaskSet

_log = logging.getLogger("qunxin.engine.membership")

_ADDING = frozenset({EventType.JOINED, EventType.CREATED})
_KINDS = _ADDING | {EventType.LEFT, EventType.DISSOLVED}


class CachedGroup:
    """A group's members as of one membership version."""

    __slots__ = ("keys", "version")

    def __init__(self, version: int, keys: BitMap64) -> None:
        self.version = version
        self.keys = keys

    def apply(self, entry: Entry) -> bool:
        """Take over one membership entry; False where the entry does not name everybody it
        concerns, so that the group must be read again."""
        if entry.position <= self.version:
            return True
        body = entry.body or {}
        keys = body.get("keys", ())
        if entry.type == EventType.DISSOLVED or len(keys) != body.get("count"):
            return False
        if entry.type in _ADDING:
            self.keys.update(keys)
        else:
            self.keys.difference_update(BitMap64(keys))
        self.version = entry.position
        return True


class MemberCache:
    """Members of the groups in use, least recently used first out, and the unreachable users.

    Filled in the background on first use: a send never waits for it.
    """

    def __init__(self, store: Store, tasks: TaskSet, max_groups: int) -> None:
        self._store = store
        self._tasks = tasks
        self._max_groups = max_groups
        self._groups: OrderedDict[str, CachedGroup] = OrderedDict()
        self._loading: dict[str, list[Entry]] = {}
        self._unreachable_version = -1
        self._unreachable: dict[int, UnreachableUser] = {}
        self._unreachable_keys = BitMap64()
        self._refreshing = False

    def hint(self, group: str) -> Reach | None:
        """What the cache believes about the group's reach; None where there is nothing to gain
        or nothing known yet."""
        if not self._unreachable:
            return None
        cached = self._groups.get(group)
        if cached is None:
            self._load(group)
            return None
        self._groups.move_to_end(group)
        found = cached.keys & self._unreachable_keys
        named = tuple(self._named(key) for key in found[:NAMED_LIMIT])
        return Reach(
            membership_version=cached.version,
            unreachable_version=self._unreachable_version,
            members=len(cached.keys),
            unreachable_count=len(found),
            named=named,
        )

    def _named(self, key: int) -> Unreachable:
        found = self._unreachable[key]
        return Unreachable(found.user, found.reason)

    def compare(self, group: str, reach: Reach) -> None:
        """Forget what a commit has shown to be out of date."""
        if reach.unreachable_version != self._unreachable_version:
            self.refresh_unreachable()
        cached = self._groups.get(group)
        if cached is not None and cached.version < reach.membership_version:
            del self._groups[group]

    def apply(self, entries: Sequence[Entry]) -> None:
        """Take over committed entries of any conversations, in their order."""
        for entry in entries:
            if entry.type not in _KINDS:
                continue
            conversation = Conversation.parse(entry.conversation)
            if conversation is None:
                continue
            group = conversation.parts[0]
            if group in self._loading:
                self._loading[group].append(entry)
            cached = self._groups.get(group)
            if cached is not None and not cached.apply(entry):
                del self._groups[group]

    def _load(self, group: str) -> None:
        if group not in self._loading:
            self._loading[group] = []
            self._tasks.start(f"members of {group}", self._fill(group))

    async def _fill(self, group: str) -> None:
        """Read the members; entries that passed meanwhile are applied on top."""
        try:
            read = await self._store.read_member_keys(group)
        except QunxinError as error:
            _log.warning("members of a group could not be read: %s", error.code)
            del self._loading[group]
            return
        cached = CachedGroup(read.membership_version, BitMap64(read.keys))
        passed = self._loading.pop(group)
        if all(cached.apply(entry) for entry in passed):
            self._groups[group] = cached
            while len(self._groups) > self._max_groups:
                self._groups.popitem(last=False)

    def refresh_unreachable(self) -> None:
        """Read the unreachable users again, in the background."""
        if not self._refreshing:
            self._refreshing = True
            self._tasks.start("unreachable users", self.read_unreachable())

    async def read_unreachable(self) -> None:
        """Read the unreachable users; hints are made with them from then on."""
        try:
            read = await self._store.read_unreachable()
        except QunxinError as error:
            _log.warning("the unreachable users could not be read: %s", error.code)
            return
        finally:
            self._refreshing = False
        self._unreachable_version = read.version
        self._unreachable = {user.key: user for user in read.users}
        self._unreachable_keys = BitMap64(self._unreachable)
