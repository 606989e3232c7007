"""Writes `docs/reference/` from the code's own tables: ``python docs/generate.py``.

A test fails where the committed pages differ from what this makes of the code.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterable, Sequence
from functools import reduce
from io import StringIO
from operator import getitem
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import msgspec
from rich.console import Console

from qunxin.cli.app import app as cli
from qunxin.cli.app import load_all
from qunxin.config import setting_rows
from qunxin.embed import open as open_engine
from qunxin.engine import Engine
from qunxin.engine.access import ALL_SCOPES, DEFAULT_SCOPES, RULES, Rule
from qunxin.errors import ERRORS, ErrorSpec, Tier
from qunxin.gateways.operations import OPERATIONS
from qunxin.gateways.operations.table import Field, Operation, Place
from qunxin.gateways.problems import STATUSES
from qunxin.gateways.realtime_asyncapi import (
    CHANNELS,
    COMMANDS,
    PUSHES,
    answer_to,
    asyncapi,
    field_rows,
    message,
    part,
)
from qunxin.model import Entry, EventType, MessageType, Role
from qunxin.ops.metrics import METRICS
from qunxin.wire.codes import DISCONNECTS, ERROR_NUMBERS, UNSUBSCRIBE_NUMBERS
from qunxin.wire.entries import encode_entry

FOLDER: Final = Path(__file__).parent / "reference"
MADE_BY: Final = "<!-- Made by docs/generate.py from the code. Do not edit. -->"

TIERS: Final = {
    Tier.REQUEST: "Request: whoever asks can mend it",
    Tier.MEMBER: "Member: it lies with one member or account",
    Tier.GROUP: "Group: it lies with the group",
    Tier.SYSTEM: "System: only time can mend it",
}

ERRORS_INTRO: Final = """# Errors

One family, at every gateway. `code` is stable and made for programs; the texts are made for people
and may change. A retryable error says after how many seconds the same request can succeed
(`retry_after`, and the header `Retry-After` over HTTP)."""

ACCESS_INTRO: Final = """# Who may do what

An API key may act for any user and needs a scope. A user with their own token acts for themself.
Where a role is needed, any higher one will do. What a user may not even know of (a group they were
never in) is answered as if it were not there."""

SETTINGS_INTRO: Final = """# Settings

A value is taken from the first of: the flag, the environment variable, the TOML file (`--config`,
else `qunxin.toml` in the data folder; keys are the names below), the default. Lists are repeated
flags, commas in the environment, arrays in the file."""

METRICS_INTRO: Final = """# Metrics

At `/metrics`, in the Prometheus text format, beside the metrics of the process itself
(`process_…`). Units are in the names."""

OPERATIONS_INTRO: Final = """# Operations

One table serves HTTP and realtime `rpc`: the method of an `rpc` is the operation's name, its data
one object with all the fields below. The full schemas are in the OpenAPI description that a
running node serves at `/openapi.json`. Beside its own errors every operation can answer
`invalid_request`, `unauthenticated`, `token_expired`, `forbidden` and those of the
[system tier](errors.md)."""

REALTIME_INTRO: Final = """# Realtime codes

How the protocol is spoken here is told in the [guide for authors of clients](../how-to/clients.md);
the numbers of errors stand beside their [codes](errors.md)."""

PROTOCOL_INTRO: Final = """# Realtime protocol

