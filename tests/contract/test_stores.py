"""The store's contract, over every store there is."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from qunxin.stores.sqlite import SqliteStore

pytest.register_assert_rewrite("qunxin.testing.store")

from qunxin.testing.store import StoreMaker, StoreSuite  # noqa: E402
from qunxin.testing.store.whole import OpenCopy  # noqa: E402


class TestSqliteStore(StoreSuite):
    @pytest.fixture
    def make_store(self, tmp_path: Path) -> StoreMaker:
        return lambda clock: SqliteStore(tmp_path / "消息.db", clock)

    @pytest.fixture
    def open_copy(self) -> OpenCopy:
        return SqliteStore

    @pytest.fixture
    def make_empty(self, tmp_path: Path) -> StoreMaker:
        numbers = itertools.count()
        return lambda clock: SqliteStore(tmp_path / f"空 {next(numbers)}.db", clock)
