"""The real compiler: one graph for several shapes, held against the plain functions."""

import os
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor

import penaltyscope as ps
from penaltyscope._compiled import Compiler, _apart
from penaltyscope._fused import Call
from tests.lib.compiled.together import assert_same, require_compiler

# The compiler warns of its own affairs while it works; here a warning would be an error in it.
pytestmark = [pytest.mark.real, pytest.mark.filterwarnings("ignore")]

CALLS = [
    Call(ps.l1, (0,), {}),
    Call(ps.kl_divergence, (0, 1), {}),
    Call(ps.js_divergence, (0, 1), {}),
    Call(ps.entropy, (0,), {"temperature": 2.0}),
    Call(ps.orthogonality, (0,), {}),
    Call(lambda x: x.pow(3).mean(), (0,), {}),
]
WEIGHTS = [1e-3, 0.1, 0.2, 0.3, 1e-3, 0.5]


@pytest.fixture(scope="module")
def compiler(tmp_path_factory: pytest.TempPathFactory) -> Compiler:
    require_compiler()
    return Compiler()


def pair(rows: int) -> list[Tensor]:
    return [torch.randn(rows, 96).log_softmax(-1).requires_grad_() for _ in range(2)]


def test_a_compiled_graph_is_the_plain_functions(compiler: Compiler) -> None:
    assert_same(compiler, CALLS, pair(8), WEIGHTS, tolerance=1e-5)
    xs = pair(8)
    with torch.no_grad():
        xs[0][2, 3] = torch.nan
    assert compiler(CALLS, xs, WEIGHTS, enabled=[True] * len(CALLS), gram=True) is None


def test_settings_that_a_compiler_does_not_have_are_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    known = {**_apart._SETTINGS}
    monkeypatch.setattr(_apart, "_SETTINGS", {**known, "cpp.no_such": 1, "no.such": 1})
    backend = _apart.resolved("inductor")
    assert isinstance(backend, partial)
    assert backend.keywords == {"config_patches": known}


def test_without_a_compiler_the_error_says_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import torch._inductor.config as inductor

    monkeypatch.setitem(os.environ, "TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    x = torch.randn(4, 70, requires_grad=True)
    settings = {"cpp.cxx": ("/nowhere/g++",), "force_disable_caches": True}
    message = r"compile=True needs a C\+\+ compiler .* got none"
    with inductor.patch(settings), pytest.raises(RuntimeError, match=message):
        ps.Pipeline([ps.Term("l2", ps.l2, options={"clip": 0.123})], compile=True)(x)
