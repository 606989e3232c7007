"""Operations on webhooks: where an application's server is told of entries.

The engine keeps them and says how they stand; sending is a gateway's work.
"""

from __future__ import annotations

import base64
import secrets
from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Final
from urllib.parse import SplitResult, urlsplit

import msgspec

from qunxin.engine.access import SYSTEM, Caller, check_access
from qunxin.engine.addresses import is_public
from qunxin.engine.core import Core
from qunxin.errors import QunxinError
from qunxin.model import MAX_INTEGER, EventType, MessageType, Webhook
from qunxin.store import Store
from qunxin.store.commands import DeleteWebhook, PutWebhook
from qunxin.store.reads import OutboxItem

EVENT_OF: Final[dict[str, str]] = {
    MessageType.PRIVATE: "message.created",
    MessageType.GROUP: "message.created",
    MessageType.BROADCAST: "message.created",
    EventType.RECALLED: "message.recalled",
    EventType.CREATED: "group.created",
    EventType.CHANGED: "group.changed",
    EventType.DISSOLVED: "group.dissolved",
    EventType.JOINED: "member.joined",
    EventType.LEFT: "member.left",
}
"""What an entry of each type is called as an event."""

EVENTS: Final = tuple(dict.fromkeys(EVENT_OF.values()))

MAX_WEBHOOKS: Final = 50
MAX_URL_LENGTH: Final = 2_000
DEFAULT_OVERLAP_SECONDS: Final = 86_400
MAX_OVERLAP_SECONDS: Final = 30 * 86_400
_PAGE: Final = 500
_SECRET_BYTES: Final = 32


class WebhookStatus(msgspec.Struct, frozen=True):
    """A webhook without its secrets, and how the sending to it goes."""

    id: str
    url: str
    events: tuple[str, ...]
    """The event types that it is told of; empty: all."""
    created: int
    paused: str | None
    """Why nothing is sent; None while it is."""
    old_secret_until: int | None
    """Until then the secret before the present one signs too."""
    behind: int
    """At most so many entries are still to be sent."""
    waiting_since: int | None
    """When the first event that was not taken yet happened; None: all were."""
    failures: int
    """Attempts that failed since the last one that succeeded."""
    error: str | None
    """The last failure, also after a success."""
    failed: int | None
    succeeded: int | None


class NewWebhook(msgspec.Struct, frozen=True):
    """A webhook just made, or a new secret for it. `secret` cannot be shown again."""

    id: str
    url: str
    events: tuple[str, ...]
    secret: str


class WebhookOperations(Core):
    """Webhooks see every conversation, so no user may touch them and a key needs their scope."""

    async def create_webhook(
        self, url: str, *, events: Iterable[str] = (), caller: Caller = SYSTEM
    ) -> NewWebhook:
        """Tell `url` of everything that is committed from now on (of `events` only, where some
        are named). Raises `invalid_request`."""
        check_access(caller, "webhook.create")
        wanted, checked = check_events(events), self._check_url(url)
        if len(await self.store.read_webhooks()) >= MAX_WEBHOOKS:
            raise QunxinError("invalid_request", detail=f"at most {MAX_WEBHOOKS} webhooks")
        command = PutWebhook(secrets.token_hex(6), url=checked, events=wanted, secret=_new_secret())
        return _shown_once(await self._put(command, caller))

    async def list_webhooks(self, *, caller: Caller = SYSTEM) -> tuple[WebhookStatus, ...]:
        """All of them, oldest first."""
        check_access(caller, "webhook.list")
        return tuple([await self._status(one) for one in await self.store.read_webhooks()])

    async def get_webhook(self, id: str, *, caller: Caller = SYSTEM) -> WebhookStatus:  # noqa: A002
        """How one stands, as of a second ago. Raises `not_found`."""
        check_access(caller, "webhook.get")
        for webhook in await self.store.read_webhooks():
            if webhook.id == id:
                return await self._status(webhook)
        raise QunxinError("not_found", detail=f"no webhook {id}")

    async def change_webhook(
        self,
        id: str,  # noqa: A002
        *,
        url: str | None = None,
        events: Iterable[str] | None = None,
        paused: bool | None = None,
        caller: Caller = SYSTEM,
    ) -> WebhookStatus:
        """Change what is not None. A paused one is sent nothing, and everything since then once
        it goes on. Raises `not_found`, `invalid_request`."""
        check_access(caller, "webhook.change")
        command = PutWebhook(
            id,
            url=None if url is None else self._check_url(url),
            events=None if events is None else check_events(events),
            paused=None if paused is None else ("paused by hand" if paused else ""),
        )
        return await self._status(await self._put(command, caller))

    async def rotate_webhook(
        self,
        id: str,  # noqa: A002
        *,
        overlap_seconds: int = DEFAULT_OVERLAP_SECONDS,
        caller: Caller = SYSTEM,
    ) -> NewWebhook:
        """A new secret. The present one signs beside it for `overlap_seconds`. Raises
        `not_found`."""
        check_access(caller, "webhook.rotate")
        if not 0 <= overlap_seconds <= MAX_OVERLAP_SECONDS:
            detail = f"overlap_seconds: 0 to {MAX_OVERLAP_SECONDS}"
            raise QunxinError("invalid_request", detail=detail)
        until = self.clock.now_ms() + overlap_seconds * 1000
        command = PutWebhook(id, secret=_new_secret(), old_secret_until=until)
        return _shown_once(await self._put(command, caller))

    async def replay_webhook(
        self,
        id: str,  # noqa: A002
        since: int,
        *,
        caller: Caller = SYSTEM,
    ) -> WebhookStatus:
        """Send everything again that happened at `since` or later (milliseconds), as it is now: a
        message that was recalled meanwhile goes out as its tombstone. What came earlier and was
        not sent yet is passed over. Raises `not_found`."""
        check_access(caller, "webhook.replay")
        if not 0 <= since <= MAX_INTEGER:
            raise QunxinError("invalid_request", detail=f"since: 0 to {MAX_INTEGER}")
        serial = await self.store.find_serial(since)
        return await self._status(await self._put(PutWebhook(id, serial=serial), caller))

    async def delete_webhook(self, id: str, *, caller: Caller = SYSTEM) -> None:  # noqa: A002
        """Forget it and its secrets; nothing more is sent. Raises `not_found`."""
        check_access(caller, "webhook.delete")
        await self.commit(DeleteWebhook(id), caller)

    def _check_url(self, url: str) -> str:
        return check_url(url, self.settings.webhook_networks)

    async def _put(self, command: PutWebhook, caller: Caller) -> Webhook:
        result = await self.commit(command, caller)
        if not isinstance(result, Webhook):
            raise TypeError("the store answered a webhook with something else")
        return result

    async def _status(self, webhook: Webhook) -> WebhookStatus:
        first = await first_waiting(self.store, webhook)
        head = (await self.store.read_outbox(webhook.serial, limit=1)).head
        return WebhookStatus(
            id=webhook.id,
            url=webhook.url,
            events=webhook.events,
            created=webhook.created,
            paused=webhook.paused,
            old_secret_until=webhook.old_secret_until,
            behind=len(webhook.waiting) + max(0, head - webhook.serial),
            waiting_since=None if first is None else first.time,
            failures=webhook.report.failures,
            error=webhook.report.error,
            failed=webhook.report.failed,
            succeeded=webhook.report.succeeded,
        )


