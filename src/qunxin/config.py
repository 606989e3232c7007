"""The settings of a node: one typed object, and where its values come from.

A value is taken from the first of: a flag, an environment variable (``QUNXIN_PORT``), the TOML
file (``--config``, or ``qunxin.toml`` in the data folder), the default. Every field states its
unit in its name, its bounds and its meaning in its annotation; the command line's flags, the
checks and the reference page are all made from that one place.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Mapping
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NamedTuple, TypeVar, get_type_hints

import msgspec
from msgspec import Meta

from qunxin.engine.settings import EngineSettings
from qunxin.errors import QunxinError

ENVIRONMENT_PREFIX: Final = "QUNXIN_"
CONFIG_FILE_NAME: Final = "qunxin.toml"

_Part = TypeVar("_Part", bound=msgspec.Struct)
_MEBIBYTE: Final = 1024 * 1024
_engine = EngineSettings()
_LOOPBACK: Final = ("127.0.0.0/8", "::1/128")


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a node can be told. The first sentence of each text says what it does."""

    data: Annotated[
        str,
        Meta(
            min_length=1,
            description="The folder that holds all of this node's state. Made where it is "
            "missing, readable by its owner only.",
        ),
    ] = "qunxin-data"
    host: Annotated[
        str,
        Meta(
            min_length=1,
            description="The address to listen on. `0.0.0.0` or `::` opens the node to other "
            "machines; name them in `allowed_hosts` then.",
        ),
    ] = "127.0.0.1"
    port: Annotated[
        int,
        Meta(ge=0, le=65_535, description="The port for HTTP and WebSocket. 0 picks a free one."),
    ] = 8000
    allowed_hosts: Annotated[
        tuple[str, ...],
        Meta(
            description="The names under which clients may address this node (the `Host` header), "
            "beside the loopback names, `host`, and the very address connected to. `*` takes any.",
        ),
    ] = ()
    allowed_origins: Annotated[
        tuple[str, ...],
        Meta(
            description="Web origins whose pages may use this node (`https://chat.example.org`), "
            "beside its own. `*` takes any.",
        ),
    ] = ()
    store: Annotated[
        str,
        Meta(
            description="Where messages are kept. `sqlite` keeps them in the data folder.",
        ),
    ] = "sqlite"
    broker: Annotated[
        str,
        Meta(
            description="What tells other nodes of new messages. `local` serves one node.",
        ),
    ] = "local"
    websocket_backend: Annotated[
        Literal["picows", "websockets"],
        Meta(
            description="The WebSocket implementation: `picows` is the fast one, `websockets` "
            "the fallback.",
        ),
    ] = "picows"

    tls_certificate: Annotated[
        str,
        Meta(
            description="A PEM file with this node's certificate and its chain: the port then "
            "speaks TLS, and only that. Without it the port is plain. SIGHUP has it read anew.",
        ),
    ] = ""
    tls_key: Annotated[
        str, Meta(description="The PEM file with the certificate's private key.")
    ] = ""
    tls_min_version: Annotated[
        Literal["1.2", "1.3"], Meta(description="The oldest version of TLS that is spoken.")
    ] = "1.2"
    trusted_proxies: Annotated[
        tuple[str, ...],
        Meta(
            description="Addresses or networks of reverse proxies (`10.0.0.0/8`), whose word on a "
            "client's address is taken.",
        ),
    ] = ()
    forwarded_header: Annotated[
        Literal["x-forwarded-for", "forwarded"],
        Meta(
            description="The header in which trusted proxies give it. The other one is not "
            "believed.",
        ),
    ] = "x-forwarded-for"
    address_connections: Annotated[
        int,
        Meta(
            ge=0,
            description="Connections from one address (an IPv6 network of 64 bits) at once. For "
            "this and the next two, 0 is no limit, and this machine itself is not limited.",
        ),
    ] = 2_000
    address_requests_per_second: Annotated[
        int,
        Meta(ge=0, description="HTTP requests from one address; ten seconds' worth at once."),
    ] = 200
    address_handshakes_per_second: Annotated[
        int,
        Meta(ge=0, description="WebSocket upgrades from one address; ten seconds' worth at once."),
    ] = 50

    max_message_bytes: Annotated[
        int,
        Meta(
            ge=1,
            le=_MEBIBYTE,
            description="The largest content of one message, as JSON in UTF-8.",
        ),
    ] = _engine.max_message_bytes
    max_body_bytes: Annotated[
        int,
        Meta(
            ge=1024,
            le=64 * _MEBIBYTE,
            description="The largest body of an HTTP request. Refused before it is read whole.",
        ),
    ] = _MEBIBYTE
    max_connections: Annotated[
        int,
        Meta(ge=1, description="Realtime connections at once; others are told to come back."),
    ] = 20_000
    max_unsent_bytes: Annotated[
        int,
        Meta(
            ge=64 * 1024,
            description="What is held for one connection that reads slowly. Beyond it the "
            "connection is ended with a code that makes it come back and catch up.",
        ),
    ] = 4 * _MEBIBYTE
    max_group_members: Annotated[
        int, Meta(ge=2, le=10_000_000, description="Members of one group.")
    ] = _engine.max_group_members
    max_subscriptions: Annotated[
        int, Meta(ge=1, le=100_000, description="Conversations one connection follows at once.")
    ] = _engine.max_subscriptions
    recent_conversations: Annotated[
        int,
        Meta(
            ge=0,
            le=5_000,
            description="Conversations a new connection follows by itself, the most recent first, "
            "beside the inbox and the broadcasts.",
        ),
    ] = _engine.recent_conversations
    recovery_budget_entries: Annotated[
        int,
        Meta(
            ge=0,
            description="Missed entries that a connection begins with, over all its conversations; "
            "one followed later, on demand or on joining, has as many for itself. Beyond it a "
            "conversation must be reloaded.",
        ),
    ] = _engine.recovery_budget_entries
    join_leave_clients: Annotated[
        int,
        Meta(
            ge=0,
            le=10_000,
            description="How many devices may follow a group for those who ask to be told who "
            "comes and goes. While more do, nobody is told; 0 tells nobody ever.",
        ),
    ] = _engine.join_leave_clients
    recall_window_seconds: Annotated[
        int,
        Meta(
            ge=0,
            description="How long an author may recall a message. Owners and admins always may.",
        ),
    ] = _engine.recall_window_seconds
    user_sends_per_minute: Annotated[
        int,
        Meta(
            ge=0,
            description="Messages of one user with their own token; beyond it: `rate_limited`. "
            "For this and the next six, 0 is no limit, and what a whole minute or hour may bring "
            "may come at once.",
        ),
    ] = _engine.user_sends_per_minute
    user_groups_per_hour: Annotated[int, Meta(ge=0, description="Groups that one user makes.")] = (
        _engine.user_groups_per_hour
    )
    user_invitations_per_hour: Annotated[
        int, Meta(ge=0, description="Members that one user adds to groups.")
    ] = _engine.user_invitations_per_hour
    user_connections: Annotated[
        int, Meta(ge=0, description="Realtime connections of one user at once.")
    ] = _engine.user_connections
    key_sends_per_minute: Annotated[
        int, Meta(ge=0, description="Messages of one API key, for whomever it acts.")
    ] = _engine.key_sends_per_minute
    key_groups_per_hour: Annotated[
        int, Meta(ge=0, description="Groups that one API key makes.")
    ] = _engine.key_groups_per_hour
    key_invitations_per_hour: Annotated[
        int, Meta(ge=0, description="Members that one API key adds to groups.")
    ] = _engine.key_invitations_per_hour
    erased_sweep_days: Annotated[
        int,
        Meta(
            ge=0,
            description="After so many days an erased user is removed from the groups that still "
            "list them.",
        ),
    ] = _engine.erased_sweep_days
    commit_queue_commands: Annotated[
        int,
        Meta(
            ge=1,
            description="Commands waiting for the next transaction; beyond it: `overloaded`.",
        ),
    ] = _engine.commit_queue_commands
    commit_queue_bytes: Annotated[
        int,
        Meta(
            ge=_MEBIBYTE,
            description="Content waiting for the next transaction; beyond it: `overloaded`.",
        ),
    ] = _engine.commit_queue_bytes
    commit_deadline_seconds: Annotated[
        float,
        Meta(
            gt=0,
            le=300,
            description="How long a command waits for the store before it is answered "
            "`overloaded` or `outcome_unknown`.",
        ),
    ] = _engine.commit_deadline_seconds

    ping_interval_seconds: Annotated[
        float,
        Meta(
            ge=1,
            le=3_600,
            description="The longest time between two pings to a realtime connection.",
        ),
    ] = 25.0
    pong_timeout_seconds: Annotated[
        float,
        Meta(
            ge=10,
            le=3_600,
            description="How long a ping may stay unanswered before the connection is ended.",
        ),
    ] = 10.0
    webhook_networks: Annotated[
        tuple[str, ...],
        Meta(
            description="Networks that webhooks may be sent to although they are not public "
            "(`10.2.0.0/16`, `127.0.0.1/32`), over plain `http://` too. Any other private address "
            "is refused.",
        ),
    ] = ()
    webhook_timeout_seconds: Annotated[
        float,
        Meta(
            ge=0.1,
            le=300,
            description="How long one attempt to send an event to a webhook may take.",
        ),
    ] = 15.0
    webhook_max_connections: Annotated[
        int,
        Meta(
            ge=1,
            le=100,
            description="Events under way to one webhook at once, each of another conversation.",
        ),
    ] = 4
    webhook_retry_max_seconds: Annotated[
        float,
        Meta(
            ge=1,
            le=86_400,
            description="The longest pause between two attempts to send an event, unless the "
            "receiver asks for a longer one. It begins with a second or two and doubles.",
        ),
    ] = 300.0
    token_ttl_seconds: Annotated[
        int,
        Meta(
            ge=10,
            le=30 * 86_400,
            description="How long a token is valid where its maker does not say.",
        ),
    ] = 3_600
    token_audience: Annotated[
        str,
        Meta(min_length=1, description="What a token must name as its audience (`aud`)."),
    ] = "qunxin"  # noqa: S105 - a public name
    jwks: Annotated[
        str,
        Meta(
            description="The public keys of others who sign tokens for this node: a JSON Web Key "
            "Set, as an `https://` URL or a file. Keys for RS256, ES256 and EdDSA are used.",
        ),
    ] = ""
    jwks_issuer: Annotated[
        str,
        Meta(description="Whom tokens signed with keys of `jwks` must name as issuer (`iss`)."),
    ] = ""
    jwks_private_addresses: Annotated[
        Literal["refuse", "allow"],
        Meta(
            description="Whether the URL of `jwks` may lead to this machine or to a private "
            "network, and may be `http://`.",
        ),
    ] = "refuse"
    shutdown_timeout_seconds: Annotated[
        float,
        Meta(
            ge=0.1,
            le=600,
            description="The longest that a stop may take: accepted commands are answered, "
            "connections told to come back; what is left then is cut.",
        ),
    ] = 10.0
    metrics_networks: Annotated[
        tuple[str, ...],
        Meta(
            description="Networks whose clients may read `/metrics` (`10.2.0.0/16`): this machine "
            "alone, unless told otherwise. Behind a proxy the client is whom `trusted_proxies` "
            "say.",
        ),
    ] = _LOOPBACK
    log_format: Annotated[
        Literal["auto", "console", "json"],
        Meta(
            description="`console` for people, `json` for programs (one object a line), `auto` by "
            "whether the error output is a terminal.",
        ),
    ] = "auto"
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"],
        Meta(description="The least serious level that is logged."),
    ] = "info"

    @property
    def data_folder(self) -> Path:
        """`data` as a path, with ``~`` resolved."""
        return Path(self.data).expanduser()

    def part(self, kind: type[_Part]) -> _Part:
        """The settings of one part: its fields of the same name, its defaults for the others.
        The host that is listened on counts among the allowed ones."""
        names = set(self.__struct_fields__) & set(kind.__struct_fields__)
        values = {name: getattr(self, name) for name in names}
        if "allowed_hosts" in values:
            values["allowed_hosts"] = (*self.allowed_hosts, self.host)
        return kind(**values)


