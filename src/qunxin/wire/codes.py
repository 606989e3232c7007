"""The numbers of the realtime protocol: one for each error, one for each way to end a connection.

The client protocol gives SDKs three things of an error: a number, a text and `temporary`. Own
numbers begin at 1000, one block of a hundred for each tier. A number, once published, keeps its
meaning; a test proves that every error has one.

Of a disconnect code the SDKs read one thing: 4000 to 4499 means come back, 4500 to 4999 means do
not. A reason is never empty and never looks like JSON, because the JavaScript SDK reads more into
both; 1009 is never sent, because that SDK does not come back after it.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from qunxin.errors import Tier

BLOCKS: Final = {Tier.REQUEST: 1000, Tier.MEMBER: 1100, Tier.GROUP: 1200, Tier.SYSTEM: 1300}
"""Where each tier's block begins."""

ERROR_NUMBERS: Final = {
    "invalid_request": 1000,
    "unauthenticated": 1001,
    "token_expired": 109,
    "forbidden": 1003,
    "not_found": 1004,
    "unknown_method": 104,
    "conversation_not_found": 1005,
    "entry_not_found": 1006,
    "unknown_message_type": 1007,
    "message_too_large": 1008,
    "idempotency_conflict": 1009,
    "recall_window_over": 1010,
    "too_many_subscriptions": 1011,
    "token_revoked": 1012,
    "members_unreachable": 1100,
    "user_not_found": 1101,
    "user_erased": 1102,
    "user_suspended": 1103,
    "not_a_member": 1104,
    "member_muted": 1105,
    "blocked": 1106,
    "last_owner": 1107,
    "group_dissolved": 1200,
    "group_not_found": 1201,
    "group_muted": 1202,
    "group_full": 1203,
    "overloaded": 1300,
    "rate_limited": 1301,
    "store_unavailable": 1302,
    "outcome_unknown": 1303,
    "shutting_down": 1304,
    "internal": 1305,
    "invalid_settings": 1306,
    "cannot_start": 1307,
    "token_keys_unavailable": 1308,
}
"""From an error's code to its number."""

PROTOCOL_OWN: Final = frozenset({"token_expired", "unknown_method"})
"""Errors that bear the protocol's own number: SDKs act on 109 and ask for a new token; 104 is what
programs written against the protocol know for a method that is not there."""


class ProtocolError(NamedTuple):
    """An error of the protocol itself, outside our own family, as SDKs know it."""

    number: int
    message: str


ALREADY_SUBSCRIBED: Final = ProtocolError(105, "already subscribed")
NOT_AVAILABLE: Final = ProtocolError(108, "not available")
UNRECOVERABLE_POSITION: Final = ProtocolError(112, "unrecoverable position")


class Disconnect(NamedTuple):
    """Why a connection is ended: the WebSocket close code, and plain words (123 bytes at most)."""

    code: int
    reason: str

    @property
    def comes_back(self) -> bool:
        """Whether SDKs connect again by themselves."""
        return self.code < 4500


SHUTTING_DOWN: Final = Disconnect(4000, "the server is going down")
SLOW: Final = Disconnect(4001, "too slow to take what is sent")
NO_PONG: Final = Disconnect(4002, "no pong in time")
FAILED: Final = Disconnect(4003, "the server failed")
TOKEN_EXPIRED: Final = Disconnect(4004, "the token has expired")
CONNECT_TIMEOUT: Final = Disconnect(4005, "no connect command in time")
REFUSED: Final = Disconnect(4006, "the connect command was refused")
TOO_MANY_COMMANDS: Final = Disconnect(4007, "too many commands")
TOO_MANY_CONNECTIONS: Final = Disconnect(4008, "too many connections")

SUSPENDED: Final = Disconnect(4500, "the account is suspended")
ERASED: Final = Disconnect(4501, "the account has been erased")
SESSIONS_ENDED: Final = Disconnect(4502, "the session was ended")
BAD_REQUEST: Final = Disconnect(4503, "not a command of this protocol")
CONNECT_FIRST: Final = Disconnect(4504, "the first command must be connect")
ALREADY_CONNECTED: Final = Disconnect(4505, "connect came a second time")
UNASKED_PONG: Final = Disconnect(4506, "a pong without a ping")
BINARY_FRAME: Final = Disconnect(4507, "a binary frame where only text is understood")
INVALID_UTF8: Final = Disconnect(4508, "text that is not valid UTF-8")
FRAME_TOO_LARGE: Final = Disconnect(4509, "a frame over the hard limit")
BAD_FRAME: Final = Disconnect(4510, "not a valid WebSocket frame")
NO_REPLY_COMMAND: Final = Disconnect(4511, "send is not available, use publish or rpc")
TEXT_FRAME: Final = Disconnect(4512, "a text frame where only Protobuf is understood")

DISCONNECTS: Final = (
    SHUTTING_DOWN,
    SLOW,
    NO_PONG,
    FAILED,
    TOKEN_EXPIRED,
    CONNECT_TIMEOUT,
    REFUSED,
    TOO_MANY_COMMANDS,
    TOO_MANY_CONNECTIONS,
    SUSPENDED,
    ERASED,
    SESSIONS_ENDED,
    BAD_REQUEST,
    CONNECT_FIRST,
    ALREADY_CONNECTED,
    UNASKED_PONG,
    BINARY_FRAME,
    INVALID_UTF8,
    FRAME_TOO_LARGE,
    BAD_FRAME,
    NO_REPLY_COMMAND,
    TEXT_FRAME,
)
"""Every code that the server closes a connection with."""

UNSUBSCRIBE_NUMBERS: Final = {"left": 2100, "removed": 2101, "erased": 2102, "dissolved": 2103}
"""Why a subscription ended, for the `unsubscribe` push: none of them resubscribes."""
