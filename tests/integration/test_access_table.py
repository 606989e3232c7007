"""Who may do what: every cell of the access table, through the engine and over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

import pytest
from access_cases import (
    ACTING_FIELD,
    ALLOWED,
    HOOK,
    PEOPLE,
    REQUESTS,
    World,
    about_the_sleeper,
    expected,
    expected_of_key,
    key_fields,
    make_world,
    scopes_of,
)
from door_embedded import CALLS, EmbeddedDoor
from door_http import HttpDoor
from doors import Json, Refusal

from qunxin.engine.access import ALL_SCOPES, RULES, Caller, Rule, Scope, check_access
from qunxin.errors import QunxinError
from qunxin.gateways.operations import OPERATIONS
from qunxin.model import Role
from serving import ServerProcess

ROLE_RULES = [name for name, rule in RULES.items() if isinstance(rule.user, Role)]


async def _outcome(asking: Awaitable[object]) -> str:
    try:
        await asking
    except Refusal as refusal:
        return refusal.code
    return ALLOWED


async def _ask(door: EmbeddedDoor, caller: Caller, operation: str, fields: Json) -> Any:
    """Through the engine; making tokens is no operation of it, but its table rules there too."""
    if operation in CALLS:
        return await door.call_as(caller, operation, fields)
    try:
        check_access(caller, operation, about=fields["user"])
    except QunxinError as error:
        raise Refusal(error.code, str(error)) from None
    return None


async def _said(asking: Awaitable[object]) -> str:
    """Everything that the answer holds, a refusal's facts included."""
    try:
        return repr(await asking)
    except Refusal as refusal:
        return f"{refusal.code} {refusal.text} {refusal.facts}"


async def _world(door: EmbeddedDoor) -> World:
    made = await door.call("key.create", {"name": "无人使用", "scopes": ["read"]})
    hook = await door.call("webhook.create", dict(HOOK))
    return await make_world(door, made["id"], hook["id"])


def test_every_rule_has_a_request() -> None:
    """A row of the table without a request here would be a row that nobody tests."""
    assert set(REQUESTS) == set(RULES)


def test_every_rule_rules_an_operation_of_the_gateways() -> None:
    """The two tables speak of the same things."""
    assert {name for row in OPERATIONS.values() for name in row.rules} == set(RULES)


@pytest.mark.parametrize("name", RULES)
async def test_users_may_what_the_table_says(embedded: EmbeddedDoor, name: str) -> None:
    """The user concerned, owner, admin, member, former member, outsider, each with their own
    token: allowed, or refused with the code that the row means."""
    rule = RULES[name]
    outcomes = {}
    for who in PEOPLE:
        world = await _world(embedded)
        operation, fields = REQUESTS[name](world)
        caller = Caller.as_user(world.people[who])
        outcomes[who] = await _outcome(_ask(embedded, caller, operation, fields))
    assert outcomes == {who: expected(rule, who) for who in PEOPLE}


@pytest.mark.parametrize("name", RULES)
async def test_plain_people_are_not_told_who_is_suspended(
    embedded: EmbeddedDoor, name: str
) -> None:
    """No row's answer and no row's refusal says it, whoever of them asks about a suspended
    member."""
    for who in ("self", "member", "former", "outsider"):
        world = await _world(embedded)
        caller = Caller.as_user(world.people[who])
        for about in about_the_sleeper(world):
            operation, fields = REQUESTS[name](about)
            said = await _said(_ask(embedded, caller, operation, fields))
            assert "suspended" not in said.replace(world.sleeper, ""), (who, said)


@pytest.mark.parametrize("name", RULES)
async def test_keys_may_what_their_scope_says(embedded: EmbeddedDoor, name: str) -> None:
    """A key with that one scope is enough; a key with every other scope is not."""
    rule = RULES[name]
    outcomes = []
    for others in (False, True):
        world = await _world(embedded)
        operation, fields = REQUESTS[name](world)
        caller = Caller.as_key(scopes_of(rule, others=others))
        given = key_fields(operation, rule, fields, world)
        outcomes.append(await _outcome(_ask(embedded, caller, operation, given)))
    assert outcomes == [ALLOWED, "forbidden"]


@pytest.mark.parametrize("name", ROLE_RULES)
async def test_a_key_that_acts_for_a_user_may_what_that_user_may(
    embedded: EmbeddedDoor, name: str
) -> None:
    """No more than the one it acts for; of a group that they were never in it is told the
    truth."""
    rule = RULES[name]
    outcomes = {}
    people = [who for who in PEOPLE if who != "self"]
    for who in people:
        world = await _world(embedded)
        operation, fields = REQUESTS[name](world)
        given = {**fields, ACTING_FIELD.get(operation, "from"): world.people[who]}
        caller = Caller.as_key(ALL_SCOPES)
        outcomes[who] = await _outcome(_ask(embedded, caller, operation, given))
    assert outcomes == {who: expected_of_key(rule, who) for who in people}


