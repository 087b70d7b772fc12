"""The findings in a range of steps, the earliest first."""

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from penaltyscope_events import FINDINGS, NONFINITE
from penaltyscope_events.names import BASE_TERM
from penaltyscope_service.history import BlockHead, Reader
from penaltyscope_service.series._lines import Columns
from penaltyscope_service.summary import NonfiniteStep

MOST_FINDINGS: Final = 1000

_COLUMNS: Final = ("step", "flags", "base", "has_base")
_BITS: Final = np.array([finding.flag for finding in FINDINGS], np.int32)
_BASE_FINDINGS: Final = tuple(
    (i, np.isnan if finding.kind == "nan" else np.isinf)
    for i, finding in enumerate(FINDINGS)
    if finding.stage == "value"
)
"""A task loss that is not finite counts as a value."""

Found = tuple[int, int, int, str]
"""Step, index in ``FINDINGS``, the term's place, its name: the order in which they are told."""


def read_nonfinite(
    reader: Reader, heads: Sequence[BlockHead], from_step: int, to_step: int
) -> tuple[tuple[NonfiniteStep, ...], int]:
    """The first ``MOST_FINDINGS`` findings, and how many evaluations have any."""
    found: list[Found] = []
    count = 0
    for head in sorted((h for h in heads if h.nonfinite_rows), key=lambda h: h.first_step):
        inside = from_step <= head.first_step and head.last_step <= to_step
        if inside and len(found) == MOST_FINDINGS and head.first_step > found[-1][0]:
            count += head.nonfinite_rows
            continue
        columns = reader.columns(head, _COLUMNS)
        bad_base = columns["has_base"] & ~np.isfinite(columns["base"])
        bad = bad_base | ((columns["flags"] & NONFINITE) != 0).any(axis=1)
        bad &= (columns["step"] >= from_step) & (columns["step"] <= to_step)
        count += int(bad.sum())
        rows = {name: columns[name][bad] for name in _COLUMNS}
        found = sorted({*found, *_of_terms(rows, head.terms), *_of_base(rows, head.terms)})
        found = found[:MOST_FINDINGS]
    return tuple(map(_describe, found)), count


def _of_terms(rows: Columns, terms: Sequence[str]) -> Iterator[Found]:
    early = _is_early(rows["step"])
    steps = rows["step"][early].tolist()
    hits = np.nonzero((rows["flags"][early][:, :, None] & _BITS) != 0)
    for row, place, finding in zip(*(hit.tolist() for hit in hits), strict=True):
        yield steps[row], finding, place, terms[place]


def _of_base(rows: Columns, terms: Sequence[str]) -> Iterator[Found]:
    for finding, is_bad in _BASE_FINDINGS:
        bad = rows["has_base"] & is_bad(rows["base"])
        for step in np.unique(rows["step"][bad])[:MOST_FINDINGS].tolist():
            yield step, finding, len(terms), BASE_TERM


def _is_early(step: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which rows can be among the first: every one of them has a finding."""
    steps = np.unique(step)[:MOST_FINDINGS]
    return step <= steps[-1] if len(steps) else np.zeros(len(step), np.bool_)


def _describe(found: Found) -> NonfiniteStep:
    step, index, _, term = found
    finding = FINDINGS[index]
    return NonfiniteStep(step=step, term=term, stage=finding.stage, kind=finding.kind)
