"""What the fault tests ask of a server over HTTP."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import httpx

from serving import answer


def asked(client: httpx.Client, method: str, path: str, body: object = None) -> dict[str, Any]:
    """What the server answers to a request that must succeed."""
    result: dict[str, Any] = answer(client.request(method, path, json=body))
    return result


def populate(client: httpx.Client, users: Sequence[str], groups: Sequence[str]) -> None:
    """Users with Chinese names, all of them members of every group; the first is the owner."""
    for user in users:
        asked(client, "PUT", f"/v1/users/{user}", {"name": f"用户 {user} 👩‍💻"})
    for group in groups:
        body = {"name": f"群 {group}", "owner": users[0], "members": list(users)}
        asked(client, "PUT", f"/v1/groups/{group}", body)


def read_whole_log(client: httpx.Client, conversation: str, reader: str) -> list[dict[str, Any]]:
    """Every entry of a conversation as `reader` may see it, in order."""
    entries: list[dict[str, Any]] = []
    after: int | None = 0
    while after is not None:
        query = f"after={after}&limit=500&as={reader}"
        page = asked(client, "GET", f"/v1/conversations/{conversation}/entries?{query}")
        entries += page["entries"]
        after = page.get("next_after")
    return entries
