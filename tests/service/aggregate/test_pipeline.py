import numpy as np

from penaltyscope_service.aggregate import PipelineAggregate, StreamAggregate
from tests.service.steps import NAN, make_steps


def stream(*terms: str, value: float, norm: float = 1.0, steps: int = 1) -> StreamAggregate:
    aggregate = StreamAggregate.empty()
    block = make_steps(range(steps), terms, value=value, norm=norm)
    aggregate.add(block, received_at=0.0, period=0)
    return aggregate


def test_numbers_are_those_of_the_lowest_rank_that_has_the_term() -> None:
    ranks = {1: stream("b", "a", value=1.0), 4: stream("a", "c", value=4.0)}
    pipeline = PipelineAggregate.of(ranks)
    assert pipeline.terms == ("b", "a", "c")
    assert pipeline.take(lambda t: t.gauges.finite[:, 0]).tolist() == [1.0, 1.0, 4.0]


def test_counts_are_sums_and_peaks_maxima_over_ranks() -> None:
    ranks = {0: stream("a", "b", value=1.0, steps=2), 1: stream("b", "a", value=7.0, steps=3)}
    pipeline = PipelineAggregate.of(ranks)
    assert pipeline.add(lambda t: t.norms.counts).sum(axis=1).tolist() == [5, 5]
    assert pipeline.highest(lambda t: t.window.read(0)[:, 0]).tolist() == [7.0, 7.0]


def test_a_peak_that_one_rank_has_not_seen_is_that_of_the_other() -> None:
    ranks = {0: stream("a", value=NAN), 1: stream("a", value=2.0)}
    peak = PipelineAggregate.of(ranks).highest(lambda t: t.window.read(0)[:, 0])
    assert peak.tolist() == [2.0]


def test_one_rank_needs_no_combining() -> None:
    alone = stream("a", "b", value=3.0)
    pipeline = PipelineAggregate.of({5: alone})
    assert pipeline.terms == ("a", "b")
    assert pipeline.lowest is alone
    assert np.shares_memory(pipeline.take(lambda t: t.latest), alone.terms.latest)
