"""A probe's result as an event. Runs on the recorder's thread: it waits for the device."""

import math

from torch import Tensor

from penaltyscope.attribution import Attribution
from penaltyscope_events import AttributeValue, Event, names


def attribution_event(
    attribution: Attribution, *, pipeline: str, incarnation: str, time_ns: int
) -> Event:
    """The event ``penaltyscope.pipeline.attribution``."""
    columns = {
        names.TERM_WEIGHT: attribution.weights,
        names.ATTRIBUTION_SLOPE: attribution.slopes,
        names.ATTRIBUTION_PULL: attribution.pulls,
        names.ATTRIBUTION_SHARE: attribution.shares,
    }
    if not attribution.norms.isnan().all():
        columns[names.ATTRIBUTION_GRADIENT_NORM] = attribution.norms
    attributes: dict[str, AttributeValue] = {
        names.PIPELINE: pipeline,
        names.STEP: attribution.step,
        names.INCARNATION: incarnation,
        names.TERM_NAMES: attribution.terms,
        names.ATTRIBUTION_METHOD: attribution.method,
        names.ATTRIBUTION_DIRECTION_NORM: attribution.direction_norm.item(),
        **{name: _doubles(column) for name, column in columns.items()},
    }
    if not math.isnan(attribution.base_pull.item()):
        attributes[names.ATTRIBUTION_BASE_SHARE] = attribution.base_share.item()
    return Event(name=names.PIPELINE_ATTRIBUTION, time_ns=time_ns, attributes=attributes)


def _doubles(column: Tensor) -> tuple[float, ...]:
    return tuple(column.tolist())
