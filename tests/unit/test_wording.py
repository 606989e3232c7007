"""What is wrong with a request is said in words."""

from __future__ import annotations

from typing import Any

import pytest

from qunxin.errors import QunxinError
from qunxin.gateways.http.binding import Binder
from qunxin.gateways.operations import OPERATIONS, Operation
from qunxin.model import ID_RULE

TEA = {"group": "tea"}


@pytest.mark.parametrize(
    ("operation", "fields", "says"),
    [
        ("user.get", {"user": "-"}, f"user: {ID_RULE}"),
        ("user.get", {"user": "爱丽丝"}, f"user: {ID_RULE}"),
        ("user.get", {"user": "a" * 65}, "user: at most 64 characters"),
        ("user.get", {"user": ""}, "user: at least 1 character"),
        ("user.get", {"user": 7}, "user: expected str | null, got int"),
        ("user.put", {"name": ""}, "name: at least 1 character"),
        ("user.put", {"name": "茶\x1b[2J"}, "name: no control characters, and no line breaks"),
        ("member.add", {**TEA, "users": ["茶"]}, f"users[0]: {ID_RULE}"),
        ("group.members", {**TEA, "limit": 0}, "limit: at least 1"),
        ("group.members", {**TEA, "limit": 5_000}, "limit: at most 1000"),
        ("group.members", {}, "Object missing required field `group`"),
    ],
)
def test_a_refusal_names_the_field_and_the_rule(
    operation: str, fields: dict[str, Any], says: str
) -> None:
    """No pattern, no path in a notation of its own."""
    with pytest.raises(QunxinError) as refused:
        OPERATIONS[operation].decode(fields)
    assert refused.value.code == "invalid_request"
    assert refused.value.facts["detail"] == says


def test_every_pattern_has_its_words() -> None:
    """Over HTTP too, where another decoder refuses: no regular expression reaches a client."""
    told = {_told(one, name) for one in OPERATIONS.values() for name in _names(one)}
    assert f"user: {ID_RULE}" in told
    assert not [detail for detail in told if "regex" in detail]
    with pytest.raises(QunxinError) as over_http:
        Binder(OPERATIONS["user.put"], 40).bind({"user": "茶"}, b"", b"{}")
    assert over_http.value.facts["detail"] == f"user: {ID_RULE}"


def _names(operation: Operation) -> list[str]:
    return [field.name for field in operation.fields]


def _told(operation: Operation, name: str) -> str:
    """What is said of a text that is no id, no name, no conversation; empty where it is taken."""
    try:
        operation.decode({name: "\x1b:"})
    except QunxinError as error:
        return str(error.facts["detail"])
    return ""
