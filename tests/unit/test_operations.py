"""The table of operations: complete, consistent, and with examples that hold."""

from __future__ import annotations

import inspect
import json
import re
from typing import Any

import msgspec
import pytest

from qunxin.engine.access import RULES, SYSTEM, Caller
from qunxin.errors import ERRORS, QunxinError
from qunxin.gateways.http.binding import Binder, check_json_type, check_nesting
from qunxin.gateways.http.openapi import error_codes
from qunxin.gateways.operations import OPERATIONS, Operation, Place
from qunxin.gateways.operations.examples import EXAMPLES
from qunxin.gateways.operations.table import acting_user, user_meant
from qunxin.gateways.problems import STATUSES, HttpStatusError, problem_response, status_of

each = pytest.mark.parametrize("operation", OPERATIONS.values(), ids=list(OPERATIONS))


def test_every_error_has_a_status_and_no_other_has() -> None:
    """The one table from code to status is complete."""
    assert STATUSES.keys() == ERRORS.keys()
    assert all(400 <= status < 600 for status in STATUSES.values())


def test_statuses_say_who_can_mend_it() -> None:
    """Below 500 the caller, from 500 nobody but time, and only those are retryable."""
    for code, spec in ERRORS.items():
        server_side = STATUSES[code] >= 500 or STATUSES[code] == 429
        assert server_side is (spec.tier == "system"), code
        if spec.retryable:
            assert server_side, code


def test_every_rule_of_access_is_an_operations() -> None:
    """Whatever the access table rules can be asked for, and is ruled."""
    used = [rule for operation in OPERATIONS.values() for rule in operation.rules]
    assert sorted(used) == sorted(RULES)


def test_no_two_operations_share_a_route() -> None:
    """Nor a request struct with a body: its schema is one operation's."""
    routes = {(o.method, re.sub(r"{\w+}", "{}", o.path)) for o in OPERATIONS.values()}
    assert len(routes) == len(OPERATIONS)
    structs = [o.request for o in OPERATIONS.values() if o.has_body]
    assert len(structs) == len(set(structs))


@each
def test_a_row_is_whole(operation: Operation) -> None:
    """Name, texts in two languages, known errors, statuses of success, an own example."""
    assert OPERATIONS[operation.name] is operation
    assert re.fullmatch(r"[a-z]+\.[a-z_]+", operation.name)
    assert re.search(r"[\u4e00-\u9fff]", operation.chinese)
    assert operation.summary
    assert operation.description.endswith(".")
    assert set(operation.errors) <= ERRORS.keys()
    assert len(set(operation.errors)) == len(operation.errors)
    assert all(200 <= status < 300 for status in operation.statuses)
    assert inspect.iscoroutinefunction(operation.run)


@each
def test_a_rows_example_holds(operation: Operation) -> None:
    """It decodes as request and as response, and its status is one that the row names."""
    example = EXAMPLES[operation.name]
    assert operation.decode(example.request) is not None
    text = msgspec.json.encode(example.response)
    response = msgspec.json.decode(text, type=operation.response)
    assert json.loads(msgspec.json.encode(response)) == example.response
    assert operation.status_of(response) in operation.statuses
    fields = {field.name for field in operation.fields}
    assert example.request.keys() <= fields
    required = {field.name for field in operation.fields if field.required}
    assert required <= example.request.keys()


@each
def test_fields_have_their_places(operation: Operation) -> None:
    """The path's own; the query where there is no body; nothing is named twice."""
    names = [field.name for field in operation.fields]
    assert len(set(names)) == len(names)
    in_path = {field.name for field in operation.fields if field.place is Place.PATH}
    assert in_path == set(re.findall(r"{(\w+)}", operation.path))
    if operation.method in ("GET", "DELETE"):
        assert not operation.has_body


@each
def test_an_unknown_field_is_refused(operation: Operation) -> None:
    """Everywhere, so that a misspelt one is never passed over."""
    with pytest.raises(QunxinError, match="unknown field"):
        operation.decode({**EXAMPLES[operation.name].request, "未知": 1})


@each
def test_http_and_rpc_make_the_same_request(operation: Operation) -> None:
    """Fields from path, query and body, or all in one object: the same struct."""
    example = EXAMPLES[operation.name].request
    places = {field.name: field.place for field in operation.fields}
    path = {k: str(v) for k, v in example.items() if places[k] is Place.PATH}
    query = "&".join(f"{k}={v}" for k, v in example.items() if places[k] is Place.QUERY)
    body = {k: v for k, v in example.items() if places[k] is Place.BODY}
    raw = msgspec.json.encode(body) if operation.has_body else b""
    assert Binder(operation, 40).bind(path, query.encode(), raw) == operation.decode(example)


