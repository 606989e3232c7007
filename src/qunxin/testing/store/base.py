"""What every part of the suite stands on: the fixtures that give a store to its tests."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from qunxin.testing.clock import ManualClock
from qunxin.testing.store.chat import Chat, StoreMaker


class StoreBase:
    """Override `make_store`; everything else follows from it."""

    @pytest.fixture
    def make_store(self) -> StoreMaker:
        """A function that makes a store that is not open, over the same fresh data each time."""
        pytest.fail("a class that runs the suite must provide make_store")

    @pytest.fixture
    def clock(self) -> ManualClock:
        return ManualClock()

    @pytest.fixture
    async def chat(self, make_store: StoreMaker, clock: ManualClock) -> AsyncIterator[Chat]:
        store = make_store(clock)
        await store.open()
        yield Chat(store, clock)
        await store.close()
