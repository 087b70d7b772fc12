"""The answers of the service, named as in its OpenAPI document.

Numbers of a run are floats, NaN and infinity among them; ``None`` means that there is none. Times
are Unix seconds by the service's clock unless said otherwise.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

State: TypeAlias = Literal["running", "finished", "failed", "interrupted", "stalled", "lost"]
Quantity: TypeAlias = Literal["value", "contribution", "gradient_norm"]
Stage: TypeAlias = Literal["input", "value", "gradient"]
Kind: TypeAlias = Literal["nan", "inf"]
Format: TypeAlias = Literal["csv", "jsonl", "parquet"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Why a request was refused."""

    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """The process answers."""

    status: Literal["ok"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Readiness:
    """Whether requests would be kept."""

    status: Literal["ok", "unavailable"]
    reasons: tuple[str, ...]
    """Why not, one sentence for each; empty when ready."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A non-finite number."""

    step: int
    term: str
    """The term, or ``base`` for the task loss."""
    stage: Stage
    kind: Kind


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstFinding(Finding):
    """The first non-finite number of a run."""

    pipeline: str
    rank: int
    time: float
    """At which the evaluation ended, by the job's clock."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunException:
    """Why a run failed, in its own words."""

    type: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _RunHead:
    run: str
    state: State
    tags: Mapping[str, str]
    world_size: int
    attempt: int
    ranks: tuple[int, ...]
    """Those that have been heard of."""
    started_at: float
    """When the first record was received."""
    last_received_at: float
    ended_at: float | None
    last_step: int | None
    steps: int
    """Evaluations kept, of all ranks and pipelines."""
    step_interval_seconds: float | None
    """Median time between steps."""
    nonfinite_steps: int
    """Evaluations with any non-finite number, of all ranks and pipelines."""
    first_nonfinite: FirstFinding | None
    exception: RunException | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Run(_RunHead):
    """A run in short."""

    pipelines: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Runs:
    """A page of runs, the newest first."""

    runs: tuple[Run, ...]
    next: str | None
    """The next page is what comes ``after`` it; none: there is no more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KindCounts:
    """How often a number was not finite."""

    nan: int
    inf: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StageCounts:
    """How often a term was not finite, by stage."""

    input: KindCounts
    value: KindCounts
    gradient: KindCounts


@dataclass(frozen=True, slots=True, kw_only=True)
class Term:
    """A term's last numbers and all of its findings."""

    term: str
    value: float | None
    weight: float | None
    contribution: float | None
    gradient_norm: float | None
    gradient_share: float | None
    """Its weighted gradient norm in relation to the sum of all terms'."""
    nonfinite: StageCounts
    last_nonfinite_step: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pipeline:
    """A pipeline's last numbers."""

    pipeline: str
    terms: tuple[Term, ...]
    steps: int
    ranks: tuple[int, ...]
    base: float | None
    total: float | None
    loss: float | None
    total_gradient_norm: float | None
    duration_seconds: float | None
    """Of the last evaluation."""
    last_step: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunDetail(_RunHead):
    """A run with its pipelines."""

    pipelines: tuple[Pipeline, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One quantity over steps."""

    term: str
    """The term, or ``base`` or ``total`` for the whole pipeline."""
    quantity: Quantity
    step: tuple[int, ...]
    """``[P]``, ascending."""
    value: tuple[float, ...]
    """``[P]``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """Lines of one pipeline on one rank, every non-finite number among them."""

    run: str
    pipeline: str
    rank: int
    first_step: int | None
    last_step: int | None
    steps: int
    """Evaluations in the range of steps."""
    series: tuple[Line, ...]
    nonfinite: tuple[Finding, ...]
    """At most 1000, the earliest first."""
    nonfinite_steps: int
    """Evaluations in the range with any non-finite number."""
