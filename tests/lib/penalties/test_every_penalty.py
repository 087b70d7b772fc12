"""What holds for every penalty under every option: derivatives, transforms, precision, layout."""

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from penaltyscope import penalties
from tests.lib.penalties.calls import CALLS, GRADIENT_CALLS, Call, P, cubic

every_call = pytest.mark.parametrize("call", CALLS, ids=str)
# Their critic runs in the tensors' own precision, which is the caller's business.
every_call_without_critic = pytest.mark.parametrize(
    "call", [call for call in CALLS if call not in GRADIENT_CALLS], ids=str
)


def leaves(call: Call) -> list[Tensor]:
    return [x.clone().requires_grad_() for x in call.tensors]


def gradients(call: Call, tensors: list[Tensor]) -> tuple[Tensor, ...]:
    return torch.autograd.grad(call.bound(*tensors).sum(), tensors)


@pytest.fixture
def fresh_compiler() -> Iterator[None]:
    torch.compiler.reset()
    yield
    torch.compiler.reset()


@every_call
def test_gradients_are_those_of_finite_differences(call: Call) -> None:
    assert torch.autograd.gradcheck(call.bound, leaves(call))


@every_call
def test_second_derivatives_are_those_of_finite_differences(call: Call) -> None:
    assert torch.autograd.gradgradcheck(call.bound, leaves(call))


@every_call
def test_torch_func_grad_agrees_with_backward(call: Call) -> None:
    places = tuple(range(len(call.tensors)))
    got = torch.func.grad(lambda *xs: call.bound(*xs).sum(), places)(*call.tensors)
    torch.testing.assert_close(got, gradients(call, leaves(call)))


@every_call
def test_vmap_agrees_with_a_loop(call: Call) -> None:
    batches = [torch.stack([x, 1.5 * x, x.flip(0)]) for x in call.tensors]
    looped = torch.stack([call.bound(*xs) for xs in zip(*batches, strict=True)])
    torch.testing.assert_close(torch.vmap(call.bound)(*batches), looped)


@every_call
def test_per_sample_gradients_agree_with_a_loop(call: Call) -> None:
    batches = [torch.stack([x, 1.5 * x]) for x in call.tensors]
    slope = torch.func.grad(lambda *xs: call.bound(*xs).sum())
    looped = torch.stack([slope(*xs) for xs in zip(*batches, strict=True)])
    torch.testing.assert_close(torch.vmap(slope)(*batches), looped)


@every_call
@pytest.mark.usefixtures("fresh_compiler")
def test_one_graph_holds_it_with_its_gradient(call: Call) -> None:
    compiled = torch.compile(call.bound, fullgraph=True, backend="aot_eager")
    tensors = leaves(call)
    value = compiled(*tensors)
    torch.testing.assert_close(value, call.value())
    got = torch.autograd.grad(value.sum(), tensors)
    torch.testing.assert_close(got, gradients(call, leaves(call)))


# Compiling for sizes that are not known yet is slow: one call of each penalty.
one_call_each = {call.penalty: call for call in reversed(CALLS)}.values()


@pytest.mark.parametrize("call", one_call_each, ids=str)
@pytest.mark.usefixtures("fresh_compiler")
def test_one_graph_holds_it_for_any_length(call: Call) -> None:
    compiled = torch.compile(call.bound, fullgraph=True, backend="aot_eager", dynamic=True)
    for length in (1, 2, 5):
        longer = [torch.cat([x] * length) for x in call.tensors]
        torch.testing.assert_close(compiled(*longer), call.bound(*longer))


class NoHostRead(TorchDispatchMode):
    """Fails where a tensor's contents are read on the host: on a GPU that waits for the device."""

    def __torch_dispatch__(
        self,
        func: Callable[..., object],
        _types: object,
        args: tuple[object, ...] = (),
        kwargs: dict[str, object] | None = None,
    ) -> object:
        assert func not in (
            torch.ops.aten._local_scalar_dense.default,
            torch.ops.aten.nonzero.default,
        )
        return func(*args, **(kwargs or {}))


def no_host_read() -> NoHostRead:
    return NoHostRead()  # type: ignore[no-untyped-call]


@every_call
def test_nothing_is_read_on_the_host(call: Call) -> None:
    with no_host_read():
        gradients(call, leaves(call))


