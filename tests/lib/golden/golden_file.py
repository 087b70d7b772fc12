"""The file of the reference's real outputs: finding it, reading it, and comparing with it.

Its functions and options carry the reference's names; what they are called here is decided by the
runners, never by the library.
"""

import json
import os
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pytest
import torch
from torch import Tensor

Case: TypeAlias = Mapping[str, Any]

COPY = Path(__file__).with_name("nx_penalties.json")
PATH = Path(os.environ.get("PENALTYSCOPE_GOLDEN") or COPY)

_DTYPES = {
    "f32": torch.float32,
    "f64": torch.float64,
    "s32": torch.int32,
    "s64": torch.int64,
}


@cache
def document(path: Path = PATH) -> dict[str, Any]:
    """The whole file: ``meta`` and ``cases``."""
    parsed: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return parsed


def cases(*functions: str, path: Path = PATH) -> list[Case]:
    """The cases of these functions, in the file's order."""
    return [case for case in document(path)["cases"] if case["function"] in functions]


def parameters(found: Iterable[Case]) -> list[Any]:
    """Cases as arguments of ``pytest.mark.parametrize``, under their ids in the file."""
    return [pytest.param(case, id=case["id"]) for case in found]


def tensor(encoded: Mapping[str, Any]) -> Tensor:
    """A tensor of the file; ``"nan"``, ``"inf"`` and ``"-inf"`` stand for what JSON lacks."""
    numbers = [float(number) for number in encoded["data"]]
    return torch.tensor(numbers, dtype=_DTYPES[encoded["dtype"]]).reshape(encoded["shape"])


def tensors(case: Case) -> list[Tensor]:
    """The tensors that the case's function is called with."""
    return [tensor(encoded) for encoded in case["args"]]


def options(case: Case) -> dict[str, Any]:
    """The case's options under our names."""
    return {"scale" if name == "lambda" else name: v for name, v in case["opts"].items()}


def assert_close(got: object, want: object, case: Case, what: str, *, dtype: str = "f64") -> None:
    """Compare values (``what`` is ``"value"``) or gradients and their norms, by the case's rule.

    The rule is ``|got - want| <= atol + rtol * |want|``; NaN equals NaN, an infinity equals itself.
    ``dtype`` is what the reference computed ``want`` in: in a few float64 cases that is float32,
    and then ``want`` cannot be closer than float32 is.
    """
    prefix = "" if what == "value" else "grad_"
    rtol, atol = case["tol"].get(prefix + "rtol", 0.0), case["tol"].get(prefix + "atol", 0.0)
    if dtype == "f32":
        rtol = max(rtol, float(2 * np.finfo(np.float32).eps))
    got_array, want_array = _array(got), _array(want)
    assert got_array.shape == want_array.shape, f"{what} has shape {got_array.shape}"
    np.testing.assert_allclose(got_array, want_array, rtol=rtol, atol=atol, err_msg=what)


def _array(numbers: object) -> np.ndarray[Any, np.dtype[np.float64]]:
    if isinstance(numbers, Tensor):
        numbers = numbers.detach().numpy()
    elif isinstance(numbers, Mapping):
        numbers = tensor(numbers).numpy()
    return np.asarray(numbers, dtype=np.float64)
