import math
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from penaltyscope.penalties import group_lasso, l1, l2, over_parameters, selected_parameters
from tests.lib.penalties.strategies import relaxed, tensors


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(5, 4)
        self.attend = nn.Linear(4, 4)
        self.norm = nn.LayerNorm(4)
        self.recur = nn.GRU(4, 3)
        self.batch = nn.BatchNorm1d(3)
        self.scale = nn.Parameter(torch.ones(3))


def test_biases_and_norms_are_skipped() -> None:
    assert list(selected_parameters(Encoder())) == [
        "scale",
        "embed.weight",
        "attend.weight",
        "recur.weight_ih_l0",
        "recur.weight_hh_l0",
    ]


def test_biases_and_norms_count_when_asked_for() -> None:
    model = Encoder()
    everything = selected_parameters(model, biases=True, norms=True)
    assert list(everything) == [name for name, _ in model.named_parameters()]
    assert "norm.weight" in selected_parameters(model, norms=True)
    assert "norm.bias" not in selected_parameters(model, norms=True)
    assert "recur.bias_ih_l0" in selected_parameters(model, biases=True)


@pytest.mark.parametrize(
    "norm",
    [
        nn.BatchNorm1d(2),
        nn.BatchNorm2d(2),
        nn.SyncBatchNorm(2),
        nn.InstanceNorm2d(2, affine=True),
        nn.GroupNorm(1, 2),
        nn.LayerNorm(2),
        nn.RMSNorm(2),
    ],
    ids=lambda norm: type(norm).__name__,
)
def test_every_normalisation_is_known(norm: nn.Module) -> None:
    assert list(selected_parameters(nn.Sequential(nn.Linear(2, 2), norm))) == ["0.weight"]


def test_names_are_matched_by_shell_patterns() -> None:
    model = Encoder()
    assert list(selected_parameters(model, include=["recur.*", "embed.weight"])) == [
        "embed.weight",
        "recur.weight_ih_l0",
        "recur.weight_hh_l0",
    ]
    assert list(selected_parameters(model, exclude=["recur.*", "scale"])) == [
        "embed.weight",
        "attend.weight",
    ]


def test_frozen_and_shared_parameters_count_as_they_train() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 2))
    model[0].requires_grad_(requires_grad=False)
    model[2].weight = model[1].weight
    assert list(selected_parameters(model)) == ["1.weight"]


def test_choosing_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match=r"include=\['head\.\*'\] .* of Linear, got none\."):
        selected_parameters(nn.Linear(2, 2), include=["head.*"])


def test_a_string_is_no_sequence_of_patterns() -> None:
    with pytest.raises(TypeError, match="include must be a sequence of patterns, got the string"):
        selected_parameters(nn.Linear(2, 2), include="weight")
    with pytest.raises(TypeError, match="exclude must be a sequence of patterns, got the string"):
        over_parameters(l2, nn.Linear(2, 2), exclude="bias")


def test_a_penalty_over_parameters_is_the_sum_and_reaches_them() -> None:
    model = Encoder()
    penalty = over_parameters(l2, model, include=["attend.*", "embed.*"])
    value = penalty(torch.ones(3), torch.ones(2), scale=0.5)
    want = 0.5 * (model.attend.weight.square().sum() + model.embed.weight.square().sum())
    torch.testing.assert_close(value, want)
    value.backward()
    torch.testing.assert_close(model.attend.weight.grad, model.attend.weight.detach())
    assert model.recur.weight_hh_l0.grad is None


def test_a_penalty_over_parameters_follows_their_training() -> None:
    layer = nn.Linear(2, 2)
    penalty = over_parameters(l1, layer)
    with torch.no_grad():
        layer.weight.fill_(2.0)
    assert penalty().item() == 8.0


def test_a_penalty_over_parameters_pickles_with_them() -> None:
    layer = nn.Linear(2, 2)
    penalty = over_parameters(l1, layer)
    layer_copy, penalty_copy = pickle.loads(pickle.dumps((layer, penalty)))
    with torch.no_grad():
        layer_copy.weight.fill_(1.0)
    assert penalty_copy().item() == 4.0


def test_a_penalty_over_parameters_is_one_graph() -> None:
    model = Encoder()
    penalty = over_parameters(group_lasso, model)
    torch.compiler.reset()
    compiled = torch.compile(penalty, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(), penalty())


@pytest.mark.parametrize(
    ("options", "want"),
    [
        ({}, math.sqrt(2) * (5 + 1)),
        ({"scale": -2.0}, -2 * math.sqrt(2) * 6),
        ({"dim": 1}, math.sqrt(2) * (math.sqrt(9 + 1) + 4)),
        ({"dim": -1}, math.sqrt(2) * (math.sqrt(9 + 1) + 4)),
    ],
)
def test_group_lasso_by_hand(options: dict[str, Any], want: float) -> None:
    x = torch.tensor([[3.0, 4.0], [1.0, 0.0]], dtype=torch.float64)
    assert group_lasso(x, **options).item() == pytest.approx(want, rel=1e-14)


def test_a_zero_group_stays_where_it_is() -> None:
    x = torch.tensor([[0.0, 0.0], [3.0, 4.0]], dtype=torch.float64, requires_grad=True)
    (first,) = torch.autograd.grad(group_lasso(x), x, create_graph=True)
    (second,) = torch.autograd.grad(first.square().sum(), x)
    want = np.sqrt(2) * np.array([[0, 0], [0.6, 0.8]])
    np.testing.assert_allclose(first.detach().numpy(), want, atol=1e-15)
    assert second.isfinite().all()


@relaxed
@given(tensors(), st.floats(0, 3))
def test_group_lasso_grows_with_its_argument(x: Tensor, factor: float) -> None:
    torch.testing.assert_close(group_lasso(factor * x), factor * group_lasso(x))


@relaxed
@given(tensors((4, 3)), st.permutations(range(4)), st.permutations(range(3)))
def test_the_order_of_groups_and_of_their_elements_does_not_matter(
    x: Tensor, groups: list[int], elements: list[int]
) -> None:
    torch.testing.assert_close(group_lasso(x[groups][:, elements]), group_lasso(x))


@relaxed
@given(tensors((6,)))
def test_groups_of_one_element_are_l1(x: Tensor) -> None:
    torch.testing.assert_close(group_lasso(x), l1(x))


def test_a_number_is_a_group() -> None:
    assert group_lasso(torch.tensor(-3.0)).item() == 3.0


@pytest.mark.parametrize("shape", [(0, 3), (3, 0)])
def test_group_lasso_of_nothing(shape: tuple[int, int]) -> None:
    x = torch.zeros(shape, requires_grad=True)
    value = group_lasso(x)
    value.backward()
    assert value.item() == 0.0


def test_the_dimension_is_checked() -> None:
    with pytest.raises(ValueError, match=r"dim must be a dimension of the shape \(2, 3\), got 2\."):
        group_lasso(torch.ones(2, 3), dim=2)
