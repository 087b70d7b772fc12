"""What records and silence say about a run."""

import pytest

from penaltyscope_events import AttributeValue, Event, RunIdentity, names
from penaltyscope_service.states import (
    ProcessRecord,
    RunRecord,
    Uptime,
    begin,
    end,
    fail,
    hear,
    report,
    state_of,
)
from penaltyscope_service.summary import Failure, State
from tests.service.steps import INF, NAN

SECOND = 10**9
NEW = RunRecord(
    id=1, run="r", started_at=0.0, received_at=0.0, reopened_at=0.0, attempt=0, world_size=1
)


class Job:
    """A run of some ranks, told by what they send."""

    def __init__(self) -> None:
        self.run = NEW
        self.processes: dict[int, ProcessRecord] = {}
        self.now = 0.0

    def say(self, rank: int, attempt: int = 0, **tags: str) -> ProcessRecord:
        self.now += 1.0
        identity = RunIdentity(run_id="r", rank=rank, attempt=attempt, tags=tags)
        self.run = hear(self.run, identity, self.now)
        return self.processes.setdefault(rank, ProcessRecord(run=1, rank=rank, received_at=0.0))

    def start(self, rank: int, second: int, attempt: int = 0) -> None:
        process = self.say(rank, attempt)
        self.run, self.processes[rank] = begin(self.run, process, second * SECOND, self.now)

    def end(self, rank: int, second: int, status: str = "finished", attempt: int = 0) -> None:
        process = self.say(rank, attempt)
        attributes: dict[str, AttributeValue] = {names.STATUS: status}
        if status == "failed":
            attributes |= {names.EXCEPTION_TYPE: "ValueError", names.EXCEPTION_MESSAGE: "no"}
        event = Event(name=names.RUN_END, time_ns=second * SECOND, attributes=attributes)
        self.run = end(self.run, process, event, self.now)

    def status(self) -> str | None:
        return self.run.status

    def ended_at(self) -> float | None:
        return self.run.ended_at


def test_when_a_run_was_last_heard_of_is_known_to_a_second() -> None:
    identity = RunIdentity(run_id="r")
    run = hear(NEW, identity, 5.0)
    assert run.received_at == 5.0
    assert hear(run, identity, 5.75) is run
    assert hear(run, identity, 6.0).received_at == 6.0
    assert hear(run, identity, 3.0).received_at == 3.0  # the clock was set back


def test_a_run_is_finished_when_every_rank_that_spoke_is() -> None:
    job = Job()
    job.start(0, 1)
    job.start(1, 1)
    job.end(0, 5)
    assert job.status() is None
    assert job.ended_at() is None
    job.end(1, 6)
    assert (job.status(), job.ended_at()) == ("finished", job.now)


@pytest.mark.parametrize("status", ["failed", "interrupted"])
def test_a_run_ends_as_badly_as_any_of_its_ranks(status: str) -> None:
    job = Job()
    job.start(0, 1)
    job.start(1, 1)
    job.end(1, 5, status)
    assert (job.status(), job.ended_at()) == (status, job.now)
    ended_at = job.ended_at()
    job.end(0, 6, "finished")
    assert (job.status(), job.ended_at()) == (status, ended_at)


def test_a_failed_run_tells_why() -> None:
    job = Job()
    job.start(0, 1)
    job.end(0, 5, "failed")
    assert job.run.failure == Failure(type="ValueError", message="no")


def test_a_rank_that_speaks_for_the_first_time_after_the_others_ended_is_awaited() -> None:
    job = Job()
    job.start(0, 1)
    job.end(0, 5)
    assert job.status() == "finished"
    job.start(1, 2)  # its first request took longer
    assert job.status() is None
    assert job.ended_at() is None
    job.end(1, 6)
    assert job.status() == "finished"


def test_a_second_start_of_a_rank_starts_the_run_again() -> None:
    job = Job()
    job.start(0, 1)
    job.start(1, 1)
    job.end(1, 5, "failed")
    job.start(0, 10)  # its first process was killed without a word
    assert job.status() is None
    assert job.run.failure is None
    assert job.run.reopened_at == job.now
    job.start(1, 10)
    job.end(0, 20)
    job.end(1, 20)
    assert job.status() == "finished"


def test_a_rank_that_ended_again_before_another_started_again_has_ended() -> None:
    job = Job()
    for rank in (0, 1):
        job.start(rank, 1)
        job.end(rank, 5)
    job.start(0, 10)
    job.end(0, 12)
    job.start(1, 11)
    assert job.status() is None
    job.end(1, 13)
    assert job.status() == "finished"


def test_a_start_that_is_received_twice_changes_nothing() -> None:
    job = Job()
    job.start(0, 1)
    job.end(0, 5)
    job.start(0, 1)
    assert job.status() == "finished"


