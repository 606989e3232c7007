"""Cursors: how far users have got, raised many at once in one statement."""

from __future__ import annotations

from typing import Final

import msgspec

from qunxin.store.commands import MoveCursors
from qunxin.store.results import Done
from qunxin.stores.sqlite.transaction import Transaction

_HEAD: Final = "(SELECT max(position) FROM entries WHERE conversation = c.key)"

_MOVE: Final = f"""
    INSERT INTO cursors (conversation, user, delivered, read)
    SELECT conversation, user, min(max(delivered, read), highest), min(read, highest)
    FROM (
        SELECT c.key AS conversation, u.key AS user,
               j.value ->> 2 AS delivered, j.value ->> 3 AS read,
               CASE c.kind
                   WHEN 'inbox' THEN iif(c.key = u.key, {_HEAD}, 0)
                   WHEN 'broadcast' THEN iif({_HEAD} >= u.broadcast_first, {_HEAD}, 0)
                   ELSE (
                       SELECT COALESCE(s.last, {_HEAD}) FROM stays s
                       WHERE s.conversation = c.key AND s.user = u.key
                       ORDER BY s.joined DESC LIMIT 1
                   )
               END AS highest
        FROM json_each(?) j
        CROSS JOIN users u ON u.user = j.value ->> 0 AND u.state <> 'erased'
        CROSS JOIN conversations c ON c.name = j.value ->> 1
    )
    WHERE highest > 0 AND max(delivered, read) > 0
    ON CONFLICT (conversation, user) DO UPDATE SET
        delivered = max(delivered, excluded.delivered), read = max(read, excluded.read)
        WHERE excluded.delivered > delivered OR excluded.read > read
"""  # noqa: S608
"""Whoever was never in a conversation has no cursor there, and who left it none beyond the
leaving: the ledger must not claim what no device can have been sent."""


def move_cursors(tx: Transaction, command: MoveCursors) -> Done:
    named = [[one.user, one.conversation, one.delivered, one.read] for one in command.cursors]
    if named:
        tx.run(_MOVE, (msgspec.json.encode(named).decode(),))
    return Done(None)
