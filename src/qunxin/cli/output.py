"""What commands print: words for people, JSON for programs, progress for the impatient.

Results go to standard output, everything else to standard error. With ``--json`` the result is
one object on one line, and so is an error.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

import msgspec
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, Progress, TextColumn
from rich.prompt import Confirm
from rich.table import Table

from qunxin.cli.advice import advice_for
from qunxin.errors import QunxinError

_PATIENCE_SECONDS: Final = 1.0


def preferred_language(asked: str | None, environment: Mapping[str, str] = os.environ) -> str:
    """``zh`` or ``en``: as asked, else as the locale of the environment says."""
    if asked is not None:
        return "zh" if asked.lower().startswith("zh") else "en"
    for name in ("LC_ALL", "LC_MESSAGES", "LANG"):
        if environment.get(name):
            return "zh" if environment[name].lower().startswith("zh") else "en"
    return "en"


class Output:
    """Prints in one way throughout one command."""

    def __init__(self, *, as_json: bool = False, language: str = "en") -> None:
        self.as_json = as_json
        self.language = language
        self.screen = Console(soft_wrap=True, highlight=False, emoji=False)
        self.errors = Console(stderr=True, soft_wrap=True, highlight=False, emoji=False)

    def result(self, facts: Mapping[str, Any], *lines: str) -> None:
        """The outcome: `facts` as JSON, or `lines` for people."""
        if self.as_json:
            self.json(facts)
            return
        for line in lines:
            self.screen.print(line, markup=False)

    def table(
        self,
        facts: Mapping[str, Any],
        columns: Sequence[str],
        rows: Iterable[Sequence[Any]],
        *lines: str,
    ) -> None:
        """A list: `facts` as JSON, or a table of `rows` and below it `lines` for people."""
        if self.as_json:
            self.json(facts)
            return
        table = Table(*columns, box=None, pad_edge=False, header_style="bold")
        for row in rows:
            table.add_row(*(plain(cell) for cell in row))
        if table.row_count:
            self.screen.print(table)
        else:
            self.note("There are none.")
        for line in lines:
            self.screen.print(line, markup=False)

    def json(self, facts: Mapping[str, Any]) -> None:
        sys.stdout.write(msgspec.json.encode(facts).decode() + "\n")
        sys.stdout.flush()

    def note(self, line: str) -> None:
        """Something beside the result, on standard error; programs are spared it."""
        if not self.as_json:
            self.errors.print(line, markup=False)

    def error(self, error: QunxinError) -> None:
        """A refusal: what happened, its code, and what can be done about it."""
        advice = advice_for(error, self.language)
        text = error.text(self.language)
        if self.as_json:
            facts = {"code": error.code, "tier": str(error.tier), "retryable": error.retryable}
            facts |= {"retry_after": error.retry_after, "detail": text, "advice": advice}
            sys.stderr.write(msgspec.json.encode({"error": facts}).decode() + "\n")
            return
        self.errors.print(f"[bold red]✗[/] {escape(text)}  [dim]({error.code})[/]")
        if advice:
            self.errors.print(f"  {advice}", markup=False)

    def confirm(self, question: str, *, sure: bool) -> None:
        """Return once a person has agreed. Raises `invalid_request` where they did not, or where
        nobody is there to ask."""
        if sure:
            return
        if self.as_json or not (sys.stdin.isatty() and self.errors.is_terminal):
            raise QunxinError("invalid_request", detail="say --yes to confirm")
        if not Confirm.ask(question, console=self.errors, default=False):
            raise QunxinError("invalid_request", detail="not confirmed; nothing was done")

    def bytes_progress(self) -> Progress:
        """A bar that counts bytes, on a terminal; programs are spared it."""
        hidden = self.as_json or not self.errors.is_terminal
        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
        return Progress(*columns, console=self.errors, transient=True, disable=hidden)

    def count_progress(self) -> Progress:
        """A bar that counts things, likewise."""
        hidden = self.as_json or not self.errors.is_terminal
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        return Progress(*columns, console=self.errors, transient=True, disable=hidden)

    @asynccontextmanager
    async def patience(self, text: str) -> AsyncIterator[None]:
        """Show `text` with a spinner once the work has taken a second (on a terminal)."""
        waiting = asyncio.create_task(self._spin(text))
        try:
            yield
        finally:
            waiting.cancel()
            with suppress(asyncio.CancelledError):
                await waiting

    async def _spin(self, text: str) -> None:
        if self.as_json or not self.errors.is_terminal:
            return
        await asyncio.sleep(_PATIENCE_SECONDS)
        with self.errors.status(text):
            await asyncio.Event().wait()


def plain(value: Any) -> str:
    """A cell's text."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return escape(str(value))


def titled(thing: Mapping[str, Any], kind: str) -> str:
    """A user or a group by its id, with its name where that says more."""
    thing_id, name = thing[kind], thing["name"]
    return f"{thing_id} ({name})" if name and name != thing_id else str(thing_id)
