"""The rows of the table of operations that concern messages, and how far they are read."""

from __future__ import annotations

from typing import Final

from qunxin.engine.results import RecallReceipt, Receipt
from qunxin.gateways.operations import handlers as run
from qunxin.gateways.operations import requests as req
from qunxin.gateways.operations import responses as res
from qunxin.gateways.operations.rows.common import ACTING, NO_CONVERSATION, NO_GROUP, OK, always
from qunxin.gateways.operations.table import Operation
from qunxin.model import Cursor


def _by_duplicate(response: Receipt) -> int:
    return 200 if response.duplicate else 201


MESSAGES: Final = (
    Operation(
        name="message.send",
        method="POST",
        path="/v1/messages",
        tag="messages",
        summary="Send a message",
        chinese="发送消息",
        description=(
            "A success means: durable, with its final position, and everyone entitled will be "
            "able to get it. A refusal means that nobody ever gets it. Where the outcome stays "
            "unknown (a broken connection, `outcome_unknown`), repeat with the same `key`: the "
            "first outcome comes back with `duplicate`, or the message is judged anew. The key "
            "can also be given as the header `Idempotency-Key`."
        ),
        request=req.SendMessage,
        response=Receipt,
        statuses={
            201: "Accepted: durable and numbered.",
            200: "Accepted earlier under the same key: the first outcome again.",
        },
        errors=(
            "unknown_message_type",
            "message_too_large",
            "idempotency_conflict",
            "members_unreachable",
            *NO_GROUP,
            *ACTING,
            "member_muted",
            "group_muted",
            "blocked",
        ),
        rules=("message.send.private", "message.send.group", "message.send.broadcast"),
        run=run.send,
        status_of=_by_duplicate,
    ),
    Operation(
        name="message.recall",
        method="POST",
        path="/v1/conversations/{conversation}/entries/{position}/recall",
        tag="messages",
        summary="Recall a message",
        chinese="撤回消息",
        description=(
            "From now on no read shows the content; devices that were away get the tombstone. "
            "Authors within the recall window, owners, admins and keys at any time. A repeat "
            "gives the first outcome with `duplicate`."
        ),
        request=req.RecallMessage,
        response=RecallReceipt,
        statuses=OK,
        errors=(*NO_CONVERSATION, "entry_not_found", "recall_window_over", "user_suspended"),
        rules=("message.recall",),
        run=run.recall,
        status_of=always(200),
    ),
    Operation(
        name="message.deliveries",
        method="GET",
        path="/v1/conversations/{conversation}/entries/{position}/deliveries",
        tag="messages",
        summary="Who got a message: the ledger",
        chinese="消息送达明细",
        description=(
            "For every member but the sender: `queued`, `delivered` (a device proved it), `read` "
            "or `unreachable`; on the first page, the one without `cursor`, with counts over all. "
            "It may lag by seconds and never claims a delivery that did not happen. Of each user "
            "and each key one ledger is read at a time, and too many that wait are `overloaded`."
        ),
        request=req.ListDeliveries,
        response=res.Ledger,
        statuses=OK,
        errors=(*NO_CONVERSATION, "entry_not_found"),
        rules=("message.deliveries",),
        run=run.deliveries,
        status_of=always(200),
    ),
    Operation(
        name="conversation.entries",
        method="GET",
        path="/v1/conversations/{conversation}/entries",
        tag="messages",
        summary="Read a conversation",
        chinese="读取会话消息",
        description=(
            "With `after`: onward from there; with `before`: what stands just below it; with "
            "both: onward from the one to the other; with neither: the newest. Always in ascending "
            "order. What the reader may not see comes as `hidden` ranges."
        ),
        request=req.ReadEntries,
        response=res.EntryList,
        statuses=OK,
        errors=NO_CONVERSATION,
        rules=("conversation.entries",),
        run=run.entries,
        status_of=always(200),
    ),
    Operation(
        name="cursor.read",
        method="PUT",
        path="/v1/users/{user}/conversations/{conversation}/read",
        tag="messages",
        summary="Mark a conversation as read up to a position",
        chinese="标记已读",
        description=(
            "Cursors only rise: a lower position changes nothing, one above the head counts as "
            "the head."
        ),
        request=req.MarkRead,
        response=Cursor,
        statuses=OK,
        errors=NO_CONVERSATION,
        rules=("cursor.read",),
        run=run.mark_read,
        status_of=always(200),
    ),
)
