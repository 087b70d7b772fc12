"""Which evaluations have been kept: every one counts once, however often and late it arrives.

A source numbers its evaluations 0, 1, 2, …; a ledger remembers one number below which all are
settled, and the gaps below it. Retries find their numbers settled. A gap is reported as missing
once it is older than a delay, but stays open: what was spooled for hours is still kept when it
comes. Only when there are too many gaps is the oldest closed for good, and a record that arrives
for it later is taken for a duplicate.
"""

from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numba import types
from numpy.typing import NDArray

from penaltyscope_service.kernel import kernel

MAX_SEQ: Final = 2**62
"""Larger numbers are no count of anything, and would leave no room for arithmetic."""


class Gap(NamedTuple):
    """Numbers ``start`` to ``stop - 1``, none of which has arrived."""

    start: int
    stop: int
    since: float
    """Unix time in seconds at which a later number arrived."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """What has arrived of one source: everything below ``high`` that is in no gap."""

    high: int = 0
    gaps: tuple[Gap, ...] = ()
    """In ascending order, apart from each other."""
    lost: int = 0
    """Numbers that were missing once: they came late, or their gap was closed."""

    def missing(self, now: float, gap_seconds: float) -> int:
        """How many numbers did not arrive within ``gap_seconds`` of a later one; never falls."""
        overdue = (gap.stop - gap.start for gap in self.gaps if now - gap.since >= gap_seconds)
        return self.lost + sum(overdue)


def advance(ledger: Ledger, seq: NDArray[np.int64]) -> Ledger | None:
    """The ledger after numbers ``[N]`` that continue it; nothing if they do not, or one is missing.

    What nearly always arrives, and quickly told.
    """
    first, count = int(seq[0]), len(seq)
    if first != ledger.high or ledger.gaps or first + count > MAX_SEQ:
        return None
    if count > 1 and not _is_consecutive(seq):
        return None
    return Ledger(high=first + count, lost=ledger.lost)


@kernel(types.boolean(types.Array(types.int64, 1, "A", readonly=True)))
def _is_consecutive(seq: NDArray[np.int64]) -> bool:
    """Whether each number is the next after the one before."""
    difference = np.int64(0)
    for i in range(len(seq)):
        difference |= seq[i] - seq[0] - i
    return bool(difference == 0)


def admit(
    ledger: Ledger, seq: NDArray[np.int64], *, now: float, gap_seconds: float, max_gaps: int
) -> tuple[Ledger, NDArray[np.bool_]]:
    """Enters numbers that have arrived.

    Args:
        ledger: what had arrived before.
        seq: ``[N]``, from 0 to ``MAX_SEQ``, in any order and with repetitions.
        now: Unix time in seconds.
        gap_seconds: age from which a gap counts as missing.
        max_gaps: how many gaps are remembered.

    Returns:
        The ledger afterwards, and ``[N]``: which of the numbers are new.
    """
    ahead = advance(ledger, seq)
    if ahead is not None:
        return ahead, np.ones(len(seq), np.bool_)
    unique, positions = np.unique(seq, return_index=True)
    high = int(unique[-1]) + 1
    gaps = list(ledger.gaps)
    if high > ledger.high:
        gaps.append(Gap(ledger.high, high, now))
    kept, lost = np.zeros(len(unique), np.bool_), ledger.lost
    left: list[Gap] = []
    for gap in gaps:
        low, top = np.searchsorted(unique, (gap.start, gap.stop))
        kept[low:top] = True
        left += _without(gap, unique[low:top])
        lost += int(top - low) if now - gap.since >= gap_seconds else 0
    closed = left[: max(len(left) - max_gaps, 0)]
    new = np.zeros(len(seq), np.bool_)
    new[positions[kept]] = True
    return (
        Ledger(
            high=max(high, ledger.high),
            gaps=tuple(left[len(closed) :]),
            lost=lost + sum(gap.stop - gap.start for gap in closed),
        ),
        new,
    )


def _without(gap: Gap, arrived: NDArray[np.int64]) -> list[Gap]:
    """What is left of a gap; ``arrived`` is ascending and inside it."""
    if not len(arrived):
        return [gap]
    starts = [gap.start, *(arrived + 1).tolist()]
    stops = [*arrived.tolist(), gap.stop]
    return [
        Gap(start, stop, gap.since)
        for start, stop in zip(starts, stops, strict=True)
        if start < stop
    ]
