"""One attempt: a signed request (Standard Webhooks), and what its answer means."""

from __future__ import annotations

import asyncio
import math
import ssl
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum
from importlib import import_module
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import msgspec
from standardwebhooks import Webhook as Signer

from qunxin.gateways.webhooks.settings import WebhookSettings
from qunxin.gateways.webhooks.sockets import guarded_sockets
from qunxin.model import Webhook
from qunxin.version import VERSION

if TYPE_CHECKING:
    import aiohttp

MAX_RETRY_AFTER_SECONDS: Final = 86_400.0
_MAX_ERROR_LENGTH: Final = 300
_GONE: Final = 410
_BUSY: Final = (429, 503)
"""What says something of the receiver (RFC 6585, 4; RFC 9110, 15.6.4) and not of the event."""


class Result(StrEnum):
    """What became of an attempt: the receiver has it, does not, or wants nothing ever again."""

    TAKEN = "taken"
    FAILED = "failed"
    GONE = "gone"


class Outcome(msgspec.Struct, frozen=True):
    """`error` in words where it is not `TAKEN`."""

    result: Result
    error: str | None = None
    retry_after: float = 0.0
    """For so many seconds the receiver does not want that event."""
    quiet_for: float = 0.0
    """For so many seconds it wants nothing at all."""


class Poster:
    """The HTTP client. Certificates are verified, redirects not followed, proxies of the
    environment not used; answers' bodies are not read."""

    def __init__(self, settings: WebhookSettings) -> None:
        self._settings = settings
        self._sessions: dict[str, aiohttp.ClientSession] = {}

    async def open(self) -> None:
        """Be ready to post. May be repeated."""
        if not self._sessions:
            # Both take long enough to be noticed, and a node without webhooks needs neither: the
            # library that posts, and the certificates of all authorities.
            await asyncio.to_thread(import_module, "aiohttp")
            tls = await asyncio.to_thread(ssl.create_default_context)
            self._sessions = {scheme: self._session(scheme, tls) for scheme in ("http", "https")}

    async def close(self) -> None:
        for session in self._sessions.values():
            await session.close()

    async def post(self, webhook: Webhook, event_id: str, body: bytes) -> Outcome:
        """Send one event. Raises nothing but its own cancelling, after which the receiver may
        have it or not."""
        import aiohttp  # noqa: PLC0415 - see `open`

        headers = _headers(webhook, event_id, body, datetime.now(UTC))
        session = self._sessions[urlsplit(webhook.url).scheme]
        try:
            async with session.post(
                webhook.url, data=body, headers=headers, allow_redirects=False
            ) as response:
                return _outcome(response.status, response.headers.get("Retry-After"))
        except TimeoutError:
            seconds = self._settings.webhook_timeout_seconds
            return _failed(f"no answer within {seconds:g} seconds")
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return _failed(str(error) or type(error).__name__)

    def _session(self, scheme: str, tls: ssl.SSLContext) -> aiohttp.ClientSession:
        import aiohttp  # noqa: PLC0415 - see `open`

        settings = self._settings
        connector = aiohttp.TCPConnector(
            ssl=tls,
            limit=0,  # each webhook has its own bound
            resolver=aiohttp.ThreadedResolver(),
            socket_factory=guarded_sockets(settings.webhook_networks, public=scheme == "https"),
        )
        return aiohttp.ClientSession(
            connector=connector,
            timeout=aiohttp.ClientTimeout(total=settings.webhook_timeout_seconds),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            headers={"User-Agent": f"Qunxin/{VERSION}"},
        )


def _headers(webhook: Webhook, event_id: str, body: bytes, now: datetime) -> dict[str, str]:
    return {
        "Content-Type": "application/json",
        "webhook-id": event_id,
        "webhook-timestamp": str(math.floor(now.timestamp())),
        "webhook-signature": signatures(webhook, event_id, body, now),
    }


def signatures(webhook: Webhook, event_id: str, body: bytes, now: datetime) -> str:
    """One signature, or two while an old secret is still valid, with a space between them."""
    keys = [webhook.secret]
    if webhook.old_secret is not None and now.timestamp() * 1000 < (webhook.old_secret_until or 0):
        keys.append(webhook.old_secret)
    return " ".join(Signer(key).sign(event_id, now, body.decode()) for key in keys)


def _outcome(status: int, retry_after: str | None) -> Outcome:
    if 200 <= status < 300:
        return Outcome(Result.TAKEN)
    if status == _GONE:
        return Outcome(Result.GONE, "the receiver answered 410 Gone")
    if 300 <= status < 400:
        return _failed(f"the receiver answered {status}; redirects are not followed")
    now = datetime.now(UTC)
    seconds = 0.0 if retry_after is None else seconds_until(retry_after, now) or 0.0
    return Outcome(
        Result.FAILED,
        f"the receiver answered {status}",
        retry_after=seconds,
        quiet_for=seconds if status in _BUSY else 0.0,
    )


def _failed(error: str) -> Outcome:
    return Outcome(Result.FAILED, error[:_MAX_ERROR_LENGTH])


def seconds_until(retry_after: str, now: datetime) -> float | None:
    """What a `Retry-After` header asks for (RFC 9110, 10.2.3), within a day; None where it
    cannot be read."""
    if retry_after.isascii() and retry_after.isdigit():
        return min(float(retry_after[:9]), MAX_RETRY_AFTER_SECONDS)
    try:
        moment = parsedate_to_datetime(retry_after)
        seconds = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - now
    except (ValueError, OverflowError):
        return None
    return min(max(0.0, seconds.total_seconds()), MAX_RETRY_AFTER_SECONDS)
