"""``qunxin history``: what was said in a conversation."""

from __future__ import annotations

from typing import Any, Final

from cyclopts import App

from qunxin.cli.common import Common, run_on_folder
from qunxin.cli.output import Output
from qunxin.cli.times import local_time
from qunxin.control import Control

app = App(name="history")

_BESIDE: Final = frozenset({"type", "conversation", "position", "time"})


@app.default
def history(
    conversation: str,
    /,
    *,
    after: int | None = None,
    before: int | None = None,
    limit: int = 50,
    common: Common | None = None,
) -> None:
    """Show what stands in a conversation: everything but what was recalled.

    The newest entries, unless told otherwise.

    For example:

        qunxin history group:tea
        qunxin history private:alice~bob --limit 200
        qunxin history group:tea --before 17
        qunxin history broadcast:all --after 0 --json

    Parameters
    ----------
    conversation
        group:GROUP, private:USER~USER (sorted), broadcast:all or inbox:USER.
    after
        Entries above this position, the oldest first.
    before
        Only entries below this position.
    limit
        How many at most, up to 1000.
    """

    async def work(control: Control, output: Output) -> None:
        page = await control.call(
            "conversation.entries",
            conversation=conversation,
            after=after,
            before=before,
            limit=limit,
        )
        output.table(
            page,
            ("position", "time", "type", "from", "what"),
            (
                (
                    entry["position"],
                    local_time(entry["time"]),
                    entry["type"],
                    entry.get("from"),
                    _what(entry),
                )
                for entry in page["entries"]
            ),
            *_more(page, newest=after is None),
        )

    run_on_folder(common, work)


def _what(entry: dict[str, Any]) -> str:
    """A message's words, other segments by their type; of an event its facts."""
    if "content" in entry:
        return " ".join(
            part["text"] if part["type"] == "text" else f"[{part['type']}]"
            for part in entry["content"]
        )
    if entry["type"] in ("private", "group", "broadcast"):
        return f"(recalled at {entry['recalled']})"
    facts = ((name, value) for name, value in entry.items() if name not in _BESIDE)
    return ", ".join(f"{name}: {_fact(value)}" for name, value in facts)


def _fact(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(str(one) for one in value)
    return str(value)


def _more(page: dict[str, Any], *, newest: bool) -> list[str]:
    entries = page["entries"]
    if newest:
        first = entries[0]["position"] if entries else 1
        return [f"Earlier ones: --before {first}"] if first > 1 else []
    return [] if page["next_after"] is None else [f"Later ones: --after {page['next_after']}"]
