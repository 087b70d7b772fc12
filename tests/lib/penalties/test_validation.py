import math

import pytest
import torch

from penaltyscope.errors import NonFiniteError
from penaltyscope.penalties import finiteness, validate

NAN, INF = math.nan, math.inf
CASES = [
    ([1.0, -2.0], 0),
    ([NAN, 1.0], 1),
    ([INF, 1.0], 2),
    ([1.0, -INF], 2),
    ([-INF, INF], 2),
    ([INF, NAN], 1),
    ([-INF, 1.0, NAN], 1),
    ([torch.finfo(torch.float32).max, -torch.finfo(torch.float32).max], 0),
    ([], 0),
]
DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


@pytest.mark.parametrize(("numbers", "code"), CASES)
def test_nan_is_found_before_infinity(numbers: list[float], code: int) -> None:
    x = torch.tensor(numbers, dtype=torch.float32)
    assert finiteness(x).item() == code
    if code == 0:
        assert validate(x) is x
    else:
        with pytest.raises(NonFiniteError) as caught:
            validate(x)
        assert caught.value.kind == ("nan" if code == 1 else "inf")


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("number", "code"), [(1.0, 0), (NAN, 1), (-INF, 2)])
def test_every_floating_dtype_and_a_single_number(
    dtype: torch.dtype, number: float, code: int
) -> None:
    assert finiteness(torch.tensor(number, dtype=dtype)).item() == code
    assert finiteness(torch.tensor([[0.0], [number]], dtype=dtype).T).item() == code


def test_integers_and_booleans_are_finite() -> None:
    for x in (torch.tensor([2**62]), torch.tensor([True])):
        assert validate(x) is x


def test_both_parts_of_a_complex_number_count() -> None:
    assert finiteness(torch.tensor([1 + 1j])).item() == 0
    assert finiteness(torch.tensor([complex(1, NAN)])).item() == 1
    assert finiteness(torch.tensor([complex(INF, 1)])).item() == 2


def test_the_answer_is_one_small_number_on_the_device() -> None:
    answer = finiteness(torch.ones(3, requires_grad=True))
    assert (answer.shape, answer.dtype, answer.requires_grad) == ((), torch.uint8, False)


@pytest.mark.parametrize(("numbers", "code"), [case for case in CASES if case[0]])
def test_finiteness_survives_transforms(numbers: list[float], code: int) -> None:
    x = torch.tensor(numbers)
    torch.compiler.reset()
    compiled = torch.compile(finiteness, fullgraph=True, backend="aot_eager")
    assert compiled(x).item() == code
    batch = torch.stack([torch.zeros_like(x), x])
    assert torch.vmap(finiteness)(batch).tolist() == [0, code]


def test_the_error_names_the_tensor() -> None:
    with pytest.raises(NonFiniteError, match=r"^logits must be finite, got NaN\.$"):
        validate(torch.tensor([NAN]), name="logits")
    with pytest.raises(NonFiniteError, match=r"^x must be finite, got an infinity\.$"):
        validate(torch.tensor([INF]))
