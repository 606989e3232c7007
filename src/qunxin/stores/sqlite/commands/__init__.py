"""What each command does in the open transaction: one file for each family.

A handler judges first and refuses by raising `QunxinError`; only then it writes. So a refusal
never has anything to take back, and needs no savepoint.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from qunxin.store.commands import (
    AddMembers,
    ChangeMember,
    DeleteWebhook,
    DissolveGroup,
    EndSessions,
    EraseUser,
    MoveCursors,
    MoveWebhook,
    PutApiKey,
    PutGroup,
    PutUser,
    PutWebhook,
    Recall,
    RemoveMember,
    RevokeApiKey,
    RevokeTokens,
    SetBlock,
    SweepErased,
)
from qunxin.store.results import Done
from qunxin.stores.sqlite.commands.api_keys import put_api_key, revoke_api_key
from qunxin.stores.sqlite.commands.cursors import move_cursors
from qunxin.stores.sqlite.commands.groups import dissolve_group, put_group
from qunxin.stores.sqlite.commands.members import (
    add_members,
    change_member,
    remove_member,
    sweep_erased,
)
from qunxin.stores.sqlite.commands.recalls import recall
from qunxin.stores.sqlite.commands.revocations import revoke_tokens
from qunxin.stores.sqlite.commands.users import end_sessions, erase_user, put_user, set_block
from qunxin.stores.sqlite.commands.webhooks import delete_webhook, move_webhook, put_webhook
from qunxin.stores.sqlite.transaction import Transaction

Handler = Callable[[Transaction, Any], Done]

HANDLERS: Final[dict[type, Handler]] = {
    PutUser: put_user,
    EraseUser: erase_user,
    SetBlock: set_block,
    EndSessions: end_sessions,
    RevokeTokens: revoke_tokens,
    PutGroup: put_group,
    DissolveGroup: dissolve_group,
    AddMembers: add_members,
    RemoveMember: remove_member,
    ChangeMember: change_member,
    Recall: recall,
    MoveCursors: move_cursors,
    PutApiKey: put_api_key,
    RevokeApiKey: revoke_api_key,
    PutWebhook: put_webhook,
    MoveWebhook: move_webhook,
    DeleteWebhook: delete_webhook,
    SweepErased: sweep_erased,
}
"""All but `Post`, whose runs `posts` carries out together."""
