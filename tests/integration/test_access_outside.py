"""What an outsider gets of others over HTTP and realtime: nothing, and no word on whether there is
anything."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Final

import pytest
from access_cases import ALLOWED, PEOPLE, REQUESTS, World, expected, make_world
from door_http import HttpDoor
from doors import Json, Refusal

from qunxin.engine.access import RULES
from qunxin.wire.codes import ERROR_NUMBERS
from realtime_client import RawClient
from serving import ServerProcess

GROUP_REQUESTS: Final[dict[str, Json]] = {
    "group.get": {},
    "group.members": {},
    "group.presence": {},
    "group.dissolve": {},
    "member.add": {"users": ["陌生"]},
    "member.change": {"user": "alice", "muted": True},
    "member.remove": {"user": "alice"},
}
CONVERSATION_REQUESTS: Final[dict[str, Json]] = {
    "conversation.entries": {},
    "message.deliveries": {"position": 1},
    "message.recall": {"position": 1},
}
USER_REQUESTS: Final[dict[str, Json]] = {
    "user.put": {"name": "不是我"},
    "user.erase": {},
    "user.blocks": {},
    "user.block": {"blocked": "mallory"},
    "user.unblock": {"blocked": "mallory"},
    "user.conversations": {},
    "user.sessions": {},
    "user.end_sessions": {},
    "user.end_session": {"session": "5f0c1e9a7b3d2468"},
    "token.create": {},
    "token.revoke": {"id": "令牌 🎫"},
    "token.revoke_all": {},
    "cursor.read": {"conversation": "broadcast:all", "position": 1},
}
COMMANDS: Final[dict[str, Json]] = {
    "subscribe": {},
    "history": {"limit": 10},
    "presence": {},
    "presence_stats": {},
    "publish": {"data": {"text": "偷偷 🤫"}},
}


class Outsider:
    """A user with a token, at both doors; mostly one with no part in anything."""

    def __init__(self, door: HttpDoor, token: str, client: RawClient) -> None:
        self._door = door
        self._token = token
        self._client = client

    async def http(self, operation: str, fields: Json) -> str:
        """What the answer says: code, text and facts."""
        try:
            await self._door.call_with(self._token, operation, fields)
        except Refusal as refusal:
            return f"{refusal.code} {refusal} {refusal.facts}"
        return ALLOWED

    def cut(self) -> None:
        self._client.cut()

    async def both(self, operation: str, fields: Json) -> tuple[Json, Json]:
        """The whole answers, refusals as their text and facts, where the door carries them."""
        try:
            over_http = await self._door.call_with(self._token, operation, fields)
        except Refusal as refusal:
            over_http = {"error": refusal.text, "facts": refusal.facts}
        reply = await self._client.call(rpc={"method": operation, "data": fields})
        return over_http, reply["rpc"]["data"] if "rpc" in reply else {
            "error": reply["error"]["message"]
        }

    async def rpc(self, operation: str, fields: Json) -> str:
        return await self.command("rpc", {"method": operation, "data": fields})

    async def command(self, kind: str, body: Json) -> str:
        reply = await self._client.call(**{kind: body})
        error: dict[str, Any] | None = reply.get("error")
        return ALLOWED if error is None else f"{error['code']} {error['message']}"


@pytest.fixture
async def door(shared_server: ServerProcess) -> AsyncIterator[HttpDoor]:
    made = HttpDoor(shared_server)
    yield made
    await made.close()


@pytest.fixture
async def world(door: HttpDoor) -> World:
    return await make_world(door, "无此密钥", "无此钩子")


async def _connected(door: HttpDoor, user: str) -> RawClient:
    client = await RawClient.open(door.server.port)
    await client.connect(await door.token(user))
    return client


@pytest.fixture
async def outsider(door: HttpDoor, world: World) -> AsyncIterator[Outsider]:
    client = await _connected(door, world.outsider)
    yield Outsider(door, await door.token(world.outsider), client)
    client.cut()


def _shown(text: str, *names: str) -> str:
    """The answer without the names that were asked for."""
    for name in sorted(names, key=len, reverse=True):
        text = text.replace(name, "…")
    return text


async def _same(
    outsider: Outsider, requests: dict[str, Json], field: str, there: str, missing: str
) -> None:
    """Every request is refused, and alike, whether or not there is anything of that name."""
    for operation, fields in requests.items():
        for ask in (outsider.http, outsider.rpc):
            of_there = await ask(operation, {field: there, **fields})
            of_missing = await ask(operation, {field: missing, **fields})
            assert of_there != ALLOWED, operation
            assert _shown(of_there, there) == _shown(of_missing, missing), operation


async def test_groups_look_as_if_they_were_not(
    door: HttpDoor, world: World, outsider: Outsider
) -> None:
    """One that lives, one that was dissolved, one that never was: the same to who was never
    in it."""
    (gone,) = door.ids("gone")
    await door.put_group(gone, owner=world.owner)
    await door.dissolve(gone)
    for there in (world.group, gone):
        await _same(outsider, GROUP_REQUESTS, "group", there, world.unused)
        sends = {"message.send": {"type": "group", "text": "在吗 👀"}}
        await _same(outsider, sends, "to", there, world.unused)


async def test_naming_another_owner_tells_nothing(
    door: HttpDoor, world: World, outsider: Outsider
) -> None:
    """Whoever would make a group for somebody else is refused alike where the id is free, where
    it is taken, and where the group is dissolved."""
    (gone,) = door.ids("gone")
    await door.put_group(gone, owner=world.owner)
    await door.dissolve(gone)
    for there in (world.group, gone):
        requests = {"group.put": {"owner": world.owner, "name": "群名 🫖"}}
        await _same(outsider, requests, "group", there, world.unused)


async def _conversations(door: HttpDoor, world: World) -> dict[str, str]:
    """Conversations that are there and none of the outsider's, each with one that is not."""
    first, second, third = sorted((world.owner, world.admin, world.member))
    await door.send("private", second, first, "只有我们知道 🤐")
    return {
        f"group:{world.group}": f"group:{world.unused}",
        f"private:{first}~{second}": f"private:{first}~{third}",
        f"inbox:{world.subject}": f"inbox:{world.unused}",
    }


