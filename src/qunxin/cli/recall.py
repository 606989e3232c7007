"""``qunxin recall``: take a message back."""

from __future__ import annotations

from typing import Annotated

from cyclopts import App, Parameter

from qunxin.cli.common import Common, run_on_folder
from qunxin.cli.output import Output
from qunxin.control import Control

app = App(name="recall")


@app.default
def recall(
    conversation: str,
    position: int,
    /,
    *,
    from_: Annotated[str | None, Parameter(name="--from")] = None,
    common: Common | None = None,
) -> None:
    """Recall a message: from now on nobody is shown its content.

    For example:

        qunxin recall group:tea 17 --from alice
        qunxin recall broadcast:all 3

    Parameters
    ----------
    conversation
        group:GROUP, private:USER~USER (sorted) or broadcast:all.
    position
        The message's number in it, as `qunxin history` shows it.
    from_
        Who recalls it: its author within the time, an owner or an admin. Left out: the operator,
        at any time.
    """

    async def work(control: Control, output: Output) -> None:
        fields = {"conversation": conversation, "position": position, "from": from_}
        receipt = await control.call("message.recall", **fields)
        again = " (it had been recalled before)" if receipt["duplicate"] else ""
        output.result(receipt, f"The message {conversation} {position} is recalled{again}.")

    run_on_folder(common, work)