def test_the_late_end_of_an_earlier_process_is_not_heard() -> None:
    job = Job()
    job.start(0, 1)
    job.start(0, 10)
    job.end(0, 5, "failed")
    assert job.status() is None


def test_a_higher_attempt_starts_the_run_again_with_perhaps_fewer_ranks() -> None:
    job = Job()
    for rank in range(3):
        job.start(rank, 1)
    job.end(2, 5, "failed")
    job.start(0, 10, attempt=1)
    assert job.status() is None
    assert (job.run.attempt, sorted(job.run.present)) == (1, [0])
    job.start(1, 10, attempt=1)
    job.end(0, 20, attempt=1)
    job.end(1, 20, attempt=1)
    assert job.status() == "finished"
    assert job.run.ranks == (0, 1, 2)


def test_a_rank_of_an_earlier_attempt_is_not_awaited() -> None:
    job = Job()
    job.start(0, 10, attempt=1)
    job.say(7, attempt=0)
    job.end(0, 20, attempt=1)
    assert job.status() == "finished"
    assert job.run.ranks == (0, 7)


def test_tags_are_those_of_the_lowest_rank() -> None:
    job = Job()
    job.say(3, lr="3")
    assert job.run.tags == {"lr": "3"}
    job.say(0, lr="0")
    job.say(3, lr="3")
    assert job.run.tags == {"lr": "0"}


def test_an_exception_is_kept_without_ending_the_run() -> None:
    attributes: dict[str, AttributeValue] = {names.EXCEPTION_TYPE: "KeyError"}
    event = Event(name=names.PIPELINE_EXCEPTION, time_ns=1, attributes=attributes)
    run = fail(NEW, event)
    assert (run.failure, run.status) == (Failure(type="KeyError", message=""), None)


def health(second: int, **numbers: AttributeValue) -> Event:
    keys = {"dropped": names.DROPPED_STEPS, "overhead": names.OVERHEAD}
    attributes = {keys[name]: number for name, number in numbers.items()}
    return Event(name=names.RUN_HEARTBEAT, time_ns=second * SECOND, attributes=attributes)


def test_a_recorders_counters_go_on_over_its_restarts_and_ignore_late_reports() -> None:
    process = ProcessRecord(run=1, rank=0, received_at=0.0)
    for event in (
        health(1, dropped=5, overhead=0.5),
        health(3, dropped=9, overhead=0.7),
        health(2, dropped=7, overhead=0.6),
        health(4, dropped=2, overhead=0.1),
    ):
        process = report(process, event)
    assert process.dropped_before + process.dropped == 11
    assert process.overhead_seconds == 0.1


@pytest.mark.parametrize("overhead", [NAN, INF, -INF])
def test_nonsense_of_a_recorder_is_not_kept(overhead: float) -> None:
    process = ProcessRecord(run=1, rank=0, received_at=0.0, overhead_seconds=0.25)
    process = report(process, health(1, overhead=overhead, dropped=2**63 - 1))
    assert process.overhead_seconds == 0.25
    assert process.dropped == 2**53


@pytest.mark.parametrize(
    ("silent", "idle", "usual", "state"),
    [
        (0.0, None, 0.0, "running"),
        (30.0, 1.0, 0.0, "running"),
        (30.5, 1.0, 0.0, "lost"),
        (1.0, 60.0, 0.0, "running"),
        (1.0, 61.0, 0.0, "stalled"),
        (1.0, 61.0, 10.0, "running"),  # 20 of its own steps are 200 s
        (1.0, 201.0, 10.0, "stalled"),
        (31.0, 201.0, 10.0, "lost"),
        (1.0, None, 10.0, "running"),  # the first step takes as long as it takes
    ],
)
def test_silence_and_idleness_make_the_state_of_a_live_run(
    silent: float, idle: float | None, usual: float, state: State
) -> None:
    found = state_of(
        NEW,
        silent_seconds=silent,
        idle_seconds=idle,
        usual_seconds=usual,
        lost_after_seconds=30.0,
        stall_floor_seconds=60.0,
    )
    assert found == state


def test_a_run_that_ended_is_neither_lost_nor_stalled() -> None:
    job = Job()
    job.start(0, 1)
    job.end(0, 5, "interrupted")
    state = state_of(
        job.run,
        silent_seconds=1e9,
        idle_seconds=1e9,
        usual_seconds=0.0,
        lost_after_seconds=30.0,
        stall_floor_seconds=60.0,
    )
    assert state == "interrupted"


def test_time_in_which_the_service_was_down_is_no_silence() -> None:
    uptime = Uptime(alive_at=100.0, opened_at=700.0)
    assert uptime.since(95.0, 705.0) == 10.0
    assert uptime.since(20.0, 705.0) == 85.0
    assert uptime.since(701.0, 705.0) == 4.0


def test_a_clock_that_was_set_back_adds_no_time() -> None:
    assert Uptime(alive_at=100.0, opened_at=50.0).since(95.0, 101.0) == 6.0
