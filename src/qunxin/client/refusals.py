"""What can go wrong for a device, in the project's one family of errors.

A program catches `QunxinError` and reads `code`, `retryable` and `text()`; the classes here only
add what is known at this end: the server's own words, or why there was no answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from qunxin.errors import QunxinError
from qunxin.model import JsonObject
from qunxin.wire.codes import (
    ERASED,
    ERROR_NUMBERS,
    FRAME_TOO_LARGE,
    SESSIONS_ENDED,
    SUSPENDED,
)
from qunxin.wire.device import ERROR_CODES, Ended, Fault

_LAST_OWN_CLOSE: Final = 4999
_MESSAGE_TOO_BIG: Final = 1009
"""The WebSocket's own code (RFC 6455, 7.4.1), as something between client and server may say."""
_encode = msgspec.json.Encoder().encode


class RefusedError(QunxinError):
    """The server's answer is no. The text is the server's, in the language of the connection;
    `number` is the protocol's. A number that this version does not know has the code
    `internal`."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(ERROR_CODES.get(fault.code, "internal"), number=fault.code)
        self.number = fault.code
        self.message = fault.message
        self.temporary = fault.temporary

    @property
    def retryable(self) -> bool:
        """As the server says: it may know better than the table."""
        return self.temporary

    def text(self, language: str = "en") -> str:  # noqa: ARG002 - it came in one language
        return self.message


class UnansweredError(QunxinError):
    """No answer came in time: whether it was done is not known, and it may be repeated."""

    def __init__(self, detail: str) -> None:
        super().__init__("outcome_unknown", detail=detail)

    def text(self, language: str = "en") -> str:
        return f"{super().text(language)} ({self.facts['detail']})"


def check_encodable(fields: Mapping[str, Any]) -> None:
    """Raise `invalid_request` for what JSON cannot hold: half of a surrogate pair, or an object of
    the program's own."""
    for name, value in fields.items():
        _check_copy(name, value)


def check_message(fields: Mapping[str, Any]) -> JsonObject:
    """A copy, which nothing that the program does later changes. Raises `invalid_request` for what
    could never be sent, however often it is tried."""
    for name, value in fields.items():
        is_list = name == "content"
        if not isinstance(value, list | tuple if is_list else str):
            kind = "list" if is_list else "text"
            detail = f"{name}: {type(value).__name__} is no {kind}"
            raise QunxinError("invalid_request", detail=detail)
    return {name: _check_copy(name, value) for name, value in fields.items()}


def _check_copy(name: str, value: Any) -> Any:
    try:
        return msgspec.json.decode(_encode(value))
    except UnicodeEncodeError:
        raise QunxinError("invalid_request", detail=f"{name}: not valid Unicode") from None
    except (TypeError, ValueError, RecursionError) as error:
        raise QunxinError("invalid_request", detail=f"{name}: {error}") from None


def comes_back(code: int) -> bool:
    """Whether a device connects again after a connection closed with `code`."""
    return not (3500 <= code < 4000 or 4500 <= code <= _LAST_OWN_CLOSE)


def is_too_large(ended: Ended) -> bool:
    """Whether a connection was closed because of the size of something that was sent over it."""
    return ended.code in (FRAME_TOO_LARGE.code, _MESSAGE_TOO_BIG)


def too_large(size: int, language: str) -> RefusedError:
    """The refusal of a command of `size` bytes that the server took for too large to be read; how
    much it would have taken is not known."""
    english, chinese = "The server does not read {} bytes at once", "服务器无法一次读取 {} 字节"
    text = (chinese if language == "zh" else english).format(size)
    return RefusedError(Fault(ERROR_NUMBERS["message_too_large"], text))


def closed_for_good(ended: Ended, user: str) -> QunxinError:
    """The error of a connection that the server ended with a code that does not come back."""
    if ended.code == SUSPENDED.code:
        return QunxinError("user_suspended", user=user)
    if ended.code == ERASED.code:
        return QunxinError("user_erased", user=user)
    if ended.code == SESSIONS_ENDED.code:
        return QunxinError("forbidden", detail=ended.reason)
    return QunxinError("invalid_request", detail=f"{ended.reason} ({ended.code})")
