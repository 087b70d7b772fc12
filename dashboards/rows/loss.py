"""What the optimizer sees: task loss, penalties, and both together."""

from dashboards.panels.lines import lines, logarithmic, signed_logarithmic
from dashboards.panels.place import Panel
from dashboards.query import BY_PIPELINE, over_time, per_pipeline


def panels() -> list[Panel]:
    """Loss, its two parts, and the norm of the penalties' gradient."""
    return [
        _loss("Loss", "Task loss plus penalties; the last finite one.", "pipeline_loss"),
        _loss("Task loss", "What the pipeline was called with as base.", "pipeline_base_loss"),
        _loss("Penalty", "Sum of all contributions.", "pipeline_penalty"),
        logarithmic(
            lines(
                "Gradient norm of the penalty",
                "Norm of the weighted sum's gradient.",
                over_time(per_pipeline("pipeline_gradient_norm"), BY_PIPELINE),
                unit="sci",
                size=(6, 8),
            ).decimals(2)
        ),
    ]


def _loss(title: str, description: str, metric: str) -> Panel:
    panel = lines(
        title,
        description,
        over_time(per_pipeline(metric), BY_PIPELINE),
        unit="short",
        size=(6, 8),
    )
    # Linear would flatten every other run beside one that diverges; a penalty can be negative.
    return signed_logarithmic(panel, linear_below=1e-2)
