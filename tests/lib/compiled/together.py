"""Many calls for one graph, and the answer of a graph held against the plain functions."""

import os
import shutil
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from penaltyscope._compiled import Compilation, Compiler
from penaltyscope._fused import Call
from tests.lib.fused.plainly import found, near, plainly
from tests.lib.penalties import calls as known


def gathered(calls: Sequence[known.Call]) -> tuple[list[Call], list[Tensor]]:
    """The calls over tensors that they share."""
    tensors: list[Tensor] = []
    gathered = []
    for call in calls:
        places = []
        for x in call.tensors:
            same = [i for i, y in enumerate(tensors) if torch.equal(x, y)]
            places.append(same[0] if same else len(tensors))
            if not same:
                tensors.append(x)
        gathered.append(Call(call.penalty, tuple(places), call.options))
    return gathered, [x.clone().requires_grad_() for x in tensors]


def compiled(
    compiler: Compiler,
    calls: Sequence[Call],
    tensors: Sequence[Tensor],
    weights: Sequence[float | Tensor],
    **options: Any,  # noqa: ANN401
) -> Compilation:
    """What the compiled engine gives; it has to take all calls."""
    options = {"enabled": [True] * len(calls), **options}
    compilation = compiler(calls, tensors, weights, **options)
    assert compilation is not None
    return compilation


def assert_same(
    compiler: Compiler,
    calls: Sequence[Call],
    tensors: Sequence[Tensor],
    weights: Sequence[float],
    *,
    tolerance: float,
    gram: bool = True,
) -> None:
    """Values, total, norms, inner products and scaled gradients are those of the functions."""
    fusion = compiled(compiler, calls, tensors, weights, gram=gram).fusion
    assert len(fusion.taken) == len(calls)
    got, want = found(fusion), plainly(calls, tensors, weights)
    near(got.values, want.values, tolerance)
    near(got.total, want.total, tolerance)
    pulls = torch.autograd.grad(fusion.total(tensors) * -0.25, tensors)
    for x, (pull, gradient) in enumerate(zip(pulls, want.gradients, strict=True)):
        assert gradient is not None
        assert pull.dtype == tensors[x].dtype
        near(pull, gradient * -0.25, tolerance)
        near(got.total_norms[x], gradient.norm(), tolerance)
        near(got.norms[x], want.norms[x], tolerance)
    if gram:
        assert got.gram is not None
        near(got.gram, want.gram, 4 * tolerance)


def require_compiler() -> None:
    """Skips a test, or fails it where all real parts are required, if there is no g++."""
    if shutil.which(os.environ.get("CXX", "g++")):
        return
    reason = "g++ is not installed"
    if os.environ.get("PENALTYSCOPE_REQUIRE_REAL") == "1":
        pytest.fail(reason)
    pytest.skip(reason)
