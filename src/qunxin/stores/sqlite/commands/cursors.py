"""Cursors: how far users have got, raised many at once in one statement."""

from __future__ import annotations

from typing import Final

import msgspec

from qunxin.store.commands import MoveCursors
from qunxin.store.results import Done
from qunxin.stores.sqlite.transaction import Transaction

_HEAD: Final = "(SELECT max(position) FROM entries WHERE conversation = c.key)"

_BOTH_MISS: Final = "max(missed_from, excluded.missed_from) <= min(missed_to, excluded.missed_to)"

_MOVE: Final = f"""
    INSERT INTO cursors (conversation, user, delivered, read, missed_from, missed_to)
    SELECT conversation, user, min(delivered, highest), min(read, highest),
           iif(missed_from > highest, 0, missed_from),
           iif(missed_from > highest, 0, min(missed_to, highest))
    FROM (
        SELECT c.key AS conversation, u.key AS user,
               j.value ->> 2 AS delivered, j.value ->> 3 AS read,
               j.value ->> 4 AS missed_from, j.value ->> 5 AS missed_to,
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
    WHERE highest > 0 AND delivered > 0
    ON CONFLICT (conversation, user) DO UPDATE SET
        delivered = max(delivered, excluded.delivered), read = max(read, excluded.read),
        missed_from = CASE
            WHEN {_BOTH_MISS} THEN max(missed_from, excluded.missed_from)
            WHEN excluded.missed_to > delivered THEN max(excluded.missed_from, delivered + 1)
            WHEN missed_to > excluded.delivered THEN max(missed_from, excluded.delivered + 1)
            ELSE 0 END,
        missed_to = CASE
            WHEN excluded.missed_to > delivered THEN excluded.missed_to
            WHEN missed_to > excluded.delivered THEN missed_to
            WHEN {_BOTH_MISS} THEN min(missed_to, excluded.missed_to)
            ELSE 0 END
        WHERE excluded.delivered > delivered OR excluded.read > read OR missed_to > 0
"""  # noqa: S608
"""`Cursor.merged`, of what is there and what comes, both settled. Whoever was never in a
conversation has no cursor there, and who left it none beyond the leaving: the ledger must not
claim what no device can have been sent."""


def move_cursors(tx: Transaction, command: MoveCursors) -> Done:
    settled = [msgspec.structs.astuple(one.settled()) for one in command.cursors]
    if settled:
        tx.run(_MOVE, (msgspec.json.encode(settled).decode(),))
    return Done(None)
