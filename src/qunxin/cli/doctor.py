"""``qunxin doctor``: what is wrong here, and what to do about it."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Final

from cyclopts import App
from rich.markup import escape

from qunxin.cli.common import Common
from qunxin.cli.exits import REFUSED, errors_shown
from qunxin.cli.output import Output, visible
from qunxin.config import Settings, environment_name
from qunxin.doctor import Finding, Level, examine
from qunxin.doctor.findings import Words, problem
from qunxin.errors import QunxinError

app = App(name="doctor")

_MARKS: Final = {
    Level.OK: "[green]✓[/]",
    Level.WARNING: "[bold yellow]![/]",
    Level.PROBLEM: "[bold red]✗[/]",
}


@app.default
def doctor(*, common: Common | None = None) -> None:
    """Look at the settings, the machine and the data folder, and say what should be mended.

    Works beside a running server or without one, and changes nothing. Exit code 1 where there is a
    problem; warnings alone end with 0.

    For example:

        qunxin doctor
        qunxin doctor --data /srv/qunxin --json
    """
    common = common or Common()
    with errors_shown(common.output) as output:
        findings = asyncio.run(_examine(common, output))
        _tell(output, findings)
    if any(one.level is Level.PROBLEM for one in findings):
        sys.exit(REFUSED)


async def _examine(common: Common, output: Output) -> list[Finding]:
    try:
        settings = common.settings()
    except QunxinError as error:
        text = Words(error.text(), error.text("zh"))
        advice = Words("All settings: qunxin serve --help", "查看全部设置：qunxin serve --help")
        found = problem("settings", text, advice)
        data = common.data or os.environ.get(environment_name("data")) or Settings().data
        return [found, *await examine(Settings(data=data))]
    async with output.patience("Examining …"):
        return await examine(settings)


def _tell(output: Output, findings: list[Finding]) -> None:
    if output.as_json:
        rows = [
            {
                "check": one.check,
                "level": str(one.level),
                "text": one.text.show(output.language),
                "advice": one.advice.show(output.language),
            }
            for one in findings
        ]
        output.json({"findings": rows})
        return
    for one in findings:
        text = escape(visible(one.text.show(output.language)))
        output.screen.print(f"{_MARKS[one.level]} {one.check:<10}  {text}")
        if one.advice.english:
            advice = visible(one.advice.show(output.language))
            output.screen.print(f"  {advice}", markup=False)
