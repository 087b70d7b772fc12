"""What is counted and remembered of the terms of a pipeline, one row for each."""

from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np
from numba import types
from numpy.typing import NDArray

from penaltyscope_events import FINDINGS, StepBlock
from penaltyscope_events.flags import NONFINITE
from penaltyscope_service.aggregate._baseline import Baseline
from penaltyscope_service.aggregate._gauge import Gauges
from penaltyscope_service.aggregate._histogram import NORM_BOUNDS, Histogram
from penaltyscope_service.aggregate._latest import hold_terms
from penaltyscope_service.aggregate._window import Columns, Window
from penaltyscope_service.kernel import by_term, kernel
from penaltyscope_service.measured import DISABLED, NO_NORM

_BITS: Final = tuple(int(finding.flag) for finding in FINDINGS)
_NONFINITE: Final = int(NONFINITE)

_GAUGES: Final = 5
Numbers = NDArray[np.floating[Any]]
Integers = NDArray[np.integer[Any]]


@dataclass(slots=True)
class TermAggregate:
    """All columns are by term."""

    gauges: Gauges
    """Value, weight, contribution, gradient norm, share of the weighted gradient norm."""
    latest: NDArray[np.float64]
    """``[T, 5]``: the same at the latest evaluation, finite or not."""
    latest_real: NDArray[np.bool_]
    """``[T, 5]``: which of them mean something."""
    window: Window
    """Value, gradient norm."""
    baseline: Baseline
    """Of the gradient norm."""
    norms: Histogram
    nonfinite: NDArray[np.int64]
    """``[T, 6]``: evaluations with each of the findings."""
    nonfinite_step: NDArray[np.int64]
    """``[T]``: the last step with any; -1 when there was none."""

    @classmethod
    def empty(cls) -> Self:
        """There are no terms yet."""
        return cls(
            gauges=Gauges.empty(0, _GAUGES),
            latest=np.empty((0, _GAUGES)),
            latest_real=np.empty((0, _GAUGES), np.bool_),
            window=Window.empty(0, 2),
            baseline=Baseline.empty(0),
            norms=Histogram.empty(NORM_BOUNDS, 0),
            nonfinite=np.empty((0, len(FINDINGS)), np.int64),
            nonfinite_step=np.empty(0, np.int64),
        )

    def widen(self, terms: int) -> None:
        """Adds terms."""
        for part in (self.gauges, self.window, self.baseline, self.norms):
            part.widen(terms)
        nothing = np.full((terms, _GAUGES), np.nan)
        self.latest = np.concatenate((self.latest, nothing))
        self.latest_real = np.concatenate((self.latest_real, np.isfinite(nothing)))
        none = np.zeros((terms, len(FINDINGS)), np.int64)
        self.nonfinite = np.concatenate((self.nonfinite, none))
        self.nonfinite_step = np.concatenate((self.nonfinite_step, np.full(terms, -1)))

    def count(self, columns: Columns, block: StepBlock, period: int, *, flagged: bool) -> None:
        """Adds evaluations to what does not depend on their order, or only on that of arrival.

        Args:
            columns: which terms those of the block are.
            block: the evaluations.
            period: the window's period in which they arrived.
            flagged: whether the block has any flag; without one, all of its numbers are finite.
        """
        value, norm = by_term(block.value), by_term(block.gradient_norm)
        if flagged:
            found = np.empty((2, *value.shape))
            _sift(
                *(columns, block.step, value, norm, by_term(block.flags)),
                *(self.nonfinite, self.nonfinite_step, found),
            )
            value, norm = found
        self.window.observe(period, columns, value, norm)
        self.norms.observe(columns, norm)
        self.baseline.observe(columns, norm)

    def hold(self, columns: Columns, block: StepBlock, *, newest: bool) -> None:
        """Remembers the latest numbers.

        Args:
            columns: which terms those of the block are.
            block: evaluations in ascending order of ``seq``.
            newest: whether the last of them is the latest of all.
        """
        latest, real = self.latest, self.latest_real
        if newest:
            real.fill(False)  # a term that is gone has no latest number
        else:
            latest, real = np.empty_like(latest), np.empty_like(real)
        hold_terms(
            columns,
            block.seq,
            block.value,
            block.weight,
            block.contribution,
            block.gradient_norm,
            block.flags,
            self.gauges.finite,
            self.gauges.seq,
            latest,
            real,
        )


_COLUMNS: Final = types.Array(types.int64, 1, "C", readonly=True)
_STEP: Final = types.Array(types.int64, 1, "A", readonly=True)
_TABLE: Final = types.Array(types.float64, 2, "C", readonly=True)
_FLAGS: Final = types.Array(types.int32, 2, "C", readonly=True)
_COUNTS: Final = types.Array(types.int64, 2, "C")
_LAST_STEPS: Final = types.Array(types.int64, 1, "C")
_FOUND: Final = types.Array(types.float64, 3, "C")


@kernel(
    types.void(*(_COLUMNS, _STEP, _TABLE, _TABLE, _FLAGS), *(_COUNTS, _LAST_STEPS, _FOUND)),
)
def _sift(
    columns: Integers,
    step: Integers,
    value: Numbers,
    norm: Numbers,
    flags: Integers,
    nonfinite: Integers,
    nonfinite_step: Integers,
    found: Numbers,
) -> None:
    """Counts findings, and tells which numbers are to be counted.

    Args:
        columns: ``[T]``, where the terms of the block are among all.
        step: ``[N]``, a column of the block.
        value: ``[T, N]``, as are the next two: columns of the block.
        norm: a column.
        flags: a column.
        nonfinite: ``[C, 6]``.
        nonfinite_step: ``[C]``.
        found: ``[2, T, N]``, takes values and norms; NaN where one means nothing or is not finite.
    """
    for i in range(len(columns)):
        column = columns[i]
        for row in range(len(step)):
            bits, one, other = flags[i, row], value[i, row], norm[i, row]
            found[0, i, row] = np.nan if bits & DISABLED or not np.isfinite(one) else one
            found[1, i, row] = np.nan if bits & NO_NORM or not np.isfinite(other) else other
            if bits & _NONFINITE:
                nonfinite_step[column] = max(nonfinite_step[column], step[row])
                for finding in range(nonfinite.shape[1]):
                    nonfinite[column, finding] += (bits & _BITS[finding]) != 0
