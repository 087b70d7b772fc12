"""A chart's numbers as JSON, written from arrays: most of an answer's time would go into lists."""

from dataclasses import fields
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from penaltyscope_service.summary import Line, Series


def write_series(series: Series) -> bytes:
    """JSON in the shape of the model of the same name."""
    answer = {field.name: getattr(series, field.name) for field in fields(series)}
    answer["series"] = [_line(line) for line in series.series]
    return orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)


def _line(line: Line) -> dict[str, Any]:
    return {
        "term": line.term,
        "quantity": line.quantity,
        "step": np.ascontiguousarray(line.step),
        "value": _numbers(line.value),
    }


def _numbers(value: NDArray[np.float64]) -> NDArray[np.float64] | list[float | str]:
    """With names for what JSON has no numbers for."""
    if np.isfinite(value).all():
        return np.ascontiguousarray(value)
    return [x if np.isfinite(x) else _name(x) for x in value.tolist()]


def _name(number: float) -> str:
    if np.isnan(number):
        return "NaN"
    return "Infinity" if number > 0 else "-Infinity"
