"""Comma-separated values as RFC 4180 has them, with a header."""

import csv
from collections.abc import Iterator
from io import StringIO
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penaltyscope_events import StepBlock
from penaltyscope_service.export._columns import CONSTANT, NAMES, absent, term_columns
from penaltyscope_service.history import Archive, StreamRow


def export_csv(run: Archive) -> Iterator[bytes]:
    """One line for each term of each evaluation; what is absent is empty."""
    yield _lines([NAMES])
    for stream in run.streams:
        for block in run.steps(stream):
            yield _lines(_rows(run.record.run, stream, block))


def _rows(run: str, stream: StreamRow, block: StepBlock) -> Iterator[tuple[object, ...]]:
    constant = (run, stream.rank, stream.pipeline, block.incarnation)
    missing = absent(block)
    columns = {
        name: _texts(column, missing.get(name)) for name, column in term_columns(block).items()
    }
    columns["term"] = [block.terms[number] for number in columns["term"]]
    for row in zip(*(columns[name] for name in NAMES[len(CONSTANT) :]), strict=True):
        yield constant + row


def _texts(column: NDArray[Any], missing: NDArray[np.bool_] | None) -> list[Any]:
    """Numbers as they are, and the others as the wire format spells them."""
    texts: list[Any] = column.tolist()
    if column.dtype == np.float64:
        for i in np.flatnonzero(~np.isfinite(column)):
            texts[i] = (
                "NaN" if np.isnan(column[i]) else "Infinity" if column[i] > 0 else "-Infinity"
            )
    for i in np.flatnonzero(missing) if missing is not None else ():
        texts[i] = ""
    return texts


def _lines(rows: Any) -> bytes:  # noqa: ANN401  # what csv takes
    text = StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue().encode("utf-8", "replace")
