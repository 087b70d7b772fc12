import gc
import weakref

import torch
from torch import Tensor

from penaltyscope._fused._program import Draft, Leaf


def test_a_program_computes_what_it_leads_to_and_each_field_once() -> None:
    calls = []

    def noted(x: Tensor) -> Tensor:
        calls.append("noted")
        return x + 1

    f = Draft()
    x = f.leaf("rows", 3)
    f(torch.exp, f.leaf("rows", 4))  # nothing needs it
    first, second = f(noted, x), f(noted, x)
    assert first == second
    program = f.program([f(torch.mul, first, second), f(torch.sub, first, constants=(2.0,))])
    assert program.leaves == (Leaf("rows", 3),)
    product, difference = program.run(torch.tensor(2.0))
    assert (product, difference, calls) == (9, 1, ["noted"])


def test_a_field_may_be_a_leaf_and_an_output() -> None:
    f = Draft()
    x = f.leaf("rows")
    run = f.program([x, f(torch.neg, x), x]).run
    assert run(torch.tensor(2.0)) == [2, -2, 2]


def test_nothing_leads_to_nothing() -> None:
    assert Draft().program([]).run() == []


def test_what_is_not_needed_any_more_is_let_go() -> None:
    alive: list[weakref.ref[Tensor]] = []

    def remembered(x: Tensor) -> Tensor:
        y = x * 2
        alive.append(weakref.ref(y))
        return y

    def last(x: Tensor) -> Tensor:
        gc.collect()
        assert alive[0]() is None
        return x

    f = Draft()
    field = f(torch.exp, f(remembered, f.leaf("rows")))
    program = f.program([f(last, field)])
    assert program.run(torch.zeros(()))[0] == 1
    assert len(alive) == 1
