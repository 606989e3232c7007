"""The users, the group and the tokens that the real server needs before a run."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, TypeVar

import httpx

REQUESTS_AT_ONCE: Final = 16
GROUP: Final = "bench"

T = TypeVar("T")


def names(count: int) -> list[str]:
    return [f"u{index:05d}" for index in range(count)]


async def populate(base_url: str, key: str, count: int) -> list[str]:
    """Make `count` users, all members of one group; their tokens, in order."""
    users = names(count)
    headers = {"Authorization": f"Bearer {key}"}
    async with httpx.AsyncClient(base_url=base_url, headers=headers, timeout=30) as client:

        async def put_user(user: str) -> None:
            await ask(client, "PUT", f"/v1/users/{user}", {"name": f"成员 {user}"})

        async def token(user: str) -> str:
            answer = await ask(client, "POST", "/v1/tokens", {"user": user})
            return str(answer["token"])

        await each(put_user, users)
        body = {"name": "压测群", "owner": users[0], "members": users}
        await ask(client, "PUT", f"/v1/groups/{GROUP}", body)
        return await each(token, users)


async def ask(client: httpx.AsyncClient, method: str, path: str, body: object) -> dict[str, Any]:
    response = await client.request(method, path, json=body)
    if response.status_code not in (200, 201):
        raise RuntimeError(f"{method} {path}: {response.status_code} {response.text[:300]}")
    answer: dict[str, Any] = response.json()
    return answer


async def each(work: Callable[[str], Awaitable[T]], users: Sequence[str]) -> list[T]:
    gate = asyncio.Semaphore(REQUESTS_AT_ONCE)

    async def one(user: str) -> T:
        async with gate:
            return await work(user)

    return await asyncio.gather(*(one(user) for user in users))
