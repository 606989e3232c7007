"""The API's description (OpenAPI 3.1), made from the table of operations and nothing else."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any, Final

import msgspec

from qunxin.engine.access import RULES, Anyone
from qunxin.errors import ERRORS, QunxinError
from qunxin.gateways.operations import OPERATIONS, Operation, Place
from qunxin.gateways.operations.examples import EXAMPLES
from qunxin.gateways.problems import (
    PROBLEM_TYPE,
    STATUSES,
    Problem,
    problem,
)
from qunxin.model import MAX_INTEGER, JsonObject, Role
from qunxin.version import VERSION

_SCHEMAS: Final = "#/components/schemas/"

TAGS: Final = {
    "users": ("Users", "用户", "Accounts, whom they block, their conversations and devices."),
    "groups": ("Groups", "群组", "Groups and who is in them."),
    "messages": ("Messages", "消息", "Sending, recalling, reading, and who got what."),
    "access": ("Access", "访问", "Tokens for devices, keys for servers."),
    "webhooks": ("Webhooks", "网络钩子", "What was committed, told to an application's server."),
    "health": ("Health", "健康", "For load balancers and monitoring; open to whoever connects."),
}
"""Each section: its name in English and Chinese, and what it is about."""

INTRODUCTION: Final = """\
Group messaging that tells the truth about every message. A send is accepted (durable, numbered, \
and everyone entitled will be able to get it), refused with a code that says why, or unknown: \
then repeat it with the same key.

Errors are problem documents (RFC 9457) with a stable `code`, a `tier` that says who can mend it, \
`retryable` and `retry_after`; `detail` is in English or Chinese by `Accept-Language`. Unknown \
fields are refused. Times are milliseconds since 1970; integers stay below 2^53."""

COMMON_ERRORS: Final = (
    "invalid_request",
    "unauthenticated",
    "token_expired",
    "forbidden",
    "user_suspended",
    "user_not_found",
    "user_erased",
    "overloaded",
    "rate_limited",
    "store_unavailable",
    "shutting_down",
    "internal",
)
"""What any operation can refuse with; the three about a user also for the token's own user."""

STATUS_ONLY: Final = {
    HTTPStatus.MISDIRECTED_REQUEST: "The `Host` header does not name this server.",
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE: "The headers are too large.",
}
"""Refusals with `invalid_request` for which HTTP has a status of its own."""
BODY_STATUS_ONLY: Final = {
    HTTPStatus.REQUEST_TIMEOUT: "The body did not arrive in time.",
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: "The body is not `application/json`.",
}


def describe() -> JsonObject:
    """The whole description as plain JSON values."""
    schemas = _schemas()
    paths: dict[str, Any] = {}
    for operation in OPERATIONS.values():
        item = paths.setdefault(operation.path, {})
        item[operation.method.lower()] = _operation(operation, schemas)
    paths.update(_health_paths())
    for operation in OPERATIONS.values():
        _reduce_to_body(operation, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Qunxin 群信",
            "version": VERSION,
            "summary": "Group messaging that tells the truth about every message",
            "description": INTRODUCTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": tag, "description": words[2]} for tag, words in TAGS.items()],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "examples": {code: _problem_example(code) for code in ERRORS},
            "securitySchemes": _SECURITY_SCHEMES,
        },
    }


_SECURITY_SCHEMES: Final = {
    "apiKey": {
        "type": "http",
        "scheme": "bearer",
        "description": "An API key (`qx_…`), server to server. It has scopes, and acts for any "
        "user with `from` (on reads: `as`).",
    },
    "userToken": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "A user's token (JWT, HS256): the user acts as themself.",
    },
}


