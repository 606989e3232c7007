"""``qunxin link``: let somebody sign in to the page, once."""

from __future__ import annotations

from typing import Final

from cyclopts import App

from qunxin.cli.common import Common, run_on_folder
from qunxin.cli.output import Output
from qunxin.cli.times import local_time
from qunxin.control import Control
from qunxin.errors import QunxinError

app = App(name="link")

_MAX_MINUTES: Final = 24 * 60


@app.default
def link(
    user: str | None = None,
    /,
    *,
    minutes: int = 15,
    url: str | None = None,
    common: Common | None = None,
) -> None:
    """Make a link that signs one browser in to the page of the running server.

    It works once and not for long. Give it to that person only, by a way that you trust.

    For example:

        qunxin link alice
        qunxin link
        qunxin link alice --url https://chat.example.org --minutes 60

    Parameters
    ----------
    user
        The account's id. Without it, whoever opens the link makes a new account.
    minutes
        How long the link is good, if nobody uses it: up to 1440.
    url
        Where people reach the node, if that is not the address it prints.
    """

    async def work(control: Control, output: Output) -> None:
        if not 1 <= minutes <= _MAX_MINUTES:
            raise QunxinError("invalid_request", detail=f"--minutes: 1 to {_MAX_MINUTES}")
        made = await control.link(user=user, seconds=minutes * 60, url=url)
        output.result(made, made["link"])
        who = "a new account" if user is None else user
        output.note(f"Good once, for {who}, until {local_time(made['expires'])}.")

    run_on_folder(common, work)
