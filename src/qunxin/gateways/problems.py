"""Errors over HTTP: one table from code to status, and the problem document (RFC 9457)."""

from __future__ import annotations

import math
from http import HTTPStatus
from typing import Any, Final

import msgspec

from qunxin.errors import QunxinError, Tier

STATUSES: Final[dict[str, int]] = {
    "invalid_request": 400,
    "unauthenticated": 401,
    "token_expired": 401,
    "token_revoked": 401,
    "forbidden": 403,
    "not_found": 404,
    "unknown_method": 404,
    "conversation_not_found": 404,
    "entry_not_found": 404,
    "unknown_message_type": 422,
    "message_too_large": 413,
    "idempotency_conflict": 409,
    "recall_window_over": 403,
    "too_many_subscriptions": 409,
    "members_unreachable": 409,
    "user_not_found": 404,
    "user_erased": 410,
    "user_suspended": 403,
    "not_a_member": 403,
    "member_muted": 403,
    "blocked": 403,
    "last_owner": 409,
    "group_dissolved": 410,
    "group_not_found": 404,
    "group_muted": 403,
    "group_full": 409,
    "overloaded": 503,
    "rate_limited": 429,
    "token_keys_unavailable": 503,
    "store_unavailable": 503,
    "outcome_unknown": 504,
    "shutting_down": 503,
    "invalid_settings": 500,
    "cannot_start": 503,
    "internal": 500,
}
"""One row an error code. A test holds it against the error family."""

CLOSE: Final = (b"connection", b"close")
PROBLEM_TYPE: Final = "application/problem+json"


class HttpStatusError(QunxinError):
    """An `invalid_request` for which HTTP has a status of its own, such as 405."""

    def __init__(
        self, status: HTTPStatus, detail: str, headers: tuple[tuple[bytes, bytes], ...] = ()
    ) -> None:
        super().__init__("invalid_request", detail=detail)
        self.status = int(status)
        self.headers = headers


class Problem(msgspec.Struct, frozen=True):
    """An error as `application/problem+json`. `code` is stable; `detail` is for people, in the
    language asked for; `facts` are the numbers and names that explain it."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    tier: Tier
    retryable: bool
    retry_after: float | None
    """Seconds."""
    facts: dict[str, Any]


_encode = msgspec.json.Encoder().encode


def status_of(error: QunxinError) -> int:
    """The HTTP status of an error."""
    return error.status if isinstance(error, HttpStatusError) else STATUSES[error.code]


def title_of(code: str) -> str:
    """A code's words."""
    return code.replace("_", " ").capitalize()


def problem(error: QunxinError, language: str) -> Problem:
    """The document for an error; its `type` is a place on the readable page."""
    return Problem(
        type=f"/docs#{error.code}",
        title=title_of(error.code),
        status=status_of(error),
        detail=error.text(language),
        code=error.code,
        tier=error.tier,
        retryable=error.retryable,
        retry_after=error.retry_after,
        facts=error.facts,
    )


def problem_response(
    error: QunxinError, language: str
) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    """Status, headers and body of the answer to a refused request."""
    document = problem(error, language)
    headers = [
        (b"content-type", PROBLEM_TYPE.encode()),
        (b"content-language", language.encode()),
        (b"vary", b"accept-language"),
    ]
    if error.retry_after is not None:
        headers.append((b"retry-after", str(max(1, math.ceil(error.retry_after))).encode()))
    if document.status == HTTPStatus.UNAUTHORIZED:
        headers.append((b"www-authenticate", b"Bearer"))
    if isinstance(error, HttpStatusError):
        headers.extend(error.headers)
    return document.status, headers, _encode(document)


def whole_answer(error: QunxinError, language: str) -> bytes:
    """The refusal as it goes over a connection, which is closed behind it."""
    status, headers, body = problem_response(error, language)
    lines = [b"HTTP/1.1 %d %s" % (status, HTTPStatus(status).phrase.encode())]
    length = (b"content-length", str(len(body)).encode())
    lines += [name + b": " + value for name, value in (*headers, length, CLOSE)]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body