def wants(webhook: Webhook, entry_type: str) -> bool:
    """Whether the webhook is told of entries of that type."""
    return not webhook.events or EVENT_OF[entry_type] in webhook.events


async def first_waiting(store: Store, webhook: Webhook) -> OutboxItem | None:
    """The first event of the outbox that the webhook has not been sent, as it notes its place;
    None where it has all. Where it is told of little and has been paused for long, that reads all
    since then, in pages."""
    for item in await store.read_outbox_at(webhook.waiting):
        if wants(webhook, item.type):
            return item
    page = await store.read_outbox(webhook.serial, limit=_PAGE)
    while True:
        for item in page.items:
            if wants(webhook, item.type):
                return item
        if page.through >= page.head:
            return None
        page = await store.read_outbox(page.through, limit=_PAGE)


def check_events(events: Iterable[str]) -> tuple[str, ...]:
    """Known event types, each once. Raises `invalid_request`."""
    wanted = tuple(dict.fromkeys(events))
    if not set(wanted) <= set(EVENTS):
        raise QunxinError("invalid_request", detail=f"events: some of {', '.join(EVENTS)}")
    return wanted


def check_url(url: str, networks: Iterable[str] = ()) -> str:
    """An absolute http or https address without credentials or fragment. Raises `invalid_request`,
    also for what could never be sent to with those `networks`; what a name means is judged at each
    sending."""
    wrong = QunxinError("invalid_request", detail="url: an absolute https:// address")
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        raise wrong from None
    if not good or len(url) > MAX_URL_LENGTH or not url.isprintable() or " " in url:
        raise wrong
    if parts.username is not None or parts.password is not None or parts.fragment:
        raise QunxinError("invalid_request", detail="url: without credentials and fragment")
    _check_reach(parts, tuple(map(ip_network, networks)))
    return url


def _check_reach(parts: SplitResult, networks: tuple[IPv4Network | IPv6Network, ...]) -> None:
    host = parts.hostname or ""
    try:
        address = ip_address(host)
    except ValueError:
        within = bool(networks)  # a name may mean an address in them
    else:
        within = any(address in network for network in networks)
        if not within and not is_public(host):
            detail = f"url: {host} is not a public address, and not in webhook_networks"
            raise QunxinError("invalid_request", detail=detail)
    if parts.scheme == "http" and not within:
        detail = "url: http:// is for webhook_networks only; use https://"
        raise QunxinError("invalid_request", detail=detail)


def _new_secret() -> str:
    return "whsec_" + base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode()


def _shown_once(webhook: Webhook) -> NewWebhook:
    return NewWebhook(webhook.id, webhook.url, webhook.events, webhook.secret)
