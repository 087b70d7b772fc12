from functools import partial
from typing import Any

import pytest
import torch

from penaltyscope import penalties
from penaltyscope.penalties import accepts_negative_infinity
from tests.lib.penalties.calls import Penalty

FINITE_ONLY: list[tuple[Penalty, dict[str, Any]]] = [
    (penalties.l1, {}),
    (penalties.l2, {}),
    (penalties.elastic_net, {}),
    (penalties.output_magnitude_penalty, {}),
    (penalties.orthogonality, {}),
    (penalties.consistency, {}),
    (penalties.consistency, {"metric": "cosine"}),
    (partial(penalties.consistency, metric="kl"), {"metric": "mse"}),
    (torch.sum, {}),
]
LOG_PROBABILITIES: list[tuple[Penalty, dict[str, Any]]] = [
    (penalties.kl_divergence, {}),
    (penalties.js_divergence, {}),
    (penalties.entropy, {"temperature": 2.0}),
    (penalties.consistency, {"metric": "kl"}),
    (penalties.sampled_kl, {}),
    (partial(penalties.consistency, metric="kl"), {"reduction": "sum"}),
    (partial(partial(penalties.kl_divergence), symmetric=True), {}),
]


@pytest.mark.parametrize(("penalty", "options"), LOG_PROBABILITIES)
def test_a_probability_of_zero_is_no_fault_and_does_no_harm(
    penalty: Penalty, options: dict[str, Any]
) -> None:
    assert accepts_negative_infinity(penalty, options)
    p = torch.tensor([[0.0, -torch.inf]])
    arguments = (p,) if penalty is penalties.entropy else (torch.tensor([[-0.5, -1.0]]), p)
    assert penalty(*arguments, **options).isfinite()


@pytest.mark.parametrize(("penalty", "options"), FINITE_ONLY)
def test_everywhere_else_an_infinity_is_a_fault(penalty: Penalty, options: dict[str, Any]) -> None:
    assert not accepts_negative_infinity(penalty, options)
