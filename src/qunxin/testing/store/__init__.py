"""The suite that every store passes. To run it over a store of your own:

    import pytest
    pytest.register_assert_rewrite("qunxin.testing.store")
    from qunxin.testing.store import StoreSuite

    class TestMyStore(StoreSuite):
        @pytest.fixture
        def make_store(self, tmp_path):
            return lambda clock: MyStore(tmp_path / "data", clock)

        @pytest.fixture
        def open_copy(self):
            return lambda path: MyStore(path)

        @pytest.fixture
        def make_empty(self, tmp_path):
            numbers = itertools.count()
            return lambda clock: MyStore(tmp_path / f"empty {next(numbers)}", clock)

It needs pytest, pytest-asyncio in its auto mode, and hypothesis. Each test's first line says
what it proves.
"""

from qunxin.testing.store.chat import Chat, StoreMaker
from qunxin.testing.store.groups import GroupSuite
from qunxin.testing.store.keys import KeySuite
from qunxin.testing.store.ledger import LedgerSuite
from qunxin.testing.store.lists import CursorSuite, ListSuite
from qunxin.testing.store.logs import LogSuite
from qunxin.testing.store.members import MemberSuite
from qunxin.testing.store.outbox import OutboxSuite
from qunxin.testing.store.posts import BroadcastSuite, PostSuite, PrivateSuite
from qunxin.testing.store.properties import PropertySuite
from qunxin.testing.store.recalls import RecallSuite
from qunxin.testing.store.transfers import TransferSuite
from qunxin.testing.store.users import UserSuite
from qunxin.testing.store.whole import WholeSuite

__all__ = ["Chat", "StoreMaker", "StoreSuite"]


class StoreSuite(
    UserSuite,
    GroupSuite,
    MemberSuite,
    PostSuite,
    PrivateSuite,
    BroadcastSuite,
    KeySuite,
    LogSuite,
    RecallSuite,
    CursorSuite,
    ListSuite,
    LedgerSuite,
    OutboxSuite,
    WholeSuite,
    TransferSuite,
    PropertySuite,
):
    """The whole of it. Provide `make_store`, `open_copy` and `make_empty`."""


def _check_names() -> None:
    """No part may hide a test of another."""
    seen: set[str] = set()
    for part in StoreSuite.__bases__:
        names = {name for name in vars(part) if name.startswith("test_")}
        if names & seen:
            raise TypeError(f"tests of one name: {sorted(names & seen)}")
        seen |= names


_check_names()
