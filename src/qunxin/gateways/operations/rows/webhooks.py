"""The rows of the table of operations that concern webhooks."""

from __future__ import annotations

from typing import Final

from qunxin.engine.webhooks import NewWebhook, WebhookStatus
from qunxin.gateways.operations import handlers as run
from qunxin.gateways.operations import requests as req
from qunxin.gateways.operations import responses as res
from qunxin.gateways.operations.rows.common import CREATED, OK, always
from qunxin.gateways.operations.table import Operation

WEBHOOKS: Final = (
    Operation(
        name="webhook.create",
        method="POST",
        path="/v1/webhooks",
        tag="webhooks",
        summary="Make a webhook",
        chinese="创建网络钩子",
        description=(
            "From now on every entry is told to this address, at least once, in order within a "
            "conversation, signed as Standard Webhooks says. The secret is shown this once."
        ),
        request=req.CreateWebhook,
        response=NewWebhook,
        statuses=CREATED,
        errors=(),
        rules=("webhook.create",),
        run=run.create_webhook,
        status_of=always(201),
    ),
    Operation(
        name="webhook.list",
        method="GET",
        path="/v1/webhooks",
        tag="webhooks",
        summary="List webhooks",
        chinese="网络钩子列表",
        description="All webhooks and how the sending to each goes, without their secrets.",
        request=req.Nothing,
        response=res.WebhookList,
        statuses=OK,
        errors=(),
        rules=("webhook.list",),
        run=run.list_webhooks,
        status_of=always(200),
    ),
    Operation(
        name="webhook.get",
        method="GET",
        path="/v1/webhooks/{id}",
        tag="webhooks",
        summary="How a webhook stands",
        chinese="查看网络钩子",
        description=(
            "What waits, since when, and the last failure. It may lag by a second. `behind` counts "
            "entries of every kind, so it may be more than there is to send."
        ),
        request=req.OfWebhook,
        response=WebhookStatus,
        statuses=OK,
        errors=("not_found",),
        rules=("webhook.get",),
        run=run.get_webhook,
        status_of=always(200),
    ),
    Operation(
        name="webhook.change",
        method="PATCH",
        path="/v1/webhooks/{id}",
        tag="webhooks",
        summary="Change, pause or resume a webhook",
        chinese="修改、暂停或恢复网络钩子",
        description=(
            "Fields that are left out stay. While it is paused nothing is lost: everything since "
            "then is sent once it goes on."
        ),
        request=req.ChangeWebhook,
        response=WebhookStatus,
        statuses=OK,
        errors=("not_found",),
        rules=("webhook.change",),
        run=run.change_webhook,
        status_of=always(200),
    ),
    Operation(
        name="webhook.rotate",
        method="POST",
        path="/v1/webhooks/{id}/rotate",
        tag="webhooks",
        summary="Give a webhook a new secret",
        chinese="轮换网络钩子密钥",
        description=(
            "The new secret is shown this once. For `overlap_seconds` each event carries two "
            "signatures, by the new secret and by the one before."
        ),
        request=req.RotateWebhook,
        response=NewWebhook,
        statuses=OK,
        errors=("not_found",),
        rules=("webhook.rotate",),
        run=run.rotate_webhook,
        status_of=always(200),
    ),
    Operation(
        name="webhook.replay",
        method="POST",
        path="/v1/webhooks/{id}/replay",
        tag="webhooks",
        summary="Send a webhook's events again",
        chinese="重放网络钩子事件",
        description=(
            "Everything since then, under the same ids, as it is now. What happened before and "
            "was not sent yet is passed over."
        ),
        request=req.ReplayWebhook,
        response=WebhookStatus,
        statuses=OK,
        errors=("not_found",),
        rules=("webhook.replay",),
        run=run.replay_webhook,
        status_of=always(200),
    ),
    Operation(
        name="webhook.delete",
        method="DELETE",
        path="/v1/webhooks/{id}",
        tag="webhooks",
        summary="Delete a webhook",
        chinese="删除网络钩子",
        description="Nothing more is sent to it. Cannot be undone.",
        request=req.OfWebhook,
        response=res.WebhookDeleted,
        statuses=OK,
        errors=("not_found",),
        rules=("webhook.delete",),
        run=run.delete_webhook,
        status_of=always(200),
    ),
)
