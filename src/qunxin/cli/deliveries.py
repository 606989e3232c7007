"""``qunxin deliveries``: the ledger of a message."""

from __future__ import annotations

from typing import Any

from cyclopts import App

from qunxin.cli.common import Common, check_limit, run_on_folder
from qunxin.cli.output import Output
from qunxin.control import MAX_PAGE, Control
from qunxin.model import DeliveryState

app = App(name="deliveries")


@app.default
def deliveries(
    conversation: str,
    position: int,
    /,
    *,
    state: DeliveryState | None = None,
    limit: int = 1_000,
    common: Common | None = None,
) -> None:
    """Show who got a message: counts of all members, and each of them by name.

    For example:

        qunxin deliveries group:tea 17
        qunxin deliveries group:tea 17 --state queued --json

    Parameters
    ----------
    conversation
        group:GROUP, private:USER~USER (sorted) or broadcast:all.
    position
        The message's number in it, as `qunxin history` shows it.
    state
        Only members of whom this holds: queued, delivered, read or unreachable.
    limit
        How many members at most; the counts are of all.
    """

    async def work(control: Control, output: Output) -> None:
        fields: dict[str, Any] = {
            "conversation": conversation,
            "position": position,
            "state": state,
        }
        check_limit(limit)
        async with output.patience("Reading the ledger …"):
            part = min(limit, MAX_PAGE)
            first = await control.call("message.deliveries", limit=part, **fields)
            rows = first["deliveries"]
            if first["next_cursor"] is not None:
                fields["cursor"] = first["next_cursor"]
                more = limit - len(rows)
                rows += await control.pages("message.deliveries", "deliveries", more, **fields)
        facts = {"counts": first["counts"], "recalled": first["recalled"], "deliveries": rows}
        output.table(
            facts,
            ("user", "state", "reason"),
            ((row["user"], row["state"], row["reason"]) for row in rows),
            *_counts(first),
        )

    run_on_folder(common, work)


def _counts(page: dict[str, Any]) -> list[str]:
    lines = [", ".join(f"{state} {number:,}" for state, number in page["counts"].items())]
    if page["recalled"] is not None:
        lines.append(
            f"Recalled at {page['recalled']}: delivered and read mean that a device knows of that."
        )
    return lines
