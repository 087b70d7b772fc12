"""Charts of what was sent, read from the file."""

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from penaltyscope_events import StepBlock, TermFlag
from penaltyscope_service.history import BLOCK_ROWS, ROLLUP_ROWS
from penaltyscope_service.observatory import Observatory, UnknownName
from penaltyscope_service.summary import Line, NonfiniteStep, Quantity, Series
from tests.service.observed import batch, ending, open_observatory
from tests.service.steps import INF, NAN, make_steps


@pytest.fixture
def observatory(tmp_path: Path) -> Iterator[Observatory]:
    observatory = open_observatory(tmp_path)
    yield observatory
    observatory.close()


def chart(
    observatory: Observatory,
    *,
    terms: Sequence[str] = (),
    quantities: Sequence[Quantity] = (),
    from_step: int | None = None,
    to_step: int | None = None,
    points: int = 1000,
    rank: int = 0,
    pipeline: str | None = None,
    run: str = "r",
) -> Series:
    return observatory.series(
        run,
        pipeline=pipeline,
        rank=rank,
        terms=terms,
        quantities=quantities,
        from_step=from_step,
        to_step=to_step,
        points=points,
    )


def line(series: Series, term: str, quantity: Quantity) -> Line:
    (found,) = (s for s in series.series if (s.term, s.quantity) == (term, quantity))
    return found


def pairs(found: Line) -> list[tuple[int, float]]:
    return list(zip(found.step.tolist(), found.value.tolist(), strict=True))


def test_a_chart_has_every_term_the_task_loss_and_the_penalty(observatory: Observatory) -> None:
    value, norm = np.arange(10.0).reshape(5, 2), np.arange(10.0, 20.0).reshape(5, 2)
    observatory.ingest([batch(make_steps(range(5), value=value, norm=norm, base=range(5)))])
    series = chart(observatory)
    assert (series.run, series.pipeline, series.rank) == ("r", "p", 0)
    assert (series.first_step, series.last_step, series.steps) == (0, 4, 5)
    assert [(s.term, s.quantity) for s in series.series] == [
        *itertools.product("ab", ("value", "contribution", "gradient_norm")),
        ("base", "value"),
        ("total", "value"),
        ("total", "gradient_norm"),
    ]
    assert line(series, "b", "value").value.tolist() == value[:, 1].tolist()
    assert line(series, "a", "contribution").value.tolist() == (value[:, 0] / 2).tolist()
    assert line(series, "a", "gradient_norm").value.tolist() == norm[:, 0].tolist()
    assert line(series, "base", "value").value.tolist() == [0, 1, 2, 3, 4]
    assert line(series, "total", "value").value.tolist() == (value.sum(axis=1) / 2).tolist()
    assert line(series, "total", "gradient_norm").value.tolist() == [3.0] * 5


def test_only_what_is_asked_for_is_drawn(observatory: Observatory) -> None:
    observatory.ingest([batch(make_steps(range(5)))])
    series = chart(observatory, terms=["b", "base", "b"], quantities=["gradient_norm", "value"])
    drawn = [(s.term, s.quantity) for s in series.series]
    assert drawn == [("b", "gradient_norm"), ("b", "value"), ("base", "value")]


def test_a_term_that_is_called_total_is_drawn_under_its_name(observatory: Observatory) -> None:
    observatory.ingest([batch(make_steps([0], ["total"], value=8.0))])
    series = chart(observatory, quantities=["value"])
    assert [(s.term, s.value.tolist()) for s in series.series] == [
        ("total", [8.0]),
        ("base", [1.0]),
    ]


def test_what_was_not_measured_or_evaluated_is_left_out_and_nan_is_not(
    observatory: Observatory,
) -> None:
    off, dark = TermFlag.DISABLED | TermFlag.NORM_NOT_MEASURED, TermFlag.NORM_NOT_MEASURED
    steps = make_steps(
        range(4),
        ["a"],
        value=[[1.0], [NAN], [NAN], [4.0]],
        norm=[[1.0], [NAN], [NAN], [NAN]],
        flags=np.array([[0], [off], [0], [dark]]),
        total_norm=[1.0, NAN, NAN, NAN],
        base=[1.0, NAN, INF, 4.0],
    )
    observatory.ingest([batch(steps)])
    observatory.ingest([batch(make_steps([4], ["a"], base=None))])
    series = chart(observatory)
    assert repr(pairs(line(series, "a", "value"))) == "[(0, 1.0), (2, nan), (3, 4.0), (4, 2.0)]"
    assert line(series, "a", "contribution").step.tolist() == [0, 2, 3, 4]
    assert line(series, "a", "gradient_norm").step.tolist() == [0, 2, 4]
    assert line(series, "total", "gradient_norm").step.tolist() == [0, 2, 4]
    assert repr(pairs(line(series, "base", "value"))) == (
        "[(0, 1.0), (1, nan), (2, inf), (3, 4.0)]"
    )


def test_evaluations_of_the_same_step_keep_their_order(observatory: Observatory) -> None:
    late = make_steps([0, 1], step=0, value=[[1.0, 1.0], [2.0, 2.0]])
    early = make_steps([2, 3], step=[0, 1], value=[[3.0, 3.0], [4.0, 4.0]])
    again = make_steps([0], step=0, value=5.0, incarnation="second")
    observatory.ingest([batch(early)])
    observatory.ingest([batch(late)])
    observatory.ingest([batch(again)])
    found = line(chart(observatory), "a", "value")
    assert pairs(found) == [(0, 1.0), (0, 2.0), (0, 3.0), (0, 5.0), (1, 4.0)]


