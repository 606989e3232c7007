"""The HTTP API as an application's own server uses it: users, groups, members, tokens.

Every call is repeated while the connection fails or the answer says that a retry can help, and
each is one that may be repeated.
"""

from __future__ import annotations

import asyncio
import random
from typing import Any, Final
from urllib.parse import quote

import msgspec

from qunxin.errors import ERRORS, QunxinError
from qunxin.replay.http import HttpClient, Response, TransportError

_FIRST_BACKOFF_SECONDS: Final = 0.05
_LAST_BACKOFF_SECONDS: Final = 1.0
_TIMEOUT_SECONDS: Final = 15.0


class ApiRefused(Exception):  # noqa: N818
    """An answer that a retry cannot change."""

    def __init__(self, response: Response, problem: dict[str, Any]) -> None:
        self.status = response.status
        self.code = str(problem.get("code", ""))
        self.facts = problem.get("facts")
        self._body = response.body[:500].decode(errors="replace")
        super().__init__(f"{self.status} {self.code}: {self._body}")

    def as_error(self) -> QunxinError:
        """The server's refusal as it was made; `cannot_start` where the answer is none of
        Qunxin's, as from another server behind that address."""
        if self.code in ERRORS and isinstance(self.facts, dict):
            return QunxinError(self.code, **self.facts)
        detail = f"no Qunxin server answers so: {self.status} {self._body}"
        return QunxinError("cannot_start", detail=detail)


class Api:
    """A client with an API key. Calls may run side by side."""

    def __init__(self, url: str, key: str, connections: int = 32) -> None:
        self._http = HttpClient(url, connections, _TIMEOUT_SECONDS)
        self._authorization = f"Bearer {key}"
        self.last_failure = ""
        """Why the last connection that failed did, for whoever gives up."""

    def close(self) -> None:
        """No call may be under way."""
        self._http.close()

    async def put_user(self, user: str, **fields: str) -> None:
        await self._ask("PUT", f"/v1/users/{quote(user)}", fields)

    async def put_group(self, group: str, name: str, owner: str, members: tuple[str, ...]) -> None:
        body = {"name": name, "owner": owner, "members": members}
        await self._ask("PUT", f"/v1/groups/{quote(group)}", body)

    async def add_member(self, group: str, user: str, token: str | None = None) -> int:
        """The membership version, which is the position of the entry that says so."""
        path = f"/v1/groups/{quote(group)}/members"
        done = await self._ask("POST", path, {"users": [user]}, token)
        return int(done["membership_version"])

    async def remove_member(self, group: str, user: str, token: str | None = None) -> int:
        """As `add_member`; 0 where a repeat finds the user gone and the answer tells no
        version."""
        path = f"/v1/groups/{quote(group)}/members/{quote(user)}"
        try:
            done = await self._ask("DELETE", path, None, token)
        except ApiRefused as refused:
            if refused.code != "not_a_member":
                raise
            return await self.membership_version(group)
        return int(done["membership_version"])

    async def membership_version(self, group: str) -> int:
        return int((await self._ask("GET", f"/v1/groups/{quote(group)}"))["membership_version"])

    async def token(self, user: str) -> str:
        return str((await self._ask("POST", "/v1/tokens", {"user": user}))["token"])

    async def send(self, message: dict[str, str]) -> dict[str, Any]:
        """Send as the operator, with a key. The receipt."""
        return await self._ask("POST", "/v1/messages", message)

    async def recall(self, conversation: str, position: int, token: str) -> int:
        """The position of the recall's entry."""
        path = f"/v1/conversations/{quote(conversation, safe='')}/entries/{position}/recall"
        return int((await self._ask("POST", path, {}, token))["position"])

    async def _ask(
        self, method: str, path: str, body: Any = None, token: str | None = None
    ) -> dict[str, Any]:
        headers = {
            "Authorization": self._authorization if token is None else f"Bearer {token}",
            "Content-Type": "application/json",
        }
        content = b"" if body is None else msgspec.json.encode(body)
        backoff = _FIRST_BACKOFF_SECONDS
        while True:
            try:
                response = await self._http.request(method, path, headers, content)
            except TransportError as error:
                self.last_failure = str(error)
                wait = backoff
            else:
                if response.is_success:
                    answer: dict[str, Any] = msgspec.json.decode(response.body)
                    return answer
                wait = _retry_after(response)
            await asyncio.sleep(wait * random.uniform(0.5, 1.0))  # noqa: S311
            backoff = min(2 * backoff, _LAST_BACKOFF_SECONDS)


def _retry_after(response: Response) -> float:
    """Seconds to wait before the same request again; raises `ApiRefused` where none helps."""
    try:
        problem = msgspec.json.decode(response.body)
    except msgspec.DecodeError:
        problem = {}
    if not isinstance(problem, dict):
        problem = {}
    spec = ERRORS.get(str(problem.get("code", "")))
    if spec is None or not spec.retryable:
        raise ApiRefused(response, problem)
    return min(float(problem.get("retry_after") or 1.0), _LAST_BACKOFF_SECONDS)
