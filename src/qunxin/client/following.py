"""The whole list of conversations, and subscriptions to those that a connection does not begin
with: the server subscribes a device to the most recent ones by itself."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from qunxin.client.backoff import Backoff
from qunxin.client.link import Link, LinkBrokenError
from qunxin.client.receiver import Receiver
from qunxin.client.refusals import RefusedError
from qunxin.client.results import ConversationList, ConversationView
from qunxin.wire.codes import ALREADY_SUBSCRIBED

_log = logging.getLogger("qunxin.client")

_PAGE: Final = 1_000
_list_decoder = msgspec.json.Decoder(ConversationList)


async def follow_all(link: Link, receiver: Receiver) -> None:
    """On return the list is the server's, and everything in it is followed, up to what the
    server allows for one connection. A connection that breaks meanwhile begins anew."""
    try:
        rows = await _list_all(link)
        for row in rows:
            receiver.conversations.put_if_newer(row)
        listed = {row.conversation for row in rows}
        receiver.conversations.keep_only(
            listed | {name for name, stream in receiver.streams.items() if stream.subscribed}
        )
        for row in rows:
            if not receiver.follows(row.conversation):
                await _follow(link, receiver, row.conversation)
    except LinkBrokenError:
        return
    except RefusedError as refused:
        _log.warning("not all conversations are followed: %s", refused)


async def _list_all(link: Link) -> Sequence[ConversationView]:
    rows: list[ConversationView] = []
    cursor: str | None = None
    while True:
        asked: dict[str, Any] = {"limit": _PAGE}
        if cursor is not None:
            asked["cursor"] = cursor
        page = _list_decoder.decode(await _repeat(link, "user.conversations", asked))
        rows.extend(page.conversations)
        cursor = page.next_cursor
        if cursor is None:
            return rows


async def _repeat(link: Link, method: str, fields: dict[str, Any]) -> bytes:
    backoff = Backoff()
    while True:
        try:
            return await link.call(method, fields)
        except RefusedError as refused:
            if not refused.retryable:
                raise
            await asyncio.sleep(backoff.next_seconds(refused.retry_after))


async def _follow(link: Link, receiver: Receiver, conversation: str) -> None:
    """Subscribe from where the device stands. What follows is begun by the receiver."""
    fields: dict[str, Any] = {"channel": conversation}
    known = receiver.streams.get(conversation)
    if known is not None and known.handed_epoch:
        fields |= {"recover": True, "epoch": known.handed_epoch, "offset": known.handed}
    backoff = Backoff()
    while True:
        try:
            await link.ask("subscribe", fields)
        except RefusedError as refused:
            if refused.retryable:
                await asyncio.sleep(backoff.next_seconds(refused.retry_after))
                continue
            gone = (ALREADY_SUBSCRIBED.number, "conversation_not_found")
            if refused.number not in gone and refused.code not in gone:
                raise
        return
