"""Spans of the five steps: one tree for each operation, and nothing in it that was said."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from qunxin.brokers.local import LocalBroker
from qunxin.engine import Engine
from qunxin.errors import QunxinError
from qunxin.observe import NULL_TRACER
from qunxin.ops.request_id import REQUEST_ID
from qunxin.ops.traces import OpenTelemetryTracer, open_tracer
from qunxin.stores.sqlite import SqliteStore

WORDS = "秘密 👩\u200d👩\u200d👧 مرحبا"
STEPS = ["type", "routing", "membership", "commit"]


class Spans:
    """A tracer and the spans that have ended."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.tracer = OpenTelemetryTracer(provider)

    @property
    def ended(self) -> tuple[ReadableSpan, ...]:
        return self._exporter.get_finished_spans()

    def named(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.ended if span.name == name]

    def below(self, parent: ReadableSpan) -> list[str]:
        """The names of its children, in the order in which they began."""
        context = parent.get_span_context()
        assert context is not None
        found = [s for s in self.ended if s.parent and s.parent.span_id == context.span_id]
        return [span.name for span in sorted(found, key=lambda span: span.start_time or 0)]


def engine(path: Path, spans: Spans) -> Engine:
    return Engine(SqliteStore(path / "茶.db"), LocalBroker(), tracer=spans.tracer)


async def populate(chat: Engine) -> None:
    for user in ("alice", "bob"):
        await chat.put_user(user, name=WORDS)
    await chat.put_group("tea", name=WORDS, owner="alice", members=["bob"])


async def test_a_send_is_one_tree_of_five_steps(tmp_path: Path) -> None:
    """The last of them when the entry reaches a session; many at once keep apart; neither words
    nor names are in it."""
    spans = Spans()
    async with engine(tmp_path, spans) as chat:
        await populate(chat)
        async with chat.listen("bob") as live:
            sends = (
                chat.send("group", "tea", sender="alice", text=f"{WORDS} {n}") for n in range(20)
            )
            await asyncio.gather(*sends)
            while (await anext(live)).position != 21:
                pass
        trees = spans.named("message.send")
        assert len(trees) == 20
        assert [spans.below(tree) for tree in trees] == [[*STEPS, "fan-out"]] * 20
    facts = [dict(tree.attributes or {}) for tree in trees]
    assert {fact.pop("qunxin.position") for fact in facts} == set(range(2, 22))
    same = {"type": "group", "conversation.kind": "group", "grade": "complete"}
    assert facts == [{f"qunxin.{name}": value for name, value in same.items()}] * 20
    everything = "\n".join(span.to_json() for span in spans.ended)
    for private in ("秘密", "alice", "bob", "tea"):
        assert private not in everything


async def test_a_refusal_ends_the_step_that_it_came_from(tmp_path: Path) -> None:
    """With its code; it is no failure of ours."""
    spans = Spans()
    async with engine(tmp_path, spans) as chat:
        with pytest.raises(QunxinError):
            await chat.send("grupo", "tea", sender="alice", text=WORDS)
        with pytest.raises(QunxinError):
            await chat.send("group", "tea", sender="alice", text=WORDS)
    first, second = spans.named("message.send")
    assert (spans.below(first), spans.below(second)) == (["type"], STEPS)
    known = {"qunxin.type": "group", "qunxin.conversation.kind": "group"}
    for span, told in (
        (first, {"error.type": "unknown_message_type"}),
        (second, {"error.type": "group_not_found", **known}),
    ):
        assert dict(span.attributes or {}) == told
        assert span.status.is_ok or span.status.is_unset


@pytest.mark.parametrize(
    ("status", "failed"), [(201, False), (404, False), (429, False), (500, True), (503, True)]
)
def test_a_request_that_we_failed_is_an_error(status: int, failed: bool) -> None:
    """By its status alone, however the answer came about; with the id that the log has."""
    spans = Spans()
    token = REQUEST_ID.set("请求-1")
    try:
        with spans.tracer.request("POST", []) as trace:
            trace.answered("/v1/messages", status)
    finally:
        REQUEST_ID.reset(token)
    (span,) = spans.named("POST /v1/messages")
    facts = dict(span.attributes or {})
    assert facts["qunxin.request_id"] == "请求-1"
    assert facts["http.response.status_code"] == status
    assert facts.get("error.type") == (str(status) if failed else None)
    assert (span.status.status_code is StatusCode.ERROR) == failed


async def test_what_is_never_fanned_out_does_not_add_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Messages that nobody here listens to are forgotten, the oldest first."""
    monkeypatch.setattr("qunxin.ops.traces._PLACED_LIMIT", 5)
    spans = Spans()
    async with engine(tmp_path, spans) as chat:
        await populate(chat)
        for _ in range(20):
            await chat.send("group", "tea", sender="alice", text=WORDS)
    assert len(spans.tracer._placed) == 5


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:1"},
        {"OTEL_SDK_DISABLED": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:1"},
    ],
)
def test_off_unless_asked_for(environment: dict[str, str]) -> None:
    """The tracer that does nothing."""
    with open_tracer(environment) as tracer:
        assert tracer is NULL_TRACER


@pytest.mark.parametrize(
    "environment",
    [
        {"OTEL_TRACES_EXPORTER": "zipkin"},
        {
            "OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:1",
            "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
        },
    ],
)
def test_what_is_not_known_is_refused(environment: dict[str, str]) -> None:
    """As a setting, in words, before anything starts."""
    with pytest.raises(QunxinError) as caught, open_tracer(environment):
        pass
    assert caught.value.code == "invalid_settings"
    assert "OTEL_" in caught.value.text()


def _without(modules: str, program: str) -> subprocess.CompletedProcess[str]:
    block = f"import sys; sys.modules.update(dict.fromkeys({modules!r}.split()))\n"
    return subprocess.run(
        [sys.executable, "-c", block + program], capture_output=True, text=True, check=False
    )


def test_the_libraries_are_needed_only_when_asked_for() -> None:
    """Without them a server runs; asked for traces it says what to install."""
    program = (
        "from qunxin.ops.traces import open_tracer\n"
        "with open_tracer({}): print('off')\n"
        "try:\n"
        "    with open_tracer({'OTEL_TRACES_EXPORTER': 'otlp'}): print('on')\n"
        "except Exception as error: print(error)\n"
    )
    done = _without("opentelemetry opentelemetry.sdk opentelemetry.trace", program)
    assert done.stdout.splitlines()[0] == "off", done.stderr
    assert "pip install 'qunxin[otel]'" in done.stdout