async def test_admins_do_not_touch_their_equals(embedded: EmbeddedDoor) -> None:
    """The notes of the table: removing and muting is of a lower role, but for owners."""
    world = await _world(embedded)
    other, co_owner = await embedded.users("admin2", "owner2")
    await embedded.add(world.group, other, co_owner)
    await embedded.change_member(world.group, other, role="admin")
    await embedded.change_member(world.group, co_owner, role="owner")
    for target in (other, world.owner, world.admin):
        fields = {"group": world.group, "user": target, "muted": True}
        caller = Caller.as_user(world.admin)
        assert await _outcome(_ask(embedded, caller, "member.change", fields)) == "forbidden"
    caller = Caller.as_user(co_owner)
    fields = {"group": world.group, "user": world.owner}
    assert await _outcome(_ask(embedded, caller, "member.remove", fields)) == ALLOWED


async def test_users_do_not_act_for_others(embedded: EmbeddedDoor) -> None:
    """Naming somebody else as the one who acts gives a user nothing: not their rights, and not
    their name in the log."""
    world = await _world(embedded)
    caller = Caller.as_user(world.admin)
    fields = {"group": world.group, "users": [world.stranger], "from": world.owner}
    assert await _outcome(_ask(embedded, caller, "member.add", fields)) == ALLOWED
    log = await embedded.read_all(f"group:{world.group}")
    assert log[-1]["by"] == world.admin
    fields = {"group": world.group, "user": world.member, "role": "admin", "from": world.owner}
    assert await _outcome(_ask(embedded, caller, "member.change", fields)) == "forbidden"


async def test_users_do_not_change_their_own_state(embedded: EmbeddedDoor) -> None:
    """Suspending and reactivating is for keys."""
    world = await _world(embedded)
    for state in ("active", "suspended"):
        fields = {"user": world.subject, "state": state}
        caller = Caller.as_user(world.subject)
        assert await _outcome(_ask(embedded, caller, "user.put", fields)) == "forbidden"


async def test_nobody_gives_a_scope_that_they_lack(embedded: EmbeddedDoor) -> None:
    """A key that makes keys makes none stronger than itself."""
    caller = Caller.as_key(frozenset({Scope.KEYS, Scope.READ}))
    for scopes, outcome in ((["read"], ALLOWED), (["read", "users"], "forbidden")):
        fields = {"name": "子密钥", "scopes": scopes}
        assert await _outcome(_ask(embedded, caller, "key.create", fields)) == outcome


# --- over HTTP ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def root_key(shared_server: ServerProcess) -> str:
    """A key that may make keys of every kind."""
    options = [part for scope in Scope for part in ("--scope", scope)]
    return shared_server.create_key("access 权限", *options)


_made: dict[tuple[str, frozenset[Scope]], str] = {}


async def _key(door: HttpDoor, root_key: str, scopes: frozenset[Scope]) -> str:
    """A key with exactly those scopes, made once."""
    if (root_key, scopes) not in _made:
        fields = {"name": "受限 🔒", "scopes": sorted(scopes)}
        answer = await door.call_with(root_key, "key.create", fields)
        _made[root_key, scopes] = answer["key"]
    return _made[root_key, scopes]


async def _http_outcomes(door: HttpDoor, root_key: str, world: World, rule: Rule) -> dict[str, str]:
    """One request by each kind of caller; those who may come last, since they change things."""
    operation, fields = REQUESTS[rule.operation](world)
    given = key_fields(operation, rule, fields, world)
    outcomes = {}
    weak = await _key(door, root_key, scopes_of(rule, others=True))
    outcomes["key of others"] = await _outcome(door.call_with(weak, operation, given))
    for who in sorted(
        ("outsider", "member", "self"), key=lambda who: expected(rule, who) == ALLOWED
    ):
        token = await door.token(world.people[who])
        outcomes[who] = await _outcome(door.call_with(token, operation, fields))
    return outcomes


@pytest.mark.parametrize("name", RULES)
async def test_http_judges_by_the_same_table(
    shared_server: ServerProcess, root_key: str, name: str
) -> None:
    """Real credentials: a key without the scope, an outsider's, a member's and the user's own
    token; and in a world of its own a key with that one scope."""
    rule = RULES[name]
    door = HttpDoor(shared_server)
    made = [
        await door.call_with(root_key, "key.create", {"name": "无人", "scopes": ["read"]})
        for _ in range(2)
    ]
    hooks = ["", ""]
    if name.startswith("webhook."):
        hooks = [(await door.call_with(root_key, "webhook.create", HOOK))["id"] for _ in made]
    first, second = await asyncio.gather(
        *(make_world(door, one["id"], hook) for one, hook in zip(made, hooks, strict=True))
    )
    outcomes = await _http_outcomes(door, root_key, first, rule)
    operation, fields = REQUESTS[name](second)
    strong = await _key(door, root_key, scopes_of(rule, others=False))
    given = key_fields(operation, rule, fields, second)
    outcomes["key"] = await _outcome(door.call_with(strong, operation, given))
    await door.close()
    users = {who: expected(rule, who) for who in ("outsider", "member", "self")}
    assert outcomes == {"key of others": "forbidden", "key": ALLOWED} | users
