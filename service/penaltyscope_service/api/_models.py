"""The shapes of the JSON API.

Numbers of a run may be NaN or infinite, which JSON cannot say: they travel as the strings
``"NaN"``, ``"Infinity"`` and ``"-Infinity"``, as in OTLP. ``null`` means that there is none.
"""

from typing import Annotated, Any, Final

from numpy.typing import NDArray
from pydantic import BaseModel, BeforeValidator, ConfigDict, WithJsonSchema

from penaltyscope_events.flags import Kind, Stage
from penaltyscope_service.summary import Quantity, State

Number = Annotated[
    float,
    WithJsonSchema(
        {"anyOf": [{"type": "number"}, {"enum": ["NaN", "Infinity", "-Infinity"]}]},
    ),
]


def _as_list(array: NDArray[Any]) -> list[Any]:
    values: list[Any] = array.tolist()
    return values


FromArray: Final = BeforeValidator(_as_list)


class Model(BaseModel):
    """What all shapes have in common."""

    model_config = ConfigDict(
        from_attributes=True, ser_json_inf_nan="strings", use_attribute_docstrings=True
    )


class Finding(Model):
    """A non-finite number."""

    step: int
    term: str
    """The term, or ``base`` for the task loss."""
    stage: Stage
    kind: Kind


class FirstFinding(Finding):
    """The first non-finite number of a run."""

    pipeline: str
    rank: int
    time: float
    """Unix time in seconds at which the evaluation ended."""


class RunException(Model):
    """Why a run failed, in its own words."""

    type: str
    message: str


class RunHead(Model):
    """What a run's summary and its details have in common."""

    run: str
    state: State
    tags: dict[str, str]
    world_size: int
    attempt: int
    ranks: list[int]
    """The ranks that have been heard of."""
    started_at: float
    """Unix time in seconds at which the first record was received."""
    last_received_at: float
    """Unix time in seconds at which the last record was received."""
    ended_at: float | None
    """Unix time in seconds at which the end was received."""
    last_step: int | None
    steps: int
    """Evaluations kept, of all ranks and pipelines."""
    step_interval_seconds: float | None
    """Median time between steps."""
    nonfinite_steps: int
    """Evaluations with any non-finite number, of all ranks and pipelines."""
    first_nonfinite: FirstFinding | None
    exception: RunException | None


class Run(RunHead):
    """A run in short."""

    pipelines: list[str]


class Runs(Model):
    """Runs, the newest first."""

    runs: list[Run]
    next: str | None
    """The next page is what comes ``after`` it; none: there is no more."""


class KindCounts(Model):
    """How often a number was not finite."""

    nan: int
    inf: int


class StageCounts(Model):
    """How often a term was not finite, by stage."""

    input: KindCounts
    value: KindCounts
    gradient: KindCounts


class Term(Model):
    """A term's last numbers and all of its findings."""

    term: str
    value: Number | None
    weight: Number | None
    contribution: Number | None
    gradient_norm: Number | None
    gradient_share: Number | None
    """Its weighted gradient norm in relation to the sum of all terms'."""
    nonfinite: StageCounts
    last_nonfinite_step: int | None


class Pipeline(Model):
    """A pipeline's last numbers."""

    pipeline: str
    terms: list[Term]
    steps: int
    ranks: list[int]
    base: Number | None
    total: Number | None
    loss: Number | None
    total_gradient_norm: Number | None
    duration_seconds: Number | None
    """Of the last evaluation."""
    last_step: int | None


class RunDetail(RunHead):
    """A run with its pipelines."""

    pipelines: list[Pipeline]


class Line(Model):
    """One quantity over steps, at most as many points as were asked for."""

    term: str
    """The term, or ``base`` or ``total`` for the whole pipeline."""
    quantity: Quantity
    step: Annotated[list[int], FromArray]
    value: Annotated[list[Number], FromArray]


class Series(Model):
    """Lines of one pipeline on one rank, every non-finite number among them."""

    run: str
    pipeline: str
    rank: int
    first_step: int | None
    last_step: int | None
    steps: int
    """Evaluations in the range of steps."""
    series: list[Line]
    nonfinite: list[Finding]
    """At most 1000, the earliest first."""
    nonfinite_steps: int
    """Evaluations in the range with any non-finite number."""
