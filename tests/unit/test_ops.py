"""Metrics and logs: named and documented; nothing private in a log."""

from __future__ import annotations

import io
import json
import logging
import re
from collections.abc import Iterator

import pytest
from prometheus_client.parser import text_string_to_metric_families

from qunxin.ops.logs import configure_logs
from qunxin.ops.metrics import METRICS, MetricKind, MetricRow, Metrics

KEY = "qx_abcdef12_Zm9vYmFyYmF6cXV4"
TOKEN = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhbGljZSJ9.c2lnbmF0dXJl"


def sample(metrics: Metrics, name: str, **labels: str) -> float | None:
    """One value as a scrape sees it."""
    for family in text_string_to_metric_families(metrics.render().decode()):
        for one in family.samples:
            if one.name == name and one.labels == labels:
                return float(one.value)
    return None


@pytest.mark.parametrize("row", METRICS, ids=lambda row: row.name)
def test_every_metric_is_exposed_and_documented(row: MetricRow) -> None:
    """As its row says: name, kind, text; a counter ends in total, a time in seconds."""
    text = Metrics().render().decode()
    name = row.name
    assert f"# TYPE {name} {row.kind}\n" in text
    assert f"# HELP {name} {row.description}\n" in text
    assert name.startswith("qunxin_")
    assert name.endswith("_total") == (row.kind is MetricKind.COUNTER)
    assert row.description.endswith(".")
    assert bool(row.buckets) == (row.kind is MetricKind.HISTOGRAM)


def test_no_metric_is_exposed_without_a_row() -> None:
    """What a scrape sees is in the table, beside the process's own."""
    text = Metrics().render().decode()
    names = set(re.findall(r"^# TYPE (\S+)", text, re.MULTILINE))
    known = {row.name for row in METRICS}
    assert {name for name in names - known if not name.startswith("process_")} == set()


def test_the_observer_counts() -> None:
    """Each report moves its own metric by what it says."""
    metrics = Metrics()
    metrics.committed(commands=5, entries=7, content_bytes=2_000, seconds=0.004)
    metrics.committed(commands=1, entries=1, content_bytes=0, seconds=0.2)
    metrics.refused("group_dissolved")
    metrics.refused("group_dissolved")
    metrics.fanned_out(entries=3, sessions=1_000, seconds=0.0004)
    metrics.caught_up(entries=500)
    metrics.answered("/v1/users/{user}", "PUT", 201, 0.02)
    metrics.answered("other", "other", 404, 0.001)
    metrics.answered_error("http", "not_found")
    metrics.disconnected(4000)
    metrics.disconnected(None)
    depth = [7]
    metrics.watch("qunxin_commit_queue_commands", lambda: depth[0])
    metrics.sessions_changed(12)
    metrics.sessions_changed(11)
    assert sample(metrics, "qunxin_entries_committed_total") == 8
    assert sample(metrics, "qunxin_commit_seconds_count") == 2
    assert sample(metrics, "qunxin_commit_seconds_bucket", le="0.005") == 1
    assert sample(metrics, "qunxin_commit_commands_sum") == 6
    assert sample(metrics, "qunxin_commit_bytes_sum") == 2_000
    assert sample(metrics, "qunxin_fanout_seconds_bucket", le="0.0005") == 1
    route = "/v1/users/{user}"
    requests = "qunxin_http_requests_total"
    assert sample(metrics, requests, route=route, method="PUT", status="201") == 1
    assert sample(metrics, "qunxin_http_request_seconds_bucket", route=route, le="0.025") == 1
    errors = "qunxin_answered_errors_total"
    assert sample(metrics, errors, gateway="http", code="not_found") == 1
    assert sample(metrics, "qunxin_disconnects_total", code="4000") == 1
    assert sample(metrics, "qunxin_disconnects_total", code="client") == 1
    assert sample(metrics, "qunxin_commit_queue_commands") == 7
    depth[0] = 0
    assert sample(metrics, "qunxin_commit_queue_commands") == 0
    assert sample(metrics, "qunxin_refusals_total", code="group_dissolved") == 2
    assert sample(metrics, "qunxin_deliveries_total") == 3_000
    assert sample(metrics, "qunxin_fanout_batches_total") == 1
    assert sample(metrics, "qunxin_caught_up_entries_total") == 500
    assert sample(metrics, "qunxin_sessions") == 11


def test_two_nodes_in_a_process_count_apart() -> None:
    """Nothing is registered globally."""
    one, other = Metrics(), Metrics()
    one.sessions_changed(3)
    assert sample(other, "qunxin_sessions") == 0


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """Where this test's logs go; the process's own handlers come back afterwards."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    made = io.StringIO()
    yield made
    root.handlers[:] = handlers
    root.setLevel(level)


def test_json_logs_are_one_object_a_line(stream: io.StringIO) -> None:
    """With time, level, logger and whatever facts were given; text stays readable."""
    configure_logs("auto", "info", stream)
    logging.getLogger("qunxin.server").info("群 %s 就绪\n第二行 🍵", "tea", extra={"port": 8000})
    (line,) = stream.getvalue().splitlines()
    told = json.loads(line)
    assert told["event"] == "群 tea 就绪\n第二行 🍵"
    assert (told["level"], told["logger"], told["port"]) == ("info", "qunxin.server", 8000)
    assert told["timestamp"].endswith("Z")
    assert "就绪" in line


@pytest.mark.parametrize("format_", ["console", "json"])
def test_logs_hold_no_credentials_and_no_content(stream: io.StringIO, format_: str) -> None:
    """Not in the text, not in the facts, not in a traceback or the variables of its frames."""
    configure_logs(format_, "info", stream)
    log = logging.getLogger("qunxin.test")
    log.warning("bad header Bearer %s", TOKEN, extra={"text": "秘密 مرحبا", "token": "opaque"})
    words = "私房话 🤫"
    try:
        int(KEY + words[:0])
    except ValueError:
        log.exception("failed")
    written = stream.getvalue()
    assert written.count("[credential]") >= 2
    for private in (KEY, TOKEN, "秘密", "مرحبا", "opaque", words):
        assert private not in written
    assert "ValueError" in written


def test_levels_and_libraries(stream: io.StringIO) -> None:
    """Below the level nothing is shown; libraries only speak from a warning up."""
    configure_logs("json", "info", stream)
    logging.getLogger("qunxin.x").debug("leise")
    logging.getLogger("uvicorn.error").info("Started server process")
    logging.getLogger("uvicorn.error").warning("laut")
    events = [json.loads(line)["event"] for line in stream.getvalue().splitlines()]
    assert events == ["laut"]


def test_a_repeat_replaces_the_first(stream: io.StringIO) -> None:
    """No line comes twice."""
    configure_logs("json", "info", stream)
    configure_logs("json", "error", stream)
    logging.getLogger("qunxin.x").error("一次")
    assert len(stream.getvalue().splitlines()) == 1
