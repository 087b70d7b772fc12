"""Lines of the log, of the channel alone and of a watched run."""

import logging
from dataclasses import replace

import numpy as np
import pytest
import torch

import penaltyscope as ps
from penaltyscope.telemetry import Logging
from penaltyscope_events import TermFlag
from tests.lib.telemetry.kept import SOURCE, steps


def lines(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    return [(r.levelname, r.getMessage()) for r in caplog.records if r.name == "penaltyscope.steps"]


@pytest.fixture(autouse=True)
def from_info_on(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "penaltyscope.steps")


def test_every_so_many_steps_have_a_line(caplog: pytest.LogCaptureFixture) -> None:
    Logging(every_steps=2).open(SOURCE).send([steps(0, 1, 2, terms=("a",))], [])
    numbers = "total 0.5, base 0.25, a 1 x 0.5 gradient 2"
    assert lines(caplog) == [("INFO", f"p step 0: {numbers}"), ("INFO", f"p step 2: {numbers}")]


def test_the_first_step_that_is_not_finite_is_a_warning_that_names_what(
    caplog: pytest.LogCaptureFixture,
) -> None:
    channel = Logging(every_steps=1000).open(SOURCE)
    bad = steps(5, 6, value=np.nan, flags=TermFlag.VALUE_NAN | TermFlag.GRADIENT_INF)
    bad = replace(bad, made=replace(bad.block, base=np.array([np.inf, np.inf])))
    channel.send([bad], [])
    expected = "a value nan, b value nan, a gradient inf, b gradient inf, base value inf"
    assert lines(caplog) == [("WARNING", f"p step 5 is not finite: {expected}")]
    channel.send([steps(7), bad], [])
    assert len(lines(caplog)) == 2, "finite in between, it is told again"


def test_a_watched_run_writes_its_lines_and_its_exceptions(
    caplog: pytest.LogCaptureFixture,
) -> None:
    x = torch.tensor([3.0, 4.0], requires_grad=True)
    pipeline = ps.Pipeline([ps.Term("l2", ps.l2, weight=0.5), ps.Term("off", ps.l1, enabled=False)])
    with ps.watch(pipeline, sinks=[Logging(every_steps=1)]):
        pipeline(x).loss.backward()
        with pytest.raises(TypeError, match="nonsense"):
            pipeline(x, options={"l2": {"nonsense": 1}})
    assert ("INFO", "pipeline step 0: total 12.5, l2 25 x 0.5 gradient 10, off nan x 1") in lines(
        caplog
    )
    (error,) = [line for level, line in lines(caplog) if level == "ERROR"]
    assert error.startswith("pipeline step 1 raised builtins.TypeError: ")


def test_a_cadence_that_makes_no_sense_is_named() -> None:
    with pytest.raises(ValueError, match="every_steps must be at least 1, got 0"):
        Logging(every_steps=0).open(SOURCE)
