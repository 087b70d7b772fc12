"""What makes another graph, and what does not: counted where the compiler gets them."""

import pytest
import torch
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend

import penaltyscope as ps
from penaltyscope._compiled import Compiler
from penaltyscope._fused import Call
from tests.lib.compiled.test_compiler import calls, pair
from tests.lib.compiled.together import assert_same, compiled


def counted() -> tuple[Compiler, CompileCounterWithBackend]:
    counter = CompileCounterWithBackend("eager")
    return Compiler(counter), counter


def test_weights_and_enabled_terms_make_no_other_graph() -> None:
    compiler, counter = counted()
    together, xs = calls(), pair()
    for step in range(4):
        weights = [0.1 * step, -1.0, float(step % 2)]
        enabled = [True, step % 2 == 0, step != 3]
        compiled(compiler, together, xs, weights, enabled=enabled)
    assert counter.frame_count == 1


@pytest.mark.parametrize("columns", [4, 96], ids=["short rows", "long rows"])
def test_another_batch_size_makes_one_dynamic_graph(columns: int) -> None:
    compiler, counter = counted()
    together = [*calls(), Call(ps.entropy, (0,), {"temperature": 2.0})]
    for rows in (3, 5, 8, 200, 7):
        xs = [torch.randn(rows, columns).double().log_softmax(-1) for _ in range(2)]
        xs = [x.requires_grad_() for x in xs]
        assert_same(compiler, together, xs, [1.0, 2.0, 3.0, 4.0], tolerance=1e-12)
    # One if the compiler remembers, from tests before, that the size changes.
    assert counter.frame_count <= 2


def test_masks_and_other_tensors_among_options_make_no_other_graph() -> None:
    compiler, counter = counted()

    def scaled(x: Tensor, *, by: Tensor) -> Tensor:
        return (x * by).square().sum()

    xs = pair()
    for kept in ([True, False, True], [False, True, True]):
        options = {"mask": torch.tensor(kept)}
        together = [
            Call(ps.kl_divergence, (0, 1), options),
            Call(ps.entropy, (0,), options),
            Call(scaled, (0,), {"by": torch.tensor(kept).double()[:, None]}),
        ]
        assert_same(compiler, together, xs, [1.0, 2.0, 3.0], tolerance=1e-12)
    assert counter.frame_count == 1


scale = 1.0
"""What a term of the user's may look at."""


def test_another_value_that_a_term_looks_at_makes_another_graph() -> None:
    global scale
    compiler, counter = counted()
    together = [Call(ps.l2, (0,), {}), Call(lambda x: scale * x.square().sum(), (0,), {})]
    for value in (1.0, 3.0, 3.0):
        scale = value
        assert_same(compiler, together, pair()[:1], [1.0, 2.0], tolerance=1e-12)
    assert counter.frame_count == 2


def test_a_graph_has_no_wait_for_the_device() -> None:
    compiler, counter = counted()
    compiled(compiler, calls(), pair(), [1.0, 2.0, 3.0], gram=True)
    called = {str(node.target) for graph in counter.graphs for node in graph.graph.nodes}
    assert not called & {"item", "tolist", "numpy", "aten._local_scalar_dense.default"}
    assert len(counter.graphs) == 1
