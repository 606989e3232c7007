"""What commands print: words for people, JSON for programs, progress for the impatient.

Results go to standard output, everything else to standard error. With ``--json`` the result is
one object on one line, and so is an error. Plain lines are written plainly; the library that
draws tables, colours and progress takes long to load, and does so only where there is one.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
import unicodedata
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, TextIO

import msgspec

from qunxin.cli.advice import advice_for
from qunxin.errors import QunxinError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, ProgressColumn
    from rich.table import Table
    from rich.text import Text

_PATIENCE_SECONDS: Final = 1.0
_NO_WIDTH: Final = 1_000_000_000
_FREE_TEXT: Final = frozenset({"name", "what", "scopes", "events", "client"})
"""Columns that are read, and not copied."""
_LEAST_TEXT: Final = 16
"""So many places a column of free text has on the narrowest terminal, if it has as much to say."""


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
        self.unadvised: Collection[str] = ()
        """Codes of errors whose usual advice is wrong for this command."""

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
        from rich.cells import cell_len  # noqa: PLC0415 - see above
        from rich.table import Table  # noqa: PLC0415
        from rich.text import Text  # noqa: PLC0415

        cells = [[plain(cell) for cell in row] for row in rows]
        table = Table(box=None, pad_edge=False, header_style="bold")
        least = 0
        for number, name in enumerate(columns):
            widest = max(cell_len(text.plain) for text in (Text(name), *(r[number] for r in cells)))
            least += 1 + _add_column(table, name, widest)
        for row in cells:
            table.add_row(*row)
        if cells:
            self._draw(table, least)
        else:
            self.note("There are none.")
        _write(sys.stdout, *(visible(line) for line in lines))

    def _draw(self, table: Table, least: int) -> None:
        """On a terminal as wide as that, if `least` fits; else, and in a file or a pipe, each row
        is one line however long, without blanks at its end."""
        if sys.stdout.isatty() and least <= self.screen.width:
            self.screen.print(table)
            return
        screen = _console(stderr=False, width=_NO_WIDTH)
        with screen.capture() as drawn:
            screen.print(table)
        lines = drawn.get().removesuffix("\n").split("\n")
        _write(sys.stdout, *(line.rstrip(" ") for line in lines))

    def json(self, facts: Mapping[str, Any]) -> None:
        _write(sys.stdout, _encode(facts))

    def note(self, line: str) -> None:
        """Something beside the result, on standard error; programs are spared it."""
        if not self.as_json:
            _write(sys.stderr, visible(line))

    def error(self, error: QunxinError) -> None:
        """A refusal: what happened, its code, and what can be done about it."""
        advice = None if error.code in self.unadvised else advice_for(error, self.language)
        text = error.text(self.language)
        if self.as_json:
            facts = {"code": error.code, "tier": str(error.tier), "retryable": error.retryable}
            facts |= {"retry_after": error.retry_after, "detail": text, "advice": advice}
            _write(sys.stderr, _encode({"error": facts}))
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


def _console(*, stderr: bool, width: int | None = None) -> Console:
    from rich.console import Console  # noqa: PLC0415 - see above

    return Console(stderr=stderr, width=width, soft_wrap=True, highlight=False, emoji=False)


def _add_column(table: Table, name: str, widest: int) -> int:
    """A column whose cells have up to `widest` places; how many it must have. Only free text is
    folded on a narrow terminal: ids, addresses and times stay in one piece, to be copied."""
    if name not in _FREE_TEXT:
        table.add_column(name, no_wrap=True, overflow="ignore")
        return widest
    least = min(widest, _LEAST_TEXT)
    table.add_column(name, overflow="fold", min_width=least)
    return least


def _encode(facts: Mapping[str, Any]) -> str:
    """As JSON; what of a file's name is no valid Unicode is written as ``\\udcff``."""
    try:
        return msgspec.json.encode(facts).decode()
    except UnicodeEncodeError:
        return json.dumps(msgspec.to_builtins(facts))


def _write(stream: TextIO, *lines: str) -> None:
    """Lines as they are."""
    try:
        stream.writelines(f"{line}\n" for line in lines)
        stream.flush()
    except BrokenPipeError:  # whoever read it is gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        sys.exit(1)


def plain(value: Any) -> Text:
    """A cell's text."""
    from rich.text import Text  # noqa: PLC0415 - see above

    if value is None:
        return Text("-")
    if isinstance(value, bool):
        return Text("yes" if value else "no")
    return Text(isolated(str(value)))


_CONTROLS: Final = re.compile(
    r"[\u0000-\u001f\u007f-\u009f\u2028\u2029\u202a-\u202e\u2066\u2067\ud800-\udfff]"
)
"""What would act on the terminal: control characters, breaks of lines, and what turns the direction
of the text around it; and what cannot be written at all, from names of files that are not UTF-8.
U+2068 and U+2069 are those of `isolated`."""
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
