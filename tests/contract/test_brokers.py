"""The broker's contract, over every broker there is."""

from __future__ import annotations

import asyncio

import pytest

from qunxin.broker import Batch
from qunxin.brokers.local import LocalBroker

pytest.register_assert_rewrite("qunxin.testing.broker")

from qunxin.testing.broker import BrokerPair, BrokerSuite, PairMaker, batch  # noqa: E402


def _local() -> BrokerPair:
    broker = LocalBroker()
    return broker, broker


class TestLocalBroker(BrokerSuite):
    @pytest.fixture
    def make_brokers(self) -> PairMaker:
        return _local

    async def test_loses_nothing_that_one_transaction_brings(self) -> None:
        """A change of 10,000 members is told to each of them, in order, and others have their turn
        between."""
        broker, order = LocalBroker(), list[str]()
        inboxes = [f"inbox:茶{number}" for number in range(12_000)]
        (entry,) = batch("inbox:茶", 1, "进群").entries
        await broker.open(lambda received: order.append(received.conversation))
        for name in inboxes:
            broker.subscribe(name)
        for name in inboxes:
            broker.publish(Batch(name, (entry,)))
        turns = 0
        while len(order) < len(inboxes):
            await asyncio.sleep(0)
            turns += 1
        assert order == inboxes
        assert turns > 10
        await broker.close()
