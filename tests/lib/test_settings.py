"""Weights of a step: when they are the same object, and what they are made of."""

import pickle

import pytest
import torch

import penaltyscope as ps
from penaltyscope._settings import Settings, recorded
from penaltyscope.term import Weight


def settings(*weights: Weight) -> Settings:
    names = [f"term {i}" for i in range(len(weights))]
    return Settings(dict(zip(names, weights, strict=True)), dict.fromkeys(names, True))


def test_weights_that_are_numbers_are_fixed() -> None:
    found = settings(1, -0.5)
    assert found.fixed == (1.0, -0.5)
    assert all(type(weight) is float for weight in found.fixed)
    assert found.at(7) == found.fixed
    assert found.enabled == (True, True)
    assert not found.learned


def test_a_schedule_gives_the_same_object_while_it_stands_still() -> None:
    found = settings(2, ps.schedules.warmup(0.5, steps=2))
    assert found.fixed is None
    steps = [found.at(step) for step in range(5)]
    assert steps == [(2.0, 0.0), (2.0, 0.25), (2.0, 0.5), (2.0, 0.5), (2.0, 0.5)]
    assert steps[2] is steps[3]
    assert steps[3] is steps[4]
    assert found.at(1) == steps[1]


def test_a_weight_that_is_a_tensor_is_another_object_every_time() -> None:
    weight = torch.tensor(0.5, requires_grad=True)
    found = settings(1.0, weight)
    assert found.learned
    assert found.fixed is None
    first, second = found.at(0), found.at(1)
    assert first is not second
    assert first[1] is weight


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), "0.5", True, torch.tensor(0.5)])
def test_a_schedule_has_to_return_a_finite_number(bad: object) -> None:
    found = settings(lambda _: bad)  # type: ignore[arg-type, return-value]
    with pytest.raises((TypeError, ValueError), match="weight of term 'term 0' must be"):
        found.at(0)


def test_a_whole_number_of_a_schedule_comes_as_a_float() -> None:
    (weight,) = settings(lambda _: 2**70).at(0)
    assert type(weight) is float
    assert weight == 2.0**70


def test_what_is_recorded_does_not_follow_its_tensor() -> None:
    weights = 0.25, torch.tensor(0.5), torch.empty((), device="meta")
    kept = recorded(weights)
    weights[1].fill_(3.0)
    assert kept[:2] == (0.25, 0.5)
    assert kept[2] is not weights[2]


def test_a_copy_has_schedules_of_its_own() -> None:
    controller = ps.schedules.AdaptiveKL(0.5, target=1.0)
    copy = pickle.loads(pickle.dumps(settings(controller)))
    controller.update(10.0)
    assert copy.at(0) == (0.5,)
