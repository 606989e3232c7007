"""What a device may ask for beside sending: typed, and repeated over a broken connection.

Each of them may be repeated without harm, so a connection that breaks meanwhile is waited for.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, TypeVar

import msgspec

from qunxin.client.receiver import Recalls
from qunxin.client.results import EntryList, Ledger, MemberList, MemberView, RoleName, SavedGroup
from qunxin.client.streams import without_recalled
from qunxin.engine.results import EntriesPage, MembersChange, RecallReceipt
from qunxin.model import Cursor, DeliveryState, Group, History, Require
from qunxin.wire.entries import decode_entry

ResultT = TypeVar("ResultT")


class Operations(ABC):
    """Names and fields are those of the operations of the server; a field left out is None."""

    recalls: Recalls

    async def call(self, method: str, result: type[ResultT], /, **fields: Any) -> ResultT:
        """Any operation by its name, as `result`. Fields that are None are left out."""
        given = {name: value for name, value in fields.items() if value is not None}
        return msgspec.json.decode(await self._call(method, given), type=result)

    @abstractmethod
    async def _call(self, method: str, fields: dict[str, Any]) -> bytes:
        """The result as JSON. Raises `RefusedError` or `UnansweredError`."""

    # --- reading -----------------------------------------------------------------------------

    async def history(
        self,
        conversation: str,
        *,
        after: int | None = None,
        before: int | None = None,
        limit: int = 100,
    ) -> EntriesPage:
        """Entries above `after`, or the newest below `before`, or with both those between them,
        from `after` on; in ascending order always. Recalled messages come without content."""
        with self.recalls.during() as recalls:
            page = await self.call(
                "conversation.entries",
                EntryList,
                conversation=conversation,
                after=after,
                before=before,
                limit=limit,
            )
        entries = without_recalled((decode_entry(raw) for raw in page.entries), recalls)
        return EntriesPage(
            conversation=page.conversation,
            epoch=page.epoch,
            entries=entries,
            through=page.through,
            head=page.head,
            next_after=page.next_after,
            intervals=page.intervals,
        )

    async def ledger(
        self,
        conversation: str,
        position: int,
        *,
        state: DeliveryState | None = None,
        limit: int = 100,
        cursor: str | None = None,
    ) -> Ledger:
        """Who got a message, a page at a time, counted on the first: for its author, and for owners
        and admins."""
        return await self.call(
            "message.deliveries",
            Ledger,
            conversation=conversation,
            position=position,
            state=state,
            limit=limit,
            cursor=cursor,
        )

    # --- messages ----------------------------------------------------------------------------

    async def recall(self, conversation: str, position: int) -> RecallReceipt:
        """Take a message back. From its return on nobody is shown the content."""
        return await self.call(
            "message.recall", RecallReceipt, conversation=conversation, position=position
        )

    async def _mark_read(self, conversation: str, position: int) -> Cursor:
        return await self.call("cursor.read", Cursor, conversation=conversation, position=position)

    # --- groups ------------------------------------------------------------------------------

    async def put_group(
        self,
        group: str,
        *,
        name: str | None = None,
        members: tuple[str, ...] = (),
        history: History | None = None,
        require: Require | None = None,
        muted: bool | None = None,
    ) -> SavedGroup:
        """Create a group, owned by this user, or change its settings. `members` count at its
        creation only."""
        return await self.call(
            "group.put",
            SavedGroup,
            group=group,
            name=name,
            members=members or None,
            history=history,
            require=require,
            muted=muted,
        )

    async def get_group(self, group: str) -> Group:
        return await self.call("group.get", Group, group=group)

    async def dissolve_group(self, group: str) -> Group:
        """The group is gone for ever; its id is not used again."""
        return await self.call("group.dissolve", Group, group=group)

    async def members(
        self, group: str, *, limit: int = 100, cursor: str | None = None
    ) -> MemberList:
        """A page of the members."""
        return await self.call("group.members", MemberList, group=group, limit=limit, cursor=cursor)

    async def add_members(self, group: str, users: tuple[str, ...]) -> MembersChange:
        """Those who have no account are named in the result."""
        return await self.call("member.add", MembersChange, group=group, users=users)

    async def remove_member(self, group: str, user: str) -> MembersChange:
        """Of oneself: leave the group."""
        return await self.call("member.remove", MembersChange, group=group, user=user)

    async def change_member(
        self, group: str, user: str, *, role: RoleName | None = None, muted: bool | None = None
    ) -> MemberView:
        """Another role, or whether the member may write."""
        return await self.call(
            "member.change", MemberView, group=group, user=user, role=role, muted=muted
        )
