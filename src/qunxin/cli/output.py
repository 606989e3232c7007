"""What commands print: words for people, JSON for programs, progress for the impatient.

Results go to standard output, everything else to standard error. With ``--json`` the result is
one object on one line, and so is an error. Plain lines are written plainly; the library that
draws tables, colours and progress takes long to load, and does so only where there is one.
"""

from __future__ import annotations

import asyncio
import os
import re
import sys
import unicodedata
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, TextIO

import msgspec

from qunxin.cli.advice import advice_for
from qunxin.errors import QunxinError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, ProgressColumn

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

    @cached_property
    def screen(self) -> Console:
        """Standard output, for what is more than plain lines."""
        return _console(stderr=False)

    @cached_property
    def errors(self) -> Console:
        """Standard error, likewise."""
        return _console(stderr=True)

    @property
    def on_terminal(self) -> bool:
        """Whether a person sees what is drawn on standard error."""
        return not self.as_json and sys.stderr.isatty() and self.errors.is_terminal

    def result(self, facts: Mapping[str, Any], *lines: str) -> None:
        """The outcome: `facts` as JSON, or `lines` for people."""
        if self.as_json:
            self.json(facts)
            return
        _write(sys.stdout, *(visible(line) for line in lines))

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
        from rich.table import Table  # noqa: PLC0415 - see above

        table = Table(*columns, box=None, pad_edge=False, header_style="bold")
        for row in rows:
            table.add_row(*(plain(cell) for cell in row))
        if table.row_count:
            self.screen.print(table)
        else:
            self.note("There are none.")
        _write(sys.stdout, *(visible(line) for line in lines))

    def json(self, facts: Mapping[str, Any]) -> None:
        _write(sys.stdout, msgspec.json.encode(facts).decode())

    def note(self, line: str) -> None:
        """Something beside the result, on standard error; programs are spared it."""
        if not self.as_json:
            _write(sys.stderr, visible(line))

    def error(self, error: QunxinError) -> None:
        """A refusal: what happened, its code, and what can be done about it."""
        advice = advice_for(error, self.language)
        text = error.text(self.language)
        if self.as_json:
            facts = {"code": error.code, "tier": str(error.tier), "retryable": error.retryable}
            facts |= {"retry_after": error.retry_after, "detail": text, "advice": advice}
            sys.stderr.write(msgspec.json.encode({"error": facts}).decode() + "\n")
            return
        from rich.markup import escape  # noqa: PLC0415 - see above

        self.errors.print(f"[bold red]✗[/] {escape(visible(text))}  [dim]({error.code})[/]")
        if advice:
            _write(sys.stderr, f"  {advice}")

    def confirm(self, question: str, *, sure: bool) -> None:
        """Return once a person has agreed. Raises `invalid_request` where they did not, or where
        nobody is there to ask."""
        if sure:
            return
        if not (sys.stdin.isatty() and self.on_terminal):
            raise QunxinError("invalid_request", detail="say --yes to confirm")
        from rich.prompt import Confirm  # noqa: PLC0415 - see above

        if not Confirm.ask(question, console=self.errors, default=False):
            raise QunxinError("invalid_request", detail="not confirmed; nothing was done")

    def bytes_progress(self) -> Progress:
        """A bar that counts bytes, on a terminal; programs are spared it."""
        from rich.progress import DownloadColumn  # noqa: PLC0415 - see above

        return self._progress(DownloadColumn())

    def count_progress(self) -> Progress:
        """A bar that counts things, likewise."""
        from rich.progress import MofNCompleteColumn  # noqa: PLC0415 - see above

        return self._progress(MofNCompleteColumn())

    def _progress(self, count: ProgressColumn) -> Progress:
        from rich.progress import BarColumn, Progress, TextColumn  # noqa: PLC0415 - see above

        columns = (TextColumn("{task.description}"), BarColumn(), count)
        hidden = not self.on_terminal
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
        if self.as_json or not sys.stderr.isatty():
            return
        await asyncio.sleep(_PATIENCE_SECONDS)
        if not self.errors.is_terminal:
            return
        with self.errors.status(text):
            await asyncio.Event().wait()


def _console(*, stderr: bool) -> Console:
    from rich.console import Console  # noqa: PLC0415 - see above

    return Console(stderr=stderr, soft_wrap=True, highlight=False, emoji=False)


def _write(stream: TextIO, *lines: str) -> None:
    """Lines as they are."""
    try:
        stream.writelines(f"{line}\n" for line in lines)
        stream.flush()
    except BrokenPipeError:  # whoever read it is gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        sys.exit(1)


def plain(value: Any) -> str:
    """A cell's text."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    from rich.markup import escape  # noqa: PLC0415 - see above

    return escape(isolated(str(value)))


_CONTROLS: Final = re.compile(r"[\u0000-\u001f\u007f-\u009f\u2028\u2029\u202a-\u202e\u2066\u2067]")
"""What would act on the terminal: control characters, breaks of lines, and what turns the direction
of the text around it. U+2068 and U+2069 are those of `isolated`."""
_ISOLATES: Final = re.compile(r"[\u2068\u2069]")
_RIGHT_TO_LEFT: Final = frozenset({"R", "AL", "AN"})


def visible(text: str) -> str:
    """`text` on one line, with whatever would act on a terminal written out: ``\\x1b``."""
    return _CONTROLS.sub(_written_out, text)


def isolated(text: str) -> str:
    """Somebody's text, which disorders nothing that stands beside it: `visible`, and where it runs
    from right to left, between marks that hold its direction inside (UAX #9: FSI and PDI)."""
    shown = visible(_ISOLATES.sub(_written_out, text))
    if any(unicodedata.bidirectional(one) in _RIGHT_TO_LEFT for one in shown):
        return f"\u2068{shown}\u2069"
    return shown


def _written_out(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode("ascii")


def counted(number: int, noun: str) -> str:
    """``1 member``, ``2 members``."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def titled(thing: Mapping[str, Any], kind: str) -> str:
    """A user or a group by its id, with its name where that says more."""
    thing_id, name = thing[kind], thing["name"]
    return f"{thing_id} ({isolated(name)})" if name and name != thing_id else str(thing_id)
