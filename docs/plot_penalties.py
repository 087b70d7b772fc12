"""Draw value and slope of the penalties that are functions of one number into ``docs/images``.

Run as ``python docs/plot_penalties.py``. The curves are the library's own, the slopes autograd's.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from penaltyscope import penalties

IMAGES = Path(__file__).with_name("images")
WIDTH, HEIGHT, MARGIN = 420, 280, 44
POINTS = 241
STYLE = """
text { font: 12px sans-serif; fill: #57606a }
.title { font-weight: bold; fill: #24292f }
.axis { stroke: #8c959f }
path { fill: none; stroke-width: 2 }
.value { stroke: #0969da }
.slope { stroke: #cf222e; stroke-dasharray: 6 4 }
@media (prefers-color-scheme: dark) {
  text { fill: #9198a1 } .title { fill: #f0f6fc }
  .value { stroke: #4493f8 } .slope { stroke: #f85149 }
}
"""


@dataclass(frozen=True, slots=True)
class Plot:
    """A penalty as a function of one number."""

    name: str
    title: str
    penalty: Callable[[Tensor], Tensor]
    """From and to a 0-d tensor."""
    low: float = -2.0
    high: float = 2.0
    symbol: str = "x"


def coin(p: Tensor) -> Tensor:
    """Log-probabilities of heads and tails."""
    return torch.stack([p, 1 - p]).log()


def direction(angle: Tensor) -> Tensor:
    """Unit vector in the plane."""
    return torch.stack([angle.cos(), angle.sin()])


FIXED = coin(torch.tensor(0.3, dtype=torch.float64))
EAST = torch.tensor([1.0, 0.0], dtype=torch.float64)
ZERO = torch.zeros((), dtype=torch.float64)
probability = partial(Plot, low=0.004, high=0.996, symbol="p")
angle = partial(Plot, low=0.0, high=math.pi, symbol="angle between the two, from 0 to π")


def sampled(estimator: str, penalty: Callable[[Tensor], Tensor]) -> Plot:
    """Plot of an estimator of a divergence, over the log-ratio of one sample."""
    title = f'sampled_kl(estimator="{estimator}") of one sample'
    return Plot(f"sampled_kl_{estimator}", title, penalty, symbol="log p - log r")


PLOTS = (
    Plot("l1", "l1(x)", penalties.l1),
    Plot("l2", "l2(x)", penalties.l2),
    Plot("l2_clip", "l2(x, clip=1)", partial(penalties.l2, clip=1.0)),
    Plot("elastic_net", "elastic_net(x)", penalties.elastic_net),
    Plot(
        "output_magnitude_penalty",
        "output_magnitude_penalty(x)",
        penalties.output_magnitude_penalty,
    ),
    probability(
        "kl_divergence",
        "kl_divergence((p, 1-p), (0.3, 0.7))",
        lambda p: penalties.kl_divergence(coin(p), FIXED),
    ),
    probability(
        "kl_divergence_reverse",
        'kl_divergence(…, direction="reverse")',
        lambda p: penalties.kl_divergence(coin(p), FIXED, direction="reverse"),
    ),
    probability(
        "js_divergence",
        "js_divergence((p, 1-p), (0.3, 0.7))",
        lambda p: penalties.js_divergence(coin(p), FIXED),
    ),
    probability("entropy", "entropy((p, 1-p))", lambda p: penalties.entropy(coin(p))),
    angle(
        "orthogonality",
        "orthogonality of two rows",
        lambda a: penalties.orthogonality(torch.stack([EAST, direction(a)])),
    ),
    angle(
        "consistency_cosine",
        'consistency(a, b, metric="cosine")',
        lambda a: penalties.consistency(EAST, direction(a), metric="cosine"),
    ),
    Plot(
        "gradient_penalty",
        "gradient_penalty(fn, 0), fn(t) = x·t",
        lambda x: penalties.gradient_penalty(lambda t: x * t, torch.zeros_like(x)),
        symbol="x, the slope of fn",
    ),
    sampled("k1", lambda d: penalties.sampled_kl(d, ZERO, estimator="k1")),
    sampled("k2", lambda d: penalties.sampled_kl(d, ZERO, estimator="k2")),
    sampled("k3", lambda d: penalties.sampled_kl(d, ZERO, estimator="k3")),
)


def curves(plot: Plot) -> tuple[list[float], list[float], list[float]]:
    """Where the plot is sampled, the penalty there, and its derivative."""
    x = torch.linspace(plot.low, plot.high, POINTS, dtype=torch.float64).requires_grad_()
    values = torch.stack([plot.penalty(point) for point in x])
    (slopes,) = torch.autograd.grad(values.sum(), x)
    return x.tolist(), values.tolist(), slopes.tolist()


def svg(plot: Plot) -> str:
    """The plot as a drawing that follows the reader's colour scheme."""
    x, values, slopes = curves(plot)
    # A slope that runs off to infinity at an edge would flatten everything else.
    ceiling = 1.5 * max(map(abs, values)) + 1.0
    shown = [y for y in (*values, *slopes) if abs(y) <= ceiling]
    low, high = min(0.0, *shown), max(0.0, *shown)

    def across(number: float) -> float:
        return MARGIN + (number - plot.low) / (plot.high - plot.low) * (WIDTH - 2 * MARGIN)

    def down(number: float) -> float:
        return HEIGHT - MARGIN - (number - low) / (high - low) * (HEIGHT - 2 * MARGIN)

    def path(name: str, ys: list[float]) -> str:
        # Pieces between jumps and beyond the frame are not joined.
        inside = [low <= y <= high for y in ys]
        jump = 0.12 * (high - low)
        steps = []
        for i, y in enumerate(ys):
            joined = i > 0 and inside[i - 1] and abs(y - ys[i - 1]) < jump
            if inside[i]:
                steps.append(f"{'L' if joined else 'M'}{across(x[i]):.1f} {down(y):.1f}")
        return f'<path class="{name}" d="{" ".join(steps)}"/>'

    zero = f"{down(0.0):.1f}"
    left, right = MARGIN, WIDTH - MARGIN
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
            f'width="{WIDTH}" height="{HEIGHT}" role="img">',
            f"<title>{_escaped(plot.title)}: value and slope</title>",
            f"<style>{STYLE}</style>",
            f'<line class="axis" x1="{left}" y1="{zero}" x2="{right}" y2="{zero}"/>',
            f'<line class="axis" x1="{left}" y1="{MARGIN}" x2="{left}" y2="{HEIGHT - MARGIN}"/>',
            f'<text class="title" x="{left}" y="22">{_escaped(plot.title)}</text>',
            *(
                f'<text x="{left - 6}" y="{down(y) + 4:.1f}" text-anchor="end">{y:.3g}</text>'
                for y in sorted({low, 0.0, high})
            ),
            f'<text x="{left}" y="{HEIGHT - 24}">{plot.low:.2g}</text>',
            f'<text x="{right}" y="{HEIGHT - 24}" text-anchor="end">{plot.high:.3g}</text>',
            f'<text x="{WIDTH / 2}" y="{HEIGHT - 24}" text-anchor="middle">{plot.symbol}</text>',
            path("value", values),
            path("slope", slopes),
            f'<path class="value" d="M{left} {HEIGHT - 10}h24"/>',
            f'<text x="{left + 30}" y="{HEIGHT - 6}">value</text>',
            f'<path class="slope" d="M{left + 90} {HEIGHT - 10}h24"/>',
            f'<text x="{left + 120}" y="{HEIGHT - 6}">its derivative</text>',
            "</svg>\n",
        ]
    )


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;")


def main() -> None:
    """Write every plot."""
    IMAGES.mkdir(exist_ok=True)
    for plot in PLOTS:
        (IMAGES / f"{plot.name}.svg").write_text(svg(plot), encoding="utf-8")


if __name__ == "__main__":
    main()
