"""Being connected: one link after another, for as long as the server will have the user."""

from __future__ import annotations

import asyncio
import logging
import ssl as tls
import time
from typing import Any, Final, Protocol

from qunxin.client.backoff import Backoff
from qunxin.client.link import Link, LinkBrokenError, Listener, NoServerError
from qunxin.client.refusals import (
    RefusedError,
    UnansweredError,
    closed_for_good,
    comes_back,
)
from qunxin.client.signals import Signal
from qunxin.client.tokens import NoTokenError, Tokens, may_pass
from qunxin.errors import QunxinError
from qunxin.version import VERSION
from qunxin.wire.device import Ended, Welcome, connect_fields
from qunxin.wire.frames import StreamPosition

_log = logging.getLogger("qunxin.client")

_NAME: Final = "qunxin-python"
_STEADY_SECONDS: Final = 2.0
"""A connection that held for so long was a good one: the next failure is a first one."""
_EARLY_SECONDS: Final = 30.0
"""So long before its end a token is replaced, or at three quarters of a short life."""


class Device(Listener, Protocol):
    """What the keeper needs of whoever receives."""

    user: str

    def positions(self) -> dict[str, StreamPosition]: ...

    def disconnected(self) -> None: ...


class Keeper:
    """Connects, and connects again. `link` is the one that is up, `error` why there will be none
    any more, `trouble` what is in the way at the moment."""

    def __init__(
        self,
        url: str,
        tokens: Tokens,
        device: Device,
        changed: Signal,
        *,
        language: str,
        call_seconds: float,
        max_reconnect_seconds: float,
        ssl: tls.SSLContext | None,
    ) -> None:
        self.url = url
        self.link: Link | None = None
        self.error: QunxinError | None = None
        self.trouble = ""
        self._tokens = tokens
        self._device = device
        self._changed = changed
        self._language = language
        self._call_seconds = call_seconds
        self._ssl = ssl
        self._backoff = Backoff(last=max_reconnect_seconds)
        self._was_up = False

    async def ready(self) -> Link:
        """The link, once there is one. Raises why there will be none."""
        while self.link is None or not self.link.usable:
            if self.error is not None:
                raise self.error
            await self._changed.wait()
        return self.link

    async def run(self) -> None:
        """Return when the server has ended it for good; `error` says why."""
        try:
            while self.error is None:
                wait = await self._live_once()
                if self.error is None:
                    _log.info("not connected: %s; next try in %.1f s", self.trouble, wait)
                    await asyncio.sleep(wait)
        except Exception:
            self.fail(QunxinError("internal"))
            raise
        finally:
            self._changed.send()

    def fail(self, error: QunxinError) -> None:
        """There will be no other link. The first reason counts."""
        if self.error is None:
            self.error = error
            _log.warning("will not connect again: %s", error)
        self._changed.send()

    def close(self) -> None:
        """The client is closed: whoever still waits for a connection is told."""
        if self.error is None:
            self.error = UnansweredError("the client was closed")
        self._changed.send()

    def welcome(self, link: Link) -> None:
        """The server has admitted this device over `link`."""
        self.link = link
        self.trouble = ""
        self._was_up = True
        self._tokens.accepted()
        self._changed.send()

    # --- one life ----------------------------------------------------------------------------

    async def _live_once(self) -> float:
        """Connect, and stay until the connection ends; seconds to wait before the next try."""
        try:
            token = await self._tokens.current()
        except Exception as error:  # noqa: BLE001 - whatever the application raises
            return self._judge_no_token(error)
        try:
            link = await Link.open(
                self.url,
                self._device,
                call_seconds=self._call_seconds,
                ssl=self._ssl,
                language=self._language,
            )
        except NoServerError as error:
            self._note_no_server(error)
            return self._backoff.next_seconds()
        try:
            return await self._stay(link, token)
        finally:
            self.link = None
            self._device.disconnected()
            await link.close()

    def _judge_no_token(self, error: Exception) -> float:
        """The application's function failed: seconds to wait, where that may pass."""
        self.trouble = f"no token: {error!r}"
        if not may_pass(error):
            self.fail(NoTokenError(error))
            return 0.0
        return self._backoff.next_seconds()

    def _note_no_server(self, error: NoServerError) -> None:
        self.trouble = str(error)
        if not error.worth_repeating and not self._was_up:
            self.fail(QunxinError("cannot_start", detail=self.trouble))

    async def _stay(self, link: Link, token: str) -> float:
        try:
            line = await link.ask("connect", self._connect_fields(token))
        except RefusedError as refused:
            return self._judge_refusal(refused)
        except LinkBrokenError:
            return self._judge_end(await link.closed, 0.0)
        began = time.monotonic()
        refreshing = asyncio.create_task(self._refresh(link, line.connect), name="refresh")
        try:
            ended = await asyncio.shield(link.closed)
        finally:
            refreshing.cancel()
            await asyncio.wait([refreshing])
        seconds = time.monotonic() - began
        return self._judge_end(ended, seconds, by_a_command=link.ended_by_a_command)

    def _connect_fields(self, token: str) -> dict[str, Any]:
        return connect_fields(
            token,
            self._device.positions(),
            language=self._language,
            name=_NAME,
            version=VERSION,
        )

    def _judge_refusal(self, refused: RefusedError) -> float:
        """What the server said to `connect`."""
        self.trouble = str(refused)
        stale = refused.code in ("token_expired", "unauthenticated")
        if stale and self._tokens.renewable:
            was_fresh, self._tokens.fresh = self._tokens.fresh, False
            self._tokens.drop()
            if not was_fresh:
                return 0.0
            if refused.code == "token_expired":
                return self._backoff.next_seconds()
        if not refused.retryable:
            self.fail(refused)
            return 0.0
        return self._backoff.next_seconds(refused.retry_after)

    def _judge_end(self, ended: Ended, seconds: float, *, by_a_command: bool = False) -> float:
        """How the connection ended, after it had been up for so long. `by_a_command`: one that was
        too large, and is given up."""
        self.trouble = f"{ended.reason} ({ended.code})"
        if not comes_back(ended.code) and not by_a_command:
            self.fail(closed_for_good(ended, self._device.user))
            return 0.0
        if seconds >= _STEADY_SECONDS:
            self._backoff.reset()
        return self._backoff.next_seconds()

    # --- the token ---------------------------------------------------------------------------

    async def _refresh(self, link: Link, welcome: Welcome | None) -> None:
        """Replace the token before each of its ends. Where that fails the server ends the
        connection in time, and the next one begins with a new token."""
        ttl = welcome.ttl if welcome is not None and welcome.expires else 0.0
        while ttl > 0 and self._tokens.renewable:
            await asyncio.sleep(max(ttl - _EARLY_SECONDS, ttl * 0.75))
            ttl = await self._refresh_once(link)

    async def _refresh_once(self, link: Link) -> float:
        """Seconds that the new token has; 0 where there is none."""
        try:
            token = await self._tokens.fetch()
        except Exception as error:  # noqa: BLE001 - whatever the application raises
            if not may_pass(error):
                self.fail(NoTokenError(error))
                link.abort(Ended(1000, "no token"))
            return self._no_new_token(error)
        try:
            line = await link.ask("refresh", {"token": token})
        except LinkBrokenError:
            return 0.0
        except RefusedError as refused:
            return self._no_new_token(refused)
        self._tokens.accepted()
        return line.refresh.ttl if line.refresh is not None and line.refresh.expires else 0.0

    def _no_new_token(self, error: Exception) -> float:
        self._tokens.drop()
        _log.warning("the token could not be replaced: %r", error)
        return 0.0
