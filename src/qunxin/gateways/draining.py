"""How the connections of a node that goes down are ended: in equal lots, evenly over the time that
is left, so that the devices do not all come back at once. Pure."""

from __future__ import annotations

import math
from typing import Final, NamedTuple

LOT_SECONDS: Final = 0.05
"""From one lot to the next."""
SMALL_LOT: Final = 25
"""Up to so many are ended together: a small node does not wait for the sake of spreading."""


class Lot(NamedTuple):
    size: int
    after_seconds: float
    """From the beginning."""


def plan_lots(connections: int, seconds: float) -> list[Lot]:
    """All `connections`, none later than `seconds` from the beginning, in lots that differ by one
    at most: of up to `SMALL_LOT` while that is in time, else as many as the time has room for."""
    if connections == 0:
        return []
    room = max(1, math.floor(seconds / LOT_SECONDS))
    lots = min(room, math.ceil(connections / SMALL_LOT))
    size, larger = divmod(connections, lots)
    return [Lot(size + (index < larger), index * LOT_SECONDS) for index in range(lots)]
