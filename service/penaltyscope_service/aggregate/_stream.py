"""All that is counted and remembered of one pipeline on one rank."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from penaltyscope_events import StepBlock
from penaltyscope_service.aggregate._finding import FirstFinding, first_finding
from penaltyscope_service.aggregate._gauge import Gauges
from penaltyscope_service.aggregate._histogram import DURATION_BOUNDS, Columns, Histogram
from penaltyscope_service.aggregate._interval import Intervals
from penaltyscope_service.aggregate._term import EVERY, LAST, TermAggregate
from penaltyscope_service.measured import total_norm_measured

Numbers = NDArray[np.float64]
Mask = NDArray[np.bool_]


@dataclass(slots=True)
class StreamAggregate:
    """Counters, histograms and last numbers.

    The same evaluations in the same order give the same aggregate, bit by bit, however they were
    batched: a restarted service continues where it was.
    """

    names: dict[str, int]
    """Every term ever seen, by its place in ``terms``."""
    terms: TermAggregate
    incarnations: list[str]
    """Recorders that have sent, the newest last."""
    last_seq: int
    """The latest evaluation of the newest incarnation; -1 for none."""
    last_step: int
    progress_at: float
    """When a new step was last received, Unix time in seconds."""
    steps: int
    nonfinite_steps: int
    """Evaluations with any finding."""
    first: FirstFinding | None
    durations: Histogram
    """Seconds."""
    intervals: Intervals
    gauges: Gauges
    """Total, base, loss, norm of the total's gradient."""
    latest: Numbers
    """``[1, 4]``: the same at the latest evaluation, finite or not."""
    latest_real: Mask
    """``[1, 4]``: which of them mean something."""
    latest_duration: float
    """Seconds."""
    base_nonfinite: NDArray[np.int64]
    """``[2]``: evaluations whose task loss was NaN, or infinite."""

    @classmethod
    def empty(cls) -> Self:
        """Nothing was seen."""
        return cls(
            names={},
            terms=TermAggregate.empty(),
            incarnations=[],
            last_seq=-1,
            last_step=-1,
            progress_at=0.0,
            steps=0,
            nonfinite_steps=0,
            first=None,
            durations=Histogram.empty(DURATION_BOUNDS, 1),
            intervals=Intervals.empty(),
            gauges=Gauges.empty(1, 4),
            latest=np.full((1, 4), np.nan),
            latest_real=np.zeros((1, 4), np.bool_),
            latest_duration=0.0,
            base_nonfinite=np.zeros(2, np.int64),
        )

    def add(self, block: StepBlock, *, received_at: float, period: int) -> None:
        """Adds evaluations in order of arrival.

        Args:
            block: the evaluations, none of which was added before.
            received_at: when they arrived, Unix time in seconds.
            period: the period of window maxima in which they arrived.
        """
        columns = self._columns(block.terms)
        self.steps += len(block)
        self.durations.observe(EVERY, block.duration[:, None], None)
        self.terms.count(columns, block, period)
        self._count_nonfinite(block)
        if self._is_newest(block.incarnation):
            self.intervals.observe(block.step, block.stop_ns)
            self._hold(columns, _in_order(block), received_at)

    def _columns(self, terms: tuple[str, ...]) -> Columns:
        new = [term for term in terms if term not in self.names]
        if new:
            self.terms.widen(len(new))
            self.names |= {term: len(self.names) + i for i, term in enumerate(new)}
        if len(terms) == len(self.names) and tuple(self.names) == terms:
            return EVERY
        return np.array([self.names[term] for term in terms])

    def _is_newest(self, incarnation: str) -> bool:
        """Whether the latest numbers are to be found here; late ones of earlier lives are not."""
        if incarnation not in self.incarnations:
            self.incarnations.append(incarnation)
            self.last_seq = self.last_step = -1
            self.terms.gauges.forget_seq()
            self.gauges.forget_seq()
            self.intervals.forget_step()
        return incarnation == self.incarnations[-1]

    def _count_nonfinite(self, block: StepBlock) -> None:
        bad = block.nonfinite
        if not bad.any():
            return
        self.nonfinite_steps += int(bad.sum())
        base = block.base[block.has_base]
        self.base_nonfinite += (np.isnan(base).sum(), np.isinf(base).sum())
        found = first_finding(block)
        self.first = found if self.first is None else min(found, self.first)

    def _hold(self, columns: Columns, block: StepBlock, received_at: float) -> None:
        newest = int(block.seq[-1]) > self.last_seq
        numbers, real = _totals(block, LAST)
        if newest:
            self.last_seq = int(block.seq[-1])
            self.latest, self.latest_real = numbers[-1].copy(), real[-1].copy()
            self.latest_duration = float(block.duration[-1])
            if int(block.step[-1]) != self.last_step:
                self.last_step, self.progress_at = int(block.step[-1]), received_at
        if not self.gauges.observe(EVERY, block.seq[LAST], numbers, real):
            self.gauges.observe(EVERY, block.seq, *_totals(block, EVERY))
        self.terms.hold(columns, block, newest=newest)


def _in_order(block: StepBlock) -> StepBlock:
    if (block.seq[1:] > block.seq[:-1]).all():
        return block
    return block.take(np.argsort(block.seq))


def _totals(block: StepBlock, rows: slice) -> tuple[Numbers, Mask]:
    """``[N, 1, 4]``: total, base, loss and norm, and which of them mean something."""
    total, base, has_base = block.total[rows], block.base[rows], block.has_base[rows]
    norm = block.total_gradient_norm[rows]
    with np.errstate(invalid="ignore", over="ignore"):
        loss = total + np.where(has_base, base, 0.0)
    loss[np.isnan(loss)] = np.nan  # of two NaN added, either one's sign may remain
    numbers = np.empty((len(total), 1, 4))
    for i, column in enumerate((total, base, loss, norm)):
        numbers[:, 0, i] = column
    real = np.ones(numbers.shape, np.bool_)
    real[:, 0, 1] = has_base
    real[:, 0, 3] = total_norm_measured(norm, block.flags[rows])
    return numbers, real
