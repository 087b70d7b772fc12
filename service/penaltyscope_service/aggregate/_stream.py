"""All that is counted and remembered of one pipeline on one rank."""

from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np
from numba import types
from numpy.typing import NDArray

from penaltyscope_events import StepBlock
from penaltyscope_events.flags import NONFINITE
from penaltyscope_service.aggregate._finding import FirstFinding, first_finding
from penaltyscope_service.aggregate._gauge import Gauges
from penaltyscope_service.aggregate._histogram import DURATION_BOUNDS, Histogram
from penaltyscope_service.aggregate._interval import Intervals
from penaltyscope_service.aggregate._latest import hold_totals
from penaltyscope_service.aggregate._term import TermAggregate
from penaltyscope_service.aggregate._window import Columns
from penaltyscope_service.kernel import by_term, kernel, part

_NONFINITE: Final = int(NONFINITE)
_ONLY: Final = np.zeros(1, np.int64)
"""The one column of what is not by term."""

Numbers = NDArray[np.floating[Any]]
Integers = NDArray[np.integer[Any]]
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
    latest: NDArray[np.float64]
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
        # Kernels check no index. A block has as many rows and terms as each of its columns, and
        # every term has a place in whatever is kept by term.
        columns = self._columns(block.terms)
        bad, first_bad, flagged, ordered = _survey(
            *(block.seq, block.step, block.base, block.has_base),
            *(by_term(block.flags), self.base_nonfinite),
        )
        self.steps += len(block)
        self.nonfinite_steps += bad
        if bad and (self.first is None or first_bad <= self.first.step):
            found = first_finding(block)
            self.first = found if self.first is None else min(found, self.first)
        self.durations.observe(_ONLY, by_term(block.duration[:, None]))
        self.terms.count(columns, block, period, flagged=flagged)
        if self._is_newest(block.incarnation):
            self.intervals.observe(block.step, block.stop_ns)
            ascending = block if ordered else block.take(np.argsort(block.seq))
            self._hold(columns, ascending, received_at)

    def _columns(self, terms: tuple[str, ...]) -> Columns:
        """``[T]``: where each of them is among all."""
        if tuple(self.names) == terms:
            return np.arange(len(terms))
        new = [term for term in terms if term not in self.names]
        if new:
            self.terms.widen(len(new))
            self.names |= {term: len(self.names) + i for i, term in enumerate(new)}
        return np.array([self.names[term] for term in terms], np.int64)

    def _is_newest(self, incarnation: str) -> bool:
        """Whether the latest numbers are to be found here; late ones of earlier lives are not."""
        if incarnation not in self.incarnations:
            self.incarnations.append(incarnation)
            self.last_seq = self.last_step = -1
            self.terms.gauges.forget_seq()
            self.gauges.forget_seq()
            self.intervals.forget_step()
        return incarnation == self.incarnations[-1]

    def _hold(self, columns: Columns, block: StepBlock, received_at: float) -> None:
        """Remembers the latest numbers of evaluations that are in ascending order of ``seq``."""
        last_seq, step = int(block.seq[-1]), int(block.step[-1])
        newest = last_seq > self.last_seq
        latest, real = self.latest, self.latest_real
        if newest:
            self.last_seq = last_seq
            self.latest_duration = float(block.duration[-1])
            if step != self.last_step:
                self.last_step, self.progress_at = step, received_at
        else:
            latest, real = np.empty_like(latest), np.empty_like(real)
        hold_totals(
            *(block.seq, block.total, block.base, block.has_base, block.total_gradient_norm),
            *(block.flags, self.gauges.finite, self.gauges.seq, latest, real),
        )
        self.terms.hold(columns, block, newest=newest)


_INTEGERS: Final = types.Array(types.int64, 1, "A", readonly=True)
_NUMBERS: Final = types.Array(types.float64, 1, "A", readonly=True)
_MASK: Final = types.Array(types.boolean, 1, "A", readonly=True)
_FLAGS: Final = types.Array(types.int32, 2, "C", readonly=True)
_COUNTS: Final = types.Array(types.int64, 1, "C")


@part(types.int64(types.Array(types.int32, 1, "C", readonly=True)))
def _union(flags: Integers) -> int:
    union = 0
    for bits in flags:
        union |= bits
    return union


@kernel(
    types.Tuple((types.int64, types.int64, types.boolean, types.boolean))(
        *(_INTEGERS, _INTEGERS, _NUMBERS, _MASK, _FLAGS, _COUNTS)
    )
)
def _survey(
    seq: Integers,
    step: Integers,
    base: Numbers,
    has_base: Mask,
    flags: Integers,
    base_nonfinite: Integers,
) -> tuple[int, int, bool, bool]:
    """Counts task losses that are not finite, and looks whether there is anything else to do.

    Returns:
        How many evaluations have any finding, the lowest step among them, whether any flag is
        set, and whether the evaluations are in ascending order of ``seq``.
    """
    bad, first_bad, ordered = 0, np.iinfo(np.int64).max, True
    flagged = _union(flags.reshape(-1)) != 0
    found = np.zeros(len(seq), np.int32)
    for term in range(len(flags) if flagged else 0):
        bits = flags[term]
        for row in range(len(found)):
            found[row] |= bits[row]
    for row in range(len(seq)):
        ordered &= row == 0 or seq[row] > seq[row - 1]
        strange = has_base[row] and not np.isfinite(base[row])
        if strange:
            base_nonfinite[0 if np.isnan(base[row]) else 1] += 1
        if strange or found[row] & _NONFINITE:
            bad += 1
            first_bad = min(first_bad, step[row])
    return bad, first_bad, flagged, ordered