def test_finiteness_is_not_read_on_the_host_and_validate_is() -> None:
    with no_host_read():
        penalties.finiteness(P)
    with no_host_read(), pytest.raises(AssertionError):
        penalties.validate(P)


@every_call_without_critic
def test_autocast_changes_nothing(call: Call) -> None:
    tensors = [x.float().requires_grad_() for x in call.tensors]
    want = call.bound(*tensors)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = call.bound(*tensors)
    torch.testing.assert_close(got, want, rtol=0, atol=0)
    assert got.dtype == torch.float32


@every_call_without_critic
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_is_accumulated_and_returned_in_float32(
    call: Call, dtype: torch.dtype
) -> None:
    tensors = [x.to(dtype).requires_grad_() for x in call.tensors]
    value = call.bound(*tensors)
    exact = [x.detach().double().requires_grad_() for x in tensors]
    assert value.dtype == torch.float32
    torch.testing.assert_close(value.double(), call.bound(*exact), rtol=1e-5, atol=1e-6)
    for got, want in zip(gradients(call, tensors), gradients(call, exact), strict=True):
        assert got.dtype == dtype
        # The last step rounds the gradient to the input's own precision.
        torch.testing.assert_close(got, want.to(dtype), rtol=torch.finfo(dtype).eps, atol=1e-5)


@every_call
def test_float64_stays_float64(call: Call) -> None:
    assert call.value().dtype == torch.float64
    half_way = call.bound(*(x.float() for x in call.tensors))
    torch.testing.assert_close(half_way, call.value().float(), rtol=1e-4, atol=1e-5)


@every_call
def test_layout_in_memory_does_not_matter(call: Call) -> None:
    # The same numbers with gaps between them, and with the last dimensions the other way round.
    gapped = [torch.stack([x, x.neg()], -1)[..., 0] for x in call.tensors]
    turned = [x.mT.contiguous().mT if x.dim() > 1 else x for x in call.tensors]
    assert not any(x.is_contiguous() for x in gapped)
    torch.testing.assert_close(call.bound(*gapped), call.value())
    torch.testing.assert_close(call.bound(*turned), call.value())


@every_call
def test_inputs_are_left_as_they_were(call: Call) -> None:
    before = [x.clone() for x in call.tensors]
    gradients(call, leaves(call))
    assert all(torch.equal(x, y) for x, y in zip(before, call.tensors, strict=True))


@every_call
def test_no_graph_is_kept_without_gradients(call: Call) -> None:
    with torch.no_grad():
        value = call.bound(*leaves(call))
    assert not value.requires_grad
    torch.testing.assert_close(value, call.value())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_agrees_with_the_cpu() -> None:
    for call in CALLS:
        options = {k: v.cuda() if isinstance(v, Tensor) else v for k, v in call.options.items()}
        there = Call(call.name, call.penalty, tuple(x.cuda() for x in call.tensors), options)
        torch.testing.assert_close(there.value().cpu(), call.value())
        got = [gradient.cpu() for gradient in gradients(there, leaves(there))]
        torch.testing.assert_close(got, list(gradients(call, leaves(call))))


@every_call
def test_integers_are_refused_by_name(call: Call) -> None:
    integers = [x.to(torch.int64) for x in call.tensors]
    with pytest.raises(TypeError, match=r"must be a floating-point tensor, got torch.int64\.$"):
        call.bound(*integers)


# The compiler warns about its own use of what PyTorch deprecates.
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
@pytest.mark.usefixtures("fresh_compiler")
def test_the_default_compiler_backend_takes_them_in_one_graph() -> None:
    def total(p: Tensor, q: Tensor, critic_input: Tensor) -> Tensor:
        return (
            penalties.kl_divergence(p, q)
            + penalties.js_divergence(p, q)
            + penalties.entropy(p, temperature=2.0)
            + penalties.orthogonality(p)
            + penalties.consistency(p, q, metric="cosine")
            + penalties.l2(p, center="mean", clip=1.5)
            + penalties.gradient_penalty(cubic, critic_input)
        )

    p = P.clone().requires_grad_()
    compiled = torch.compile(total, fullgraph=True)(p, P.flip(0), P)
    torch.testing.assert_close(compiled, total(p, P.flip(0), P))
    (got,) = torch.autograd.grad(compiled, p)
    (want,) = torch.autograd.grad(total(p, P.flip(0), P), p)
    torch.testing.assert_close(got, want)
