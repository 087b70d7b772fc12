"""The terms that are measured."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

import penaltyscope as ps

SHARED = (
    ps.Term("l1", ps.l1, weight=1e-3, inputs=("student",)),
    ps.Term("l2", ps.l2, weight=1e-3, inputs=("student",)),
    ps.Term("kl", ps.kl_divergence, weight=0.1, inputs=("student", "teacher")),
    ps.Term("js", ps.js_divergence, weight=0.1, inputs=("student", "teacher")),
    ps.Term("entropy", ps.entropy, weight=0.1, inputs=("student",)),
    ps.Term("soft", ps.entropy, weight=0.1, inputs=("student",), options={"temperature": 2.0}),
    ps.Term("size", ps.output_magnitude_penalty, weight=0.1, inputs=("student",)),
)
ORTHOGONALITY = ps.Term("orthogonality", ps.orthogonality, weight=0.1, inputs=("student",))
TERMS = (*SHARED, ORTHOGONALITY)
"""The eight terms of every table."""
ELEMENTWISE = (*SHARED, ps.Term("elastic", ps.elastic_net, weight=0.1, inputs=("student",)))
"""Eight without a matrix product."""


def textbook_orthogonality(x: Tensor) -> Tensor:
    """As it is usually written: the Gram matrix of all rows."""
    rows = torch.nn.functional.normalize(x.flatten(0, -2), dim=-1)
    gram = rows @ rows.T
    return (gram - torch.eye(len(gram), device=x.device)).square().sum()


TEXTBOOK = replace(ORTHOGONALITY, penalty=textbook_orthogonality)


def by_user(terms: Sequence[ps.Term]) -> list[ps.Term]:
    """The same terms as functions of a user's own, of which no closed form is known."""
    return [replace(term, penalty=partial(term.penalty)) for term in terms]


def many(count: int, inputs: Sequence[str] = ("student",)) -> list[ps.Term]:
    """``count`` different terms, over one input each, all inputs alike."""
    kinds: list[tuple[Callable[..., Tensor], Callable[[int], dict[str, object]]]] = [
        (ps.elastic_net, lambda i: {"l1_ratio": 1 / (i + 1)}),
        (ps.entropy, lambda i: {"temperature": 1.0 + i}),
        (ps.output_magnitude_penalty, lambda i: {"target": 1.0 + i}),
        (ps.l2, lambda i: {"scale": 1.0 + i}),
    ]
    return [
        ps.Term(
            f"term {i}",
            kinds[i % len(kinds)][0],
            weight=1e-5,  # so that a training with many of them stays finite
            inputs=(inputs[i % len(inputs)],),
            options=kinds[i % len(kinds)][1](i // len(kinds)),
        )
        for i in range(count)
    ]


def plain_total(terms: Sequence[ps.Term], tensors: Mapping[str, Tensor]) -> Tensor:
    """The weighted sum as one writes it without a library."""
    values = [
        term.weight * term.penalty(*(tensors[name] for name in term.inputs), **term.options)  # type: ignore[operator]
        for term in terms
    ]
    return torch.stack(values).sum()
