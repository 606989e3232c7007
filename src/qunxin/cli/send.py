"""``qunxin send``: one message, from the command line."""

from __future__ import annotations

import shlex
from difflib import get_close_matches
from typing import Annotated, Any, Final
from uuid import uuid4

from cyclopts import App, Parameter

from qunxin.cli.common import COMMON_OPTIONS, Common, run_on_folder
from qunxin.cli.exits import errors_shown
from qunxin.cli.input import read_input
from qunxin.cli.output import Output, counted
from qunxin.control import Control
from qunxin.errors import QunxinError
from qunxin.model import MessageType, Require

app = App(name="send")

_OPTIONS: Final = ("--from", "--require", "--key", *COMMON_OPTIONS)


def _check_text(_: object, text: str) -> None:
    """Refuse an option that is spelt wrong: whoever meant ``--json`` did not mean to say it. What
    is an option exactly comes here only from behind ``--``, and is a text."""
    name = text.partition("=")[0]
    meant = get_close_matches(name, _OPTIONS, 1) if name.startswith("--") else []
    if meant and name not in _OPTIONS:
        detail = f"{name}: did you mean {meant[0]}? As a text it can come from standard input."
        raise ValueError(detail)


@app.default
def send(
    type_: Annotated[MessageType, Parameter(name="TYPE")],
    to: str,
    text: Annotated[str, Parameter(allow_leading_hyphen=True, validator=_check_text)],
    /,
    *,
    from_: Annotated[str | None, Parameter(name="--from")] = None,
    require: Require | None = None,
    key: str | None = None,
    common: Common | None = None,
) -> None:
    """Send one message and say who cannot get it.

    For example:

        qunxin send group tea --from alice "你好 🍵"
        qunxin send private bob --from alice "Are you there?"
        qunxin send broadcast all "Maintenance at 22:00"
        date | qunxin send group tea --from clock -

    Parameters
    ----------
    type_
        group, private or broadcast. Never guessed.
    to
        The group's id, the user's id, or `all` for a broadcast.
    text
        What to say; `-` reads it from standard input.
    from_
        Who sends it. Left out for a broadcast.
    require
        reachable: accepted for all who can be reached, the others named. all: one unreachable
        member refuses the whole message. By default as the group has it set.
    key
        The idempotency key: a repeat with the same key is not sent twice. By default a new one;
        none without --from, as keys are a sender's.
    """
    common = common or Common()
    name = uuid4().hex if key is None and from_ is not None else key
    with errors_shown(common.output):
        words = read_input().rstrip("\n") if text == "-" else text

    async def work(control: Control, output: Output) -> None:
        fields: dict[str, Any] = {"from": from_, "require": require, "key": name}
        try:
            receipt = await control.call("message.send", type=type_, to=to, text=words, **fields)
        except QunxinError as error:
            if error.code == "outcome_unknown" and name is not None:
                output.note(f"Repeat it safely: add --key {shlex.quote(name)}")
            if _nobody_is_left(error, from_):
                output.unadvised = (error.code,)
            raise
        place = f"{receipt['conversation']} {receipt['position']}"
        again = " (it had been sent before)" if receipt["duplicate"] else ""
        output.result(
            receipt,
            f"Accepted as {place}{again}, for {counted(receipt['members'], 'member')}.",
            *_unreachable(receipt),
        )

    run_on_folder(common, work)


def _nobody_is_left(error: QunxinError, sender: str | None) -> bool:
    """Whether a refusal names everybody beside the sender, so that ``--require`` cannot help."""
    if error.code != "members_unreachable":
        return False
    others = error.facts["members"] - (sender is not None)
    return bool(error.facts["unreachable_count"] >= others)


def _unreachable(receipt: dict[str, Any]) -> list[str]:
    if not receipt["unreachable_count"]:
        return []
    named = ", ".join(f"{one['user']} ({one['reason']})" for one in receipt["unreachable"])
    return [f"{receipt['unreachable_count']} cannot be reached: {named}"]
