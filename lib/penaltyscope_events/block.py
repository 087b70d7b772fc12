"""The data that crosses the wire: who sends, and columns of steps."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from penaltyscope_events.flags import NONFINITE

_NONFINITE = int(NONFINITE)  # arithmetic of flags costs more than that of the arrays

AttributeValue = str | bool | int | float | tuple[str, ...] | tuple[int, ...] | tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunIdentity:
    """Which process of which run speaks: the resource of every record."""

    run_id: str
    rank: int = 0
    world_size: int = 1
    attempt: int = 0
    service_name: str = "penaltyscope"
    instance_id: str = ""
    host_name: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One record that is not a step: run start, heartbeat, end, exception, incident."""

    name: str
    time_ns: int
    """Unix time in nanoseconds."""
    attributes: Mapping[str, AttributeValue] = field(default_factory=dict)
    error: bool = False
    """Whether the record's severity is ERROR instead of INFO."""


@dataclass(slots=True, kw_only=True)  # frozen, it takes three times as long to make one
class StepBlock:
    """``N`` evaluations of one pipeline with ``T`` terms, as columns in order of arrival.

    Nobody changes a block, or the numbers in it.
    """

    pipeline: str
    incarnation: str
    terms: tuple[str, ...]
    step: NDArray[np.int64]
    """``[N]``, the training step; several evaluations may share one (gradient accumulation)."""
    seq: NDArray[np.int64]
    """``[N]``, the number of the evaluation, from 0, never reused within an incarnation."""
    stop_ns: NDArray[np.int64]
    """``[N]``, Unix time in nanoseconds at which the evaluation ended."""
    duration: NDArray[np.float64]
    """``[N]``, seconds."""
    base: NDArray[np.float64]
    """``[N]``, the task loss; means something only where ``has_base``."""
    has_base: NDArray[np.bool_]
    total: NDArray[np.float64]
    """``[N]``, sum of contributions."""
    total_gradient_norm: NDArray[np.float64]
    """``[N]``, norm of the weighted gradient of ``total``; NaN where no norm was measured."""
    value: NDArray[np.float64]
    """``[N, T]``, unweighted."""
    weight: NDArray[np.float64]
    contribution: NDArray[np.float64]
    """``[N, T]``, weight times value; 0 for a disabled term."""
    gradient_norm: NDArray[np.float64]
    """``[N, T]``, unweighted; NaN where flagged as not measured."""
    flags: NDArray[np.int32]
    """``[N, T]``, bits of :class:`~penaltyscope_events.flags.TermFlag`."""

    def __len__(self) -> int:
        return len(self.step)

    def take(self, index: NDArray[np.bool_] | NDArray[np.int64] | slice) -> Self:
        """The same columns at some rows only."""
        columns = {name: getattr(self, name)[index] for name in COLUMNS}
        return replace(self, **columns)

    @property
    def start_ns(self) -> NDArray[np.int64]:
        """``[N]``, Unix time in nanoseconds at which the evaluation began."""
        return self.stop_ns - (self.duration * 1e9).astype(np.int64)

    @property
    def nonfinite(self) -> NDArray[np.bool_]:
        """``[N]``: whether any term, or the task loss, was NaN or infinite."""
        bad: NDArray[np.bool_] = self.has_base & ~np.isfinite(self.base)
        if np.count_nonzero(self.flags):  # any() would convert them first
            bad |= ((self.flags & _NONFINITE) != 0).any(axis=1)
        return bad


COLUMNS = tuple(
    f.name for f in fields(StepBlock) if f.name not in ("pipeline", "incarnation", "terms")
)
"""The names of the block's columns, in order."""