def test_a_range_has_both_its_ends(observatory: Observatory) -> None:
    observatory.ingest([batch(make_steps(range(10)))])
    series = chart(observatory, from_step=3, to_step=5)
    assert (series.first_step, series.last_step, series.steps) == (3, 5, 3)
    assert line(series, "a", "value").step.tolist() == [3, 4, 5]
    nothing = chart(observatory, from_step=50)
    assert (nothing.first_step, nothing.last_step, nothing.steps) == (None, None, 0)
    assert all(len(s.step) == len(s.value) == 0 for s in nothing.series)
    assert chart(observatory, from_step=-(10**30), to_step=10**30).steps == 10


def test_the_earliest_findings_of_the_range_are_told(observatory: Observatory) -> None:
    flags = np.zeros((10, 2), np.int32)
    flags[8] = [TermFlag.INPUT_INF, TermFlag.INPUT_NAN]
    value = np.ones((10, 2))
    value[[2, 8], 1] = NAN
    base = np.ones(10)
    base[8] = INF
    observatory.ingest([batch(make_steps(range(10), value=value, flags=flags, base=base))])
    series = chart(observatory, from_step=3)
    assert series.nonfinite_steps == 1
    assert series.nonfinite == (
        NonfiniteStep(step=8, term="b", stage="input", kind="nan"),
        NonfiniteStep(step=8, term="a", stage="input", kind="inf"),
        NonfiniteStep(step=8, term="b", stage="value", kind="nan"),
        NonfiniteStep(step=8, term="base", stage="value", kind="inf"),
    )
    assert chart(observatory).nonfinite_steps == 2


def test_of_very_many_findings_the_first_thousand_are_told_and_all_are_counted(
    observatory: Observatory,
) -> None:
    for first in range(3000, -1, -1000):  # the latest arrive first
        observatory.ingest([batch(make_steps(range(first, first + 1000), ["a"], value=NAN))])
    series = chart(observatory, points=10, from_step=10)
    assert [finding.step for finding in series.nonfinite] == list(range(10, 1010))
    assert series.nonfinite_steps == 3990


def long_run(steps: int) -> StepBlock:
    random = np.random.default_rng(1)
    value = random.normal(size=(steps, 2))
    value[[777, 5000], [0, 1]] = 50.0, -50.0
    value[6000, 0], value[6001, 0] = NAN, INF
    return make_steps(range(steps), value=value, norm=np.abs(random.normal(size=(steps, 2))))


def test_a_chart_of_many_steps_is_made_of_rollups_and_shows_the_same_extremes(
    tmp_path: Path,
) -> None:
    steps = 20 * BLOCK_ROWS + 100
    block = long_run(steps)
    observatory = open_observatory(tmp_path)
    observatory.ingest([batch(block)])
    points = 2 * steps // ROLLUP_ROWS
    for quantity, numbers in (("value", block.value), ("gradient_norm", block.gradient_norm)):
        found = line(chart(observatory, points=points), "a", quantity)  # type: ignore[arg-type]
        assert len(found.step) <= points
        assert (np.diff(found.step) >= 0).all()
        finite = numbers[np.isfinite(numbers[:, 0]), 0]
        shown = found.value[np.isfinite(found.value)]
        assert (shown.min(), shown.max()) == (finite.min(), finite.max())
        for step, number in pairs(found):
            assert repr(float(numbers[step, 0])) == repr(number)
    value = line(chart(observatory, points=points), "a", "value")
    assert np.isnan(value.value[value.step == 6000]).all()
    whole = chart(observatory, points=points)
    assert (whole.first_step, whole.last_step, whole.steps) == (0, steps - 1, steps)
    assert whole.nonfinite_steps == 2
    observatory.close()


def test_the_ends_of_a_range_are_exact_also_when_the_middle_is_rolled_up(tmp_path: Path) -> None:
    observatory = open_observatory(tmp_path)
    observatory.ingest([batch(long_run(20 * BLOCK_ROWS))])
    series = chart(observatory, from_step=100, to_step=20_000, points=100)
    assert (series.first_step, series.last_step, series.steps) == (100, 20_000, 19_901)
    found = line(series, "a", "value")
    assert (found.step[0], found.step[-1]) == (100, 20_000)
    observatory.close()


def test_packing_changes_nothing_that_is_drawn(observatory: Observatory) -> None:
    for first in range(0, 300, 10):
        observatory.ingest([batch(make_steps(range(first, first + 10), value=first / 3))])
    before = chart(observatory)
    observatory.ingest([batch(events=[ending("finished")])])
    after = chart(observatory)
    assert after.steps == before.steps == 300
    for old, new in zip(before.series, after.series, strict=True):
        assert pairs(old) == pairs(new)


def test_terms_that_changed_in_the_middle_have_only_their_own_steps(
    observatory: Observatory,
) -> None:
    observatory.ingest([batch(make_steps([0, 1], ["a", "b"]), make_steps([2], ["c", "b"]))])
    series = chart(observatory, quantities=["value"])
    steps = {s.term: s.step.tolist() for s in series.series}
    assert steps == {"a": [0, 1], "b": [0, 1, 2], "c": [2], "base": [0, 1, 2], "total": [0, 1, 2]}


def test_unknown_names_are_told_with_those_that_are_known(observatory: Observatory) -> None:
    observatory.ingest([batch(make_steps([0]), rank=3)])
    for argument, value, known in (
        ("run", "x", ("r",)),
        ("pipeline", "x", ("p",)),
        ("rank", "7", ("3",)),
        ("term", "x", ("a", "b", "base", "total")),
    ):
        with pytest.raises(UnknownName) as error:
            chart(
                observatory,
                run="x" if argument == "run" else "r",
                pipeline="x" if argument == "pipeline" else None,
                rank=7 if argument == "rank" else 3,
                terms=["x"],
            )
        found = error.value
        assert (found.argument, found.value, found.known) == (argument, value, known)
