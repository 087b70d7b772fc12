"""Summaries of runs, made of what is in memory."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penaltyscope_events import FINDINGS, StepBlock
from penaltyscope_service.aggregate import (
    KINDS,
    STAGES,
    FirstFinding,
    PipelineAggregate,
    glance,
)
from penaltyscope_service.history import KeptBlock, unite
from penaltyscope_service.registry import TrackedRun
from penaltyscope_service.summary import (
    FirstNonfinite,
    PipelineDetail,
    RunDetail,
    RunSummary,
    TermDetail,
)
from penaltyscope_service.vitals import Watchman, last_step, step_seconds


def summarize(run: TrackedRun, watchman: Watchman, now: float) -> RunSummary:
    """A run in the list of runs."""
    return RunSummary(**_head(run, watchman, now), pipelines=run.pipelines)


def glance_at(run: TrackedRun) -> TrackedRun:
    """The run for :func:`summarize`, without aggregating what waits."""
    if not any(stream.waiting for stream in run.streams.values()):
        return run
    seen = replace(run, streams={}, by_rank={})
    for stream in run.streams.values():
        aggregate = glance(stream.aggregate, stream.waiting, _read)
        seen.enter_stream(replace(stream, aggregate=aggregate, waiting=[], waiting_rows=0))
    return seen


def _read(block: KeptBlock) -> StepBlock:
    return unite([block])


def describe(run: TrackedRun, watchman: Watchman, now: float) -> RunDetail:
    """A run with its pipelines and terms."""
    pipelines = tuple(_describe_pipeline(run, pipeline) for pipeline in run.pipelines)
    return RunDetail(**_head(run, watchman, now), pipelines=pipelines)


def _head(run: TrackedRun, watchman: Watchman, now: float) -> dict[str, Any]:
    record = run.record
    aggregates = [stream.aggregate for stream in run.streams.values()]
    return {
        "run": record.run,
        "state": watchman.state(run, now),
        "tags": dict(record.tags),
        "world_size": record.world_size,
        "attempt": record.attempt,
        "ranks": record.ranks,
        "started_at": record.started_at,
        "last_received_at": record.received_at,
        "ended_at": record.ended_at,
        "last_step": last_step(run),
        "steps": sum(aggregate.steps for aggregate in aggregates),
        "step_interval_seconds": step_seconds(run),
        "nonfinite_steps": sum(aggregate.nonfinite_steps for aggregate in aggregates),
        "first_nonfinite": _first_nonfinite(run),
        "exception": record.failure,
    }


def _first_nonfinite(run: TrackedRun) -> FirstNonfinite | None:
    """Of all ranks and pipelines; the earliest in the order of ``FirstFinding``, then by rank."""
    found: list[tuple[tuple[int, int, int], int, str, FirstFinding]] = []
    for (rank, pipeline), stream in run.streams.items():
        first = stream.aggregate.first
        if first is not None:
            found.append(((first.step, first.stage, first.order), rank, pipeline, first))
    if not found:
        return None
    _, rank, pipeline, first = min(found)
    return FirstNonfinite(
        step=first.step,
        pipeline=pipeline,
        term=first.term,
        stage=STAGES[first.stage],
        kind=KINDS[first.kind],
        rank=rank,
        time=first.time_ns / 1e9,
    )


def _describe_pipeline(run: TrackedRun, pipeline: str) -> PipelineDetail:
    streams = {rank: stream.aggregate for rank, stream in run.of_pipeline(pipeline).items()}
    whole = PipelineAggregate.of(streams)
    lowest = whole.lowest
    total, base, loss, norm = _numbers(lowest.latest[0], lowest.latest_real[0])
    return PipelineDetail(
        pipeline=pipeline,
        terms=_describe_terms(whole),
        steps=sum(stream.steps for stream in streams.values()),
        ranks=tuple(streams),
        base=base,
        total=total,
        loss=loss,
        total_gradient_norm=norm,
        duration_seconds=lowest.latest_duration if lowest.steps else None,
        last_step=lowest.last_step if lowest.steps else None,
    )


def _describe_terms(pipeline: PipelineAggregate) -> tuple[TermDetail, ...]:
    latest = pipeline.take(lambda terms: terms.latest)
    real = pipeline.take(lambda terms: terms.latest_real)
    nonfinite = pipeline.add(lambda terms: terms.nonfinite)
    nonfinite_step = pipeline.highest(lambda terms: terms.nonfinite_step)
    details = []
    for i, term in enumerate(pipeline.terms):
        value, weight, contribution, norm, share = _numbers(latest[i], real[i])
        detail = TermDetail(
            term=term,
            value=value,
            weight=weight,
            contribution=contribution,
            gradient_norm=norm,
            gradient_share=share,
            nonfinite=_by_stage(nonfinite[i].tolist()),
            last_nonfinite_step=int(nonfinite_step[i]) if nonfinite_step[i] >= 0 else None,
        )
        details.append(detail)
    return tuple(details)


def _numbers(numbers: NDArray[np.float64], real: NDArray[np.bool_]) -> list[float | None]:
    return [float(x) if there else None for x, there in zip(numbers, real, strict=True)]


def _by_stage(counts: list[int]) -> Mapping[Any, Mapping[Any, int]]:
    by_stage: dict[str, dict[str, int]] = {stage: {} for stage in STAGES}
    for finding, count in zip(FINDINGS, counts, strict=True):
        by_stage[finding.stage][finding.kind] = count
    return by_stage
