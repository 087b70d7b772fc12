from dataclasses import replace

import pytest

from penaltyscope_service.registry import TrackedRun
from penaltyscope_service.states import Ending, RunRecord, Uptime
from penaltyscope_service.vitals import Patience, Watchman

WATCHMAN = Watchman(
    Patience(lost_after_seconds=60.0, stall_floor_seconds=30.0, terminal_grace_seconds=300.0),
    Uptime(alive_at=0.0, opened_at=0.0),
)
RUNNING = RunRecord(
    id=1,
    run="run-1",
    started_at=1000.0,
    received_at=1000.0,
    reopened_at=1000.0,
    attempt=0,
    world_size=1,
    tags={},
    ranks=(0,),
    present=frozenset({0}),
)
FINISHED = replace(RUNNING, endings={0: Ending(status="finished", time_ns=1)}, ended_at=1000.0)


@pytest.mark.parametrize("record", [RUNNING, FINISHED])
@pytest.mark.parametrize("silent_seconds", [0.0, 59.0, 61.0, 62.0, 1000.0])
def test_a_run_is_live_in_the_states_that_are(record: RunRecord, silent_seconds: float) -> None:
    run, now = TrackedRun(record), record.received_at + silent_seconds
    assert WATCHMAN.is_live(run, now) == (WATCHMAN.state(run, now) in ("running", "stalled"))


def test_a_run_is_live_until_it_ends_or_is_not_heard_of_for_long() -> None:
    assert WATCHMAN.is_live(TrackedRun(RUNNING), 1060.0)
    assert not WATCHMAN.is_live(TrackedRun(RUNNING), 1070.0)
    assert not WATCHMAN.is_live(TrackedRun(FINISHED), 1000.0)
