"""One call of every penalty for every option, on small float64 tensors away from every kink."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeAlias

import torch
from torch import Tensor

from penaltyscope import penalties

_generator = torch.Generator().manual_seed(20250101)


def _normal(*shape: int) -> Tensor:
    x = torch.randn(shape, generator=_generator, dtype=torch.float64)
    # At least 0.1 from 0, where |x| has its kink: finite differences must not step over it.
    return x + 0.1 * x.sign()


def _log_probabilities(*shape: int) -> Tensor:
    return torch.log_softmax(_normal(*shape), -1)


X = _normal(3, 4)
Y = _normal(3, 4)
CUBE = _normal(2, 3, 4)
TALL = _normal(9, 3)
P = _log_probabilities(3, 4)
Q = _log_probabilities(3, 4)
KEPT = torch.tensor([True, False, True])
CLIP = 0.75


def cubic(x: Tensor) -> Tensor:
    """A critic whose gradient and curvature depend on where it is."""
    return (x**3).sum() + x.square().sum()


Penalty: TypeAlias = Callable[..., Tensor]


@dataclass(frozen=True)
class Call:
    """A penalty, bound to options, and tensors to call it with."""

    name: str
    penalty: Penalty
    tensors: tuple[Tensor, ...]
    options: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.name

    @property
    def bound(self) -> Penalty:
        """The penalty as a function of its tensors alone."""
        return partial(self.penalty, **self.options)

    def value(self) -> Tensor:
        return self.bound(*self.tensors)

    def __post_init__(self) -> None:
        for tensor in self.tensors:
            assert (tensor.abs() != CLIP).all()


def _variants(
    penalty: Penalty, tensors: tuple[Tensor, ...], *options: dict[str, Any]
) -> list[Call]:
    calls = []
    for chosen in options:
        shown = ",".join(
            f"{key}={'given' if isinstance(value, Tensor) else value}"
            for key, value in chosen.items()
        )
        shape = "x".join(str(n) for n in tensors[0].shape)
        calls.append(Call(f"{penalty.__name__}({shown})[{shape}]", penalty, tensors, chosen))
    return calls


def _reductions(*names: str, **others: object) -> list[dict[str, Any]]:
    return [{"reduction": name, **others} for name in names]


def gradient_penalty(x: Tensor, target_norm: float = 1.0, *, per_sample: bool = False) -> Tensor:
    """``gradient_penalty`` of the cubic critic, so that its tensors are all of its arguments."""
    return penalties.gradient_penalty(cubic, x, target_norm=target_norm, per_sample=per_sample)


def interpolated_gradient_penalty(
    x: Tensor, reference: Tensor, *, epsilon: float | Tensor, per_sample: bool = False
) -> Tensor:
    """The same for the interpolated one."""
    return penalties.interpolated_gradient_penalty(
        cubic, x, reference, epsilon=epsilon, per_sample=per_sample
    )


NORM_CALLS = [
    *_variants(penalties.l1, (X,), {}, {"scale": -0.5}, *_reductions("sum", "mean")),
    *_variants(penalties.l1, (X,), {"mask": KEPT}, {"mask": KEPT, "reduction": "mean"}),
    *_variants(penalties.l2, (X,), {}, {"scale": 2.0}, {"center": 0.3}, {"center": "mean"}),
    *_variants(penalties.l2, (X,), {"clip": CLIP}, {"center": "mean", "clip": 1.5}),
    *_variants(penalties.l2, (X,), *_reductions("mean", center="mean", clip=1.5, mask=KEPT)),
    *_variants(penalties.elastic_net, (X,), {}, {"l1_ratio": 0.0}, {"l1_ratio": 1.0}),
    *_variants(penalties.elastic_net, (X,), {"l1_ratio": 0.3, "scale": 0.1, "reduction": "mean"}),
    *_variants(penalties.elastic_net, (X,), {"mask": KEPT}),
    *_variants(penalties.output_magnitude_penalty, (X,), {}, {"target": 0.0}, {"target": 2.5}),
    *_variants(penalties.output_magnitude_penalty, (X,), *_reductions("sum"), {"mask": KEPT}),
    *_variants(penalties.group_lasso, (X,), {}, {"dim": 1, "scale": 0.5}, {"dim": -1}),
]

DIVERGENCE_CALLS = [
    *_variants(penalties.kl_divergence, (P, Q), *_reductions("mean", "sum", "none")),
    *_variants(penalties.kl_divergence, (P, Q), {"direction": "reverse"}, {"symmetric": True}),
    *_variants(penalties.kl_divergence, (P, Q), {"mask": KEPT}, *_reductions("none", mask=KEPT)),
    *_variants(penalties.kl_divergence, (P, Q[0]), {}, {"symmetric": True, "mask": KEPT}),
    *_variants(penalties.js_divergence, (P, Q), *_reductions("mean", "sum", "none")),
    *_variants(penalties.js_divergence, (P, Q), {"mask": KEPT}),
    *_variants(penalties.entropy, (P,), *_reductions("mean", "sum", "none")),
    *_variants(penalties.entropy, (P,), {"mode": "penalty"}, {"normalize": True}),
    *_variants(penalties.entropy, (P,), {"temperature": 2.0}, {"temperature": 0.5}),
    *_variants(penalties.entropy, (P,), {"mask": KEPT}, {"mask": KEPT, "temperature": 2.0}),
    *(
        call
        for estimator in ("k1", "k2", "k3")
        for call in _variants(
            penalties.sampled_kl,
            (P[:, 0], Q[:, 0]),
            *_reductions("mean", "sum", "none", estimator=estimator),
            {"estimator": estimator, "mask": KEPT},
        )
    ),
]

CONSTRAINT_CALLS = [
    *(
        call
        for mode in ("soft", "hard", "spectral")
        for tensor, axis in (
            (X, "rows"),
            (TALL, "rows"),
            (CUBE, "rows"),
            (CUBE, "sequence"),
            (CUBE, "vocabulary"),
            (X, "vocabulary"),
        )
        for call in _variants(
            penalties.orthogonality,
            (tensor,),
            {"mode": mode, "axis": axis},
            {"mode": mode, "axis": axis, "normalize": False},
        )
    ),
    *(
        call
        for mode in ("soft", "hard", "spectral")
        for axis in ("rows", "vocabulary")
        for call in _variants(
            penalties.orthogonality, (X,), {"mode": mode, "axis": axis, "mask": KEPT}
        )
    ),
    *(
        call
        for metric in ("mse", "l1", "cosine")
        for call in _variants(
            penalties.consistency,
            (X, Y),
            *_reductions("mean", "sum", "none", metric=metric),
            {"metric": metric, "mask": KEPT},
        )
    ),
    *_variants(penalties.consistency, (X, Y[0]), {}, {"metric": "cosine"}),
    *_variants(penalties.consistency, (P, Q), *_reductions("mean", "none", metric="kl")),
    *_variants(penalties.consistency, (P, Q), {"metric": "kl", "mask": KEPT}),
]

GRADIENT_CALLS = [
    *_variants(gradient_penalty, (X,), {}, {"target_norm": 0.0}, {"per_sample": True}),
    *_variants(
        interpolated_gradient_penalty,
        (X, Y),
        {"epsilon": 0.25},
        {"epsilon": torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64), "per_sample": True},
    ),
]

CALLS = [*NORM_CALLS, *DIVERGENCE_CALLS, *CONSTRAINT_CALLS, *GRADIENT_CALLS]
