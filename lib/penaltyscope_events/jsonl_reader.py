"""Lines of JSON as columns of steps and events again. Reference: docs/jsonl.md."""

import json
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, NamedTuple, Never

import numpy as np

from penaltyscope_events import names
from penaltyscope_events._members import InvalidLineError, Members
from penaltyscope_events.block import COLUMNS, Event, RunIdentity, StepBlock

_BLOCK_STEPS: Final = 1024
_DTYPES: Final[dict[str, type[np.generic]]] = {
    "step": np.int64,
    "seq": np.int64,
    "stop_ns": np.int64,
    "has_base": np.bool_,
    "flags": np.int32,
}
"""Of the columns that are not float64."""


class _Step(NamedTuple):
    """One evaluation: what it has in common with its neighbours, and its row of columns."""

    pipeline: str
    incarnation: str
    terms: tuple[str, ...]
    row: dict[str, Any]


def read_lines(
    lines: Iterable[bytes], *, on_invalid: Callable[[int, InvalidLineError], None] | None = None
) -> Iterator[tuple[RunIdentity, StepBlock | Event]]:
    """What the lines say, in order; up to 1,024 neighbouring steps of a pipeline are one block.

    Args:
        lines: with their ends, as iterating over a file opened for bytes gives them.
        on_invalid: gets the number (from 1) and the error of a line that cannot be read, which is
            then passed over.

    Raises:
        InvalidLineError: a line cannot be read and there is no ``on_invalid``; names its number.
    """
    block: list[_Step] = []
    speaker = RunIdentity(run_id="")
    for identity, item in _items(lines, on_invalid):
        if block and (not _joins(item, block) or identity != speaker):
            yield speaker, _columns(block)
            block = []
        speaker = identity
        if isinstance(item, Event):
            yield identity, item
        else:
            block.append(item)
    if block:
        yield speaker, _columns(block)


def _joins(item: _Step | Event, block: list[_Step]) -> bool:
    return isinstance(item, _Step) and item[:3] == block[0][:3] and len(block) < _BLOCK_STEPS


def _columns(block: list[_Step]) -> StepBlock:
    columns: dict[str, Any] = {
        name: np.array([step.row[name] for step in block], _DTYPES.get(name, np.float64))
        for name in COLUMNS
    }
    pipeline, incarnation, terms, _ = block[0]
    return StepBlock(pipeline=pipeline, incarnation=incarnation, terms=terms, **columns)


def _items(
    lines: Iterable[bytes], on_invalid: Callable[[int, InvalidLineError], None] | None
) -> Iterator[tuple[RunIdentity, _Step | Event]]:
    for number, line in enumerate(lines, 1):
        # Without its end it is half a line: the writer was killed in the middle of it.
        if not line.strip() or not line.endswith(b"\n"):
            continue
        try:
            yield _item(line)
        except InvalidLineError as error:
            if on_invalid is None:
                raise InvalidLineError(f"line {number}: {error}") from None
            on_invalid(number, error)


def _item(line: bytes) -> tuple[RunIdentity, _Step | Event]:
    try:
        plain = json.loads(line, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise InvalidLineError(f"it must be JSON: {error}.") from None
    if not isinstance(plain, dict):
        raise InvalidLineError(f"it must be an object, got {line!r:.80}.")
    members = Members(plain)
    schema = members.text("schema")
    if schema != names.SCHEMA_VERSION:
        raise InvalidLineError(f"schema must be {names.SCHEMA_VERSION!r}, got {schema!r:.80}.")
    is_step = members.text("event") == names.PIPELINE_STOP
    return _identity(members), _step(members) if is_step else _event(members)


def _refuse(constant: str) -> Never:
    raise ValueError(f"{constant} is no number")


def _identity(members: Members) -> RunIdentity:
    return RunIdentity(
        run_id=members.text("run"),
        rank=members.integer("rank", 0),
        world_size=members.integer("world_size", 1),
        attempt=members.integer("attempt", 0),
        service_name=members.text("service", "penaltyscope"),
        instance_id=members.text("instance", ""),
        host_name=members.text("host", ""),
        tags=members.tags("tags"),
    )


def _step(members: Members) -> _Step:
    terms = members.texts("term_names")
    has_base = "base" in members
    row = {
        "step": members.integer("step"),
        "seq": members.integer("seq"),
        "stop_ns": members.integer("time_ns"),
        "duration": members.double("duration"),
        "base": members.double("base") if has_base else math.nan,
        "has_base": has_base,
        "total": members.double("total"),
        "total_gradient_norm": members.double("total_gradient_norm"),
        "value": members.doubles("term_value", len(terms)),
        "weight": members.doubles("term_weight", len(terms)),
        "contribution": members.doubles("term_contribution", len(terms)),
        "gradient_norm": members.doubles("term_gradient_norm", len(terms)),
        "flags": members.flags("term_flags", len(terms)),
    }
    return _Step(members.text("pipeline"), members.text("incarnation"), terms, row)


def _event(members: Members) -> Event:
    return Event(
        name=members.text("event"),
        time_ns=members.integer("time_ns"),
        attributes=members.attributes("attributes"),
        error=members.truth("error"),
    )