async def test_conversations_look_as_if_they_were_not(
    door: HttpDoor, world: World, outsider: Outsider
) -> None:
    """Groups, others' private conversations and inboxes: their entries, ledgers and cursors."""
    own = {"cursor.read": {"user": world.outsider, "position": 1}}
    for there, missing in (await _conversations(door, world)).items():
        await _same(outsider, CONVERSATION_REQUESTS | own, "conversation", there, missing)


async def test_realtime_commands_tell_nothing_of_others(
    door: HttpDoor, world: World, outsider: Outsider
) -> None:
    """Nor do the protocol's own commands, to which no operation belongs."""
    for there, missing in (await _conversations(door, world)).items():
        for kind, body in COMMANDS.items():
            of_there = await outsider.command(kind, {"channel": there, **body})
            of_missing = await outsider.command(kind, {"channel": missing, **body})
            assert of_there != ALLOWED, (kind, there)
            assert _shown(of_there, there) == _shown(of_missing, missing), kind


async def test_others_accounts_answer_alike(world: World, outsider: Outsider) -> None:
    """What concerns somebody else's sessions, tokens, blocks and lists is refused before it is
    looked whether they exist."""
    await _same(outsider, USER_REQUESTS, "user", world.subject, world.unused)


async def _as_user(door: HttpDoor, user: str) -> Outsider:
    return Outsider(door, await door.token(user), await _connected(door, user))


async def test_the_state_of_others_is_left_out(
    door: HttpDoor, world: World, outsider: Outsider
) -> None:
    """Of an account that is suspended and of one that is not, to members, admins and outsiders
    alike, at both doors; keys, and users about themselves, are told."""
    people = [await _as_user(door, world.people[who]) for who in ("member", "admin")]
    for asking in (outsider, *people):
        for other in (world.sleeper, world.subject):
            for answer in await asking.both("user.get", {"user": other}):
                assert set(answer) == {"user", "key", "name", "created"}
    for answer in await people[0].both("user.get", {"user": world.member}):
        assert (answer["user"], answer["state"]) == (world.member, "active")
    assert (await door.call("user.get", {"user": world.sleeper}))["state"] == "suspended"
    for asking in people:
        asking.cut()


async def test_the_suspended_and_the_blocking_refuse_alike(
    door: HttpDoor, world: World, outsider: Outsider
) -> None:
    """A private message to either is refused in the same words; a key is told which it is."""
    blocking, sender = world.stranger, world.outsider
    await door.call("user.block", {"user": blocking, "blocked": sender})
    body = {"type": "private", "text": "在吗 👀"}
    answers = []
    for to in (world.sleeper, blocking):
        seen = await outsider.both("message.send", {**body, "to": to})
        assert seen[0]["facts"]["unreachable"] == [{"user": to, "reason": "unavailable"}]
        answers.append(_shown(repr(seen), to))
    assert answers[0] == answers[1]
    for to, code in ((world.sleeper, "members_unreachable"), (blocking, "blocked")):
        with pytest.raises(Refusal) as refused:
            await door.call("message.send", {**body, "from": sender, "to": to})
        assert refused.value.code == code


async def test_realtime_judges_by_the_same_table(door: HttpDoor, world: World) -> None:
    """Every cell of the table that refuses, through `rpc`, with each person's own token."""
    people = {who: await _connected(door, world.people[who]) for who in PEOPLE}
    wrong = []
    for name, rule in RULES.items():
        operation, fields = REQUESTS[name](world)
        for who, client in people.items():
            code = expected(rule, who)
            if code == ALLOWED:
                continue
            reply = await client.call(rpc={"method": operation, "data": fields})
            found = reply.get("error", {}).get("code")
            if found != ERROR_NUMBERS[code]:
                wrong.append((name, who, code, reply))
    assert not wrong
    for client in people.values():
        client.cut()
