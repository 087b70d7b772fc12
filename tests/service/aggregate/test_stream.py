"""Counters, histograms and last numbers of one pipeline on one rank."""

import math
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penaltyscope_events import COLUMNS, FINDINGS, StepBlock, TermFlag
from penaltyscope_service.aggregate import (
    DURATION_BOUNDS,
    NORM_BOUNDS,
    StreamAggregate,
    restore_snapshot,
    take_snapshot,
)
from penaltyscope_service.measured import evaluated, norm_measured
from tests.service.steps import INF, NAN, ODD, SINGLES, UNHURRIED, blocks, make_steps

UNMEASURED, DISABLED = TermFlag.NORM_NOT_MEASURED, TermFlag.DISABLED


def aggregate(*parts: StepBlock, received_at: float = 100.0) -> StreamAggregate:
    stream = StreamAggregate.empty()
    for part in parts:
        stream.add(part, received_at=received_at, period=3)
    return stream


@UNHURRIED
@given(
    block=st.one_of(blocks(), blocks(numbers=SINGLES), blocks(numbers=ODD)),
    cuts=st.lists(st.integers(0, 12), max_size=4),
)
def test_how_steps_were_batched_makes_no_difference_not_even_in_the_last_bit(
    block: StepBlock, cuts: list[int]
) -> None:
    edges = sorted({0, len(block), *(min(cut, len(block)) for cut in cuts)})
    parts = [block.take(slice(a, b)) for a, b in pairwise(edges)]
    assert take_snapshot(aggregate(*parts)) == take_snapshot(aggregate(block))


@UNHURRIED
@given(blocks())
def test_how_columns_lie_in_memory_makes_no_difference(block: StepBlock) -> None:
    columns: dict[str, Any] = {
        name: np.repeat(getattr(block, name), 2, axis=0)[::2] for name in COLUMNS
    }
    columns |= {name: np.asfortranarray(columns[name]) for name in ("value", "flags")}
    for column in columns.values():
        column.flags.writeable = False
    apart = replace(block, **columns)
    assert take_snapshot(aggregate(apart)) == take_snapshot(aggregate(block))


def test_a_pipeline_without_terms_is_counted_too() -> None:
    stream = aggregate(make_steps(range(60), []), make_steps([60], [], base=NAN))
    assert (stream.steps, stream.nonfinite_steps) == (61, 1)
    assert stream.gauges.finite[0].tolist() == [0.0, 1.0, 1.0, 3.0]
    assert take_snapshot(restore_snapshot(take_snapshot(stream))) == take_snapshot(stream)


@UNHURRIED
@given(st.one_of(blocks(), blocks(numbers=SINGLES), blocks(numbers=ODD)))
def test_counts_are_those_that_one_gets_by_counting(block: StepBlock) -> None:
    stream = aggregate(block)
    terms = range(len(block.terms))
    assert stream.steps == len(block)
    assert stream.nonfinite_steps == block.nonfinite.sum()
    for term in terms:
        flags = block.flags[:, term].tolist()
        counts = [sum(bool(bits & f.flag) for bits in flags) for f in FINDINGS]
        assert stream.terms.nonfinite[term].tolist() == counts
        bad = [s for s, bits in zip(block.step.tolist(), flags, strict=True) if bits & 0b1101111]
        assert stream.terms.nonfinite_step[term] == max(bad, default=-1)
    base = block.base[block.has_base]
    assert stream.base_nonfinite.tolist() == [np.isnan(base).sum(), np.isinf(base).sum()]


@UNHURRIED
@given(st.one_of(blocks(), blocks(numbers=SINGLES)))
def test_histograms_hold_what_is_finite_and_was_measured(block: StepBlock) -> None:
    stream = aggregate(block)
    for term in range(len(block.terms)):
        measured = norm_measured(block.flags[:, term])
        norms = [n for n in block.gradient_norm[measured, term].tolist() if math.isfinite(n)]
        cumulative = np.cumsum(stream.terms.norms.counts[term])
        expected = [sum(n <= bound for n in norms) for bound in (*NORM_BOUNDS, INF)]
        assert cumulative.tolist() == expected
        assert stream.terms.norms.sums[term] == sum(norms)
    seconds = block.duration.tolist()
    cumulative = np.cumsum(stream.durations.counts[0])
    assert cumulative.tolist() == [sum(s <= b for s in seconds) for b in (*DURATION_BOUNDS, INF)]
    assert stream.durations.sums[0] == sum(seconds)


