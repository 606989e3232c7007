"""Settings: where values come from, what is refused and in which words, what is documented."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from qunxin.config import SettingRow, Settings, environment_name, load_settings, setting_rows
from qunxin.engine import EngineSettings
from qunxin.errors import QunxinError
from qunxin.gateways.client_limits import AddressSettings
from qunxin.gateways.http import HttpSettings
from qunxin.gateways.realtime import RealtimeSettings
from qunxin.gateways.webhooks import WebhookSettings

ROWS = setting_rows()
NUMBERS = [row for row in ROWS if row.bounds]
UNITS = (
    "bytes",
    "seconds",
    "days",
    "entries",
    "commands",
    "members",
    "clients",
    "connections",
    "per_second",
    "per_minute",
    "per_hour",
)


def refusal(**sources: Any) -> str:
    """What `load_settings` says against these sources."""
    sources.setdefault("environment", {})
    with pytest.raises(QunxinError) as caught:
        load_settings(**sources)
    assert caught.value.code == "invalid_settings"
    return str(caught.value.facts["detail"])


@pytest.fixture
def toml(tmp_path: Path) -> Path:
    return tmp_path / "设置.toml"


def test_defaults_hold_where_nothing_is_said() -> None:
    """No source at all gives the documented defaults."""
    assert load_settings(environment={}) == Settings()


def test_each_source_beats_the_next(toml: Path) -> None:
    """Flag, then environment, then file, then default."""
    toml.write_text("port = 1\nmax_connections = 1\nlog_level = 'error'\n")
    environment = {"QUNXIN_PORT": "2", "QUNXIN_MAX_CONNECTIONS": "2"}
    settings = load_settings({"port": 3}, config=toml, environment=environment)
    assert (settings.port, settings.max_connections, settings.log_level) == (3, 2, "error")
    assert settings.ping_interval_seconds == Settings().ping_interval_seconds


def test_the_file_in_the_data_folder_is_found(tmp_path: Path) -> None:
    """`qunxin.toml` counts without being named, in the folder that flag or environment name."""
    (tmp_path / "qunxin.toml").write_text('allowed_hosts = ["聊天.example", "b"]', "utf-8")
    choices: tuple[dict[str, str], ...] = ({"data": str(tmp_path)}, {})
    for flags in choices:
        settings = load_settings(flags=flags, environment={"QUNXIN_DATA": str(tmp_path)})
        assert settings.allowed_hosts == ("聊天.example", "b")


def test_a_named_file_takes_the_place_of_the_folders(tmp_path: Path, toml: Path) -> None:
    """With `config`, or QUNXIN_CONFIG, the file in the data folder is not looked at."""
    (tmp_path / "qunxin.toml").write_text("no such setting")
    toml.write_text("port = 7")
    data = {"data": str(tmp_path)}
    assert load_settings(data, config=toml, environment={}).port == 7
    assert load_settings(data, environment={"QUNXIN_CONFIG": str(toml)}).port == 7


def test_flags_that_were_not_given_do_not_count() -> None:
    """None is how a command line says: not given."""
    assert load_settings({"port": None}, environment={"QUNXIN_PORT": "9"}).port == 9


def test_lists_in_the_environment_are_written_with_commas() -> None:
    """Spaces around the commas and an end comma are no matter."""
    environment = {"QUNXIN_ALLOWED_ORIGINS": "https://a.example, https://b.example,"}
    settings = load_settings(environment=environment)
    assert settings.allowed_origins == ("https://a.example", "https://b.example")


@pytest.mark.parametrize("row", NUMBERS, ids=lambda row: row.name)
def test_every_number_is_bounded(row: SettingRow) -> None:
    """One below the least is refused, naming the source and the bounds; the least is not."""
    least = float(re.findall(r"(?:least|above) ([\d,.]+)", row.bounds)[0].replace(",", ""))
    kind = int if row.type == "an integer" else float
    below = kind(least) if row.bounds.startswith("above") else kind(least - 1)
    told = refusal(flags={row.name: below})
    assert told.startswith(f"{row.flag} must be {row.type}, {row.bounds}")
    told = refusal(environment={row.environment: str(below)})
    assert told.startswith(f"the environment variable {row.environment} must be")
    allowed = kind(least + (0.1 if row.bounds.startswith("above") else 0))
    others = {"max_message_bytes": 1} if row.name == "max_body_bytes" else {}
    settings = load_settings({row.name: allowed, **others}, environment={})
    assert getattr(settings, row.name) == allowed


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('port = "8000"', "port in {path} must be an integer, at least 0, at most 65,535; it is"),
        ("port = true", "port in {path} must be an integer"),
        ("ping_interval_seconds = '25'", "ping_interval_seconds in {path} must be a number"),
        ('allowed_hosts = "群.example"', "allowed_hosts in {path} must be a list of texts"),
        ('log_format = "xml"', 'log_format in {path} must be "auto" or "console" or "json"'),
        ("prot = 1", "{path} has an unknown key prot; did you mean port?"),
        ("ping-interval-secs = 1", "did you mean ping_interval_seconds?"),
        ("[群聊]\nport = 1", "{path} is not valid TOML"),
        ("[server]\nport = 1", "{path} has an unknown key server"),
        ("data = '/srv'", "{path} cannot set data"),
        ("port = ", "{path} is not valid TOML"),
        ("\udcff", "{path} is not valid TOML"),
    ],
)
def test_a_wrong_file_is_refused_in_words(toml: Path, text: str, told: str) -> None:
    """Wrong types, unknown keys (with the nearest valid one) and broken files name the file."""
    toml.write_bytes(text.encode("utf-8", "surrogateescape"))
    assert told.format(path=toml) in refusal(config=toml)


def test_a_named_file_must_be_there(toml: Path) -> None:
    """A file that was asked for and cannot be read is not passed over."""
    assert f"{toml} cannot be read" in refusal(config=toml)


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("QUNXIN_MAX_CONECTIONS", "did you mean QUNXIN_MAX_CONNECTIONS?"),
        ("QUNXIN_PROT", "did you mean QUNXIN_PORT?"),
        ("QUNXIN_群", "is no setting"),
    ],
)
def test_a_misspelt_variable_is_refused_with_the_right_name(name: str, advice: str) -> None:
    """It would otherwise do nothing."""
    with pytest.raises(QunxinError) as refused:
        load_settings(environment={name: "5"})
    assert refused.value.code == "invalid_settings"
    assert name in refused.value.text()
    assert advice in refused.value.text()


def test_variables_of_others_are_in_nobodys_way() -> None:
    """What tests and examples read, and what is not ours at all."""
    names = ("QUNXIN_TEST_KILLS", "QUNXIN_URL", "QUNXIN_KEY", "QUNXIN_TOKEN", "LANG", "qunxin_茶")
    assert load_settings(environment=dict.fromkeys(names, "早")) == Settings()


def test_a_wrong_type_in_the_environment_names_the_variable() -> None:
    """Numbers are read from the environment's text; what is none is refused."""
    told = refusal(environment={"QUNXIN_PORT": "八千"})
    assert told.startswith("the environment variable QUNXIN_PORT must be an integer")
    assert told.endswith("it is '八千'")


