"""What each operation takes: one struct an operation, the same over HTTP and realtime `rpc`.

Over HTTP the fields come from the path, the query and the body; over `rpc` all stand together
in one object. Decoding is strict: a field that is not listed here refuses the request. The
constraints are those that a description in JSON schema can carry; what needs the engine's
settings or the store is judged there.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, TypeAlias

import msgspec
from msgspec import Meta

from qunxin.engine.access import Scope
from qunxin.engine.content import MAX_KEY_LENGTH, MAX_SEGMENTS, Segment
from qunxin.engine.tokens import MAX_TOKEN_ID_LENGTH, MAX_TOKEN_SECONDS
from qunxin.engine.webhooks import (
    DEFAULT_OVERLAP_SECONDS,
    EVENTS,
    MAX_OVERLAP_SECONDS,
    MAX_URL_LENGTH,
)
from qunxin.gateways.operations.responses import RoleName
from qunxin.gateways.operations.wording import CONVERSATION_PATTERN, ID_PATTERN, NAME_PATTERN
from qunxin.model import (
    MAX_ID_LENGTH,
    MAX_INTEGER,
    DeliveryState,
    History,
    Require,
    UserState,
)

MAX_NAME_LENGTH: Final = 200
MAX_KEY_NAME_LENGTH: Final = 100
MAX_CURSOR_LENGTH: Final = 512
MAX_PAGE: Final = 1000
MAX_USERS_AT_ONCE: Final = 10_000


def _id(description: str, example: str) -> Meta:
    return Meta(
        min_length=1,
        max_length=MAX_ID_LENGTH,
        pattern=ID_PATTERN,
        description=description,
        examples=[example],
    )


UserId: TypeAlias = Annotated[str, _id("The user's id.", "alice")]
BlockedId: TypeAlias = Annotated[str, _id("The id of the user to block.", "mallory")]
GroupId: TypeAlias = Annotated[str, _id("The group's id.", "tea")]
ActingId: TypeAlias = Annotated[
    str,
    _id(
        "The user in whose name an API key acts. Users act as themselves and leave it out.",
        "alice",
    ),
]
DisplayName: TypeAlias = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=MAX_NAME_LENGTH,
        pattern=NAME_PATTERN,
        description="What people see: any Unicode, without control characters and line breaks.",
        examples=["茶友会 🍵"],
    ),
]
ConversationName: TypeAlias = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=9 + 2 * MAX_ID_LENGTH,
        pattern=CONVERSATION_PATTERN,
        description=(
            "`group:<group>`, `private:<a>~<b>` (the two users sorted), `broadcast:all` or "
            "`inbox:<user>`."
        ),
        examples=["group:tea"],
    ),
]
EntryPosition: TypeAlias = Annotated[
    int,
    Meta(
        ge=1, le=MAX_INTEGER, description="The entry's number in its conversation.", examples=[17]
    ),
]
PageCursor: TypeAlias = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=MAX_CURSOR_LENGTH,
        description="`next_cursor` of the page before; left out for the first page.",
    ),
]
PageLimit: TypeAlias = Annotated[
    int, Meta(ge=1, le=MAX_PAGE, description="How many at most.", examples=[100])
]
IdempotencyKey: TypeAlias = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=MAX_KEY_LENGTH,
        description=(
            "Chosen by the sender, one a message. A repeat with the same key and content gives "
            "the first outcome again; with other content it is refused."
        ),
        examples=["早安-2024-11-23-🌅"],
    ),
]


class Request(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What every request struct is."""


class PutUser(Request, frozen=True):
    user: UserId | None = None
    name: DisplayName | None = None
    state: (
        Annotated[
            UserState,
            Meta(
                description="`active` or `suspended`; for API keys only.",
                extra_json_schema={"enum": ["active", "suspended"]},
            ),
        ]
        | None
    ) = None


class OfUser(Request, frozen=True):
    """Names a user; a user who leaves it out means themself."""

    user: UserId | None = None


class ListUsers(Request, frozen=True):
    cursor: PageCursor | None = None
    limit: PageLimit = 100


class Block(Request, frozen=True, kw_only=True):
    user: UserId | None = None
    blocked: BlockedId


class ListConversations(Request, frozen=True):
    user: UserId | None = None
    cursor: PageCursor | None = None
    limit: PageLimit = 200