@UNHURRIED
@given(st.one_of(blocks(), blocks(numbers=SINGLES), blocks(numbers=ODD)))
def test_gauges_hold_the_last_finite_number_that_means_something(block: StepBlock) -> None:
    stream = aggregate(block)
    order = np.argsort(block.seq)
    columns = (block.value, block.weight, block.contribution, block.gradient_norm)
    for term in range(len(block.terms)):
        always = np.ones(len(block), np.bool_)
        flags = block.flags[:, term]
        real = (evaluated(flags), always, always, norm_measured(flags))
        for gauge, (column, means) in enumerate(zip(columns, real, strict=True)):
            numbers = [float(column[i, term]) for i in order if means[i]]
            last = next((n for n in reversed(numbers) if math.isfinite(n)), NAN)
            assert str(stream.terms.gauges.finite[term, gauge]) == str(last)


def test_the_latest_numbers_may_be_no_numbers() -> None:
    stream = aggregate(
        make_steps(range(3), value=[[1.0, 1.0], [2.0, 2.0], [NAN, 4.0]], base=[1, 2, INF])
    )
    assert stream.terms.gauges.finite[:, 0].tolist() == [2.0, 4.0]
    assert np.isnan(stream.terms.latest[0, 0])
    assert stream.terms.latest_real.all()
    total, base, loss, norm = stream.gauges.finite[0]
    assert (total, base, loss, norm) == (2.0, 2.0, 4.0, 3.0)
    assert stream.latest[0, 1] == INF


def test_a_run_without_a_task_loss_has_the_penalty_for_its_loss() -> None:
    stream = aggregate(make_steps([0], base=None))
    assert stream.gauges.finite[0, 2] == stream.gauges.finite[0, 0] == 2.0
    assert np.isnan(stream.gauges.finite[0, 1])
    assert stream.latest_real[0].tolist() == [True, False, True, True]


def test_an_unmeasured_norm_of_the_total_is_none_but_a_nan_is_one() -> None:
    unmeasured = aggregate(make_steps([0], total_norm=NAN, norm=NAN, flags=UNMEASURED))
    assert not unmeasured.latest_real[0, 3]
    bad = aggregate(make_steps([0], total_norm=NAN, norm=[[NAN, 1.0]]))
    assert bad.latest_real[0, 3]


def test_what_arrives_late_is_counted_but_does_not_replace_what_is_newer() -> None:
    new = make_steps(range(10, 20), value=5.0)
    late = make_steps(range(10), value=[[7.0, NAN]] * 10)
    stream = aggregate(new, late)
    assert stream.steps == 20
    assert stream.terms.gauges.finite[:, 0].tolist() == [5.0, 5.0]
    assert (stream.last_step, stream.last_seq) == (19, 19)


def test_a_late_number_is_better_than_none() -> None:
    new = make_steps([10], norm=NAN, flags=UNMEASURED)
    stream = aggregate(new, make_steps([9], norm=4.0))
    assert stream.terms.gauges.finite[:, 3].tolist() == [4.0, 4.0]
    assert stream.terms.gauges.seq[:, 3].tolist() == [9, 9]
    assert not stream.terms.latest_real[:, 3].any()


def test_a_new_incarnation_is_newer_and_the_old_one_has_only_late_words() -> None:
    stream = aggregate(
        make_steps([900], value=1.0),
        make_steps([0], value=2.0, incarnation="second", step=850),
        make_steps([901], value=3.0),
    )
    assert stream.terms.gauges.finite[:, 0].tolist() == [2.0, 2.0]
    assert (stream.last_step, stream.last_seq, stream.steps) == (850, 0, 3)


def test_progress_is_a_new_step_not_a_new_evaluation() -> None:
    stream = StreamAggregate.empty()
    for seq, step, now in ((0, 5, 1.0), (1, 6, 2.0), (2, 6, 3.0)):
        stream.add(make_steps([seq], step=step), received_at=now, period=0)
    assert (stream.last_step, stream.progress_at) == (6, 2.0)


