"""Writes `docs/reference/` from the code's own tables: ``python docs/generate.py``.

A test fails where the committed pages differ from what this makes of the code.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from qunxin.config import setting_rows
from qunxin.engine.access import ALL_SCOPES, DEFAULT_SCOPES, RULES, Rule
from qunxin.errors import ERRORS, ErrorSpec, Tier
from qunxin.gateways.http.problems import STATUSES
from qunxin.gateways.operations import OPERATIONS
from qunxin.gateways.operations.table import Field, Operation, Place
from qunxin.model import Role
from qunxin.ops.metrics import METRICS
from qunxin.wire.codes import DISCONNECTS, ERROR_NUMBERS, UNSUBSCRIBE_NUMBERS

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


PAGES: Final[dict[str, Callable[[], str]]] = {
    "errors.md": errors_page,
    "access.md": access_page,
    "settings.md": settings_page,
    "metrics.md": metrics_page,
    "operations.md": operations_page,
    "realtime-codes.md": realtime_page,
}


def render(name: str) -> str:
    """The whole text of the page called `name`."""
    title, _, rest = PAGES[name]().partition("\n\n")
    return f"{title}\n\n{MADE_BY}\n\n{rest}\n"


def main() -> None:
    """Write every page."""
    FOLDER.mkdir(exist_ok=True)
    for name in PAGES:
        (FOLDER / name).write_text(render(name), "utf-8")


if __name__ == "__main__":
    main()
