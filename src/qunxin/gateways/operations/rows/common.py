"""What rows of several subjects say alike: statuses of success, and refusals."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from qunxin.gateways.operations import responses as res

OK: Final = {200: "Done."}
SAVED: Final = {201: "Created.", 200: "Updated."}
CREATED: Final = {201: "Created."}

NO_GROUP: Final = ("group_not_found", "group_dissolved")
NO_USER: Final = ("user_not_found", "user_erased")
ACTING: Final = ("not_a_member", "user_not_found", "user_erased", "user_suspended")
"""About the user for whom something is done."""
NO_CONVERSATION: Final = ("conversation_not_found", "not_a_member", *NO_GROUP, *NO_USER)


def always(status: int) -> Callable[[Any], int]:
    return lambda _: status


def by_new(response: res.SavedUser | res.SavedGroup) -> int:
    return 201 if response.new else 200
