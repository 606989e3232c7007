"""``qunxin webhook``: where applications' servers are told of what was said."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Final

from cyclopts import App, Parameter

from qunxin.cli.common import Common, run_on_folder
from qunxin.cli.output import Output
from qunxin.cli.times import local_time
from qunxin.control import Control
from qunxin.errors import QunxinError

app = App(name="webhook", help="Tell an application's server of messages, for example for push.")

_SIGNATURE: Final = "It is not shown again. Events are signed with it (standardwebhooks.com)."


@app.command
def create(
    url: str,
    /,
    *,
    event: Annotated[list[str] | None, Parameter(negative="")] = None,
    common: Common | None = None,
) -> None:
    """Post every message and change of membership to a URL, from now on.

    For example:

        qunxin webhook create https://shop.example.org/qunxin
        qunxin webhook create https://push.example.org/q --event message.created

    Parameters
    ----------
    url
        An https:// address. Private addresses and http:// only in --webhook-networks.
    event
        Only events of this type; repeat it for several: message.created, message.recalled,
        group.created, group.changed, group.dissolved, member.joined, member.left.
    """

    async def work(control: Control, output: Output) -> None:
        made = await control.call("webhook.create", url=url, events=event)
        output.result(made, made["secret"])
        output.note(f"Webhook {made['id']} posts to {made['url']}. Above is its secret.")
        output.note(_SIGNATURE)

    run_on_folder(common, work)


@app.command(name="list")
def list_(*, common: Common | None = None) -> None:
    """List the webhooks and how the sending to each goes.

    For example:

        qunxin webhook list
    """

    async def work(control: Control, output: Output) -> None:
        found = await control.call("webhook.list")
        columns = ("id", "url", "events", "state", "waiting since", "last success")
        rows = (
            (
                hook["id"],
                hook["url"],
                ", ".join(hook["events"]) or "all",
                _state(hook),
                local_time(hook["waiting_since"]),
                local_time(hook["succeeded"]),
            )
            for hook in found["webhooks"]
        )
        output.table(found, columns, rows)

    run_on_folder(common, work)


@app.command
def show(webhook_id: str, /, *, common: Common | None = None) -> None:
    """Show how the sending to one webhook goes: what waits, since when, the last failure.

    For example:

        qunxin webhook show 9c1e5a7d20b4

    Parameters
    ----------
    webhook_id
        The webhook's id, as `qunxin webhook list` shows it.
    """

    async def work(control: Control, output: Output) -> None:
        _show(output, await control.call("webhook.get", id=webhook_id))

    run_on_folder(common, work)


@app.command
def change(
    webhook_id: str,
    /,
    *,
    url: str | None = None,
    event: Annotated[list[str] | None, Parameter(negative="")] = None,
    all_events: Annotated[bool, Parameter(negative="")] = False,
    common: Common | None = None,
) -> None:
    """Change where events go, or which.

    For example:

        qunxin webhook change 9c1e5a7d20b4 --url https://new.example.org/qunxin
        qunxin webhook change 9c1e5a7d20b4 --event message.created --event message.recalled

    Parameters
    ----------
    webhook_id
        The webhook's id.
    url
        The new address.
    event
        Only events of this type from now on; repeat it for several.
    all_events
        Events of every type from now on.
    """

    async def work(control: Control, output: Output) -> None:
        events = [] if all_events else event
        _show(output, await control.call("webhook.change", id=webhook_id, url=url, events=events))

    run_on_folder(common, work)


@app.command
def pause(webhook_id: str, /, *, common: Common | None = None) -> None:
    """Send nothing until `qunxin webhook resume`; nothing is lost meanwhile.

    For example:

        qunxin webhook pause 9c1e5a7d20b4

    Parameters
    ----------
    webhook_id
        The webhook's id.
    """

    async def work(control: Control, output: Output) -> None:
        _show(output, await control.call("webhook.change", id=webhook_id, paused=True))

    run_on_folder(common, work)


@app.command
def resume(webhook_id: str, /, *, common: Common | None = None) -> None:
    """Go on sending, with everything since the pause.

    For example:

        qunxin webhook resume 9c1e5a7d20b4

    Parameters
    ----------
    webhook_id
        The webhook's id.
    """

    async def work(control: Control, output: Output) -> None:
        _show(output, await control.call("webhook.change", id=webhook_id, paused=False))

    run_on_folder(common, work)


@app.command
def rotate(
    webhook_id: str,
    /,
    *,
    overlap_seconds: int = 86_400,
    common: Common | None = None,
) -> None:
    """Make a new secret; the one before signs beside it for a while.

    For example:

        qunxin webhook rotate 9c1e5a7d20b4

    Parameters
    ----------
    webhook_id
        The webhook's id.
    overlap_seconds
        How long each event carries both signatures.
    """

    async def work(control: Control, output: Output) -> None:
        made = await control.call("webhook.rotate", id=webhook_id, overlap_seconds=overlap_seconds)
        output.result(made, made["secret"])
        output.note(_SIGNATURE)

    run_on_folder(common, work)


@app.command
def replay(
    webhook_id: str,
    /,
    *,
    from_: Annotated[str, Parameter(name="--from")],
    common: Common | None = None,
) -> None:
    """Send everything since a time again, or pass over everything before it.

    The events have the ids that they had, so a receiver that knows what it has takes only what it
    lacks.

    For example:

        qunxin webhook replay 9c1e5a7d20b4 --from 2026-11-23T08:00
        qunxin webhook replay 9c1e5a7d20b4 --from beginning
        qunxin webhook replay 9c1e5a7d20b4 --from now

    Parameters
    ----------
    webhook_id
        The webhook's id.
    from_
        A time (ISO 8601; local where it names no zone), `beginning`, or `now`.
    """

    async def work(control: Control, output: Output) -> None:
        since = _milliseconds(from_)
        async with output.patience("Looking for the place …"):
            hook = await control.call("webhook.replay", id=webhook_id, since=since)
        _show(output, hook)

    run_on_folder(common, work)


@app.command
def delete(
    webhook_id: str,
    /,
    *,
    yes: Annotated[bool, Parameter(negative="")] = False,
    common: Common | None = None,
) -> None:
    """Delete a webhook. What was not sent yet is not sent.

    For example:

        qunxin webhook delete 9c1e5a7d20b4 --yes

    Parameters
    ----------
    webhook_id
        The webhook's id.
    yes
        Do not ask.
    """

    async def work(control: Control, output: Output) -> None:
        output.confirm(f"Delete the webhook {webhook_id}?", sure=yes)
        deleted = await control.call("webhook.delete", id=webhook_id)
        output.result(deleted, f"Webhook {deleted['id']} is deleted.")

    run_on_folder(common, work)


def _milliseconds(text: str) -> int:
    """The time meant; raises `invalid_request`."""
    if text == "beginning":
        return 0
    try:
        moment = datetime.now(UTC) if text == "now" else datetime.fromisoformat(text)
        return max(0, int(moment.timestamp() * 1000))
    except (ValueError, OverflowError):  # also a local time whose time in UTC has no year
        detail = "--from: a time such as 2026-11-23T08:00, `beginning` or `now`"
        raise QunxinError("invalid_request", detail=detail) from None


def _state(hook: dict[str, Any]) -> str:
    if hook["paused"]:
        return f"paused ({hook['paused']})"
    return f"failing ({hook['failures']} times)" if hook["failures"] else "sending"


def _show(output: Output, hook: dict[str, Any]) -> None:
    lines = [f"{hook['id']}  {hook['url']}  {_state(hook)}"]
    lines.append(f"  events: {', '.join(hook['events']) or 'all'}")
    if hook["waiting_since"]:
        since = local_time(hook["waiting_since"])
        lines.append(f"  waiting since {since}, at most {hook['behind']} entries")
    if hook["error"]:
        lines.append(f"  last failure {local_time(hook['failed'])}: {hook['error']}")
    if hook["succeeded"]:
        lines.append(f"  last success {local_time(hook['succeeded'])}")
    output.result(hook, *lines)
