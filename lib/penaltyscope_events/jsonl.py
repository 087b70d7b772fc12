"""Records as lines of JSON, one per evaluation and one per event. Reference: docs/jsonl.md."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from penaltyscope_events import names
from penaltyscope_events.block import AttributeValue, Event, RunIdentity, StepBlock

NONFINITE: Final = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
"""How doubles are written that JSON has no number for."""
DOUBLE: Final = "double"
"""The key of the object that such a double is among attributes."""


def step_lines(
    identity: RunIdentity, block: StepBlock, traces: Sequence[tuple[bytes, bytes] | None] = ()
) -> bytes:
    """One line for each step.

    Args:
        identity: who speaks.
        block: the steps.
        traces: trace id (16 bytes) and span id (8 bytes) of each step, where there was a span.
    """
    head = _head(names.PIPELINE_STOP, identity)
    spans = traces or [None] * len(block)
    rows = zip(_rows(block), spans, strict=True)
    return b"".join(_line(head, row if span is None else row | _ids(span)) for row, span in rows)


def event_lines(identity: RunIdentity, events: Sequence[Event]) -> bytes:
    """One line for each event."""
    return b"".join(_line(_head(event.name, identity), _event(event)) for event in events)


def _head(event: str, identity: RunIdentity) -> str:
    """The members that many lines share, up to the comma behind them."""
    members = {
        "schema": names.SCHEMA_VERSION,
        "event": event,
        "run": identity.run_id,
        "rank": identity.rank,
        "world_size": identity.world_size,
        "attempt": identity.attempt,
        "tags": dict(identity.tags),
        "service": identity.service_name,
        "instance": identity.instance_id,
        "host": identity.host_name,
    }
    return _dump(members)[:-1] + ","


def _line(head: str, members: Mapping[str, object]) -> bytes:
    return f"{head}{_dump(members)[1:]}\n".encode("utf-8", "replace")


def _dump(members: Mapping[str, object]) -> str:
    return json.dumps(members, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def _rows(block: StepBlock) -> Iterator[dict[str, object]]:
    base = _doubles(block.base)
    columns: dict[str, list[object]] = {
        "time_ns": block.stop_ns.tolist(),
        "pipeline": [block.pipeline] * len(block),
        "incarnation": [block.incarnation] * len(block),
        "seq": block.seq.tolist(),
        "step": block.step.tolist(),
        "duration": _doubles(block.duration),
        "base": [b if given else None for b, given in zip(base, block.has_base, strict=True)],
        "total": _doubles(block.total),
        "total_gradient_norm": _doubles(block.total_gradient_norm),
        "term_names": [block.terms] * len(block),
        "term_value": _doubles(block.value),
        "term_weight": _doubles(block.weight),
        "term_contribution": _doubles(block.contribution),
        "term_gradient_norm": _doubles(block.gradient_norm),
        "term_flags": block.flags.tolist(),
    }
    for row in zip(*columns.values(), strict=True):
        yield dict(zip(columns, row, strict=True))


def _doubles(column: NDArray[np.float64]) -> list[object]:
    plain: list[object] = column.tolist()
    if np.isfinite(column).all():
        return plain
    return [[_double(x) for x in row] if isinstance(row, list) else _double(row) for row in plain]


def _double(number: object) -> object:
    if not isinstance(number, float) or math.isfinite(number):
        return number
    return "NaN" if math.isnan(number) else "Infinity" if number > 0 else "-Infinity"


def _ids(span: tuple[bytes, bytes]) -> dict[str, object]:
    return {"trace_id": span[0].hex(), "span_id": span[1].hex()}


def _event(event: Event) -> dict[str, object]:
    attributes = {key: _attribute(value) for key, value in event.attributes.items()}
    return {"time_ns": event.time_ns, "error": event.error, "attributes": attributes}


def _attribute(value: AttributeValue) -> object:
    if isinstance(value, tuple):
        return [_attribute(item) for item in value]
    word = _double(value)
    return word if word is value else {DOUBLE: word}
