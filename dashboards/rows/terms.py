"""Each term: what it is worth, what it adds, and how hard it pulls."""

from dashboards.panels.lines import (
    dashed,
    lines,
    logarithmic,
    signed_logarithmic,
    stacked,
    with_threshold_lines,
)
from dashboards.panels.place import Panel
from dashboards.query import BY_TERM, TERM, above_baseline, of, over_time, per_term


def panels() -> list[Panel]:
    """Value, contribution, weight; gradient norm, its multiple of the baseline, share."""
    return [
        signed_logarithmic(
            lines(
                "Value",
                "Unweighted value of each term; the last finite one.",
                over_time(per_term("term_value"), BY_TERM),
                unit="short",
                size=(12, 9),
            ),
            linear_below=1e-2,
        ),
        signed_logarithmic(
            lines(
                "Contribution",
                "Weight times value: what each term adds to the loss.",
                over_time(per_term("term_contribution"), BY_TERM),
                unit="short",
                size=(12, 9),
            ),
            linear_below=1e-2,
        ),
        lines(
            "Weight",
            "The weight that was in force, after its schedule.",
            over_time(per_term("term_weight"), BY_TERM),
            unit="short",
            size=(12, 9),
        ),
        dashed(
            logarithmic(
                lines(
                    "Gradient norm",
                    "Norm of each unweighted term's gradient: the peak of the last half minute, and"
                    " dashed its baseline, the run's own past. A line that climbs straight up on"
                    " this axis ends in NaN.",
                    over_time(per_term("term_gradient_norm_window_max"), BY_TERM),
                    over_time(per_term("term_gradient_norm_baseline"), f"{BY_TERM} baseline"),
                    unit="sci",
                    size=(12, 9),
                ).decimals(2)
            ),
            "B",
        ),
        with_threshold_lines(
            logarithmic(
                lines(
                    "Gradient norm / baseline",
                    "How far each term's peak is above its own past, the lowest baseline of 10"
                    " minutes. At 100 the alert PenaltyscopeGradientNormExploding fires.",
                    over_time(above_baseline("run, pipeline, term"), BY_TERM),
                    unit="suffix:x",
                    size=(12, 9),
                    steps=((None, "transparent"), (10, "orange"), (100, "red")),
                )
            )
        ),
        stacked(
            lines(
                "Gradient share",
                "How much of the penalties' pull on the model comes from each term: the norm of its"
                " weighted gradient against the sum of all. The mean of the chosen runs.",
                over_time(f"avg by (term) ({of('term_gradient_share_ratio', TERM)})", "{{term}}"),
                unit="percentunit",
                size=(12, 9),
            )
        )
        .min(0)
        .max(1),
    ]