class SettingRow(NamedTuple):
    """One setting as the reference page and the command line show it."""

    name: str
    flag: str
    environment: str
    type: str
    default: Any
    bounds: str
    description: str


def setting_rows() -> tuple[SettingRow, ...]:
    """One row for each setting, in the order of the fields."""
    return tuple(_ROWS.values())


def flag_name(setting: str) -> str:
    return "--" + setting.replace("_", "-")


def environment_name(setting: str) -> str:
    return ENVIRONMENT_PREFIX + setting.upper()


def load_settings(
    flags: Mapping[str, Any] | None = None,
    *,
    config: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> Settings:
    """The settings that hold, from all sources.

    `flags` are those that were given, by field name. Refused with `invalid_settings`, naming the
    source: an unknown key in the file, an unknown variable ``QUNXIN_…``, a value of the wrong type
    or out of bounds, a store or broker that this version does not have, a file named by `config`
    that cannot be read.
    """
    flags = {name: value for name, value in (flags or {}).items() if value is not None}
    environment = os.environ if environment is None else environment
    found = _from_environment(environment) | _from_flags(flags)
    data_folder = Path(str(found["data"].value if "data" in found else "qunxin-data"))
    found = _from_file(config, data_folder.expanduser(), environment) | found
    settings = Settings(**{name: one.value for name, one in found.items()})
    _check_parts(settings, found)
    return settings


class _Found(NamedTuple):
    """A checked value and the place it came from, in words."""

    value: Any
    source: str


def _from_flags(flags: Mapping[str, Any]) -> dict[str, _Found]:
    return {name: _check(name, value, flag_name(name)) for name, value in flags.items()}


_OTHER_VARIABLES: Final = frozenset(
    f"{ENVIRONMENT_PREFIX}{name}"
    for name in ("CONFIG", "URL", "WEBSOCKET_URL", "KEY", "TOKEN", "BOT")
)
"""No settings: where the file is, and what the examples' clients read."""
_TESTS_PREFIX: Final = f"{ENVIRONMENT_PREFIX}TEST_"


def _check_variables(environment: Mapping[str, str]) -> None:
    """Refuse a variable that looks like a setting and is none: a misspelt one would do nothing,
    silently."""
    known = [environment_name(name) for name in Settings.__struct_fields__]
    for name in sorted(environment.keys() - _OTHER_VARIABLES - set(known)):
        if name.startswith(ENVIRONMENT_PREFIX) and not name.startswith(_TESTS_PREFIX):
            near = difflib.get_close_matches(name, known, n=1)
            advice = f"; did you mean {near[0]}?" if near else ""
            raise _invalid(f"the environment variable {name} is no setting{advice}")


def _from_environment(environment: Mapping[str, str]) -> dict[str, _Found]:
    _check_variables(environment)
    found = {}
    for name in Settings.__struct_fields__:
        text = environment.get(environment_name(name), "")
        if text:
            source = f"the environment variable {environment_name(name)}"
            found[name] = _check(name, _split(name, text), source, strict=False)
    return found


def _from_file(
    config: Path | None, data_folder: Path, environment: Mapping[str, str]
) -> dict[str, _Found]:
    named = config or (
        Path(environment["QUNXIN_CONFIG"]) if environment.get("QUNXIN_CONFIG") else None
    )
    path = named or data_folder / CONFIG_FILE_NAME
    found = {}
    for name, value in _read_toml(path, may_lack=named is None).items():
        _check_known(name, path)
        found[name] = _check(name, value, f"{name} in {path}")
    return found


def _read_toml(path: Path, *, may_lack: bool) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        if may_lack and isinstance(error, FileNotFoundError | NotADirectoryError):
            return {}
        raise _invalid(f"{path} cannot be read ({error.strerror})") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise _invalid(f"{path} is not valid TOML: {error}") from error


def _check_known(name: str, path: Path) -> None:
    if name == "data":
        raise _invalid(f"{path} cannot set data: the file is looked for in that folder")
    if name in Settings.__struct_fields__:
        return
    near = difflib.get_close_matches(name.replace("-", "_"), Settings.__struct_fields__, n=1)
    advice = f"; did you mean {near[0]}?" if near else ""
    raise _invalid(f"{path} has an unknown key {name}{advice}")


def _check(name: str, value: Any, source: str, *, strict: bool = True) -> _Found:
    try:
        return _Found(msgspec.convert(value, _HINTS[name], strict=strict), source)
    except msgspec.ValidationError as error:
        row = _ROWS[name]
        wanted = f"{row.type}, {row.bounds}" if row.bounds else row.type
        raise _invalid(f"{source} must be {wanted}; it is {value!r}") from error


def _split(name: str, text: str) -> str | list[str]:
    """Lists are written with commas in the environment."""
    if not isinstance(getattr(_DEFAULTS, name), tuple):
        return text
    return [part.strip() for part in text.split(",") if part.strip()]


def _check_parts(settings: Settings, found: Mapping[str, _Found]) -> None:
    _check_networks(settings, found)
    if settings.max_message_bytes > settings.max_body_bytes:
        raise _invalid("max_message_bytes must not be above max_body_bytes")
    if bool(settings.tls_certificate) != bool(settings.tls_key):
        raise _invalid("tls_certificate and tls_key must be given together")
    for name, only in (("store", "sqlite"), ("broker", "local")):
        value = getattr(settings, name)
        if value != only:
            source = found[name].source
            scheme = value.partition("://")[0]  # the rest may hold a password
            raise _invalid(
                f"{source} asks for the {name} {scheme!r}; this version has {only!r} only"
            )


def _check_networks(settings: Settings, found: Mapping[str, _Found]) -> None:
    for name in ("webhook_networks", "metrics_networks", "trusted_proxies"):
        for network in getattr(settings, name):
            try:
                ip_network(network, strict=name != "trusted_proxies")
            except ValueError as error:
                wanted = f"{found[name].source} must be networks such as 10.2.0.0/16"
                raise _invalid(f"{wanted}: {error}") from error


def _invalid(detail: str) -> QunxinError:
    return QunxinError("invalid_settings", detail=detail)


def _row(field: msgspec.structs.FieldInfo, hint: Any) -> SettingRow:
    meta = next(extra for extra in hint.__metadata__ if isinstance(extra, Meta))
    return SettingRow(
        field.name,
        flag_name(field.name),
        environment_name(field.name),
        _type_name(hint.__origin__),
        field.default,
        _bounds(meta),
        meta.description or "",
    )


def _type_name(kind: Any) -> str:
    if kind == tuple[str, ...]:
        return "a list of texts"
    choices = getattr(kind, "__args__", ())
    if choices:
        return " or ".join(f'"{choice}"' for choice in choices)
    return {int: "an integer", float: "a number", str: "a text"}[kind]


def _bounds(meta: Meta) -> str:
    parts = []
    if meta.ge is not None:
        parts.append(f"at least {meta.ge:,}")
    if meta.gt is not None:
        parts.append(f"above {meta.gt:,}")
    if meta.le is not None:
        parts.append(f"at most {meta.le:,}")
    return ", ".join(parts)


_HINTS: Final = get_type_hints(Settings, include_extras=True)
_DEFAULTS: Final = Settings()
_ROWS: Final = {
    field.name: _row(field, _HINTS[field.name]) for field in msgspec.structs.fields(Settings)
}
