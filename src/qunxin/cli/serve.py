"""``qunxin serve``: run a node."""

from __future__ import annotations

import asyncio
import os
import shlex
import sys
from dataclasses import field, make_dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final

import uvloop
from cyclopts import App, Group, Parameter

from qunxin.cli.exits import errors_shown
from qunxin.cli.output import Output, preferred_language
from qunxin.config import SettingRow, Settings, load_settings, setting_rows
from qunxin.ops.logs import configure_logs
from qunxin.server import ServerFacts, serve_node

app = App(name="serve")

_FLAG_TYPES: Final[dict[str, Any]] = {
    "an integer": int,
    "a number": float,
    "a text": str,
    "a list of texts": list[str],
}
_SETTINGS: Final = Group("Settings", sort_key=50)


def _help(row: SettingRow) -> str:
    default = f"default: {row.default}" if row.default not in ((), "") else "default: none"
    bounds = f"; {row.bounds}" if row.bounds else ""
    return rf"{row.description} \[{default}{bounds}; env: {row.environment}]"


def _flag(row: SettingRow) -> tuple[str, Any, Any]:
    kind = _FLAG_TYPES.get(row.type, str)
    parameter = Parameter(
        name=row.flag, help=_help(row), group=_SETTINGS, negative="", show_default=False
    )
    return row.name, Annotated[kind | None, parameter], field(default=None)


Flags: Any = Parameter(name="*")(
    make_dataclass(
        "Flags",
        [_flag(row) for row in setting_rows()],
        kw_only=True,
        frozen=True,
        namespace={"__module__": __name__},
    )
)
"""One optional flag for each setting; None where it was not given."""


def serve(
    *,
    config: Path | None = None,
    json: Annotated[bool, Parameter(negative="", show_default=False)] = False,
    language: str | None = None,
    flags: Any = None,
) -> None:
    """Run a node: HTTP and WebSocket on one port, everything it keeps in one folder.

    A setting is taken from its flag, else from its environment variable, else from the TOML
    file, else it has its default. SIGTERM and Ctrl-C stop the node in order: what was accepted
    is answered, clients are told to come back.

    For example:

        qunxin serve
        qunxin serve --data /srv/qunxin --host 0.0.0.0 --allowed-hosts chat.example.org
        QUNXIN_PORT=9000 qunxin serve --config qunxin.toml
        qunxin serve --port 0 --json

    Parameters
    ----------
    config
        A TOML file of settings, in place of qunxin.toml in the data folder.
    json
        Print one line of facts as JSON when the node is ready.
    language
        en or zh; by default as LANG says.
    """
    output = Output(as_json=json, language=preferred_language(language))
    given = {row.name: getattr(flags, row.name, None) for row in setting_rows()}
    with errors_shown(output):
        settings = load_settings(given, config=config)
        configure_logs(settings.log_format, settings.log_level)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve_node(settings, partial(announce, output, settings)))


serve.__annotations__["flags"] = Flags
app.default(serve)


def announce(output: Output, settings: Settings, facts: ServerFacts, link: str) -> None:
    """Say where the node is, how to sign in to its page, and how to make a key and a token."""
    program = _program()
    # Whole, as another terminal may stand in another folder, where a key would make a new node.
    data = f" --data {shlex.quote(str(settings.data_folder.absolute()))}"
    output.result(
        {**facts.as_json(), "link": link},
        f"Qunxin 群信 {facts.version} is ready. Ctrl-C stops it.",
        "",
        f"  Page      {facts.url}/",
        f"  Sign in   {link}",
        "            (once, within 15 minutes, with a new account)",
        f"  Realtime  {facts.websocket_url}",
        f"  Data      {facts.data}",
        "",
        "In another terminal: an API key, a user, and a token for the user's device.",
        "",
        f"  KEY=$({program} key create demo{data})",
        *_curl(facts.url, "PUT", "/v1/users/alice", '{"name": "爱丽丝 🍵"}'),
        *_curl(facts.url, "POST", "/v1/tokens", '{"user": "alice"}'),
        "",
        "Or without HTTP, and without a key:",
        "",
        f"  {program} user create bob{data}",
        f"  {program} link bob{data}    (a link to the page, for bob)",
        f"  {program} --help",
    )


def _program() -> str:
    """How this program is called in a shell that knows no more than the one it was started in."""
    if "UV_RUN_RECURSION_DEPTH" in os.environ:
        return "uv run qunxin"
    if sys.argv[0].endswith("__main__.py"):
        return f"{shlex.quote(sys.executable)} -m qunxin"
    return "qunxin"


def _curl(url: str, method: str, path: str, body: str) -> tuple[str, str]:
    return (
        f'  curl -sS -X {method} {url}{path} -H "Authorization: Bearer $KEY" \\',
        f"    -H 'Content-Type: application/json' -d '{body}'",
    )
