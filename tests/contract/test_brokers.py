"""The broker's contract, over every broker there is."""

from __future__ import annotations

import pytest

from qunxin.brokers.local import LocalBroker

pytest.register_assert_rewrite("qunxin.testing.broker")

from qunxin.testing.broker import BrokerPair, BrokerSuite, PairMaker  # noqa: E402


def _local() -> BrokerPair:
    broker = LocalBroker()
    return broker, broker


class TestLocalBroker(BrokerSuite):
    @pytest.fixture
    def make_brokers(self) -> PairMaker:
        return _local