def test_terms_that_appear_later_get_columns_of_their_own() -> None:
    stream = aggregate(
        make_steps([0], ["a", "b"], value=[[1, 2]]),
        make_steps([1], ["c", "a"], value=[[3, NAN]]),
        make_steps([2], ["b"], value=[[4]], norm=[[9]]),
    )
    assert stream.names == {"a": 0, "b": 1, "c": 2}
    assert stream.terms.gauges.finite[:, 0].tolist() == [1.0, 4.0, 3.0]
    assert stream.terms.nonfinite.sum(axis=1).tolist() == [1, 0, 0]
    assert stream.terms.norms.sums.tolist() == [2.0, 10.0, 1.0]
    # Only the terms that are still there have a latest number.
    assert stream.terms.latest_real[:, 0].tolist() == [False, True, False]


def test_shares_are_of_the_weighted_norms_and_disabled_terms_have_none() -> None:
    terms = ["a", "b", "off", "unweighted"]
    off = [0, 0, DISABLED | UNMEASURED, UNMEASURED]
    weight, norm = [[-2.0, 1, 5, 0]], [[3.0, 2, NAN, NAN]]
    stream = aggregate(make_steps([0], terms, weight=weight, norm=norm, flags=[off]))
    assert stream.terms.gauges.finite[:, 4].tolist() == [0.75, 0.25, 0.0, 0.0]
    stream.add(make_steps([1], terms, norm=[[NAN, 1, 1, 1]]), received_at=1.0, period=0)
    assert not stream.terms.latest_real[:, 4].any()  # they cannot be told
    assert stream.terms.gauges.finite[:, 4].tolist() == [0.75, 0.25, 0.0, 0.0]


@pytest.mark.parametrize("terms", [1, 7, 8, 19, 128, 129, 400])
def test_shares_are_rounded_as_arrays_round_them(terms: int) -> None:
    weight, norm = np.random.default_rng(terms).lognormal(sigma=9.0, size=(2, 1, terms))
    names = [f"term {i}" for i in range(terms)]
    stream = aggregate(make_steps([0], names, weight=weight, norm=norm))
    weighted = weight * norm
    assert stream.terms.latest[:, 4].tolist() == (weighted / weighted.sum(axis=1))[0].tolist()


def test_a_share_that_cannot_be_known_is_not_made_up() -> None:
    row = make_steps([0], norm=[[1.0, NAN]], flags=[[0, UNMEASURED]])
    assert np.isnan(aggregate(row).terms.gauges.finite[1, 4])


@pytest.mark.parametrize(
    ("flags", "base", "found"),
    [
        # A gradient is later than a value, whatever the order of terms.
        ([[4, 1]], 1.0, (7, "b", 1, 0)),
        ([[1, 1]], 1.0, (7, "a", 1, 0)),
        ([[2, 32]], 1.0, (7, "b", 0, 0)),
        ([[0, 8]], NAN, (7, "base", 1, 0)),
        ([[0, 2]], NAN, (7, "b", 1, 1)),
        ([[0, 0]], -INF, (7, "base", 1, 1)),
        ([[64 | 32, 0]], 1.0, (7, "a", 0, 0)),
    ],
)
def test_the_first_finding_is_the_earliest_in_causal_order(
    flags: list[list[int]], base: float, found: tuple[int, str, int, int]
) -> None:
    later = make_steps([0], step=8, value=NAN)
    stream = aggregate(later, make_steps([1], step=7, flags=flags, base=base, stop_ns=5))
    assert stream.first is not None
    step, stage, _, kind, term, time_ns = stream.first
    assert (step, term, stage, kind) == found
    assert time_ns == 5


def test_of_findings_at_one_step_the_earlier_in_causal_order_is_first() -> None:
    stream = aggregate(
        make_steps([0], step=7, flags=[[0, TermFlag.VALUE_NAN]]),
        make_steps([1], step=7, flags=[[0, TermFlag.INPUT_INF]]),
        make_steps([2], step=8, flags=[[TermFlag.INPUT_NAN, 0]]),
    )
    assert stream.first is not None
    assert stream.first[:3] == (7, 0, 1)


@UNHURRIED
@given(st.one_of(blocks(), blocks(numbers=ODD)))
def test_a_snapshot_is_the_aggregate(block: StepBlock) -> None:
    stream = aggregate(block)
    again = restore_snapshot(take_snapshot(stream))
    assert take_snapshot(again) == take_snapshot(stream)
    more = make_steps(range(100, 160), ["term 0", "new"])
    for each in (stream, again):
        each.add(more, received_at=200.0, period=4)
    assert take_snapshot(again) == take_snapshot(stream)
