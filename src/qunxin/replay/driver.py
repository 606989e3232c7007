"""Plays a plan: lanes side by side, the actions of each strictly one after another.

An action is done when the server has answered for it, so the order of each log is the order of
acceptance. Whatever may be repeated is repeated until it is answered, across broken connections
and restarts of the server.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any, Final

import msgspec

from qunxin.errors import QunxinError
from qunxin.model import MessageType
from qunxin.replay.api import Api, ApiRefused
from qunxin.replay.client import ConnectionBroken, Participant, Refused
from qunxin.replay.options import ReplayOptions, Speak
from qunxin.replay.pace import due_times
from qunxin.replay.plan import Action, ActionKind, Message, Plan, Stay
from qunxin.replay.pool import OnlinePool
from qunxin.replay.records import Journal

_SETUP_CALLS: Final = 16
_ENDING_SECONDS: Final = 15.0
"""How soon the devices of a suspended user must be gone."""


class Driver:
    """One run of one plan. `progressed` is told of each step done (for whoever kills)."""

    def __init__(
        self,
        plan: Plan,
        options: ReplayOptions,
        api: Api,
        participants: dict[str, Participant],
        journal: Journal,
        clock: Callable[[], float],
        progressed: Callable[[], None],
    ) -> None:
        self.pool = OnlinePool(participants, options.online)
        self._plan = plan
        self._options = options
        self._api = api
        self._participants = participants
        self._journal = journal
        self._clock = clock
        self._progressed = progressed
        self._speak: Speak = options.progress or (lambda *_: None)
        self._tokens: dict[str, str] = {}
        self._places = _places(plan)
        self._act: dict[ActionKind, Callable[[Action], Awaitable[None]]] = {
            ActionKind.JOIN: self._join,
            ActionKind.LEAVE: self._leave,
            ActionKind.REMOVE: self._remove,
            ActionKind.RENAME: self._rename,
            ActionKind.SEND: self._send,
            ActionKind.RECALL: self._recall,
            ActionKind.SUSPEND: self._suspend,
            ActionKind.REACTIVATE: self._reactivate,
        }

    # --- phases -----------------------------------------------------------------------------

    async def set_up(self) -> None:
        """Accounts, groups, and the first participants online. The first answer of each kind,
        over HTTP and over a WebSocket, must come soon: there may be no server.

        Raises `cannot_start` where an answer does not come in time, and what the server refuses
        with.
        """
        one, *others = [*self._plan.users.items(), *self._plan.owners.items()]
        await self._put_user(one, self._options.first_answer_seconds)
        await self._all("Accounts", map(self._put_user, others), len(others), _SETUP_CALLS)
        for group in self._plan.groups:
            async with self._setting_up(f"making the group {group.group}"):
                await self._api.put_group(group.group, group.name, group.owner, group.members)
            self._journal.place(f"group:{group.group}", group.slot, 1)
        device, *devices = list(self._plan.users)[: self._options.online]
        await self._connect(device, self._options.first_answer_seconds)
        await self._all("Connecting", map(self._connect, devices), len(devices), _SETUP_CALLS)

    async def _put_user(self, user: tuple[str, str], within: float | None = None) -> None:
        async with self._setting_up(f"making the account of {user[0]}", within):
            await self._api.put_user(user[0], name=user[1])

    async def _connect(self, user: str, within: float | None = None) -> None:
        async with self._setting_up(f"connecting {user}", within):
            await self._visit(user)

    @asynccontextmanager
    async def _setting_up(self, what: str, within: float | None = None) -> AsyncIterator[None]:
        seconds = self._options.give_up_seconds if within is None else within
        try:
            async with asyncio.timeout(seconds):
                yield
        except TimeoutError:
            failure = self._api.last_failure
            why = f" ({failure})" if failure else ""
            detail = f"{what}: no answer within {seconds:g} seconds{why}"
            raise QunxinError("cannot_start", detail=detail) from None
        except (ApiRefused, Refused) as refused:
            raise refused.as_error() from refused

    async def play(self) -> None:
        """Every lane from its beginning to its end."""
        total = sum(map(len, self._plan.lanes))
        done = 0
        started = self._clock()

        async def play_lane(actions: list[Action]) -> None:
            nonlocal done
            for action, due in zip(actions, due_times(actions, self._options.speed), strict=True):
                if due:
                    await asyncio.sleep(started + due - self._clock())
                await self._do(action)
                done += 1
                self._progressed()
                self._speak("Playing", done, total)

        async with asyncio.TaskGroup() as lanes:
            for actions in self._plan.lanes:
                lanes.create_task(play_lane(actions))

    async def catch_up(self) -> None:
        """Everybody has been online once more and has got all they are due, or nothing came any
        more. Nobody is online on return."""
        users = [*self.pool.online, *self._plan.users]
        order = dict.fromkeys(users)

        async def finish(user: str) -> None:
            await self._finish(user)
            self._progressed()

        await self._all("Catching up", map(finish, order), len(order), self._options.online)

    async def _all(
        self, phase: str, work: Iterable[Awaitable[Any]], total: int, at_once: int
    ) -> None:
        waiting = iter(work)
        done = 0

        async def worker() -> None:
            nonlocal done
            for one in waiting:
                await one
                done += 1
                self._speak(phase, done, total)

        async with asyncio.TaskGroup() as workers:
            for _ in range(min(at_once, total)):
                workers.create_task(worker())

    # --- one action -------------------------------------------------------------------------

    async def _do(self, action: Action) -> None:
        async with self._deadline(f"{action.kind.value} of {action.user}"):
            try:
                await self._act[action.kind](action)
            except (ApiRefused, Refused) as refused:
                self._journal.faults.append(
                    f"{action.kind.value} {action.user} {action.group}: {refused}"
                )

    @asynccontextmanager
    async def _deadline(self, what: str) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self._options.give_up_seconds):
                yield
        except TimeoutError:
            detail = f"{what}: no answer within {self._options.give_up_seconds:g} seconds"
            raise QunxinError("outcome_unknown", detail=detail) from None

    async def _join(self, action: Action) -> None:
        position = await self._api.add_member(action.group, action.user)
        self._journal.place(f"group:{action.group}", action.slot, position)
        if self.pool.has_room():
            await self._visit(action.user)

    async def _leave(self, action: Action) -> None:
        await self._end_membership(action, await self._token(action.user))

    async def _remove(self, action: Action) -> None:
        owner = next(group.owner for group in self._plan.groups if group.group == action.group)
        await self._end_membership(action, await self._token(owner))

    async def _end_membership(self, action: Action, token: str) -> None:
        position = await self._api.remove_member(action.group, action.user, token)
        self._journal.place(f"group:{action.group}", action.slot, position)

    async def _rename(self, action: Action) -> None:
        await self._api.put_user(action.user, name=action.text)

    async def _suspend(self, action: Action) -> None:
        """The user's device must be thrown out, and is told not to come back."""
        await self._api.put_user(action.user, state="suspended")
        try:
            async with asyncio.timeout(_ENDING_SECONDS):
                await self._participants[action.user].wait_ended()
        except TimeoutError:
            self._journal.faults.append(f"{action.user} is suspended and still connected")
        await self.pool.leave(action.user)

    async def _reactivate(self, action: Action) -> None:
        await self._api.put_user(action.user, state="active")

    # --- messages ---------------------------------------------------------------------------

    async def _send(self, action: Action) -> None:
        message = self._plan.messages[action.message]
        try:
            receipt = await self._post(message)
        except Refused as refused:
            if refused.code not in message.refusals:
                raise
            return
        self._journal.accepted[message.number] = self._clock()
        if message.refusals:
            self._journal.faults.append(f"accepted, though it had to be refused: {message.key}")
            return
        self._journal.place(message.conversation, message.slot, int(receipt["position"]))
        if receipt["conversation"] != message.conversation:
            self._journal.faults.append(f"{message.key} went to {receipt['conversation']}")

    async def _post(self, message: Message) -> dict[str, Any]:
        data = {
            "type": message.type,
            "to": message.to,
            "text": message.text,
            "key": message.key,
        }
        if message.type is MessageType.BROADCAST:
            self._note_sent(message)
            return await self._api.send({**data, "from": message.author})
        receipt: dict[str, Any] = await self._call(message.author, "message.send", data, message)
        return receipt

    def _note_sent(self, message: Message) -> None:
        """The first try counts: what follows is part of how long it took."""
        if not self._journal.sent[message.number]:
            self._journal.sent[message.number] = self._clock()

    async def _recall(self, action: Action) -> None:
        message = self._plan.messages[action.message]
        position = self._journal.position(message.conversation, message.slot)
        if action.user == message.author:
            data = {"conversation": message.conversation, "position": position}
            receipt = await self._call(action.user, "message.recall", data)
            told = int(receipt["position"])
        else:
            token = await self._token(action.user)
            told = await self._api.recall(message.conversation, position, token)
        self._journal.recalled[message.number] = self._clock()
        self._journal.place(message.conversation, action.slot, told)

    async def _call(
        self, user: str, method: str, data: dict[str, Any], message: Message | None = None
    ) -> Any:
        """Over the user's own connection, as often as it takes."""
        while True:
            async with self.pool.connected(user) as participant:
                if message is not None:
                    self._note_sent(message)
                try:
                    return msgspec.json.decode(await participant.call(method, data))
                except ConnectionBroken:
                    continue
                except Refused as refused:
                    if not refused.fault.temporary:
                        raise
            await asyncio.sleep(random.uniform(0.05, 0.2))  # noqa: S311 - as the server asks

    async def _token(self, user: str) -> str:
        if user not in self._tokens:
            self._tokens[user] = await self._api.token(user)
        return self._tokens[user]

    async def _visit(self, user: str) -> None:
        """Bring a device online and leave it so until its place is needed."""
        async with self.pool.connected(user):
            pass

    # --- the end ----------------------------------------------------------------------------

    async def _finish(self, user: str) -> None:
        targets = self._targets(user)
        async with self._deadline(f"catching up of {user}"):
            try:
                await self._drain(user, targets)
            except (ApiRefused, Refused) as refused:
                self._journal.faults.append(f"{user} could not catch up: {refused}")
        await self.pool.leave(user)

    async def _drain(self, user: str, targets: dict[str, int]) -> None:
        """Return when all has come, and a reply after it: nothing more is on its way."""
        while True:
            async with self.pool.connected(user) as participant:
                try:
                    await participant.caught_up(targets, self._options.quiet_seconds)
                    await self._look_beyond(participant)
                except ConnectionBroken:
                    continue
                return

    async def _look_beyond(self, participant: Participant) -> None:
        """Ask for what comes after the end of every stay that is over; the judge counts what is
        given."""
        user = participant.user
        data = {"conversation": f"inbox:{user}", "limit": 1}
        await participant.call("conversation.entries", data)
        for conversation, stay in self._places[user].items():
            end = 0 if stay.last is None else self._journal.position(conversation, stay.last)
            if end:
                for known in await participant.read(conversation, end, None):
                    participant.record.add(known.number, self._clock())

    def _targets(self, user: str) -> dict[str, int]:
        """The last position that `user` is due in each conversation, from the receipts."""
        targets: dict[str, int] = {}
        for conversation, stay in self._places[user].items():
            positions = self._journal.positions.get(conversation, {})
            if stay.last is None:
                targets[conversation] = max(positions.values(), default=0)
            else:
                targets[conversation] = positions.get(stay.last, 0)
        return targets


def _places(plan: Plan) -> dict[str, dict[str, Stay]]:
    """For each user, every conversation that was ever theirs, with the last stay there."""
    places: dict[str, dict[str, Stay]] = {user: {} for user in plan.users}
    for conversation, chronicle in plan.chronicles.items():
        for user, stays in chronicle.stays.items():
            if user in places:
                places[user][conversation] = stays[-1]
    return places
