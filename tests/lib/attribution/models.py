"""Small models in float64 with what makes a forward pass hard to repeat or to differentiate."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  # its usual name

import penaltyscope as ps
from penaltyscope.attribution import Attribution


@dataclass
class Setup:
    """A training job without its loop."""

    model: nn.Module
    pipeline: ps.Pipeline
    forward: Callable[..., ps.PipelineResult]
    batch: tuple[Tensor, ...]


class Tied(nn.Module):
    """A language model whose embedding is its last layer, with one block used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(11, 8)
        self.block = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.2, batch_first=True)
        self.head = nn.Linear(8, 11, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, tokens: Tensor) -> Tensor:
        x: Tensor = self.block(self.block(self.embedding(tokens)))
        logits: Tensor = self.head(x)
        return logits.log_softmax(-1)


def distillation(*, conflict: bool = False) -> ps.Pipeline:
    """Every kind of term: built in, off, at weight 0, scheduled, and one that is not measured."""
    return ps.Pipeline(
        [
            ps.Term("kl", ps.kl_divergence, weight=0.5, inputs=("student", "teacher")),
            ps.Term("js", ps.js_divergence, weight=0.5, inputs=("student", "teacher")),
            ps.Term("bonus", ps.entropy, weight=-0.3, inputs=("student",)),
            ps.Term("off", ps.l1, inputs=("student",), enabled=False),
            ps.Term("watched", ps.l1, weight=0.0, inputs=("student",)),
            ps.Term("later", ps.l2, weight=lambda step: 0.01 * (step + 1), inputs=("student",)),
            ps.Term("tensor", ps.l2, weight=torch.tensor(0.02), inputs=("student",)),
            ps.Term(
                "count",
                lambda x: (x > -2).double().mean(),
                inputs=("student",),
                differentiable=False,
            ),
            ps.Term("spread", ps.orthogonality, weight=0.01, inputs=("student",)),
        ],
        conflict=conflict,
    )


def language_model() -> Setup:
    torch.manual_seed(1)
    model, pipeline = Tied().double(), distillation()

    def forward(tokens: Tensor, target: Tensor, teacher: Tensor) -> ps.PipelineResult:
        student = model(tokens)
        base = F.nll_loss(student.flatten(0, 1), target.flatten())
        result: ps.PipelineResult = pipeline(student=student, teacher=teacher, base=base)
        return result

    teacher = torch.randn(3, 5, 11, dtype=torch.float64).log_softmax(-1)
    batch = torch.randint(0, 11, (3, 5)), torch.randint(0, 11, (3, 5)), teacher
    return Setup(model, pipeline, forward, batch)


def convolutional() -> Setup:
    """Batch norm, dropout, frozen parameters, and terms on parameters and on hidden layers."""
    torch.manual_seed(2)
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Dropout(0.3),
        nn.Flatten(),
        nn.Linear(64, 6),
        nn.Tanh(),
        nn.Linear(6, 3),
    ).double()
    model[0].bias.requires_grad_(False)
    last: nn.Module = model[7]
    pipeline = ps.Pipeline(
        [
            ps.Term("decay", ps.over_parameters(ps.l2, model), weight=0.1, inputs=()),
            ps.Term(
                "head",
                lambda x: (last(x.new_ones(1, 6)).sum() * x).square().mean(),
                inputs=("hidden",),
            ),
            ps.Term("sparse", ps.l1, weight=0.2, inputs=("hidden",)),
            ps.Term("noisy", lambda x: (x * torch.randn_like(x)).sum(), inputs=("logits",)),
        ]
    )

    def forward(images: Tensor, labels: Tensor) -> ps.PipelineResult:
        hidden = model[:7](images)
        logits = model[7](hidden)
        with torch.no_grad():
            target = model[7](hidden)
        base = F.cross_entropy(logits, labels) + (logits - 0.5 * target).square().mean()
        result: ps.PipelineResult = pipeline(hidden=hidden, logits=logits, base=base)
        return result

    batch = torch.randn(5, 1, 6, 6, dtype=torch.float64), torch.randint(0, 3, (5,))
    return Setup(model, pipeline, forward, batch)


SETUPS = [language_model, convolutional]


@dataclass
class Expected:
    """What plain autograd says."""

    gram: Tensor
    """``[T + 1, T + 1]`` of the unweighted gradients, the task loss's last."""
    weights: Tensor
    """``[T + 1]``, 0 for what is not measured."""

    @property
    def along(self) -> Tensor:
        return self.gram @ self.weights / self.total

    @property
    def total(self) -> Tensor:
        return (self.weights @ self.gram @ self.weights).sqrt()


def by_autograd(setup: Setup, parameters: list[nn.Parameter]) -> Expected:
    """Every term differentiated on its own, in a forward pass without the library's pipeline."""
    seen: dict[str, object] = {}
    state = torch.get_rng_state()
    buffers = {name: b.clone() for name, b in setup.model.named_buffers()}

    def take(_: object, arguments: object, keywords: dict[str, object]) -> None:
        seen.update(keywords, random=torch.get_rng_state())

    handle = setup.pipeline.register_forward_pre_hook(take, with_kwargs=True)
    setup.pipeline.eval()
    step = setup.pipeline.step
    setup.forward(*setup.batch)
    setup.pipeline.train()
    handle.remove()
    torch.set_rng_state(seen["random"])  # type: ignore[arg-type]
    rows, weights = [], []
    for term in setup.pipeline.terms:
        weight: Any = term.weight
        if not isinstance(weight, Tensor) and callable(weight):
            weight = weight(step)
        counts = term.enabled and term.differentiable
        weights.append(float(weight) * counts)
        value = term.penalty(*(seen[name] for name in term.inputs)) if counts else None
        rows.append(flat(value, parameters))
    rows.append(flat(seen["base"], parameters))
    torch.set_rng_state(state)
    setup.model.load_state_dict(buffers, strict=False)
    matrix = torch.stack(rows)
    return Expected(matrix @ matrix.T, torch.tensor([*weights, 1.0], dtype=torch.float64))


def flat(value: object, parameters: list[nn.Parameter]) -> Tensor:
    if not isinstance(value, Tensor):
        return torch.zeros(sum(p.numel() for p in parameters), dtype=torch.float64)
    gradients = torch.autograd.grad(
        value, parameters, retain_graph=True, materialize_grads=True, allow_unused=True
    )
    return torch.cat([g.flatten() for g in gradients])


def trained(model: nn.Module) -> list[nn.Parameter]:
    return [p for p in model.parameters() if p.requires_grad]


def assert_agrees(found: Attribution | None, expected: Expected, *, skip: set[str]) -> None:
    """Slopes, pulls and shares of all terms that are not in ``skip``; NaN for those that are."""
    assert found is not None
    keep = torch.tensor([name not in skip for name in found.terms])
    slopes = expected.along[:-1]
    for own, right in [
        (found.slopes, slopes),
        (found.pulls, slopes * expected.weights[:-1]),
        (found.shares, slopes * expected.weights[:-1] / expected.total),
    ]:
        torch.testing.assert_close(own[keep], right[keep], rtol=1e-10, atol=1e-10)
        assert own[~keep].isnan().all()
    torch.testing.assert_close(found.base_pull, expected.along[-1], rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(found.direction_norm, expected.total, rtol=1e-10, atol=1e-10)
    whole = found.shares.nansum() + found.base_share
    torch.testing.assert_close(whole, torch.ones_like(whole))