def who_may(operation: Operation) -> tuple[str, str]:
    """In words: what a key needs, and what a user needs (``—`` where users may not)."""
    rules = [RULES[name] for name in operation.rules]
    scopes = " or ".join(dict.fromkeys(f"`{rule.scope}`" for rule in rules))
    needs = {name.rpartition(".")[2]: _user_need(name) for name in operation.rules}
    told = [f"`{part}`: {need}" if len(needs) > 1 else need for part, need in needs.items() if need]
    return scopes, "; ".join(told) or "—"


def users_may(operation: Operation) -> bool:
    """Whether a user's own token can be enough."""
    return any(RULES[name].user is not Anyone.NOBODY for name in operation.rules)


_NEEDS: Final[dict[Role | Anyone, str]] = {
    Anyone.SELF: "for themselves",
    Anyone.USER: "any user",
    Anyone.AUTHOR: "the author; in a group also owners and admins",
    Role.MEMBER: "members",
    Role.ADMIN: "owners and admins",
    Role.OWNER: "owners",
}


def _user_need(rule_name: str) -> str:
    rule = RULES[rule_name]
    if rule.user is Anyone.NOBODY:
        return ""
    need = _NEEDS[rule.user]
    return f"{need} ({rule.note})" if rule.note else need


# --- operations -------------------------------------------------------------------------------


def error_codes(operation: Operation) -> tuple[str, ...]:
    """Every code that the operation can answer, in the order of the error family."""
    codes = {*COMMON_ERRORS, *operation.errors}
    if operation.has_body:
        codes.add("message_too_large")
    if operation.method != "GET":
        codes.add("outcome_unknown")
    return tuple(code for code in ERRORS if code in codes)


def _operation(operation: Operation, schemas: JsonObject) -> JsonObject:
    keys, users = who_may(operation)
    described: JsonObject = {
        "operationId": operation.name,
        "tags": [operation.tag],
        "summary": operation.summary,
        "description": f"{operation.description}\n\n{operation.chinese}。\n\n"
        f"API keys: scope {keys}. Users: {users}.",
        "security": [{"apiKey": []}, *([{"userToken": []}] if users_may(operation) else [])],
        "parameters": list(_parameters(operation, schemas)),
        "responses": _responses(operation),
    }
    if operation.has_body:
        described["requestBody"] = _request_body(operation, schemas)
    return described


def _parameters(operation: Operation, schemas: JsonObject) -> Iterable[JsonObject]:
    properties = schemas.get(operation.request.__name__, {}).get("properties", {})
    example = EXAMPLES[operation.name].request
    for field in operation.fields:
        if field.place is Place.BODY:
            continue
        schema = _without_null(properties[field.name])
        parameter = {
            "name": field.name,
            "in": field.place.value,
            "required": field.required,
            "description": schema.get("description", ""),
            "schema": schema,
        }
        if field.name in example:
            parameter["example"] = example[field.name]
        yield parameter
    if operation.name == "message.send":
        yield _IDEMPOTENCY_KEY


_IDEMPOTENCY_KEY: Final = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "Another way to give `key`; the two must not differ.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 128, "pattern": "^[!-~]+$"},
}


def _request_body(operation: Operation, schemas: JsonObject) -> JsonObject:
    name = operation.request.__name__
    in_body = {field.name for field in operation.fields if field.place is Place.BODY}
    example = EXAMPLES[operation.name].request
    return {
        "required": bool(set(schemas[name]["required"]) & in_body),
        "content": {
            "application/json": {
                "schema": {"$ref": _SCHEMAS + name},
                "example": {key: value for key, value in example.items() if key in in_body},
            }
        },
    }


def _responses(operation: Operation) -> JsonObject:
    responses: JsonObject = {}
    for status, text in operation.statuses.items():
        responses[str(status)] = {
            "description": text,
            "content": {
                "application/json": {
                    "schema": {"$ref": _SCHEMAS + operation.response.__name__},
                    "example": EXAMPLES[operation.name].response,
                }
            },
        }
    responses.update(_problems(error_codes(operation)))
    for status, text in {**STATUS_ONLY, **(BODY_STATUS_ONLY if operation.has_body else {})}.items():
        responses[str(int(status))] = _problem_response(text, ("invalid_request",))
    return dict(sorted(responses.items()))


