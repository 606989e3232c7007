"""How long a thread of a serving process keeps the interpreter."""

from __future__ import annotations

import sys

import pytest

from qunxin.ops.switching import quick_switches


def test_threads_take_shorter_turns_while_a_node_serves() -> None:
    """And the process is as it was afterwards."""
    before = sys.getswitchinterval()
    with quick_switches():
        shorter = sys.getswitchinterval()
    assert shorter == pytest.approx(0.001)
    assert shorter < before == sys.getswitchinterval()