@pytest.mark.parametrize("name", ["store", "broker"])
def test_stores_and_brokers_of_other_versions_are_refused(name: str) -> None:
    """The text says what there is, and keeps the password of an address to itself."""
    told = refusal(flags={name: "postgresql://群:hunter2@db/qunxin"})
    assert f"--{name} asks for the {name} 'postgresql'; this version has" in told
    assert "hunter2" not in told


def test_a_message_fits_into_a_body() -> None:
    """Two limits that contradict each other are refused together."""
    told = refusal(flags={"max_body_bytes": 60_000})
    assert told == "max_message_bytes must not be above max_body_bytes"


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_every_setting_is_documented(row: SettingRow) -> None:
    """Whole sentences, three names, a type; sizes and times carry their unit in their name."""
    assert len(row.description) > 20
    assert row.description.endswith(".")
    assert row.flag == "--" + row.name.replace("_", "-")
    assert row.environment == environment_name(row.name) == "QUNXIN_" + row.name.upper()
    if row.bounds and row.name not in ("port", "max_subscriptions", "recent_conversations"):
        assert row.name.endswith(UNITS)


@pytest.mark.parametrize(
    "part", [AddressSettings, EngineSettings, HttpSettings, RealtimeSettings, WebhookSettings]
)
def test_defaults_agree_with_the_parts(part: type) -> None:
    """A setting that a part has too has the same default there, so that embedding and serving
    do not differ."""
    shared = set(Settings.__struct_fields__) & {f.name for f in msgspec.structs.fields(part)}
    assert shared
    assert {n: getattr(Settings(), n) for n in shared} == {n: getattr(part(), n) for n in shared}


def test_the_engine_is_given_its_settings() -> None:
    """A setting of the node reaches the engine under the same name."""
    settings = load_settings({"recall_window_seconds": 7, "max_message_bytes": 9}, environment={})
    engine = settings.part(EngineSettings)
    assert (engine.recall_window_seconds, engine.max_message_bytes) == (7, 9)
