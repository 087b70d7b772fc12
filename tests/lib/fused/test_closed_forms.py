"""Every closed form, under every option, against the plain function and autograd."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from penaltyscope import penalties
from penaltyscope._fused import Call, Fuser
from penaltyscope._scalar import extremes
from tests.lib.fused.plainly import EXACT, QUICK, assert_same, found, near, plainly
from tests.lib.penalties import calls as known
from tests.lib.penalties.strategies import log_probabilities, masks, relaxed, tensors

FORMS = {
    *(penalties.consistency, penalties.elastic_net, penalties.entropy, penalties.js_divergence),
    *(penalties.kl_divergence, penalties.l1, penalties.l2, penalties.orthogonality),
    penalties.output_magnitude_penalty,
}


def takes(call: known.Call) -> bool:
    shapes = {x.shape for x in call.tensors}
    return call.penalty in FORMS and call.options.get("reduction") != "none" and len(shapes) == 1


EVERY = [call for call in known.CALLS if takes(call)]
every_call = pytest.mark.parametrize("call", EVERY, ids=str)


def given_as(call: known.Call, dtype: torch.dtype) -> tuple[list[Call], list[Tensor]]:
    xs = [x.to(dtype, copy=True).requires_grad_() for x in call.tensors]
    return [Call(call.penalty, tuple(range(len(xs))), call.options)], xs


@every_call
def test_it_is_the_plain_function(call: known.Call, way: str) -> None:
    own, xs = given_as(call, torch.float64)
    assert_same(own, xs, [-0.7], tolerance=EXACT)


@every_call
def test_it_is_the_plain_function_in_float32(call: known.Call, way: str) -> None:
    own, xs = given_as(call, torch.float32)
    # Both round: what is compared is a few roundings from the truth on either side.
    assert_same(own, xs, [-0.7], tolerance=2 * QUICK)


@every_call
@pytest.mark.parametrize("wanted", [(True, False), (False, True), (False, False)])
def test_a_gradient_that_is_not_wanted_changes_nothing(
    call: known.Call, wanted: tuple[bool, bool]
) -> None:
    own, xs = given_as(call, torch.float64)
    for x, want in zip(xs, wanted, strict=False):
        x.requires_grad_(want)
    assert_same(own, xs, [2.0])


@every_call
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_is_only_what_comes_in_and_goes_out(
    call: known.Call, dtype: torch.dtype
) -> None:
    own, xs = given_as(call, dtype)
    fusion = Fuser()(own, xs, [1.0], extremes=[extremes(x) for x in xs])
    assert fusion is not None
    wide = [x.detach().float().requires_grad_() for x in xs]
    want = plainly(own, wide, [1.0])
    near(found(fusion).values, want.values, 2 * QUICK)
    gradients = torch.autograd.grad(fusion.total(xs), xs)
    for i, gradient in enumerate(gradients):
        near(found(fusion).norms[i], want.norms[i], 2 * QUICK)
        assert gradient.dtype == dtype
        exact = want.gradients[i]
        assert exact is not None
        near(gradient, exact, torch.finfo(dtype).eps)


@every_call
def test_layout_in_memory_does_not_matter(call: known.Call, way: str) -> None:
    own, xs = given_as(call, torch.float64)
    gapped = [torch.stack([x, x], -1)[..., 0].detach().requires_grad_() for x in xs]
    turned = [x.detach().mT.contiguous().mT.requires_grad_() for x in xs]
    assert_same(own, gapped, [1.0])
    assert_same(own, turned, [1.0])


SCALES = st.floats(-2, 2)
REDUCTIONS = st.sampled_from(["mean", "sum"])


def options(**own: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional={"reduction": REDUCTIONS, "mask": masks(), **own})


SIZES = st.one_of(
    st.tuples(st.just(penalties.l1), options(scale=SCALES)),
    st.tuples(
        st.just(penalties.l2),
        options(
            scale=SCALES,
            center=st.one_of(st.none(), st.just("mean"), SCALES),
            clip=st.one_of(st.none(), st.floats(0.1, 5)),
        ),
    ),
    st.tuples(
        st.just(penalties.elastic_net),
        options(scale=SCALES, l1_ratio=st.sampled_from([0.0, 0.3, 1.0])),
    ),
    st.tuples(st.just(penalties.output_magnitude_penalty), options(target=SCALES)),
    st.tuples(
        st.just(penalties.entropy),
        options(
            mode=st.sampled_from(["bonus", "penalty"]),
            normalize=st.booleans(),
            temperature=st.sampled_from([0.1, 0.5, 1.0, 2.0]),
        ),
    ),
    st.tuples(
        st.just(penalties.orthogonality),
        st.fixed_dictionaries(
            {},
            optional={
                "mode": st.sampled_from(["soft", "hard", "spectral"]),
                "normalize": st.booleans(),
                "axis": st.sampled_from(["rows", "sequence", "vocabulary"]),
                "mask": masks(),
            },
        ),
    ),
)
PAIRS = st.one_of(
    st.tuples(
        st.just(penalties.kl_divergence),
        options(direction=st.sampled_from(["forward", "reverse"]), symmetric=st.booleans()),
    ),
    st.tuples(st.just(penalties.js_divergence), options()),
    st.tuples(
        st.just(penalties.consistency),
        options(metric=st.sampled_from(["mse", "l1", "cosine", "kl"])),
    ),
)


@st.composite
def several(draw: st.DrawFn) -> tuple[list[Call], list[float]]:
    """Calls on two tensors, in any order, with weights."""
    places = st.sampled_from([(0,), (1,)]), st.sampled_from([(0, 1), (1, 0)])
    calls = [Call(p, draw(places[0]), o) for p, o in draw(st.lists(SIZES, max_size=4))]
    calls += [Call(p, draw(places[1]), o) for p, o in draw(st.lists(PAIRS, max_size=3))]
    calls = draw(st.permutations(calls)) or [Call(penalties.l1, (0,), {})]
    weights = st.one_of(st.just(0.0), st.floats(-3, 3))
    return calls, draw(st.lists(weights, min_size=len(calls), max_size=len(calls)))


# A hundred numbers with a hundred roundings each, some of which nearly cancel.
TOGETHER = 1e-9


@relaxed
@given(several(), log_probabilities(), log_probabilities())
def test_any_calls_together_are_what_each_is_alone(
    chosen: tuple[list[Call], list[float]], p: Tensor, q: Tensor
) -> None:
    calls, weights = chosen
    assert_same(calls, [p.requires_grad_(), q.requires_grad_()], weights, tolerance=TOGETHER)


@relaxed
@given(several(), tensors((3, 4)), tensors((3, 4)))
def test_they_are_so_for_any_numbers(
    chosen: tuple[list[Call], list[float]], a: Tensor, b: Tensor
) -> None:
    calls, weights = chosen
    assert_same(calls, [a.requires_grad_(), b.requires_grad_()], weights, tolerance=TOGETHER)
