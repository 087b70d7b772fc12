"""The training that others are measured beside."""

import pytest

import penaltyscope as ps
from benchmarks.terms import TERMS
from benchmarks.training import Training, training_at_pace


@pytest.mark.parametrize(("seconds", "batch"), [(1e-4, 100), (1.1e-4, 92), (1.0, 4), (1e-9, 256)])
def test_the_batch_is_the_least_of_which_a_step_takes_ten_milliseconds(
    seconds: float, batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pace(training: Training, _: ps.Pipeline) -> float:
        return seconds * training.batch

    monkeypatch.setattr("benchmarks.training._pace", pace)
    assert training_at_pace(ps.Pipeline(TERMS)).batch == batch
