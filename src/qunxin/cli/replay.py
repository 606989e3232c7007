"""``qunxin replay``: real group chats through real connections, judged at the end."""

from __future__ import annotations

import asyncio
import sys
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import uvloop
from cyclopts import App, Parameter

from qunxin.cli.exits import REFUSED, errors_shown
from qunxin.cli.output import Output, preferred_language, visible
from qunxin.replay.options import ReplayOptions, parse_speed
from qunxin.replay.report import ReplayOutcome, print_outcome, shown_progress
from qunxin.replay.run import run_replay

app = App(name="replay")


@app.default
def replay(
    files: Annotated[tuple[Path, ...], Parameter(name="FILE", negative="")],
    /,
    *,
    url: str | None = None,
    key: str | None = None,
    speed: str = "max",
    online: int = 200,
    kill: int = 0,
    seed: int = 0,
    stress: Annotated[bool, Parameter(negative="", show_default=False)] = False,
    json: Annotated[bool, Parameter(negative="", show_default=False)] = False,
    language: str | None = None,
) -> None:
    """Play logs of real group chats through real connections, and judge what everybody got.

    Everyone has a connection of their own; joins, leaves and messages happen in the order of
    each log. At the end every participant's entries are compared with what the log entitles them
    to. Exit code 0 only where everything expected was delivered and nothing was lost, doubled,
    reordered, misrouted or leaked.

    Without --url a server of its own runs in a fresh folder, and can be killed.

    For example:

        qunxin replay chat.txt
        qunxin replay logs/*.txt --kill 10
        qunxin replay logs/*.txt --stress --seed 1 --json
        qunxin replay chat.txt --url http://127.0.0.1:8000 --key $KEY --speed 20x

    Parameters
    ----------
    files
        Logs of channels.
    url
        A server that runs already; needs --key.
    key
        An API key of that server.
    speed
        max, real, or a multiple such as 20x.
    online
        So many participants are connected at once; the others catch up before the end.
    kill
        Kill the server with SIGKILL so many times, at random moments, and start it again.
    seed
        What --stress and --kill choose by.
    stress
        Add removals and returns, private messages, groups named like users, suspensions,
        recalls, broadcasts.
    json
        Print one JSON object on the last line.
    language
        en or zh; by default as LANG says.
    """
    output = Output(as_json=json, language=preferred_language(language))
    with errors_shown(output):
        outcome = _play(
            ReplayOptions(
                files=files,
                url=url,
                key=key,
                speed=parse_speed(speed),
                online=online,
                kills=kill,
                seed=seed,
                stress=stress,
            ),
            output,
        )
    _tell(outcome, output)
    if not outcome.passed:
        sys.exit(REFUSED)


def _play(options: ReplayOptions, output: Output) -> ReplayOutcome:
    shown = output.errors.is_terminal and not output.as_json
    with shown_progress(output.errors) if shown else nullcontext() as progress:
        told = replace(options, progress=progress)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(run_replay(told))


def _tell(outcome: ReplayOutcome, output: Output) -> None:
    if not output.as_json:
        print_outcome(outcome, output.screen)
        return
    for note in outcome.notes:
        output.errors.print(visible(note), markup=False)
    sys.stdout.write(outcome.to_json() + "\n")
    sys.stdout.flush()