@pytest.mark.parametrize("data", [5, "文", [], True])
def test_data_that_is_no_object_is_refused(data: object) -> None:
    """As `rpc` could carry it; nothing at all is an empty object."""
    with pytest.raises(QunxinError, match="invalid_request"):
        OPERATIONS["user.get"].decode(data)
    assert OPERATIONS["user.get"].decode(None) == OPERATIONS["user.get"].decode({})


def test_who_acts() -> None:
    """A key for whom it names; a user for themself, and for nobody else."""
    alice = Caller.as_user("alice")
    assert acting_user(SYSTEM, None) is None
    assert acting_user(SYSTEM, "bob") == "bob"
    assert acting_user(alice, None) == acting_user(alice, "alice") == "alice"
    with pytest.raises(QunxinError, match="forbidden"):
        acting_user(alice, "bob")
    assert user_meant(alice, None) == "alice"
    assert user_meant(alice, "bob") == "bob"
    with pytest.raises(QunxinError, match="invalid_request"):
        user_meant(SYSTEM, None)


def test_a_body_does_not_reach_into_the_path() -> None:
    """A field that the path gives is not taken from the body."""
    binder = Binder(OPERATIONS["user.put"], 40)
    with pytest.raises(QunxinError, match="no field"):
        binder.bind({"user": "alice"}, b"", b'{"user": "bob"}')
    send = Binder(OPERATIONS["message.send"], 40)
    with pytest.raises(QunxinError, match="no field"):
        send.bind({}, b"type=group", b"{}")


@pytest.mark.parametrize(
    ("body", "limit"),
    [
        (b"[[[]]]", 3),
        ('["[[[[", "\\"[[[", "\\\\", "]]", {"深": "{{{{"}]'.encode(), 2),
        (b"[" + b"[]," * 500 + b"[]]", 2),
        (b'"' + b"[" * 1000, 2),
        (b'["a\\"[[[[[[[[[[[', 2),
        (b"", 0),
    ],
)
def test_nesting_within_the_limit(body: bytes, limit: int) -> None:
    """Brackets in texts do not count, brackets side by side do not add up."""
    check_nesting(body, limit)


@pytest.mark.parametrize("body", [b"[[[[", b"[" * 10**6, b'{"a":' * 10**5, b'"x"[[[[]]]]'])
def test_nesting_beyond_the_limit(body: bytes) -> None:
    """Found without recursion, whether the JSON is whole or not."""
    with pytest.raises(QunxinError, match="nested"):
        check_nesting(body, 3)


def test_types_of_bodies() -> None:
    """JSON in UTF-8, however it is written."""
    for good in ("application/json", "Application/JSON ; Charset=UTF-8", "application/json; v=1"):
        check_json_type(good)
    for bad in (None, "", "text/json", "application/json; charset=latin-1", "application/jsonp"):
        with pytest.raises(HttpStatusError) as refused:
            check_json_type(bad)
        assert status_of(refused.value) == 415


@pytest.mark.parametrize("code", ERRORS)
def test_every_error_is_a_problem_document(code: str) -> None:
    """In both languages, with what HTTP wants beside it."""
    for language in ("en", "zh"):
        facts: dict[str, Any] = {
            "detail": "收件人",
            "user": "小爱",
            "unreachable": ({"user": "a"},),
        }
        status, headers, body = problem_response(QunxinError(code, **facts), language)
        document, sent = msgspec.json.decode(body), dict(headers)
        assert (document["code"], document["status"]) == (code, status)
        assert document["type"] == f"/docs#{code}"
        assert document["retryable"] is (b"retry-after" in sent)
        assert (status == 401) is (b"www-authenticate" in sent)
        assert sent[b"content-language"] == language.encode()


def test_retry_after_is_whole_seconds_and_never_none() -> None:
    """RFC 9110, 10.2.3."""
    for seconds, shown in ((0.01, b"1"), (1.0, b"1"), (1.2, b"2"), (30, b"30")):
        error = QunxinError("rate_limited", retry_after=seconds)
        assert dict(problem_response(error, "en")[1])[b"retry-after"] == shown


@each
def test_codes_of_an_operation(operation: Operation) -> None:
    """Writes may end unknown, reads may not; only a body can be too large."""
    codes = error_codes(operation)
    assert ("outcome_unknown" in codes) is (operation.method != "GET")
    assert {"internal", "unauthenticated", "overloaded"} <= set(codes)
    assert list(codes) == [code for code in ERRORS if code in codes]
