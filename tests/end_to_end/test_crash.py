"""The recorded crash test and soak, in little: see ``docs/operations.md`` for the long ones."""

from pathlib import Path

from tests.end_to_end.crash import Crash
from tests.end_to_end.soak import Soak


def test_killed_again_and_again_it_loses_nothing_and_counts_nothing_twice(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    crash = Crash(tmp_path / "data", seed=3)
    assert len(list(crash.run(kills=5))) == 5
    assert crash.book.steps > 0


def test_under_mixed_load_no_request_fails_and_no_descriptor_is_left_open(tmp_path: Path) -> None:
    soak = Soak(tmp_path / "data", seed=3)
    samples = list(soak.run(seconds=8.0, pause_seconds=1.0))
    assert soak.steps_sent > 0
    assert max(sample.descriptors for sample in samples) < 64
