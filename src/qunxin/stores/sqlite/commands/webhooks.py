"""Webhooks: where events are sent, and how far that has got."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from qunxin.errors import QunxinError
from qunxin.model import Webhook, WebhookReport
from qunxin.store.commands import DeleteWebhook, MoveWebhook, PutWebhook
from qunxin.store.results import Done
from qunxin.stores.sqlite.rows import Row
from qunxin.stores.sqlite.transaction import Transaction

WEBHOOK_SQL: Final = (
    "SELECT id, url, secret, events, created, revision, serial, old_secret, old_secret_until,"
    " paused, report, waiting, placed FROM webhooks"
)


def webhook_from_row(row: Row) -> Webhook:
    """The webhook of a row of `WEBHOOK_SQL`."""
    values: dict[str, Any] = dict(zip(Webhook.__struct_fields__, row, strict=True))
    values["events"] = msgspec.json.decode(values["events"], type=tuple[str, ...])
    values["report"] = msgspec.json.decode(values["report"], type=WebhookReport)
    values["waiting"] = msgspec.json.decode(values["waiting"], type=tuple[int, ...])
    return Webhook(**values)


def put_webhook(tx: Transaction, command: PutWebhook) -> Done:
    row = tx.row(f"{WEBHOOK_SQL} WHERE id = ?", (command.id,))
    webhook = _new(tx, command) if row is None else _changed(webhook_from_row(row), command)
    _save(tx, webhook)
    return Done(webhook)


def _new(tx: Transaction, command: PutWebhook) -> Webhook:
    if command.url is None or command.secret is None:
        raise QunxinError("not_found", detail=f"no webhook {command.id}")
    return Webhook(
        id=command.id,
        url=command.url,
        secret=command.secret,
        events=command.events or (),
        created=tx.time,
        revision=1,
        serial=_end(tx) if command.serial is None else command.serial,
        paused=command.paused or None,
    )


def _end(tx: Transaction) -> int:
    return int(tx.value("SELECT max(id) FROM entries") or 0)


def _changed(found: Webhook, command: PutWebhook) -> Webhook:
    changes: dict[str, Any] = {
        name: value
        for name in ("url", "events", "serial")
        if (value := getattr(command, name)) is not None
    }
    if command.secret is not None:
        changes["secret"] = command.secret
        changes["old_secret"] = found.secret
        changes["old_secret_until"] = command.old_secret_until
    if command.paused is not None:
        changes["paused"] = command.paused or None
    if command.serial is not None:
        changes["waiting"] = ()
    revision = found.revision + 1
    if command.serial is not None or command.events is not None:
        changes["placed"] = revision
    return msgspec.structs.replace(found, **changes, revision=revision)


def _save(tx: Transaction, webhook: Webhook) -> None:
    values = msgspec.structs.asdict(webhook)
    values["events"] = msgspec.json.encode(webhook.events).decode()
    values["report"] = msgspec.json.encode(webhook.report).decode()
    values["waiting"] = _serials(webhook.waiting)
    tx.run(
        "INSERT OR REPLACE INTO webhooks VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        tuple(values.values()),
    )


def move_webhook(tx: Transaction, command: MoveWebhook) -> Done:
    tx.run(
        "UPDATE webhooks SET serial = ?3, report = ?4, waiting = coalesce(?5, waiting),"
        " paused = iif(revision = ?2, coalesce(?6, paused), paused)"
        " WHERE id = ?1 AND placed <= ?2",
        (
            command.id,
            command.revision,
            command.serial,
            msgspec.json.encode(command.report).decode(),
            None if command.waiting is None else _serials(command.waiting),
            command.paused,
        ),
    )
    return Done(None)


def _serials(serials: tuple[int, ...]) -> str:
    return msgspec.json.encode(serials).decode()


def delete_webhook(tx: Transaction, command: DeleteWebhook) -> Done:
    if not tx.run("DELETE FROM webhooks WHERE id = ?", (command.id,)):
        raise QunxinError("not_found", detail=f"no webhook {command.id}")
    return Done(None)
