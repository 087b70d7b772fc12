"""What the service says about a run: the answers of an observatory, whatever asks for them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from penaltyscope_events.flags import Kind, Stage

State = Literal["running", "finished", "failed", "interrupted", "stalled", "lost"]
STATES: Final[tuple[State, ...]] = get_args(State)

Quantity = Literal["value", "contribution", "gradient_norm"]
QUANTITIES: Final[tuple[Quantity, ...]] = get_args(Quantity)


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstNonfinite:
    """Where a run went wrong first.

    The earliest step; within it the earliest stage in causal order, then the pipeline's own order
    of terms (the task loss last), then the lowest rank.
    """

    step: int
    pipeline: str
    term: str
    stage: Stage
    kind: Kind
    rank: int
    time: float
    """Unix time in seconds at which the evaluation ended, by the job's clock."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """The last exception that a run reported since it was last started."""

    type: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunHead:
    """One run; times are Unix seconds by the service's clock, at which it received records."""

    run: str
    state: State
    tags: Mapping[str, str]
    world_size: int
    attempt: int
    ranks: tuple[int, ...]
    started_at: float
    last_received_at: float
    ended_at: float | None
    last_step: int | None
    steps: int
    """Evaluations kept, over all ranks and pipelines."""
    step_interval_seconds: float | None
    nonfinite_steps: int
    """Evaluations with any finding, over all ranks and pipelines."""
    first_nonfinite: FirstNonfinite | None
    exception: Failure | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSummary(RunHead):
    """One run in the list of runs."""

    pipelines: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TermDetail:
    """The last numbers of a term, which may be non-finite; ``None`` where there is none."""

    term: str
    value: float | None
    weight: float | None
    contribution: float | None
    gradient_norm: float | None
    gradient_share: float | None
    nonfinite: Mapping[Stage, Mapping[Kind, int]]
    """Evaluations with the finding, over all ranks."""
    last_nonfinite_step: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineDetail:
    """The last numbers of a pipeline, on the lowest rank that has it; counts are of all ranks."""

    pipeline: str
    terms: tuple[TermDetail, ...]
    steps: int
    ranks: tuple[int, ...]
    base: float | None
    total: float | None
    loss: float | None
    total_gradient_norm: float | None
    duration_seconds: float | None
    last_step: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunDetail(RunHead):
    """One run with everything that is known of its pipelines."""

    pipelines: tuple[PipelineDetail, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of a chart."""

    term: str
    """A term's name, or ``base`` (the task loss) or ``total`` (the penalty)."""
    quantity: Quantity
    step: NDArray[np.int64]
    """``[P]``, ascending; several evaluations may share one."""
    value: NDArray[np.float64]
    """``[P]``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NonfiniteStep:
    """One finding."""

    step: int
    term: str
    stage: Stage
    kind: Kind


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One rank's numbers of one pipeline over steps."""

    run: str
    pipeline: str
    rank: int
    first_step: int | None
    last_step: int | None
    steps: int
    """Evaluations in the range."""
    series: tuple[Line, ...]
    nonfinite: tuple[NonfiniteStep, ...]
    """The earliest findings in the range."""
    nonfinite_steps: int
    """Evaluations in the range with any finding."""
