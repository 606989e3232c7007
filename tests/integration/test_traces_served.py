"""Traces of a real server at a real collector, continued from the caller's own."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from serving import ServerProcess, answer

pytestmark = pytest.mark.processes

WORDS = "秘密 👩\u200d👩\u200d👧 مرحبا"
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


class Collector(ThreadingHTTPServer):
    """Takes what OTLP exporters post."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.bodies: list[bytes] = []

    @property
    def spans(self) -> list[Span]:
        return [
            span
            for body in self.bodies
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]


class _Handler(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        assert self.path == "/v1/traces"
        self.server.bodies.append(self.rfile.read(int(self.headers["content-length"])))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nobody reads it."""


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as made:
        serving = threading.Thread(target=made.serve_forever)
        serving.start()
        yield made
        made.shutdown()
        serving.join()


def test_a_request_continues_its_callers_trace(
    collector: Collector, data_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All spans of it belong to that trace; what is gathered is sent before the server ends;
    neither words nor names leave the node."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{collector.server_port}")
    with ServerProcess(data_folder) as server:
        with server.client() as client:
            answer(client.put("/v1/users/alice", json={"name": WORDS}))
            answer(client.put("/v1/groups/tea", json={"owner": "alice"}))
            message = {"type": "group", "to": "tea", "from": "alice", "text": WORDS}
            parent = {"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"}
            named = {"x-request-id": "req-7", **parent}
            answer(client.post("/v1/messages", json=message, headers=named))
        assert server.stop() == 0
    ours = [span for span in collector.spans if span.trace_id.hex() == TRACE]
    names = {span.name for span in ours}
    assert names == {
        *("POST /v1/messages", "message.send"),
        *("type", "routing", "membership", "commit"),
    }
    for name in ("POST /v1/messages", "message.send"):
        (span,) = (span for span in ours if span.name == name)
        told = {one.key: one.value.string_value for one in span.attributes}
        assert told["qunxin.request_id"] == "req-7"
    assert "PUT /v1/users/{user}" in {span.name for span in collector.spans}
    for private in (WORDS, "alice", "tea"):
        assert all(private.encode() not in body for body in collector.bodies)
    assert b"qunxin" in collector.bodies[0]
