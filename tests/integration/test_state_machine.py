"""Generated scenarios against the reference model, through every door."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from door_embedded import EmbeddedDoor
from door_http import HttpDoor
from door_realtime import RealtimeDoor
from doors import Door
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from state_scenario import Scenario

from serving import ServerProcess


def _run(make_door: Callable[[], Door], examples: int, steps: int, *, alone: bool) -> None:
    run_state_machine_as_test(
        lambda: Scenario(make_door(), restarts=alone, alone=alone),  # type: ignore[arg-type]
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
            phases=(Phase.generate,),
        ),
    )


def _embedded(folder: Path) -> Callable[[], Door]:
    return lambda: EmbeddedDoor(Path(tempfile.mkdtemp(dir=folder)) / "chat 茶.db")


@pytest.mark.timeout(180)
def test_scenarios_embedded(tmp_path: Path) -> None:
    """Everything, restarts included, on a store of its own each time."""
    _run(_embedded(tmp_path), 60, 40, alone=True)


@pytest.mark.timeout(180)
def test_scenarios_over_http(shared_server: ServerProcess) -> None:
    """The same over a real server that others use too."""
    _run(lambda: HttpDoor(shared_server), 6, 30, alone=False)


@pytest.mark.timeout(180)
def test_scenarios_over_realtime(shared_server: ServerProcess) -> None:
    """The same over WebSockets."""
    _run(lambda: RealtimeDoor(shared_server), 6, 30, alone=False)


@pytest.mark.fuzz
@pytest.mark.may_block("the machine is busy, and each store that is opened waits for its threads")
@pytest.mark.timeout(1_000)
@pytest.mark.parametrize("_part", range(8))
def test_many_scenarios_embedded(tmp_path: Path, _part: int) -> None:
    """A thousand, and longer ones. In parts, since what Hypothesis keeps of each example makes the
    collector's pauses longer and longer."""
    _run(_embedded(tmp_path), 125, 80, alone=True)


@pytest.mark.fuzz
@pytest.mark.timeout(3_000)
@pytest.mark.parametrize("door", [HttpDoor, RealtimeDoor])
def test_many_scenarios_over_the_network(
    shared_server: ServerProcess, door: Callable[[ServerProcess], Door]
) -> None:
    """Many more over a real server."""
    _run(lambda: door(shared_server), 100, 60, alone=False)
