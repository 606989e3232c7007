"""The description of the realtime protocol, against what the protocol is."""

from __future__ import annotations

from typing import Any

from qunxin.gateways.realtime_asyncapi import COMMANDS, PUSHES, answer_to, asyncapi, part
from qunxin.wire import realtime_pb2
from qunxin.wire.session import KINDS


def _references(value: Any) -> list[str]:
    if isinstance(value, dict):
        found = [value["$ref"]] if "$ref" in value else []
        return found + [one for item in value.values() for one in _references(item)]
    if isinstance(value, list):
        return [one for item in value for one in _references(item)]
    return []


def test_every_command_and_push_is_described() -> None:
    assert set(COMMANDS) == set(KINDS)
    pushes = {field.name for field in realtime_pb2.Push.DESCRIPTOR.fields}
    assert set(PUSHES) == pushes - {"channel"}
    assert set(KINDS) == {f.name for f in realtime_pb2.Command.DESCRIPTOR.fields} - {"id"}


def test_what_is_answered_has_a_reply() -> None:
    """And what is not, has none."""
    for kind in KINDS:
        assert (answer_to(kind) == "answered") == (part("Reply", kind) is not None)


def test_every_reference_leads_somewhere() -> None:
    document = asyncapi()
    references = _references(document)
    assert len(references) > 50
    for reference in references:
        found: Any = document
        for name in reference.removeprefix("#/").split("/"):
            found = found[name]
        assert found


def test_the_document_is_whole() -> None:
    """Every operation has a message that its channel knows."""
    document = asyncapi()
    assert document["asyncapi"] == "3.0.0"
    assert {one["action"] for one in document["operations"].values()} == {"receive", "send"}
    assert set(document["operations"]) == {*KINDS, *(f"{kind}_push" for kind in PUSHES)}
    schema = document["components"]["schemas"]["Subscribe"]["properties"]["offset"]
    assert schema == {"type": "integer", "x-protobuf-number": 7}
