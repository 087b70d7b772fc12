"""Where our answer is not the file's, as one table.

Most rows are about parts that the file itself marks ``defect``: there the reference is wrong, and
we give the right, finite answer. The last two are our own documented choices. What we answer
instead is not written down per case but computed by ``closed_forms``: the table fits any such file.
"""

from collections.abc import Callable
from dataclasses import dataclass

from tests.lib.golden.golden_file import Case, tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """One reason to differ."""

    what: str
    ours: str
    """The answer that we give."""
    why: str
    functions: tuple[str, ...]
    applies: Callable[[Case], bool]
    """Asked only of cases of these functions."""

    def covers(self, case: Case) -> bool:
        return case["function"] in self.functions and self.applies(case)


def _largest(case: Case) -> float:
    return max((float(tensor(a).abs().max()) for a in case["args"]), default=0.0)


def _any_zero_argument(case: Case) -> bool:
    return any(not tensor(a).any() for a in case["args"])


def _has_negative_infinity(case: Case) -> bool:
    return any("-inf" in a["data"] for a in case["args"])


def _metric(case: Case) -> str:
    return str(case["opts"].get("metric", "mse"))


def _has_clip(case: Case) -> bool:
    return case["opts"].get("clip") is not None


def _any_zero(case: Case) -> bool:
    return not tensor(case["args"][0]).all().item()


def _squares_overflow(case: Case) -> bool:
    return _largest(case) > (1e19 if case["dtype"] == "f32" else 1e154)


DEFECTS = (
    Difference(
        what="gradient of |x| at 0",
        ours="0, which the reference documents and does not do",
        why="0 is the subgradient of least norm, and leaves a weight that is 0 where it is",
        functions=("l1", "elastic_net"),
        applies=_any_zero,
    ),
    Difference(
        what="gradient of |a - b| where a = b",
        ours="0",
        why="the same: two outputs that agree are not pushed apart",
        functions=("consistency",),
        applies=lambda case: _metric(case) == "l1",
    ),
    Difference(
        what="gradient at the very bound of clip",
        ours="that of torch.clamp, which passes",
        why="people who know torch.clamp are not surprised",
        functions=("l2",),
        applies=_has_clip,
    ),
    Difference(
        what="L2 of numbers whose square overflows float64",
        ours="infinity, and the gradient 2x",
        why="IEEE arithmetic; the reference's host language raises",
        functions=("l2",),
        applies=lambda case: not _has_clip(case) and _squares_overflow(case),
    ),
    Difference(
        what="elastic net that is all L1, of numbers whose square overflows",
        ours="the L1 penalty",
        why="0 * inf is NaN; the part with ratio 0 is not computed",
        functions=("elastic_net",),
        applies=lambda case: not _any_zero(case) and _squares_overflow(case),
    ),
    Difference(
        what="gradient of the entropy at a log-probability of -inf",
        ours="0 there, and the finite formula elsewhere",
        why="p log p and its derivative with respect to log p tend to 0 together",
        functions=("entropy",),
        applies=_has_negative_infinity,
    ),
    Difference(
        what="normalised entropy of a single class",
        ours="0, with gradient 0",
        why="H / log 1 is 0 / 0; a single class holds no information",
        functions=("entropy",),
        applies=lambda case: case["args"][0]["shape"][-1] == 1,
    ),
    Difference(
        what="cosine of a zero vector",
        ours="distance 1, as in the reference, and gradient 0 instead of NaN",
        why="it has no direction that could turn",
        functions=("consistency",),
        applies=lambda case: _metric(case) == "cosine" and _any_zero_argument(case),
    ),
    Difference(
        what="cosine of vectors whose squared length overflows",
        ours="the cosine",
        why="a direction does not depend on the length",
        functions=("consistency",),
        applies=lambda case: _metric(case) == "cosine" and _squares_overflow(case),
    ),
    Difference(
        what="consistency by KL where a probability is 0",
        ours="that of kl_divergence with symmetric: p <= 1e-10 counts 0, log-ratios stop at ±100",
        why="the reference forgot there the mask and the bound of its own kl_divergence",
        functions=("consistency",),
        applies=lambda case: _metric(case) == "kl" and _has_negative_infinity(case),
    ),
    Difference(
        what="gradient of the output magnitude at 0",
        ours="0",
        why="the root has no slope there; every direction is as good as any other",
        functions=("output_magnitude_penalty",),
        applies=_any_zero_argument,
    ),
    Difference(
        what="gradient of an output magnitude whose square overflows",
        ours="the finite formula",
        why="the magnitude fits, only the way to it did not",
        functions=("output_magnitude_penalty",),
        applies=_squares_overflow,
    ),
    Difference(
        what="gradient of normalised rows one of which is zero",
        ours="0 for the zero row, the formula for the others",
        why="it has no direction that could turn",
        functions=("orthogonality",),
        applies=lambda case: case["opts"].get("normalize", True),
    ),
    Difference(
        what="gradient penalty where the gradient vanishes",
        ours="target², with gradient 0",
        why="the root has no slope there; NaN would end the training",
        functions=("gradient_penalty",),
        applies=_any_zero_argument,
    ),
)

UNKNOWN_OPTION = Difference(
    what="options that do not exist",
    ours="ValueError for an unknown choice, TypeError for an unknown name",
    why="a misspelt option that is ignored costs a training run",
    functions=("l1", "kl_divergence", "orthogonality"),
    applies=lambda case: "quietly_accepted" in case.get("tags", ()),
)

OVERFLOWING_NORM = Difference(
    what="norm of a gradient whose squares overflow",
    ours="the norm",
    why="the norm fits, only the way to it did not",
    functions=("l2",),
    applies=lambda case: any(
        norm == "inf" and tensor(gradient).isfinite().all().item()
        for norm, gradient in zip(case["grad_norm"], case["expected_grad"], strict=True)
        if gradient is not None
    ),
)


PIPELINES = {
    "duplicate_name": "two terms of one name are refused; the reference loses the first's numbers",
    "nothing_enabled": "a pipeline that adds nothing still reports its total of 0",
    "grad_failure": "a number from the host has gradient 0; the reference leaves it out, or fails",
    "grad_norms_ignore_extra_args": "norms are those of what was evaluated, with its options",
    "negative_weight": "a term's weight is any finite number: a bonus has a negative one",
}
"""Pipelines, by the file's tag: where we answer something else, and what."""


def defect_of(case: Case) -> Difference:
    """The one row that says why the reference is wrong here."""
    rows = [row for row in DEFECTS if row.covers(case)]
    assert len(rows) == 1, f"{case['id']} is in {len(rows)} rows: {case['defect']['why']}"
    return rows[0]
