"""How a subscription is shown to a client, at its start and when it is gained, and who comes and
goes there."""

from __future__ import annotations

import msgspec

from qunxin.engine.sink import Comings, SubscriptionStart
from qunxin.gateways.operations.responses import ConversationView
from qunxin.wire.format import Format


class Subscription(msgspec.Struct, frozen=True, omit_defaults=True):
    """`subs` of a connect reply, the reply to `subscribe`, and the `subscribe` push.

    `offset` is the position asked from, never the head: the client stores it before it has what
    follows. Missed entries come as ordinary pushes behind it.
    """

    epoch: str
    offset: int
    recoverable: bool
    positioned: bool
    data: ConversationView | None = None
    was_recovering: bool = False
    recovered: bool = False


def subscription_view(start: SubscriptionStart) -> Subscription:
    """What stands in the protocol for `start`. Where the client must reload, it is told that it
    was recovering, whether it had asked or not: that is the only sign that apps are given."""
    return Subscription(
        epoch=start.epoch,
        offset=start.position,
        recoverable=True,
        positioned=True,
        data=None if start.row is None else ConversationView.of(start.row),
        was_recovering=start.asked or not start.recovered,
        recovered=start.asked and start.recovered,
    )


def encode_comings(form: Format, comings: Comings) -> bytes:
    """A payload of one push for each coming and going, in order."""
    name = comings.conversation
    return form.join(
        [
            (form.join_push if one.here else form.leave_push)(name, one.session, one.user)
            for one in comings.comings
        ]
    )
