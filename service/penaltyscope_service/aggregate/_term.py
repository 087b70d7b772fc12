"""What is counted and remembered of the terms of a pipeline, one row for each."""

from dataclasses import dataclass
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from penaltyscope_events import FINDINGS, StepBlock
from penaltyscope_service.aggregate._baseline import Baseline
from penaltyscope_service.aggregate._gauge import Gauges
from penaltyscope_service.aggregate._histogram import NORM_BOUNDS, Columns, Histogram
from penaltyscope_service.aggregate._share import gradient_shares
from penaltyscope_service.aggregate._window import Window
from penaltyscope_service.measured import evaluated, norm_measured

_BITS: Final = np.array([finding.flag for finding in FINDINGS], np.int32)

_GAUGES: Final = 5

Numbers = NDArray[np.float64]
Mask = NDArray[np.bool_]

LAST: Final = slice(-1, None)
EVERY: Final = slice(None)
"""Rows of a block: the last one alone says it all, in most cases."""


@dataclass(slots=True)
class TermAggregate:
    """All columns are by term."""

    gauges: Gauges
    """Value, weight, contribution, gradient norm, share of the weighted gradient norm."""
    latest: Numbers
    """``[T, 5]``: the same at the latest evaluation, finite or not."""
    latest_real: Mask
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

    def count(self, columns: Columns, block: StepBlock, period: int) -> None:
        """Adds evaluations to what does not depend on their order, or only on that of arrival.

        Args:
            columns: which terms those of the block are.
            block: the evaluations.
            period: the window's period in which they arrived.
        """
        value, norm, finite = block.value, block.gradient_norm, None
        if np.count_nonzero(block.flags):
            finite = norm_measured(block.flags) & np.isfinite(norm)
            norm = np.where(finite, norm, np.nan)
            value = np.where(evaluated(block.flags) & np.isfinite(value), value, np.nan)
            self._count_nonfinite(columns, block)
        self.window.observe(period, columns, np.array((_highest(value), _highest(norm))).T)
        self.norms.observe(columns, norm, finite)
        self.baseline.observe(self._spread(columns, norm))

    def hold(self, columns: Columns, block: StepBlock, *, newest: bool) -> None:
        """Remembers the latest numbers.

        Args:
            columns: which terms those of the block are.
            block: evaluations in ascending order of ``seq``.
            newest: whether the last of them is the latest of all.
        """
        numbers, real = _numbers(block, LAST)
        if newest:
            self.latest_real.fill(False)  # a term that is gone has no latest number
            self.latest[columns], self.latest_real[columns] = numbers[0], real[0]
        if not self.gauges.observe(columns, block.seq[LAST], numbers, real):
            self.gauges.observe(columns, block.seq, *_numbers(block, EVERY))

    def _count_nonfinite(self, columns: Columns, block: StepBlock) -> None:
        found = (block.flags[:, :, None] & _BITS) != 0
        self.nonfinite[columns] += found.sum(axis=0)
        steps = np.where(found.any(axis=2), block.step[:, None], -1).max(axis=0)
        self.nonfinite_step[columns] = np.maximum(self.nonfinite_step[columns], steps)

    def _spread(self, columns: Columns, norm: Numbers) -> Numbers:
        """``[N, T]`` for all terms, NaN for those that are not in the block."""
        if isinstance(columns, slice):
            return norm
        spread = np.full((len(norm), len(self.latest)), np.nan)
        spread[:, columns] = norm
        return spread


def _highest(numbers: Numbers) -> Numbers:
    """``[T]``: the maximum without the NaN; minus infinity where there is no number."""
    highest: Numbers = np.maximum.reduce(numbers, axis=0, initial=-np.inf)
    if np.isnan(highest).any():
        highest = np.fmax.reduce(numbers, axis=0, initial=-np.inf)
    return highest + 0.0  # of two zeros of different signs either is the maximum; show no sign


def _numbers(block: StepBlock, rows: slice) -> tuple[Numbers, Mask]:
    """``[N, T, 5]``: the numbers of ``gauges``, and which of them mean something."""
    flags = block.flags[rows]
    numbers = np.empty((*flags.shape, _GAUGES))
    real = np.ones((*flags.shape, _GAUGES), np.bool_)
    columns = (block.value, block.weight, block.contribution, block.gradient_norm)
    for i, column in enumerate(columns):
        numbers[..., i] = column[rows]
    numbers[..., 4], real[..., 4] = gradient_shares(block, rows)
    real[..., 0], real[..., 3] = evaluated(flags), norm_measured(flags)
    return numbers, real
