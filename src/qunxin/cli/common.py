"""What every command shares: its common options, and how it runs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

from cyclopts import Group, Parameter

from qunxin.cli.exits import errors_shown
from qunxin.cli.output import Output, preferred_language
from qunxin.config import Settings, load_settings
from qunxin.control import Control, open_control
from qunxin.errors import QunxinError
from qunxin.folder import check_has_node

_COMMON: Final = Group("Common options", sort_key=100)
COMMON_OPTIONS: Final = ("--data", "--config", "--json", "--language")


@Parameter(name="*")
@dataclass(frozen=True)
class Common:
    """Options of every command that looks at a data folder."""

    data: Annotated[
        str | None,
        Parameter(
            help="The data folder, with a server running on it or not. "
            r"\[env: QUNXIN_DATA, default: qunxin-data]",
            group=_COMMON,
        ),
    ] = None
    config: Annotated[
        Path | None,
        Parameter(
            help="A TOML file of settings, in place of qunxin.toml in the data folder.",
            group=_COMMON,
        ),
    ] = None
    json: Annotated[
        bool,
        Parameter(
            help="Print one JSON object on one line.",
            group=_COMMON,
            negative="",
            show_default=False,
        ),
    ] = False
    language: Annotated[
        str | None,
        Parameter(help="en or zh; by default as LANG says.", group=_COMMON),
    ] = None

    @property
    def output(self) -> Output:
        return Output(as_json=self.json, language=preferred_language(self.language))

    def settings(self) -> Settings:
        return load_settings({"data": self.data}, config=self.config)


Work = Callable[[Control, Output], Awaitable[None]]


def run_on_folder(
    common: Common | None,
    work: Work,
    *,
    may_make: bool = False,
    unadvised: Collection[str] = (),
) -> None:
    """Do `work` with the node that owns the data folder: the running server, or one that is
    opened here for as long as it takes.

    Where there is no node yet, one is made if the command `may_make` it, since it begins something.
    Any other is refused and leaves nothing: a mistyped folder must not look like an empty node.
    `unadvised` are codes of errors whose usual advice is wrong for this command.
    """
    common = common or Common()
    with errors_shown(common.output) as output:
        output.unadvised = frozenset(unadvised)
        settings = common.settings()
        if not may_make:
            check_has_node(settings.data_folder)
        asyncio.run(_run(settings, output, work))


async def _run(settings: Settings, output: Output, work: Work) -> None:
    fresh = not settings.data_folder.exists()
    async with AsyncExitStack() as stack:
        async with output.patience(f"Opening {settings.data} …"):
            control = await stack.enter_async_context(open_control(settings))
        if fresh:
            output.note(f"Made the data folder {settings.data_folder.absolute()}.")
        await work(control, output)


def check_limit(limit: int) -> None:
    """Refuse a --limit with which a list would look empty."""
    if limit < 1:
        raise QunxinError("invalid_request", detail="--limit: at least 1")
