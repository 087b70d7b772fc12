import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numba import types
from numpy.typing import NDArray

from penaltyscope_service.kernel import BYTES, kernel, part


@kernel(types.int64(BYTES))
def _sum(data: NDArray[np.integer[Any]]) -> int:
    total = 0
    for byte in data:
        total += int(byte)
    return total


def test_a_kernel_takes_bytes_that_may_and_that_may_not_be_written() -> None:
    assert _sum(np.frombuffer(b"\x01\x02", np.uint8)) == 3
    assert _sum(np.array([1, 2], np.uint8)) == 3


@part(types.int64(types.int64))
def _twice(number: int) -> int:
    return 2 * number


@kernel(types.int64(types.int64))
def _four_times(number: int) -> int:
    return _twice(_twice(number))


@part(types.int64(types.int64))
def _factorial(number: int) -> int:
    return 1 if number == 0 else number * _factorial(number - 1)


@kernel(types.int64(types.int64))
def _choices(number: int) -> int:
    return _factorial(2 * number) // _factorial(number) ** 2


def test_a_kernel_calls_its_parts() -> None:
    assert _four_times(3) == 12


def test_a_part_calls_itself() -> None:
    assert _choices(3) == 20


def test_a_kernel_takes_no_other_types() -> None:
    with pytest.raises(TypeError, match="int16"):
        _sum(np.array([1, 2], np.int16))


_SCRIPT = """
import pathlib, sys
sys.path[:0] = sys.argv[1:2]
from module import double
print(double(21))
"""
_MODULE = """
from numba import types
from penaltyscope_service.kernel import compile_kernels, kernel, part

@part(types.int64(types.int64))
def half(number: int) -> int:
    return number // 2

@kernel(types.int64(types.int64))
def double(number: int) -> int:
    return half(4 * number)

compile_kernels()
"""


def _run(folder: Path, cache: str) -> str:
    environment = os.environ | {"NUMBA_CACHE_DIR": cache, "HOME": "/proc/nobody"}
    return subprocess.run(
        [sys.executable, "-c", _SCRIPT, str(folder)],
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    ).stdout


def test_what_was_compiled_is_kept_in_the_folder_that_is_named(tmp_path: Path) -> None:
    module, cache = tmp_path / "module", tmp_path / "cache"
    module.mkdir()
    (module / "module.py").write_text(_MODULE)

    assert _run(module, str(cache)) == "42\n"
    assert [path.name.partition("-")[0] for path in cache.rglob("*.nbc")] == ["module.double"]


def test_a_kernel_runs_where_nothing_can_be_kept(tmp_path: Path) -> None:
    (tmp_path / "module.py").write_text(_MODULE)
    (tmp_path / "__pycache__").write_text("")  # so that nobody can make a folder of it

    assert _run(tmp_path, "") == "42\n"
    assert not list(tmp_path.rglob("*.nbc"))