class PutGroup(Request, frozen=True):
    group: GroupId
    name: DisplayName | None = None
    owner: (
        Annotated[
            str,
            _id("Who owns the new group (a user: themself); ignored afterwards.", "alice"),
        ]
        | None
    ) = None
    members: Annotated[
        tuple[UserId, ...],
        Meta(
            max_length=MAX_USERS_AT_ONCE,
            description="The first members; counts at the creation only.",
        ),
    ] = ()
    history: (
        Annotated[
            History,
            Meta(description="What a new member may read: from their `joined` entry, or in full."),
        ]
        | None
    ) = None
    require: (
        Annotated[
            Require,
            Meta(description="For messages that say nothing themselves: `reachable` or `all`."),
        ]
        | None
    ) = None
    muted: Annotated[bool, Meta(description="Whether only owners and admins may write.")] | None = (
        None
    )
    acting: ActingId | None = msgspec.field(default=None, name="from")


class GetGroup(Request, frozen=True):
    group: GroupId
    acting: ActingId | None = msgspec.field(default=None, name="as")


class ListGroups(Request, frozen=True):
    cursor: PageCursor | None = None
    limit: PageLimit = 100


class ListMembers(Request, frozen=True):
    group: GroupId
    cursor: PageCursor | None = None
    limit: PageLimit = 100
    acting: ActingId | None = msgspec.field(default=None, name="as")


class ListPresent(Request, frozen=True):
    group: GroupId
    limit: PageLimit = 100
    acting: ActingId | None = msgspec.field(default=None, name="as")


class DissolveGroup(Request, frozen=True):
    group: GroupId
    acting: ActingId | None = msgspec.field(default=None, name="from")


class AddMembers(Request, frozen=True):
    group: GroupId
    users: Annotated[
        tuple[UserId, ...],
        Meta(
            min_length=1,
            max_length=MAX_USERS_AT_ONCE,
            description="Who is to be added.",
            examples=[["bob", "carol"]],
        ),
    ]
    acting: ActingId | None = msgspec.field(default=None, name="from")


class RemoveMember(Request, frozen=True):
    group: GroupId
    user: UserId
    acting: ActingId | None = msgspec.field(default=None, name="from")


class ChangeMember(Request, frozen=True):
    group: GroupId
    user: UserId
    role: Annotated[RoleName, Meta(description="The new role; owners set it.")] | None = None
    muted: Annotated[bool, Meta(description="Whether the member may not write.")] | None = None
    acting: ActingId | None = msgspec.field(default=None, name="from")


class SendMessage(Request, frozen=True):
    type: Annotated[
        Any,
        Meta(
            description=(
                "`private`, `group` or `broadcast`. Never guessed: without it the message is "
                "refused, whatever names exist."
            ),
            examples=["group"],
            extra_json_schema={"type": "string", "enum": ["private", "group", "broadcast"]},
            extra={"required": True},
        ),
    ] = None
    to: (
        Annotated[
            str,
            Meta(
                max_length=MAX_ID_LENGTH,
                description="The group's id, the user's id; for a broadcast `all` or nothing.",
                examples=["tea"],
            ),
        ]
        | None
    ) = None
    acting: ActingId | None = msgspec.field(default=None, name="from")
    text: (
        Annotated[
            str,
            Meta(
                description="Short for a `content` of one text segment. One of the two is needed.",
                examples=["你好，大家 👋🏽"],
            ),
        ]
        | None
    ) = None
    content: (
        Annotated[
            list[Segment],
            Meta(
                min_length=1,
                max_length=MAX_SEGMENTS,
                description=(
                    "A list of segments: `text`, `mention`, `image`, `file`, `reply`, `custom`."
                ),
            ),
        ]
        | None
    ) = None
    key: IdempotencyKey | None = None
    require: (
        Annotated[
            Require,
            Meta(
                description=(
                    "`reachable`: accepted for all who can be reached, the others named. `all`: "
                    "one unreachable member refuses the whole message. Left out: as the group "
                    "has it set."
                )
            ),
        ]
        | None
    ) = None


class RecallMessage(Request, frozen=True):
    conversation: ConversationName
    position: EntryPosition
    acting: ActingId | None = msgspec.field(default=None, name="from")