def _problems(codes: Iterable[str]) -> JsonObject:
    by_status: dict[int, list[str]] = {}
    for code in codes:
        by_status.setdefault(STATUSES[code], []).append(code)
    return {
        str(status): _problem_response(
            "\n".join(
                f"- `{code}`: {ERRORS[code].english} {ERRORS[code].chinese}" for code in some
            ),
            some,
        )
        for status, some in by_status.items()
    }


def _problem_response(text: str, codes: Iterable[str]) -> JsonObject:
    headers: JsonObject = {}
    if any(ERRORS[code].retryable for code in codes):
        headers["Retry-After"] = {
            "description": "Seconds after which a retry makes sense.",
            "schema": {"type": "integer", "minimum": 1},
        }
    if any(STATUSES[code] == HTTPStatus.UNAUTHORIZED for code in codes):
        headers["WWW-Authenticate"] = {"schema": {"type": "string"}}
    return {
        "description": text,
        "headers": headers,
        "content": {
            PROBLEM_TYPE: {
                "schema": {"$ref": _SCHEMAS + "Problem"},
                "examples": {code: {"$ref": f"#/components/examples/{code}"} for code in codes},
            }
        },
    }


_EXAMPLE_FACTS: Final[JsonObject] = {
    "detail": "to: missing",
    "user": "carol",
    "members": 3,
    "unreachable_count": 1,
    "unreachable": [{"user": "carol", "reason": "suspended"}],
    "size": 70_000,
    "limit": 65_536,
    "window_seconds": 120,
}


def _problem_example(code: str) -> JsonObject:
    """The document in Chinese: the language that a field of this API is rarely shown in."""
    template = ERRORS[code].english
    facts = {name: value for name, value in _EXAMPLE_FACTS.items() if f"{{{name}}}" in template}
    if code == "members_unreachable":
        facts["unreachable"] = _EXAMPLE_FACTS["unreachable"]
    document = msgspec.to_builtins(problem(QunxinError(code, **facts), "zh"))
    return {"summary": ERRORS[code].english, "value": document}


def _health_paths() -> JsonObject:
    status = {
        "type": "object",
        "properties": {"status": {"type": "string"}},
        "required": ["status"],
    }
    as_json = {"description": "It does.", "content": {"application/json": {"schema": status}}}
    metrics = {
        "description": "Metrics.",
        "content": {"text/plain": {"schema": {"type": "string"}}},
    }
    unavailable = _problems(("store_unavailable", "overloaded", "internal"))
    rows = (
        ("/health/live", "live", "Whether the process lives", "存活检查", as_json),
        ("/health/ready", "ready", "Whether the store answers", "就绪检查", as_json),
        ("/metrics", "metrics", "Metrics in Prometheus' text format", "监控指标", metrics),
    )
    return {
        path: {
            "get": {
                "operationId": f"health.{name}",
                "tags": ["health"],
                "summary": summary,
                "description": f"{chinese}。",
                "security": [],
                "responses": {
                    "200": answer,
                    **unavailable,
                    "421": _problem_response(STATUS_ONLY[HTTPStatus(421)], ("invalid_request",)),
                },
            }
        }
        for path, name, summary, chinese, answer in rows
    }


# --- schemas ----------------------------------------------------------------------------------


def _schemas() -> JsonObject:
    types = [
        *(operation.request for operation in OPERATIONS.values() if operation.fields),
        *(operation.response for operation in OPERATIONS.values()),
        Problem,
    ]
    _, schemas = msgspec.json.schema_components(types, ref_template=_SCHEMAS + "{name}")
    plain: JsonObject = {name: _tidy(schema) for name, schema in schemas.items()}
    for operation in OPERATIONS.values():
        _require_marked(operation, plain)
    plain["SendMessage"]["oneOf"] = _TEXT_OR_CONTENT
    plain["Entry"] = _ENTRY
    return dict(sorted(plain.items()))


