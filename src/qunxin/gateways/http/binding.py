"""From path, query and body to an operation's request struct, strictly."""

from __future__ import annotations

import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import parse_qsl

import msgspec

from qunxin.errors import QunxinError
from qunxin.gateways.operations import Operation, Place
from qunxin.gateways.operations.requests import Request
from qunxin.gateways.operations.wording import in_words
from qunxin.gateways.problems import HttpStatusError

_MAX_QUERY_FIELDS: Final = 32
_INTEGER = re.compile(r"-?[0-9]{1,16}")
_BRACKET = re.compile(rb'"(?:[^"\\]|\\.)*"?|[\[{]|[\]}]', re.DOTALL)
_ENCODINGS: Final = (None, "utf-8", '"utf-8"', "utf8")


class Binder:
    """Makes one operation's requests."""

    def __init__(self, operation: Operation, max_nesting: int) -> None:
        self._operation = operation
        self._max_nesting = max_nesting
        fields = operation.fields
        self._in_body = frozenset(f.name for f in fields if f.place is Place.BODY)
        self._in_query = frozenset(f.name for f in fields if f.place is Place.QUERY)
        self._integers = frozenset(f.name for f in fields if _is_integer(f.type))
        self._whole_body = all(field.place is Place.BODY for field in fields)
        self._decoder = msgspec.json.Decoder(operation.request)
        self._object_decoder = msgspec.json.Decoder(dict[str, Any])

    def bind(self, path: Mapping[str, str], query: bytes, body: bytes) -> Request:
        """The request struct. Raises `invalid_request` naming the field."""
        values = self._query_values(query)
        if self._whole_body and self._in_body:
            request: Request = self._decode(self._decoder, body or b"{}")
            return request
        values.update(self._body_values(body))
        values.update(self._plain(dict(path)))
        return self._operation.decode(values)

    def _query_values(self, query: bytes) -> dict[str, Any]:
        if not query:
            return {}
        try:
            pairs = parse_qsl(
                query.decode("ascii"),
                keep_blank_values=True,
                errors="strict",
                max_num_fields=_MAX_QUERY_FIELDS,
            )
        except ValueError as error:
            raise QunxinError("invalid_request", detail=f"the query: {error}") from None
        values = dict(pairs)
        if len(values) != len(pairs):
            raise QunxinError("invalid_request", detail="a query field was given twice")
        _check_names(values, self._in_query, "query")
        return self._plain(values)

    def _body_values(self, body: bytes) -> dict[str, Any]:
        if not body:
            return {}
        values: dict[str, Any] = self._decode(self._object_decoder, body)
        _check_names(values, self._in_body, "body")
        return values

    def _decode(self, decoder: msgspec.json.Decoder[Any], body: bytes) -> Any:
        check_nesting(body, self._max_nesting)
        try:
            return decoder.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise QunxinError("invalid_request", detail=in_words(error)) from None

    def _plain(self, values: dict[str, Any]) -> dict[str, Any]:
        """Numbers as numbers; what is not one is left for the decoder to refuse by name."""
        for name in self._integers & values.keys():
            if _INTEGER.fullmatch(values[name]):
                values[name] = int(values[name])
        return values


def check_nesting(body: bytes, limit: int) -> None:
    """Refuse JSON text that nests deeper than `limit`, before anything recurses into it."""
    if body.count(b"[") + body.count(b"{") <= limit:
        return
    depth = 0
    for match in _BRACKET.finditer(body):
        token = match[0]
        if token in (b"[", b"{"):
            depth += 1
        elif token in (b"]", b"}"):
            depth -= 1
        if depth > limit:
            raise QunxinError("invalid_request", detail=f"nested deeper than {limit}")


def check_json_type(content_type: str | None) -> None:
    """Refuse a body that does not say it is JSON in UTF-8, with status 415."""
    media, _, parameters = (content_type or "").partition(";")
    charset = _charset(parameters)
    if media.strip().lower() != "application/json" or charset not in _ENCODINGS:
        raise HttpStatusError(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "send the body as Content-Type: application/json"
        )


def _charset(parameters: str) -> str | None:
    for parameter in parameters.split(";"):
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "charset":
            return value.strip().lower()
    return None


def _check_names(values: Mapping[str, Any], known: frozenset[str], where: str) -> None:
    for name in values:
        if name not in known:
            raise QunxinError("invalid_request", detail=f"the {where} has no field {name[:64]!r}")


def _is_integer(annotation: Any) -> bool:
    """Whether a field of that type holds an integer (or nothing)."""
    kind = msgspec.inspect.type_info(annotation)
    parts = kind.types if isinstance(kind, msgspec.inspect.UnionType) else (kind,)
    return any(
        isinstance(
            p.type if isinstance(p, msgspec.inspect.Metadata) else p, msgspec.inspect.IntType
        )
        for p in parts
    )