class ReadEntries(Request, frozen=True):
    conversation: ConversationName
    after: (
        Annotated[
            int,
            Meta(ge=0, le=MAX_INTEGER, description="Entries above this position, oldest first."),
        ]
        | None
    ) = None
    before: (
        Annotated[
            int,
            Meta(
                ge=1,
                le=MAX_INTEGER,
                description=(
                    "Entries below this position: the newest, or with `after`, which must be "
                    "lower, those between the two."
                ),
            ),
        ]
        | None
    ) = None
    limit: PageLimit = 100
    acting: ActingId | None = msgspec.field(default=None, name="as")


class ListDeliveries(Request, frozen=True):
    conversation: ConversationName
    position: EntryPosition
    state: Annotated[DeliveryState, Meta(description="Only members of whom this holds.")] | None = (
        None
    )
    cursor: PageCursor | None = None
    limit: PageLimit = 100
    acting: ActingId | None = msgspec.field(default=None, name="as")


class MarkRead(Request, frozen=True, kw_only=True):
    user: UserId | None = None
    conversation: ConversationName
    position: Annotated[
        int, Meta(ge=0, le=MAX_INTEGER, description="Everything up to here has been read.")
    ]


class CreateToken(Request, frozen=True):
    user: UserId
    ttl_seconds: (
        Annotated[
            int,
            Meta(
                ge=1,
                le=MAX_TOKEN_SECONDS,
                description="How long the token is valid. Left out: as the server is set.",
                examples=[3600],
            ),
        ]
        | None
    ) = None


class EndSession(Request, frozen=True, kw_only=True):
    user: UserId | None = None
    session: Annotated[
        str,
        Meta(min_length=1, max_length=MAX_ID_LENGTH, description="The session's id, as listed."),
    ]


class RevokeToken(Request, frozen=True, kw_only=True):
    user: UserId | None = None
    id: Annotated[
        str,
        Meta(
            min_length=1,
            max_length=MAX_TOKEN_ID_LENGTH,
            description="The token's id: its claim `jti`.",
        ),
    ]


class CreateKey(Request, frozen=True):
    name: Annotated[
        str,
        Meta(
            min_length=1,
            max_length=MAX_KEY_NAME_LENGTH,
            pattern=NAME_PATTERN,
            description="What the key is for, as people see it.",
            examples=["订单服务 orders"],
        ),
    ]
    scopes: (
        Annotated[
            tuple[Scope, ...],
            Meta(
                description="What the key may do. Left out: everything but making other keys and "
                "webhooks."
            ),
        ]
        | None
    ) = None


class Nothing(Request, frozen=True):
    """No fields."""


class OfKey(Request, frozen=True):
    id: Annotated[
        str, Meta(min_length=1, max_length=MAX_ID_LENGTH, description="The key's public id.")
    ]


WebhookId: TypeAlias = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=MAX_ID_LENGTH,
        description="The webhook's id.",
        examples=["9c1e5a7d20b4"],
    ),
]
WebhookUrl: TypeAlias = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=MAX_URL_LENGTH,
        description=(
            "Where events are posted to: an absolute HTTPS address. Plain HTTP and private "
            "addresses only in the networks that the server is told of (`webhook_networks`)."
        ),
        examples=["https://shop.example.org/qunxin"],
    ),
]
WebhookEvents: TypeAlias = Annotated[
    tuple[Annotated[str, Meta(extra_json_schema={"enum": list(EVENTS)})], ...],
    Meta(max_length=len(EVENTS), description="The event types to be told of. Empty: all."),
]


class CreateWebhook(Request, frozen=True):
    url: WebhookUrl
    events: WebhookEvents = ()


class OfWebhook(Request, frozen=True):
    id: WebhookId


class ChangeWebhook(Request, frozen=True):
    id: WebhookId
    url: WebhookUrl | None = None
    events: WebhookEvents | None = None
    paused: Annotated[bool, Meta(description="True: send nothing until told to go on.")] | None = (
        None
    )


class RotateWebhook(Request, frozen=True):
    id: WebhookId
    overlap_seconds: Annotated[
        int,
        Meta(
            ge=0,
            le=MAX_OVERLAP_SECONDS,
            description="How long the secret before this one signs beside it.",
        ),
    ] = DEFAULT_OVERLAP_SECONDS


class ReplayWebhook(Request, frozen=True):
    id: WebhookId
    since: Annotated[
        int,
        Meta(
            ge=0,
            le=MAX_INTEGER,
            description="Send everything again that happened then or later; milliseconds since "
            "1970. 0: everything there is.",
            examples=[1_764_000_000_000],
        ),
    ]