The [Centrifugo client protocol](https://centrifugal.dev/docs/transports/client_protocol), version
2, as it is spoken here: what its words mean is told in the
[guide for authors of clients](../how-to/clients.md), the numbers stand among the
[codes](realtime-codes.md). [`asyncapi.json`](asyncapi.json) says the same for programs.

In JSON a command, reply or push is one object, one a line. In Protobuf it is a message of
[`realtime.proto`](../../src/qunxin/wire/realtime.proto) with its length before it as a varint.
`data` is any JSON value: itself in JSON, its text in Protobuf. A ping is `{}`, or a message of
length 0; the client answers with the same.

Every command has an `id` and exactly one of the parts below; its reply has the same `id`, and the
part of the same name or `error`. Fields that are not listed are passed over."""

ENTRIES_INTRO: Final = """# Entries

What stands in a log: one entry of each type, made by running the engine. Over HTTP and realtime it
is the same flat object. Every entry has `type`, `conversation`, `position` and `time`
(milliseconds since 1970, UTC). Ignore fields and types that you do not know: later versions may
add some."""

COMMAND_LINE_INTRO: Final = """# Command line

What `--help` says of every command."""


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table; a bar inside a cell is escaped."""
    lines = [[str(cell).replace("|", r"\|") for cell in row] for row in (head, *rows)]
    lines.insert(1, ["---"] * len(head))
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def codes(names: Iterable[object]) -> str:
    """Names as code, in a line."""
    return ", ".join(f"`{name}`" for name in names)


def errors_page() -> str:
    """Every error with its texts and its numbers at each gateway."""
    parts = [
        ERRORS_INTRO,
    ]
    for tier, title in TIERS.items():
        rows = [_error_row(spec) for spec in ERRORS.values() if spec.tier is tier]
        head = ("code", "English", "中文", "retry after", "HTTP", "realtime")
        parts += [f"## {title}", table(head, rows)]
    return "\n\n".join(parts)


def _error_row(spec: ErrorSpec) -> tuple[object, ...]:
    status = STATUSES.get(spec.code)
    return (
        f"`{spec.code}`",
        spec.english,
        spec.chinese,
        f"{spec.retry_after:g} s" if spec.retry_after else "",
        status or "",
        ERROR_NUMBERS[spec.code],
    )


def access_page() -> str:
    """Who may do what."""
    head = ("operation", "an API key needs the scope", "a user with their own token", "note")
    scopes = ", ".join(f"`{scope}`" for scope in sorted(DEFAULT_SCOPES))
    others = ", ".join(f"`{scope}`" for scope in sorted(ALL_SCOPES - DEFAULT_SCOPES))
    return "\n\n".join(
        [
            ACCESS_INTRO,
            f"A key gets {scopes} unless it is told otherwise; {others} must be asked for.",
            table(head, [_access_row(rule) for rule in RULES.values()]),
        ]
    )


def _access_row(rule: Rule) -> tuple[object, ...]:
    user = f"{rule.user.name.lower()} of the group" if isinstance(rule.user, Role) else rule.user
    return f"`{rule.operation}`", f"`{rule.scope}`", user, rule.note


def settings_page() -> str:
    """Every setting, with its three names."""
    parts = [
        SETTINGS_INTRO,
    ]
    for row in setting_rows():
        facts = [row.type, row.bounds, f"default: `{_default(row.default)}`"]
        parts += [
            f"## `{row.name}`",
            row.description,
            f"`{row.flag}`, `{row.environment}`; " + "; ".join(fact for fact in facts if fact),
        ]
    return "\n\n".join(parts)


def _default(value: Any) -> str:
    return "none" if value == () else str(value)


def metrics_page() -> str:
    """Every metric."""
    head = ("metric", "kind", "labels", "meaning")
    rows = [(f"`{m.name}`", m.kind, codes(m.labels), m.description) for m in METRICS]
    return "\n\n".join(
        [
            METRICS_INTRO,
            table(head, rows),
        ]
    )


def operations_page() -> str:
    """Every operation, over HTTP and realtime."""
    parts = [
        OPERATIONS_INTRO,
    ]
    for operation in OPERATIONS.values():
        parts += _operation(operation)
    return "\n\n".join(parts)


def _operation(operation: Operation) -> list[str]:
    statuses = "; ".join(f"{status}: {says}" for status, says in operation.statuses.items())
    parts = [
        f"## `{operation.name}`",
        f"{operation.summary} · {operation.chinese}",
        f"`{operation.method} {operation.path}`",
        operation.description,
    ]
    if operation.fields:
        rows = [_field_row(field) for field in operation.fields]
        parts.append(table(("field", "stands in", "needed"), rows))
    parts.append(f"Answers {statuses}")
    if operation.errors:
        parts.append(f"Refuses with {codes(dict.fromkeys(operation.errors))}.")
    return [*parts, f"Access: {codes(operation.rules)} in [who may do what](access.md)."]


def _field_row(field: Field) -> tuple[object, ...]:
    places = {Place.PATH: "the path", Place.QUERY: "the query", Place.BODY: "the body"}
    return f"`{field.name}`", places[field.place], "yes" if field.required else ""


def realtime_page() -> str:
    """Every number that the realtime protocol carries."""
    closes = [
        (d.code, d.reason, "comes back" if d.comes_back else "stays away") for d in DISCONNECTS
    ]
    return "\n\n".join(
        [
            REALTIME_INTRO,
            "## Ways in which the server ends a connection",
            table(("close code", "reason", "an SDK"), closes),
            "## Ways in which a subscription ends",
            "The `unsubscribe` push; the entry that says so was delivered before it.",
            table(("code", "reason"), [(n, r) for r, n in UNSUBSCRIBE_NUMBERS.items()]),
        ]
    )


def protocol_page() -> str:
    """Ways in, commands with their replies, pushes."""
    ways = [(name, f"`{address}`", says) for name, (address, says) in CHANNELS.items()]
    parts = [PROTOCOL_INTRO, "## Ways in", table(("", "address", "what goes over it"), ways)]
    parts.append("## Commands")
    for kind, row in COMMANDS.items():
        parts += [f"### `{kind}`", f"{row.summary} · {row.chinese}", row.description]
        parts += [*_fields("Asked with", "Command", kind), *_fields("Replied with", "Reply", kind)]
        if answer_to(kind) != "answered":
            parts.append(f"Outcome: {answer_to(kind)}.")
    parts.append("## Pushes")
    for kind, summary in PUSHES.items():
        parts += [f"### `push.{kind}`", summary, *_fields("Carries", "Push", kind)]
    parts += ["## Parts", "Messages that stand inside others."]
    for name in ("Error", "Subscribe", "SubscribeResult", "StreamPosition", "ClientInfo"):
        parts += [f"### {name}", _field_table(name)]
    return "\n\n".join(parts)


def _fields(says: str, whole: str, kind: str) -> list[str]:
    found = part(whole, kind)
    if found is None or not found.fields:
        return []
    return [f"{says}:", _field_table(found.name)]


def _field_table(name: str) -> str:
    rows = [(f"`{row.name}`", row.number, row.type) for row in field_rows(message(name))]
    return table(("field", "number in Protobuf", "type"), rows)


def asyncapi_file() -> str:
    """The protocol for programs."""
    return msgspec.json.format(msgspec.json.encode(asyncapi()), indent=2).decode() + "\n"


def command_line_page() -> str:
    """The help of every command."""
    load_all()
    return "\n\n".join([COMMAND_LINE_INTRO, *_help_of(())])


def _help_of(path: tuple[str, ...]) -> list[str]:
    """One section for a command, and one for each below it."""
    output = StringIO()
    cli.help_print(list(path), console=Console(file=output, width=96, color_system=None))
    lines = [line.rstrip() for line in output.getvalue().splitlines()]
    text = re.sub(r"\n{3,}", "\n\n", "\n".join(lines).strip("\n"))
    parts = [f"## `{' '.join(('qunxin', *path))}`", f"```text\n{text}\n```"]
    command = reduce(getitem, path, cli)
    for name in sorted(name for name in command if not name.startswith("-")):
        parts += _help_of((*path, name))
    return parts


class StoppedClock:
    """So that the examples are the same each time."""

    def now_ms(self) -> int:
        return 1_764_547_200_000

    def monotonic(self) -> float:
        return 0.0


ENTRY_NOTES: Final[dict[str, str]] = {
    MessageType.PRIVATE: "A message from one user to another. `key` is there where it was given.",
    MessageType.GROUP: "A message to a group.",
    MessageType.BROADCAST: "A message to every user. The operator's own have no `from`.",
    "tombstone": "A message after its recall, of any type: `recalled` is the position of the "
    "recall, and the content is gone.",
    EventType.CREATED: "The group was made, with these members. `users` and `keys` (their integer "
    "keys) name the first 100, `count` counts all.",
    EventType.JOINED: "These members were added.",
    EventType.LEFT: "This member is gone: `reason` is `left`, `removed` or `erased`.",
    EventType.CHANGED: "A setting of the group, or a member's role or mute, is another one now.",
    EventType.RECALLED: "The message at `target` was recalled: take its content away.",
    EventType.DISSOLVED: "The group is gone. Nothing follows.",
    EventType.MEMBER: "In an inbox: the user came into a group, at position `joined` of its log, "
    "and may read from `first`.",
    EventType.CEASED: "In an inbox: the user is no longer in a group; `last` is the last position "
    "that they may read.",
    EventType.CONTACT: "In an inbox: the first message of a private conversation.",
    EventType.ACCOUNT: "In an inbox: the account's state changed.",
    EventType.SESSIONS_ENDED: "In an inbox: the user's sessions were ended; where `token` is "
    "there, those that came with the token of that id.",
    EventType.HIDDEN: "Never stored: positions `first` to `last`, which this reader may not see. "
    "It stands at `last`.",
}


def entries_page() -> str:
    """One real entry of each type, as it crosses the network."""
    found = asyncio.run(_entries())
    parts = [ENTRIES_INTRO]
    for kind, note in ENTRY_NOTES.items():
        text = msgspec.json.format(encode_entry(found[kind]), indent=2).decode()
        parts += [f"## `{kind}`", note, f"```json\n{text}\n```"]
    return "\n\n".join(parts)


async def _entries() -> dict[str, Entry]:
    """The first entry of each type in a short story."""
    found: dict[str, Entry] = {}
    with TemporaryDirectory() as folder:
        async with open_engine(Path(folder, "chat.db"), clock=StoppedClock()) as chat:
            await _tell(chat)
            for name in ("group:tea", "private:alice~bob", "broadcast:all", "inbox:bob"):
                page = await chat.entries(name, after=0, limit=1000)
                for entry in page.entries:
                    kind = entry.type if entry.recalled is None else "tombstone"
                    found.setdefault(kind, entry)
            seen = await chat.entries("group:tea", after=0, reader="bob", limit=1000)
            found |= {e.type: e for e in seen.entries if e.type == EventType.HIDDEN}
    return found


async def _tell(chat: Engine) -> None:
    for user in ("alice", "bob", "carol"):
        await chat.put_user(user)
    await chat.put_group("tea", name="茶友会 🍵", owner="alice", members=["bob"])
    await chat.send("group", "tea", sender="bob", text="你好，大家 👋🏽", key="k1")
    late = await chat.send("group", "tea", sender="alice", text="…", key="k2")
    await chat.recall("group:tea", late.position, acting="alice")
    await chat.remove_member("tea", "bob", acting="alice")
    await chat.send("group", "tea", sender="alice", text="👩‍👩‍👧")
    await chat.add_members("tea", ["bob", "carol"], acting="alice")
    await chat.put_group("tea", name="Tea 茶", acting="alice")
    await chat.send("private", "bob", sender="alice", text="Are you there? مرحبا", key="k3")
    await chat.send("broadcast", None, sender=None, text="Maintenance at 22:00 🛠️")
    await chat.end_sessions("bob")
    await chat.put_user("bob", state="suspended")
    await chat.dissolve_group("tea", acting="alice")


PAGES: Final[dict[str, Callable[[], str]]] = {
    "errors.md": errors_page,
    "access.md": access_page,
    "settings.md": settings_page,
    "metrics.md": metrics_page,
    "operations.md": operations_page,
    "realtime-codes.md": realtime_page,
    "realtime-protocol.md": protocol_page,
    "entries.md": entries_page,
    "command-line.md": command_line_page,
}


FILES: Final[dict[str, Callable[[], str]]] = {"asyncapi.json": asyncapi_file}
"""What is not a page."""


def render(name: str) -> str:
    """The whole text of the page or file called `name`."""
    if name in FILES:
        return FILES[name]()
    title, _, rest = PAGES[name]().partition("\n\n")
    return f"{title}\n\n{MADE_BY}\n\n{rest}\n"


def main() -> None:
    """Write every page."""
    FOLDER.mkdir(exist_ok=True)
    for name in (*PAGES, *FILES):
        (FOLDER / name).write_text(render(name), "utf-8")


if __name__ == "__main__":
    main()
