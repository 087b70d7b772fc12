"""One answer of each kind, as the OpenAPI document shows it.

Without a ``null``: the framework leaves them out of examples, and what is left is no answer.
"""

from typing import Any, Final

_HEAD: Final = {
    "run": "kd-7",
    "state": "failed",
    "tags": {"model": "resnet"},
    "world_size": 1,
    "attempt": 0,
    "ranks": [0],
    "started_at": 1789990000.0,
    "last_received_at": 1789990420.5,
    "ended_at": 1789990420.7,
    "last_step": 1503,
    "steps": 1504,
    "step_interval_seconds": 0.28,
    "nonfinite_steps": 1,
    "first_nonfinite": {
        "step": 1503,
        "term": "distill",
        "stage": "value",
        "kind": "nan",
        "pipeline": "distillation",
        "rank": 0,
        "time": 1789990420.1,
    },
    "exception": {"type": "NonFiniteError", "message": "x must be finite, got NaN."},
}
_NONE: Final = {"nan": 0, "inf": 0}

RUNS: Final = {"runs": [{**_HEAD, "pipelines": ["distillation"]}], "next": "kd-7"}
RUN: Final = {
    **_HEAD,
    "pipelines": [
        {
            "pipeline": "distillation",
            "terms": [
                {
                    "term": "distill",
                    "value": "NaN",
                    "weight": 0.1,
                    "contribution": "NaN",
                    "gradient_norm": "NaN",
                    "gradient_share": "NaN",
                    "nonfinite": {
                        "input": _NONE,
                        "value": {"nan": 1, "inf": 0},
                        "gradient": _NONE,
                    },
                    "last_nonfinite_step": 1503,
                }
            ],
            "steps": 1504,
            "ranks": [0],
            "base": 0.71,
            "total": "NaN",
            "loss": "NaN",
            "total_gradient_norm": "Infinity",
            "duration_seconds": 0.012,
            "last_step": 1503,
        }
    ],
}
SERIES: Final = {
    "run": "kd-7",
    "pipeline": "distillation",
    "rank": 0,
    "first_step": 1501,
    "last_step": 1503,
    "steps": 3,
    "series": [
        {
            "term": "distill",
            "quantity": "value",
            "step": [1501, 1502, 1503],
            "value": [0.09, 84.2, "NaN"],
        }
    ],
    "nonfinite": [{"step": 1503, "term": "distill", "stage": "value", "kind": "nan"}],
    "nonfinite_steps": 1,
}


def shown(example: Any, description: str) -> dict[int | str, dict[str, Any]]:  # noqa: ANN401  # JSON
    """A good answer with its example."""
    content = {"application/json": {"example": example}}
    return {200: {"description": description, "content": content}}