def _tidy(schema: Any) -> Any:
    """The schema as people would write it: clean texts, no `default: null`, types beside
    enumerations, and a plain type that may be null as one."""
    if isinstance(schema, list):
        return [_tidy(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    tidy = {name: _tidy(part) for name, part in schema.items()}
    if isinstance(tidy.get("description"), str):
        tidy["description"] = inspect.cleandoc(tidy["description"])
    if "default" in tidy and tidy["default"] is None:
        del tidy["default"]
    if "enum" in tidy:
        tidy.setdefault("type", "string")
    return _with_null_type(tidy)


def _with_null_type(schema: JsonObject) -> JsonObject:
    one, *rest = schema.get("anyOf", [{}])
    if rest != [{"type": "null"}] or "type" not in one or "enum" in one:
        return schema
    others = {name: value for name, value in schema.items() if name != "anyOf"}
    return {**one, "type": [one["type"], "null"], **others}


def _without_null(schema: JsonObject) -> JsonObject:
    """The schema of a field where it is given at all: a query has no null."""
    if "anyOf" in schema:
        others = {name: value for name, value in schema.items() if name != "anyOf"}
        return {**schema["anyOf"][0], **others}
    if isinstance(schema.get("type"), list):
        return {**schema, "type": schema["type"][0]}
    return schema


def _require_marked(operation: Operation, schemas: JsonObject) -> None:
    """Fields that the decoder lets pass so that the engine refuses them by a code of their own
    (`type`) are required all the same."""
    for field in operation.fields:
        info = msgspec.inspect.type_info(field.type)
        extra = info.extra if isinstance(info, msgspec.inspect.Metadata) else None
        if extra and extra.get("required"):
            schemas[operation.request.__name__]["required"].append(field.name)


def _reduce_to_body(operation: Operation, schemas: JsonObject) -> None:
    """Leave in a request's schema what its body holds; drop it where there is no body."""
    name = operation.request.__name__
    if not operation.has_body:
        schemas.pop(name, None)
        return
    in_body = {field.name for field in operation.fields if field.place is Place.BODY}
    schema = schemas[name]
    schema["properties"] = {k: v for k, v in schema["properties"].items() if k in in_body}
    schema["required"] = [k for k in schema["required"] if k in in_body]


_TEXT_OR_CONTENT: Final = [
    {
        "required": ["text"],
        "properties": {"text": {"type": "string"}, "content": {"type": "null"}},
    },
    {
        "required": ["content"],
        "properties": {"content": {"type": "array"}, "text": {"type": "null"}},
    },
]
"""A message has one of the two."""

_ENTRY: Final[JsonObject] = {
    "title": "Entry",
    "description": "One thing in a conversation. A message (`private`, `group`, `broadcast`) has "
    "`from` and `content`, or `recalled` and no content once it was recalled. An event (`created`, "
    "`joined`, `left`, `changed`, `dissolved`, `recalled`, in an inbox `member`, `ceased`, "
    "`contact`, `account`, `sessions_ended`) has its own facts beside these fields. `hidden` "
    "stands for the positions `first` to `last`, which the reader may not see.",
    "type": "object",
    "properties": {
        "type": {"type": "string"},
        "conversation": {"type": "string"},
        "position": {"type": "integer", "minimum": 1, "maximum": MAX_INTEGER},
        "time": {"type": "integer", "description": "Milliseconds since 1970."},
        "from": {"type": "string", "description": "The sender; left out for the operator."},
        "key": {"type": "string", "description": "The sender's key, where one was given."},
        "content": {"type": "array", "items": {"type": "object"}},
        "recalled": {"type": "integer", "description": "The position of the recall."},
    },
    "required": ["type", "conversation", "position", "time"],
    "additionalProperties": True,
}
