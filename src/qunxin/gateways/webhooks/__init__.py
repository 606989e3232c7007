"""Webhooks: what was committed, told to applications' servers over HTTP."""

from qunxin.gateways.webhooks.sender import WebhookSender
from qunxin.gateways.webhooks.settings import WebhookSettings

__all__ = ["WebhookSender", "WebhookSettings"]
