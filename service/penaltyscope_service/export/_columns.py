"""Steps as a table with one row for each term of each evaluation."""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from penaltyscope_events import StepBlock
from penaltyscope_service.measured import norm_measured

NAMES: Final = (
    "run",
    "rank",
    "pipeline",
    "incarnation",
    "seq",
    "step",
    "time_ns",
    "duration_seconds",
    "base",
    "total",
    "total_gradient_norm",
    "term",
    "value",
    "weight",
    "contribution",
    "gradient_norm",
    "flags",
)
CONSTANT: Final = NAMES[:4]
"""The same in all rows of a block."""


def term_columns(block: StepBlock) -> dict[str, NDArray[Any]]:
    """``[N * T]`` each, by name; the terms by their number."""
    terms = len(block.terms)
    scalars: dict[str, NDArray[Any]] = {
        "seq": block.seq,
        "step": block.step,
        "time_ns": block.stop_ns,
        "duration_seconds": block.duration,
        "base": block.base,
        "total": block.total,
        "total_gradient_norm": block.total_gradient_norm,
    }
    matrices: dict[str, NDArray[Any]] = {
        "value": block.value,
        "weight": block.weight,
        "contribution": block.contribution,
        "gradient_norm": block.gradient_norm,
        "flags": block.flags,
    }
    return {
        **{name: np.repeat(column, terms) for name, column in scalars.items()},
        "term": np.tile(np.arange(terms, dtype=np.int32), len(block)),
        **{name: matrix.ravel() for name, matrix in matrices.items()},
    }


def absent(block: StepBlock) -> dict[str, NDArray[np.bool_]]:
    """``[N * T]`` each: where a number of a column means nothing."""
    return {
        "base": np.repeat(~block.has_base, len(block.terms)),
        "gradient_norm": ~norm_measured(block.flags).ravel(),
    }
