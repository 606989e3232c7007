"""How rarely a serving process is stopped by the collector of reference cycles."""

from __future__ import annotations

import gc

import pytest

from qunxin.ops.collector import rare_collections


class Node:
    """Something that a full collection looks at."""


def full_collections() -> int:
    return int(gc.get_stats()[2]["collections"])


def grow(count: int) -> tuple[list[Node], int]:
    """`count` objects more, and how many full collections they brought about."""
    before = full_collections()
    return [Node() for _ in range(count)], full_collections() - before


def test_a_growing_heap_is_not_looked_at_whole() -> None:
    with rare_collections():
        kept, collections = grow(400_000)
    assert collections == 0
    assert len(kept) == 400_000


def test_what_was_there_before_is_never_looked_at() -> None:
    old = Node()
    with rare_collections():
        assert not any(found is old for found in gc.get_objects())
        assert gc.get_freeze_count() > 0


def test_afterwards_the_process_is_as_it_was() -> None:
    before = gc.get_threshold()
    with pytest.raises(ZeroDivisionError), rare_collections():
        raise ZeroDivisionError
    assert gc.get_threshold() == before
    assert gc.get_freeze_count() == 0
